"""The exact distribution of what a linear-Gaussian system reads, for Pyro."""

from __future__ import annotations

import math
from typing import Any

import pyro.distributions as dist
import torch
from torch import Tensor
from torch.distributions import constraints

from .system import LinearGaussian, Readings, baseline, drive


def exact_distribution(system: LinearGaussian, data: Readings) -> dist.TorchDistribution:
    """p(y_1 .. y_T), the states summed out: batch shape ``[B]``, event shape ``[T, D]``.

    Arguments:
        system: the parameters, without leading axes.
        data: what was read; sequences begin with a real frame.
    """
    steps, device = data.value.shape[1], data.value.device
    seen = data.seen
    filled = data.variance.masked_fill(~seen, 1 / (2 * math.pi))
    emission, mean = system.emission.mT, torch.zeros_like(data.value)
    level = baseline(system, data.inputs, data.mask)
    if level is not None:
        mean = mean + level
    if not seen.all():
        # A missing value is a 0 read from no state, with density 1.
        mean, emission = mean.masked_fill(~seen, 0.0), emission * seen[..., None, :]
    if system.noise is None:
        read = dist.Normal(mean, filled.sqrt()).to_event(1)
    else:
        noise = system.noise * (seen[..., None] & seen[..., None, :])
        read = dist.MultivariateNormal(mean, noise + torch.diag_embed(filled))
    # GaussianHMM starts one transition early: that transition adds the second half of P.
    half, eye = system.initial_covariance / 2, torch.eye(len(system.dynamics), device=device)
    dynamics, process = (part.repeat(steps, 1, 1) for part in (system.dynamics, system.process))
    dynamics[0], process[0] = eye, half
    start = dist.MultivariateNormal(system.initial_mean, half)
    driven, pushes = drive(system, data.inputs, data.mask), torch.zeros_like(system.initial_mean)
    if driven is not None:
        pushes = torch.cat((torch.zeros_like(driven[:, :1]), driven), 1)
    noise = dist.MultivariateNormal(pushes, process)
    hmm = dist.GaussianHMM(start, dynamics.mT, noise, emission, read)
    return hmm if seen.all() else _SeenValues(hmm, seen)


class _SeenValues(dist.TorchDistribution):
    """Values of sequences of which some are missing: those are NaN in samples, and never scored.

    Arguments:
        filled: a distribution of sequences ``[T, D]`` that scores a missing value of 0 with 1.
        seen: True where a value was seen, ``[B, T, D]``.
    """

    arg_constraints = {}  # noqa: RUF012  # pyright: ignore[reportAssignmentType]
    support = constraints.independent(constraints.real, 2)  # pyright: ignore[reportAssignmentType]

    def __init__(self, filled: dist.TorchDistribution, seen: Tensor) -> None:
        self.filled, self.seen = filled, seen
        super().__init__(filled.batch_shape, filled.event_shape, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> _SeenValues:
        return _SeenValues(self.filled.expand(batch_shape), self.seen)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return self.filled.sample(sample_shape).masked_fill(~self.seen, math.nan)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.filled.log_prob(value.masked_fill(~self.seen, 0.0))
