"""The base class of synthetic data sets: sizes, seeds, splits, and how rows are served."""

from __future__ import annotations

import copy
from typing import Self

import torch
from torch import Tensor

from .batch import Batch, Index
from .checks import check_number, check_seed
from .dataset import SPLITS, Dataset, check_held_out
from .rng import generator


class Synthetic(Dataset):
    """Sequences drawn from a generative process.

    A subclass defines ``_draw(random)``, which sets ``state`` (and anything else it draws), and
    ``_observe(index)``, which returns the observations of some rows.

    Every epoch of training draws sequences of its own. So do ``subset`` and ``held_out``: their
    streams differ from the set's own in the seed or the split.

    Arguments:
        sequences: number of sequences ``N``.
        steps: frames ``T`` of each.
        seed: seed; splits and epochs of one seed are unrelated streams.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        device: where the data live.
        epoch: which of the seed's data sets this is.

    Attributes:
        obs: ``[N, T, M]``, computed when it is first asked for; until then ``rows`` computes only
            the sequences it gives, so that a large set can be served in little memory.
        state: the process's own state, ``[N, T, ...]``.
        mask: all True, ``[N, T]``.

    Raises:
        ValueError: when ``sequences`` or ``steps`` is below 1, or the split is unknown.
    """

    state: Tensor
    #: The device of the random generator; None for the device of the data.
    generator_device: str | None = "cpu"

    def __init__(
        self,
        sequences: int,
        steps: int,
        seed: int,
        split: str,
        device: torch.device | str,
        epoch: int,
    ) -> None:
        sequences, steps = check_number("sequences", sequences), check_number("steps", steps)
        seed, epoch = check_seed(seed), check_number("epoch", epoch, 0)
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        self.device = torch.device(device)
        self._set(sequences, steps, seed, split, epoch)

    def _set(self, sequences: int, steps: int, seed: int, split: str, epoch: int) -> None:
        self.sequences, self.steps, self.seed = sequences, steps, seed
        self.split, self.epoch, self._obs = split, epoch, None
        self.mask = torch.ones(sequences, steps, dtype=torch.bool, device=self.device)
        self._draw(self._random())

    def _like(self, sequences: int, steps: int, seed: int, split: str, epoch: int) -> Self:
        """A set of the same kind."""
        other = copy.copy(self)
        other._set(sequences, steps, seed, split, epoch)
        return other

    def _random(self) -> torch.Generator:
        name = f"{type(self).__name__} {self.split}"
        return generator(self.seed, name, self.epoch, device=self.generator_device or self.device)

    def _draw(self, random: torch.Generator) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define _draw(random)")

    def _observe(self, index: Index) -> Tensor:
        raise NotImplementedError(f"{type(self).__name__} must define _observe(index)")

    @property
    def obs(self) -> Tensor:
        """The observations of all sequences."""
        if self._obs is None:
            self._obs = self._observe(slice(None))
        return self._obs

    _obs: Tensor | None = None

    def __len__(self) -> int:
        return self.sequences

    def __repr__(self) -> str:
        size = f"{self.sequences} x {self.steps}"
        return f"{type(self).__name__}({size}, seed={self.seed}, split={self.split!r})"

    def rows(self, index: Index) -> Batch:
        """Some of the sequences, as a batch."""
        obs = self._observe(index) if self._obs is None else self._obs[index]
        return Batch(obs=obs, mask=self.mask[index], state=self.state[index])

    def batch(self) -> Batch:
        """All sequences, as one batch."""
        return Batch(obs=self.obs, mask=self.mask, state=self.state)

    def fresh(self, epoch: int) -> Self:
        """A set of the same size, drawn anew; the set's own epoch gives the set itself."""
        if check_number("epoch", epoch, 0) == self.epoch:
            return self
        return self._like(self.sequences, self.steps, self.seed, self.split, epoch)

    def subset(self, num_sequences: int, seed: int = 0) -> Self:
        """A set of ``num_sequences`` sequences, drawn from the stream of ``seed``."""
        num_sequences = check_number("num_sequences", num_sequences)
        return self._like(num_sequences, self.steps, check_seed(seed), self.split, self.epoch)

    def held_out(
        self, num_sequences: int, seed: int = 0, split: str = "test", steps: int | None = None
    ) -> Batch:
        """Sequences drawn for another split, of ``steps`` frames; see ``Dataset``."""
        check_held_out(num_sequences, seed, split, steps)
        return self._like(num_sequences, steps or self.steps, seed, split, 0).batch()
