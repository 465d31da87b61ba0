"""Readouts: the real values, with known variances, that a linear system takes from observations.

A readout of your own inherits from ``Readout`` and writes its methods anew.
"""

from __future__ import annotations

import torch
from torch import Tensor

from ...inference.checks import check_number, check_real
from ..part import Described

__all__ = ["Readout"]


class Readout(Described):
    """Observations as they are, all with one variance.

    Arguments:
        dim: values a frame, ``D``.
        variance: their variance.
    """

    def __init__(self, dim: int = 1, variance: float = 1.0) -> None:
        check_number("dim", dim)
        check_real("variance", variance, least=0)
        self.dim, self.variance = dim, variance

    def measure(self, obs: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
        """Values and variances, each ``[B, T, D]``."""
        return obs, torch.full_like(obs, self.variance)

    def expect(self, value: Tensor) -> Tensor:
        """Mean observation given the values, ``[B, T, D] -> [B, T, M]``."""
        return value

    def sample(self, value: Tensor) -> Tensor:
        """A random observation given the values, ``[B, T, D] -> [B, T, M]``."""
        return value + self.variance**0.5 * torch.randn_like(value)

    def check(self, obs: Tensor) -> None:
        """Raises a ValueError for observations that cannot be read."""
        if obs.shape[-1] != self.dim:
            raise ValueError(f"expected {self.dim} values a frame, got {obs.shape[-1]}")
