"""Real values in any unit, such as calcium traces, field potentials and behaviour."""

from __future__ import annotations

import math
from collections.abc import Sequence

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ....inference.checks import check_number, check_real
from ...part import Described
from ..limits import held

LEAST, MOST = 0.01, 100.0  # of a standard deviation, in units of ``scale``


class LearnedGaussian(Described, nn.Module):
    """Independent Gaussians, whose standard deviations are learned, one for each value.

        y = location + scale (eta + sd e),  e ~ N(0, I)

    Nets work with numbers of order one, and recordings come in any unit. ``location`` and ``scale``
    are the mean and the standard deviation of each channel in the training data. Models read
    ``standardised(y)``, and put out eta. Data, expected values and log-densities keep the unit of
    the data. The gradient keeps ``sd`` between 0.01 and 100: without a limit, the density of a
    channel that never changes has no bound.

    Arguments:
        dim: number of values, ``M``.
        location: a number, or one for each value ``[M]``, in the unit of the data.
        scale: the same, above 0.

    Attributes:
        log_sd: log sd of each value, ``[M]``, learned from 0 on.

    Raises:
        ValueError: for a number below 1, another number of locations or scales, or a scale that is
            not positive.

    Example:
        >>> LearnedGaussian(3, location=1e4, scale=200.0).mean(torch.zeros(3))
        tensor([10000., 10000., 10000.])
    """

    event_dim = 1
    location: Tensor
    scale: Tensor

    def __init__(
        self,
        dim: int,
        location: float | Sequence[float] = 0.0,
        scale: float | Sequence[float] = 1.0,
    ) -> None:
        super().__init__()
        check_number("dim", dim)
        self.dim = self.natural_dim = dim
        self.register_buffer("location", _each("location", location, dim))
        self.register_buffer("scale", _each("scale", scale, dim, above=0))
        self.log_sd = nn.Parameter(torch.zeros(dim))

    @property
    def sd(self) -> Tensor:
        """The standard deviation of each value, in the unit of the data, ``[M]``."""
        return self.scale * held(self.log_sd, math.log(LEAST), math.log(MOST)).exp()

    def standardised(self, value: Tensor) -> Tensor:
        """(y - location) / scale, ``[..., M]``: values as models read them."""
        return (value - self.location) / self.scale

    def distribution(self, natural: Tensor) -> dist.TorchDistribution:
        """p(y | eta), ``[..., M]`` with event shape ``[M]``."""
        sd = self.sd.expand(natural.shape)
        return dist.Normal(self.mean(natural), sd, validate_args=False).to_event(1)

    def mean(self, natural: Tensor) -> Tensor:
        """E[y | eta], ``[..., M] -> [..., M]``."""
        return self.location + self.scale * natural

    def mode(self, natural: Tensor) -> Tensor:
        """The most likely frame, ``[..., M] -> [..., M]``."""
        return self.mean(natural)

    @torch.no_grad()
    def sample(self, natural: Tensor) -> Tensor:
        """A random frame, ``[..., M] -> [..., M]``."""
        return self.distribution(natural).sample()

    def natural(self, mean: Tensor) -> Tensor:
        """The natural parameters with this mean, ``[..., M] -> [..., M]``."""
        return self.standardised(mean)

    def check(self, value: Tensor) -> None:
        """Raises a ValueError for anything but finite numbers ``[..., M]``."""
        if not value.is_floating_point() or value.shape[-1:] != (self.dim,):
            raise ValueError(
                f"obs must be floating point, [..., {self.dim}], "
                f"got {value.dtype} {tuple(value.shape)}"
            )
        if not torch.isfinite(value).all():
            raise ValueError("obs has NaN or Inf: see observed of data.Batch")

    def extra_repr(self) -> str:
        return str(self.dim)


def _each(name: str, given: float | Sequence[float], dim: int, above: float = -math.inf) -> Tensor:
    """One number for each value, ``[dim]``, checked."""
    numbers = list(given) if isinstance(given, Sequence) else [given] * dim
    if len(numbers) != dim:
        raise ValueError(f"{name} has {len(numbers)} numbers, and there are {dim} values")
    return torch.tensor([float(check_real(name, each, above=above)) for each in numbers])
