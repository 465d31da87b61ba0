"""The base class of data sets."""

from __future__ import annotations

from abc import ABC, abstractmethod

import torch
from torch import Tensor

from .batch import Batch, Index
from .checks import check_number, check_real, check_seed
from .rng import generator

SPLITS = ("train", "validation", "test")


class Dataset(ABC):
    """A set of sequences, which a model learns from and is examined on.

    A data set of your own defines ``__len__`` and ``rows``; everything else has a default. Override
    ``held_out`` so that models trained on the set can be diagnosed. Override ``fresh`` if every
    epoch has data of its own, and ``lengths`` if its sequences differ in length.

    Data sets of seqzoo have torch's default dtype: ``torch.set_default_dtype(torch.float64)``,
    called before a set is made, gives the same data in float64.

    A recipe passes ``seed`` to the constructor, and ``zoo.save`` reads every argument of the
    constructor from the attribute of the same name.

    Attributes:
        unit: the name of one value of an observation, such as ``"neuron"``, ``"pixel"`` or
            ``"key"``. Reports and ``to_arviz`` name the last axis of ``obs`` by it.

    Example:
        >>> class Walks(Dataset):
        ...     unit = "step"
        ...
        ...     def __init__(self, number: int, seed: int = 0):
        ...         self.number, self.seed = number, seed
        ...         random = torch.Generator().manual_seed(seed)
        ...         self.obs = torch.randn(number, 20, 1, generator=random).cumsum(1)
        ...
        ...     def __len__(self):
        ...         return self.number
        ...
        ...     def rows(self, index):
        ...         return Batch(self.obs[index])
    """

    unit: str = "unit"

    @abstractmethod
    def __len__(self) -> int:
        """Number of rows ``N``."""

    @abstractmethod
    def rows(self, index: Index) -> Batch:
        """Some of the rows, as one batch.

        Arguments:
            index: a slice, or a list or tensor of row numbers.
        """

    def batch(self) -> Batch:
        """All rows, as one batch."""
        return self.rows(slice(None))

    @property
    def finite(self) -> bool:
        """Whether every epoch serves the same sequences: ``fresh`` gives the set itself."""
        return type(self).fresh is Dataset.fresh

    @property
    def lengths(self) -> Tensor | None:
        """Frames of each row, ``[N]``, on the CPU; None where all have the same length."""
        return None

    def fresh(self, epoch: int) -> Dataset:
        """The set as epoch ``epoch`` serves it, of the same size; by default the set itself."""
        check_number("epoch", epoch, 0)
        return self

    def subset(self, num_sequences: int, seed: int = 0) -> Dataset | Batch:
        """Fewer rows of the same kind. A set that is drawn anew every epoch still is.

        Arguments:
            num_sequences: number of rows; the set itself is returned where it has no more.
            seed: seed of the choice.

        Raises:
            ValueError: when ``num_sequences`` is below 1.
        """
        check_seed(seed)
        if check_number("num_sequences", num_sequences) >= len(self):
            return self
        order = torch.randperm(len(self), generator=generator(seed, "fewer"))
        return self.rows(order[:num_sequences].tolist())

    def held_out(
        self, num_sequences: int, seed: int = 0, split: str = "test", steps: int | None = None
    ) -> Batch:
        """Sequences of the same kind that training on this set never sees.

        Arguments:
            num_sequences: number of sequences, at most.
            seed: seed of the choice.
            split: ``"test"`` or ``"validation"``.
            steps: frames of each sequence, at most; whole sequences when left out. Rows with a
                ``target``, which is asked for at their end, are never cut.

        Raises:
            ValueError: when a number is below 1, the split is neither, or nothing is held out.
        """
        raise ValueError(
            f"{type(self).__name__} holds no {split} rows out: define its method held_out"
        )


def check_held_out(num_sequences: int, seed: int, split: str, steps: int | None) -> None:
    """Raises a ValueError for arguments of ``held_out`` that are out of range."""
    if split not in SPLITS[1:]:
        raise ValueError(f"split must be one of {', '.join(SPLITS[1:])}, got {split!r}")
    check_number("num_sequences", num_sequences)
    check_seed(seed)
    if steps is not None:
        check_number("steps", steps)


def sequences_of(split: str, number: int, fraction: float, seed: int) -> list[int]:
    """Which of ``number`` sequences belong to a split, in ascending order.

    The sequences are shuffled. The first ``round(fraction * number)`` are for test and as many for
    validation, at least one each; the rest is for training.

    Raises:
        ValueError: for an unknown split, a fraction that is not above 0 and below 0.5, or fewer
            sequences than splits.
    """
    if split not in SPLITS:
        raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
    check_real("fraction", fraction, above=0, below=0.5)
    held = max(1, round(fraction * number))
    if number <= 2 * held:
        raise ValueError(
            f"{number} sequences leave none for training: give more, at least 3, or a smaller "
            f"fraction than {fraction}"
        )
    order = torch.randperm(number, generator=generator(seed, "split")).tolist()
    test, validation, train = order[:held], order[held : 2 * held], order[2 * held :]
    return sorted({"train": train, "validation": validation, "test": test}[split])
