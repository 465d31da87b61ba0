"""The members of a likelihood that models use."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import pyro.distributions as dist
from torch import Tensor


class Output(Protocol):
    """p(y | eta), with natural parameters eta ``[..., N]`` that a net puts out."""

    @property
    def event_dim(self) -> int:
        """Axes of one value y: 1 for a vector, 0 for a class."""
        ...

    @property
    def natural_dim(self) -> int:
        """Natural parameters of one value, ``N``."""
        ...

    def distribution(self, natural: Tensor, /) -> dist.TorchDistribution:
        """p(y | eta), ``[..., N]`` to batch shape ``[...]``."""
        ...

    def mean(self, natural: Tensor, /) -> Tensor:
        """E[y | eta]; of a class, the probabilities of all classes."""
        ...

    def mode(self, natural: Tensor, /) -> Tensor:
        """The most likely value."""
        ...

    def sample(self, natural: Tensor, /) -> Tensor:
        """A random value."""
        ...

    def check(self, value: Tensor, /) -> None:
        """Raises a ValueError for values outside the support."""
        ...


@runtime_checkable
class Likelihood(Output, Protocol):
    """p(y | eta) of a frame of ``M`` values."""

    @property
    def dim(self) -> int:
        """Values of one frame, ``M``."""
        ...

    def natural(self, mean: Tensor, /) -> Tensor:
        """Natural parameters with this mean, ``[..., M] -> [..., N]``: how biases are set."""
        ...
