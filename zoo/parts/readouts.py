"""Readouts: the real values, with known variances, that a linear system takes from observations.

A readout of your own inherits from ``Readout`` and writes its methods anew. Where its ``measure``
leaves missing values out, it says so with ``takes_missing = True``.
"""

from __future__ import annotations

import math
from typing import ClassVar

import torch
from torch import Tensor

from ...data import Batch
from ...inference.checks import check_number, check_real
from ..part import Described

__all__ = ["Readout"]


class Readout(Described):
    """Observations as they are, all with one variance.

    Arguments:
        dim: values a frame, ``D``.
        variance: their variance; 0 for exact values.

    Raises:
        ValueError: for a ``dim`` below 1, or a negative variance.
    """

    takes_missing: ClassVar[bool] = True  # whether measure leaves missing values out

    def __init_subclass__(cls) -> None:
        super().__init_subclass__()
        if "measure" in vars(cls) and "takes_missing" not in vars(cls):
            cls.takes_missing = False  # its own measure, which may know nothing of missing values

    def __init__(self, dim: int = 1, variance: float = 1.0) -> None:
        check_number("dim", dim)
        check_real("variance", variance, least=0)
        self.dim, self.variance = dim, variance

    def measure(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Values and variances, each ``[B, T, D]``; a variance is infinite where one is missing."""
        variance = torch.full_like(batch.obs, self.variance)
        if batch.observed is not None:
            variance = variance.masked_fill(~batch.observed, math.inf)
        return batch.obs, variance

    def expect(self, value: Tensor) -> Tensor:
        """Mean observation given the values, ``[B, T, D] -> [B, T, M]``."""
        return value

    def spread(self, variance: Tensor) -> Tensor:
        """Variances of observations, given those of the values, ``[B, T, D] -> [B, T, M]``.

        Raises:
            ValueError: for a readout with an ``expect`` of its own that does not write it.
        """
        if type(self).expect is not Readout.expect:
            raise ValueError(
                f"{type(self).__name__} tells no variance: that takes spread(variance)"
            )
        return variance + self.variance

    def sample(self, value: Tensor) -> Tensor:
        """A random observation given the values, ``[B, T, D] -> [B, T, M]``."""
        return value + self.variance**0.5 * torch.randn_like(value)

    def check(self, obs: Tensor) -> None:
        """Raises a ValueError for observations that cannot be read."""
        if obs.shape[-1] != self.dim:
            raise ValueError(f"expected {self.dim} values a frame, got {obs.shape[-1]}")
