"""A mixture of Gaussians, as the distribution of an output."""

from __future__ import annotations

import math

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ....inference.checks import check_real, check_sizes
from ...part import Described
from ..limits import soft_limits, undo_soft_limits

LOG_SCALE = 7.0  # exp(.) of larger outputs, or exp(-.) of smaller ones, grows as a straight line


class GaussianMixture(Described, nn.Module):
    """A mixture of k Gaussians.

        p(y) = sum_i pi_i N(y; mu_i, sigma_i^2),  pi = softmax(.), mu = (.), sigma = exp(.)

    Natural parameters are, in this order, the logits of pi ``[k]``, mu ``[k, D]`` and log sigma
    ``[k, D]``. Beyond 7, sigma grows as a straight line, and beyond -7, 1 / sigma does.

    Arguments:
        dim: values of an output, ``D``, independent within a component.
        components: number of components, ``k``.

    Raises:
        ValueError: for a number below 1.

    Sources: Bishop, "Mixture density networks" (1994); Manchev & Spratling, "Learning multi-modal
    recurrent neural networks with target propagation" (2024), equations 8 to 12.
    """

    event_dim = 1

    def __init__(self, dim: int = 1, components: int = 3) -> None:
        super().__init__()
        check_sizes(dim=dim, components=components)
        self.dim, self.components = dim, components
        self.natural_dim = components * (1 + 2 * dim)

    @torch.no_grad()
    def initialise(self, readout: nn.Linear, low: float, high: float) -> None:
        """Sets a readout in place, so that the components tile the range ``low`` to ``high``.

        Arguments:
            readout: the layer that puts out the natural parameters.
            low, high: ends of the range, in the units of the output.

        Raises:
            ValueError: when ``low`` is not below ``high``.
        """
        if not check_real("low", low) < check_real("high", high):
            raise ValueError(f"low must be below high, got {low} and {high}")
        k, width = self.components, (high - low) / self.components
        means = low + width * (torch.arange(k) + 0.5)
        readout.weight.mul_(0.1)
        logits, places, log_scales = readout.bias.split((k, k * self.dim, k * self.dim))
        logits.zero_()
        places.copy_(means.repeat_interleave(self.dim))
        log_scale = log_scales.new_tensor(math.log(width / 2))
        log_scales.copy_(undo_soft_limits(log_scale, -LOG_SCALE, LOG_SCALE))

    def components_of(self, natural: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """log pi ``[..., k]``, mu and sigma ``[..., k, D]``."""
        k, inner = self.components, self.components * self.dim
        logits, means, log_scales = natural.split((k, inner, inner), -1)
        shape = (k, self.dim)
        scales = soft_limits(log_scales, -LOG_SCALE, LOG_SCALE).exp()
        return logits.log_softmax(-1), means.unflatten(-1, shape), scales.unflatten(-1, shape)

    def distribution(self, natural: Tensor) -> dist.TorchDistribution:
        """p(y | eta), ``[..., N]`` to values ``[..., D]``; its log-density is a log-sum-exp."""
        logits, means, scales = self.components_of(natural)
        parts = dist.Normal(means, scales, validate_args=False).to_event(1)
        weights = dist.Categorical(logits=logits, validate_args=False)
        return dist.MixtureSameFamily(weights, parts, validate_args=False)

    def mean(self, natural: Tensor) -> Tensor:
        """E[y], ``[..., N] -> [..., D]``."""
        logits, means, _ = self.components_of(natural)
        return (logits.exp()[..., None] * means).sum(-2)

    def mode(self, natural: Tensor) -> Tensor:
        """The mean of the component with the highest peak, ``[..., N] -> [..., D]``."""
        logits, means, scales = self.components_of(natural)
        highest = (logits - scales.log().sum(-1)).argmax(-1)[..., None, None]
        return means.take_along_dim(highest, -2).squeeze(-2)

    def sample(self, natural: Tensor) -> Tensor:
        """A random value, ``[..., N] -> [..., D]``."""
        return self.distribution(natural).sample()

    def check(self, value: Tensor) -> None:
        """Raises a ValueError for anything but finite numbers ``[..., D]``."""
        if not value.is_floating_point() or value.shape[-1:] != (self.dim,):
            raise ValueError(
                f"target must be floating point, [..., {self.dim}], "
                f"got {value.dtype} {tuple(value.shape)}"
            )
        if not torch.isfinite(value).all():
            raise ValueError("target has NaN or Inf: clean the data")

    def extra_repr(self) -> str:
        return f"{self.dim}, components={self.components}"
