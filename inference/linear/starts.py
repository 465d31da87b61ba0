"""Systems to start EM from: one that the data suggest, and random ones.

The state has mean 0 and covariance I, so that a start is stable whatever the data are.
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from .kalman import solve
from .m_step import least_noise, regression
from .subspace import Found, identify, lagged_covariances, lags_for
from .system import LinearGaussian, Readings

LEAST_SHARE = 0.1  # of the variance of a channel that a start leaves to its noise


def start_gaussian(
    states: int, data: Readings, min_noise: float, restart: int = 0
) -> LinearGaussian:
    """A system on the scale of the data, by subspace identification for restart 0, else random.

    Arguments:
        states: ``K``.
        data: what was read; variances are 0, or infinite where a value is missing.
        min_noise: see ``m_step.least_noise``.
        restart: number of the start.
    """
    seen = data.seen
    weights, rest = _less_inputs(data, seen)
    variance = rest.square().sum((0, 1)) / seen.sum((0, 1)).clamp_min(1)
    scale = variance.sqrt()
    found = random_system(states, rest)
    if restart == 0:
        lags = lags_for(states, rest.shape[-1], rest.shape[1])
        whitened = rest / scale.masked_fill(scale == 0, 1.0)
        found = identify(lagged_covariances(whitened, seen, lags), states) if lags else found
    share = found.emission.square().sum(-1)
    # No more of a channel than there is.
    emission = found.emission * (1 / share.clamp_min(1e-12)).clamp_max(1.0).sqrt()[:, None]
    share = emission.square().sum(-1)
    least = least_noise(data, min_noise)
    noise = (variance * (1 - share).clamp_min(LEAST_SHARE)).maximum(least)
    # Of a channel that was never seen, nothing changes it.
    noise = torch.where(seen.any(1).any(0), noise, least / min_noise)
    return system_of(found, emission * scale[:, None], weights, torch.diag(noise), data)


def random_system(states: int, like: Tensor) -> Found:
    """A random system of slow states that emits values ``[.., D]`` of variance about 1/2."""
    kind = {"dtype": like.dtype, "device": like.device}
    mix = torch.randn(states, states, **kind) / states**0.5
    u, gains, v = torch.linalg.svd(0.95 * torch.eye(states, **kind) + 0.1 * mix)
    emission = torch.randn(like.shape[-1], states, **kind) / (2 * states) ** 0.5
    return Found((u * gains.clamp_max(0.99)) @ v, emission)


def system_of(
    found: Found, emission: Tensor, weights: Tensor, noise: Tensor | None, data: Readings
) -> LinearGaussian:
    """A system with the states that were found; ``weights [D, 1 + I]`` are d and D."""
    states = len(found.dynamics)
    eye, inputs = torch.eye(states).to(emission), data.inputs
    return LinearGaussian(
        *(found.dynamics, found.process, emission, torch.zeros_like(eye[0]), eye),
        offset=weights[:, 0],
        noise=noise,
        input_dynamics=None if inputs is None else emission.new_zeros(states, inputs.shape[-1]),
        input_emission=None if inputs is None else weights[:, 1:],
    )


def _less_inputs(data: Readings, seen: Tensor) -> tuple[Tensor, Tensor]:
    """d and D of values that depend on the inputs alone, and what is left of the values."""
    value = data.value.masked_fill(~seen, 0.0)
    features = torch.ones_like(value[..., :1])
    if data.inputs is not None:
        features = torch.cat((features, data.inputs), -1)
    rows = features.flatten(0, 1)
    nothing = rows.new_zeros(len(rows), 0, 0)
    gram, cross = regression(value.flatten(0, 1), seen.flatten(0, 1).to(value), rows, nothing)
    weights = solve(gram, cross[..., None])[..., 0]
    return weights, (value - features @ weights.mT).masked_fill(~seen, 0.0)


def start_counts(states: int, data: Readings, restart: int = 0) -> LinearGaussian:
    """A system of log rates, by subspace identification for restart 0, else random.

    The covariances of log rates follow from those of counts, where log rates are Gaussian. Channels
    weigh by the square root of their mean count, as rare spikes say little.

    Arguments:
        states: ``K``.
        data: counts; variances are 0, or infinite where one is missing.
        restart: number of the start.

    Source: L. Buesing, J. H. Macke and M. Sahani, "Spectral learning of linear dynamics from
    generalised-linear observations" (2012).
    """
    seen = data.seen
    counts = data.value.masked_fill(~seen, 0.0)
    total, number = counts.sum((0, 1)), seen.sum((0, 1)).clamp_min(1)
    mean = (total + 0.5) / (number + 0.5 / counts[seen].mean().clamp_min(1e-3))
    weight = mean.sqrt()
    found = random_system(states, counts)
    emission = 0.5 * found.emission
    lags = lags_for(states, counts.shape[-1], counts.shape[1])
    if restart == 0 and lags:
        covariances = lagged_covariances(counts, seen, lags)
        logs = (covariances / (mean[:, None] * mean)).clamp_min(-0.9).log1p()
        found = identify(logs * weight[:, None] * weight, states)
        emission = found.emission / weight[:, None]
        # A log rate of standard deviation above 1 is more than covariances can tell.
        size = emission.square().sum(-1, keepdim=True).sqrt()
        emission = emission / size.clamp_min(1.0)
    offset = mean.log() - emission.square().sum(-1) / 2
    inputs = 0 if data.inputs is None else data.inputs.shape[-1]
    weights = pad(offset[:, None], (0, inputs))
    return system_of(found, emission, weights, None, data)
