"""Generation: what every model that can draw sequences shares."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor

from ...inference.predict import check_direction
from ...inference.rng import RandomStream
from ..part import Described


class Generates(Described):
    """Offers ``sample``; a model writes ``forwards``, ``backwards`` or both.

    Those take ``(sequences, steps, **how)`` and return ``[N, T, M]``, earliest frame first.
    """

    #: The directions of time that the model has, its own way first.
    directions: tuple[str, ...] = ("forwards",)

    @property
    def device(self) -> torch.device:
        """Where the network lives."""
        return next(itertools.chain(self.parameters(), self.buffers())).device

    @torch.no_grad()
    def sample(
        self, sequences: int, steps: int, seed: int = 0, direction: str | None = None, **how
    ) -> Tensor:
        """Generates ``[N, T, M]``, earliest frame first.

        Arguments:
            sequences, steps: how many, and how long.
            seed: seed of the noise; the caller's random state is left alone.
            direction: ``"forwards"`` or ``"backwards"`` in time; the model's own way if unset.
            how: further arguments of ``forwards`` or ``backwards``, such as ``noise=False``, which
                gives every frame without noise of its own, as its mean given x_t.

        Raises:
            ValueError: for a direction that the model does not have.
        """
        direction = direction or self.directions[0]
        check_direction(self, direction)
        with RandomStream(self.device, "sample", seed):
            return getattr(self, direction)(sequences, steps, **how)
