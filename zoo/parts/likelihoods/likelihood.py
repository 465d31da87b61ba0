"""The members of a likelihood that models use."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

import pyro.distributions as dist
import torch
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


def seen_part(
    distribution: dist.TorchDistribution, observed: Tensor | None
) -> dist.TorchDistribution:
    """The distribution of frames of which some values were not seen: those count for nothing.

    Arguments:
        distribution: of frames, batch shape ``[...]``, event shape ``[M]``.
        observed: True where a value was seen, ``[..., M]``; None where all were.

    Returns:
        A distribution of the same shape, whose log-density is that of the values seen.

    Raises:
        ValueError: when a frame was seen in part, and its values are not independent.
    """
    if observed is None:
        return distribution
    if isinstance(distribution, torch.distributions.Independent):
        base, axes = distribution.base_dist, distribution.reinterpreted_batch_ndims
        return base.mask(observed).to_event(axes)
    whole = observed.all(-1)
    if not (whole | ~observed.any(-1)).all():
        raise ValueError(
            f"the values of a frame are not independent under {type(distribution).__name__}: it "
            "takes frames that were seen whole or not at all"
        )
    return distribution.mask(whole)
