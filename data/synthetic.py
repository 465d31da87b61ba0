"""What the synthetic data sets share: sizes, seeds, splits, and how they are served."""

from __future__ import annotations

import copy

import torch
from torch import Tensor

from .batch import Batch, generator

SPLITS = ("train", "validation", "test")


class Synthetic:
    """Sequences drawn from a generative process.

    A subclass writes ``_draw(random)``, which sets ``state`` (and whatever else was drawn), and
    ``_observe(index)``, which gives the observations of some rows.

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
    #: The device of the random generator; None is the device of the data.
    drawn_on: str | None = "cpu"

    def __init__(
        self,
        sequences: int,
        steps: int,
        seed: int,
        split: str,
        device: torch.device | str,
        epoch: int,
    ):
        if sequences < 1 or steps < 1:
            raise ValueError(f"sequences and steps must be at least 1, got {sequences}, {steps}")
        if split not in SPLITS:
            raise ValueError(f"split must be one of {', '.join(SPLITS)}, got {split!r}")
        self.sequences, self.steps, self.seed = sequences, steps, seed
        self.split, self.device, self.epoch = split, torch.device(device), epoch
        self.mask = torch.ones(sequences, steps, dtype=torch.bool, device=self.device)
        self._draw(self._random())

    def _random(self) -> torch.Generator:
        name = f"{type(self).__name__} {self.split}"
        return generator(self.seed, name, self.epoch, device=self.drawn_on or self.device)

    def _draw(self, random: torch.Generator) -> None:
        raise NotImplementedError(f"{type(self).__name__} must define _draw(random)")

    def _observe(self, index) -> Tensor:
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

    def rows(self, index) -> Batch:
        """Some of the sequences, as a batch."""
        obs = self._observe(index) if self._obs is None else self._obs[index]
        return Batch(obs=obs, mask=self.mask[index], state=self.state[index])

    def batch(self) -> Batch:
        """All sequences, as one batch."""
        return Batch(obs=self.obs, mask=self.mask, state=self.state)

    def fresh(self, epoch: int):
        """A set of the same size, drawn anew; the set's own epoch gives the set itself."""
        if epoch == self.epoch:
            return self
        other = copy.copy(self)
        other.epoch, other._obs = epoch, None
        other._draw(other._random())
        return other
