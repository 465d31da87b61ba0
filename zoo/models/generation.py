"""Generation: the base of every model that can sample sequences."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

from ...inference.checks import check_seed, check_sizes
from ...inference.inputs import given_inputs
from ...inference.rng import RandomStream
from ..part import Described


class Generates(Described, nn.Module):
    """A model that samples sequences, with ``sample``.

    A subclass writes ``forwards``, ``backwards`` or both, and names them in ``directions``.
    """

    #: The directions of time that the model has, the default first.
    directions: tuple[str, ...] = ("forwards",)

    @property
    def device(self) -> torch.device:
        """The device of the parameters and buffers."""
        return next(itertools.chain(self.parameters(), self.buffers())).device

    @property
    def dtype(self) -> torch.dtype:
        """The floating dtype of the parameters and buffers."""
        values = itertools.chain(self.parameters(), self.buffers())
        return next(value.dtype for value in values if value.is_floating_point())

    @torch.no_grad()
    def sample(
        self,
        sequences: int,
        steps: int,
        seed: int = 0,
        direction: str | None = None,
        *,
        noise: bool = True,
        inputs: Tensor | None = None,
    ) -> Tensor:
        """Samples sequences, ``[N, T, M]``, earliest frame first.

        Arguments:
            sequences: number of sequences, ``N``.
            steps: frames of each sequence, ``T``.
            seed: seed of a private random stream.
            direction: ``"forwards"`` or ``"backwards"`` in time; None is the model's default.
            noise: False gives every frame as its mean given x_t.
            inputs: those of the frames, ``[N, T, I]``, for a model that reads inputs.

        Raises:
            ValueError: for a direction that the model does not have, or unfit inputs.
        """
        check_sizes(sequences=sequences, steps=steps)
        like = torch.zeros((), dtype=self.dtype, device=self.device)
        inputs = given_inputs(self, inputs, sequences, steps, like)
        return self._sampled(
            sequences, steps, seed, direction, noise, *(() if inputs is None else (inputs,))
        )

    def _sampled(
        self, sequences: int, steps: int, seed: int, direction: str | None, *how: Any
    ) -> Tensor:
        """``sample``; ``how`` are the further arguments of ``forwards`` and ``backwards``."""
        check_sizes(sequences=sequences, steps=steps)
        check_seed(seed)
        generate = self._generator(direction)
        with RandomStream(self.device, "sample", seed):
            return generate(sequences, steps, *how)

    def forwards(self, sequences: int, steps: int, noise: bool = True) -> Tensor:
        """``sample`` forwards in time, from the caller's random state; ``[N, T, M]``."""
        raise NotImplementedError(f"{type(self).__name__} must define forwards")

    def backwards(self, sequences: int, steps: int, noise: bool = True) -> Tensor:
        """``sample`` backwards in time, from the caller's random state; ``[N, T, M]``."""
        raise NotImplementedError(f"{type(self).__name__} must define backwards")

    def _generator(self, direction: str | None) -> Callable[..., Tensor]:
        """``forwards`` or ``backwards``, checked."""
        direction = direction or self.directions[0]
        if direction not in self.directions:
            known = " or ".join(self.directions)
            raise ValueError(f"{type(self).__name__} generates {known} in time, not {direction!r}")
        return self.forwards if direction == "forwards" else self.backwards
