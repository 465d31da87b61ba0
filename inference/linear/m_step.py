"""M steps of linear systems: parameters that maximise the expected log-density of path and data.

The expectation is over smoothed beliefs about the states. Sums over frames are matrix products, so
that a step costs little beside the smoother. Parameters carry a leading axis of restarts or none.

Source: Z. Ghahramani and G. E. Hinton, "Parameter estimation for linear dynamical systems" (1996).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from .kalman import Beliefs, solve
from .system import LinearGaussian, Readings, begun

FRAMES_AT_ONCE = 512  # frames with missing values, of which each has a gain [D, D] of its own


def fit_states(system: LinearGaussian, beliefs: Beliefs, data: Readings) -> LinearGaussian:
    """The system with new A, Q, m, P, and B where it has one.

    A transition counts between the first and the last real frame of a sequence: padding adds
    nothing, and a gap is a stretch of the path that was not seen.

    Arguments:
        system: the parameters; those of the emission stay.
        beliefs: those of a smoother, over ``[..., B, T, K]``.
        data: what was read, ``B`` sequences.
    """
    if beliefs.lagged is None:
        raise ValueError("these beliefs are filtered: the M step takes those of kalman_smoother")
    mean, cov, mask = beliefs.mean, beliefs.covariance, data.mask
    counts = (begun(mask)[:, :-1] & begun(mask.flip(1)).flip(1)[:, 1:]).to(mean)[..., None]
    before, after, inputs = mean[..., :-1, :], mean[..., 1:, :], None

    def total(covariances: Tensor) -> Tensor:
        return (covariances * counts[..., None]).sum((-4, -3))

    now, then, lagged = total(cov[..., 1:, :, :]), total(cov[..., :-1, :, :]), total(beliefs.lagged)
    gram = then + products(before * counts, before)
    cross = lagged + products(after * counts, before)
    if system.input_dynamics is not None and data.inputs is not None:
        inputs = data.inputs[:, 1:].expand(*mean.shape[:-3], -1, -1, -1)
        mixed = products(before * counts, inputs)
        corner = products(inputs * counts, inputs)
        gram = torch.cat((torch.cat((gram, mixed), -1), torch.cat((mixed.mT, corner), -1)), -2)
        cross = torch.cat((cross, products(after * counts, inputs)), -1)
    weights = solve(gram, cross.mT).mT
    dynamics = weights[..., : mean.shape[-1]]
    # A sum of residuals is a covariance, where a difference of sums may round to none.
    expected = before @ dynamics[..., None, :, :].mT
    if inputs is not None:
        drive = weights[..., mean.shape[-1] :]
        expected = expected + inputs @ drive[..., None, :, :].mT
        system = system._replace(input_dynamics=drive)
    rest = (after - expected) * counts
    noise = now - dynamics @ lagged.mT - lagged @ dynamics.mT + dynamics @ then @ dynamics.mT
    process = symmetric(noise + products(rest, rest)) / counts.sum()
    start = mean[..., 0, :].mean(-2)
    spread = (mean[..., 0, :] - start[..., None, :])[..., None, :]
    initial = symmetric(cov[..., 0, :, :].mean(-3) + products(spread, spread) / len(mask))
    return system._replace(
        dynamics=dynamics, process=process, initial_mean=start, initial_covariance=initial
    )


def fit_emission(
    system: LinearGaussian, beliefs: Beliefs, data: Readings, min_noise: float, full: bool = False
) -> LinearGaussian:
    """The system with new C, d and R, and D where it has one.

    R is the best one of those for which R - diag(least) is positive semidefinite. A limit is
    needed: the likelihood has no maximum where a channel is constant, or predicted without error.

    Arguments:
        system: the parameters, with an offset and a noise; those of the states stay.
        beliefs: those of a smoother, over ``[..., B, T, K]``.
        data: what was read; variances are 0, or infinite where a value is missing.
        min_noise: least variance of the noise, see ``least_noise``.
        full: whether R has entries beside the diagonal.
    """
    value, seen, features, cov = in_frames(beliefs, data)
    least = least_noise(data, min_noise)
    every = bool(seen.all())
    if full and not every:
        found, rest = _with_all_channels(system, value, seen, features, cov)
        count = seen.any(-1).sum()
    else:
        weight = seen[:, :1].to(value) if every else seen.to(value)  # one for all channels
        gram, cross = regression(value, weight, features, cov)
        found = solve(gram, cross[..., None])[..., 0]
        errors = (value - features @ found.mT) * weight
        emission, count = found[..., : cov.shape[-1]], weight.sum(0)
        if full:
            total = (cov * weight[:, 0, None, None]).sum(-3)
            rest, count = errors.mT @ errors + emission @ total @ emission.mT, count[0]
        else:
            total = (weight.mT @ cov.flatten(-2)).unflatten(-1, cov.shape[-2:])
            spread = (emission[..., None, :] @ total @ emission[..., None])[..., 0, 0]
            rest = errors.square().sum(-2) + spread
    if full:
        scale = least.sqrt()
        values, axes = torch.linalg.eigh(symmetric(rest) / count / (scale[:, None] * scale))
        noise = (axes * values.clamp_min(1.0)[..., None, :]) @ axes.mT * (scale[:, None] * scale)
        noise = symmetric(noise)
    else:
        assert system.noise is not None
        before = system.noise.diagonal(dim1=-2, dim2=-1)  # of a channel that was never seen
        each = torch.where(count > 0, rest / count.clamp_min(1.0), before)
        noise = torch.diag_embed(each.maximum(least))
    return with_emission(system, found)._replace(noise=noise)


def least_noise(data: Readings, fraction: float) -> Tensor:
    """A fraction of the variance of each channel over the values seen, ``[D]``.

    A channel that is constant, or was never seen, has the median limit of the others.
    """
    variance = moments_of_channels(data)[1]
    varies = variance > 0
    usual = variance[varies].median() if varies.any() else torch.ones_like(variance[0])
    return fraction * torch.where(varies, variance, usual)


def moments_of_channels(data: Readings) -> tuple[Tensor, Tensor, Tensor]:
    """Mean and variance of each channel over the values seen, and their number; each ``[D]``."""
    if whole(data):
        mean = data.value.mean((0, 1))
        variance = (data.value - mean).square_().mean((0, 1))
        count = torch.full_like(mean, data.mask.numel(), dtype=torch.long)
        return mean, variance.masked_fill(variance < 1e-24 * mean.square(), 0.0), count
    seen = data.seen
    count = seen.sum((0, 1))
    value = data.value.masked_fill(~seen, 0.0)
    mean = value.sum((0, 1)) / count.clamp_min(1)
    rest = (value - mean).masked_fill(~seen, 0.0)
    variance = rest.square().sum((0, 1)) / count.clamp_min(1)
    # Of a constant channel, what is left is rounding.
    return mean, variance.masked_fill(variance < 1e-24 * mean.square(), 0.0), count


def whole(data: Readings) -> bool:
    """Whether every value was seen."""
    return bool(data.mask.all() and data.variance.amax() < torch.inf)


def with_emission(system: LinearGaussian, found: Tensor) -> LinearGaussian:
    """A system with new C, d, and D where it has one, side by side in ``[..., D, K + 1 + I]``."""
    states = system.dynamics.shape[-1]
    emission, offset, inputs = found.split((states, 1, found.shape[-1] - states - 1), -1)
    system = system._replace(emission=emission.contiguous(), offset=offset[..., 0])
    return system if system.input_emission is None else system._replace(input_emission=inputs)


def in_frames(beliefs: Beliefs, data: Readings) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Values ``[N, D]`` (0 where missing) of frames of which something was seen, and what was.

    The features of a frame are the mean of x_t, 1, and the inputs: ``[..., N, F]``. The last of
    the four is the covariance of x_t, ``[..., N, K, K]``.
    """
    if whole(data):
        value, seen = data.value.flatten(0, 1), torch.ones_like(data.value, dtype=torch.bool)
        mean, cov = beliefs.mean.flatten(-3, -2), beliefs.covariance.flatten(-4, -3)
        return value, seen.flatten(0, 1), with_inputs(mean, data, data.mask), cov
    seen = data.seen
    some = seen.any(-1)
    mean, cov = beliefs.mean[..., some, :], beliefs.covariance[..., some, :, :]
    value = data.value.masked_fill(~seen, 0.0)[some]
    return value, seen[some], with_inputs(mean, data, some), cov


def with_inputs(mean: Tensor, data: Readings, some: Tensor) -> Tensor:
    """States, 1, and the inputs of some frames, ``[..., N, K + 1 + I]``."""
    parts = [mean, torch.ones_like(mean[..., :1])]
    if data.inputs is not None:
        parts.append(data.inputs[some].expand(*mean.shape[:-2], -1, -1))
    return torch.cat(parts, -1)


def regression(
    value: Tensor, weight: Tensor, features: Tensor, cov: Tensor
) -> tuple[Tensor, Tensor]:
    """Normal equations of each channel: ``[..., D, F, F]`` and ``[..., D, F]``.

    Arguments:
        value: ``[N, D]``.
        weight: 1 where a value was seen, ``[N, D]``, or ``[N, 1]`` for a gram that all share.
        features: means, ``[..., N, F]``.
        cov: covariances of the first ``K`` features, ``[..., N, K, K]``.
    """
    states, size = cov.shape[-1], features.shape[-1]
    second = features[..., :, None] * features[..., None, :]
    second[..., :states, :states] += cov
    gram = (weight.mT @ second.flatten(-2)).unflatten(-1, (size, size))
    return gram, (weight * value).mT @ features


def _with_all_channels(
    system: LinearGaussian, value: Tensor, seen: Tensor, features: Tensor, cov: Tensor
) -> tuple[Tensor, Tensor]:
    """C, d and D side by side, and the sum of squared errors ``[..., D, D]``.

    The noise of the channels is correlated, so that missing values are inferred from the errors of
    the others, too. The sums are over errors of the weights before the step, which are small.
    """
    old, noise = weights_of(system), system.noise
    assert noise is not None
    states = cov.shape[-1]
    gram, cross, square = (torch.zeros((), dtype=noise.dtype, device=noise.device),) * 3
    for rows in torch.arange(len(value), device=value.device).split(FRAMES_AT_ONCE):
        w, f, spread = seen[rows].to(noise), features[..., rows, :], cov[..., rows, :, :]
        known = noise[..., None, :, :] * w[:, None, :]
        gain = torch.linalg.solve(known * w[:, :, None] + torch.diag_embed(1 - w), known.mT).mT
        error = (gain @ ((value[rows] - f @ old.mT) * w)[..., None])[..., 0]
        slope = -(gain @ old[..., None, :, :states])
        moved = slope @ spread
        gram = gram + f.mT @ f + pad(spread.sum(-3), (0, f.shape[-1] - states) * 2)
        cross = cross + error.mT @ f + pad(moved.sum(-3), (0, f.shape[-1] - states))
        left = noise[..., None, :, :] - gain @ known.mT
        square = square + error.mT @ error + (moved @ slope.mT + left).sum(-3)
    change = solve(gram, cross.mT).mT
    return old + change, square - change @ cross.mT


def weights_of(system: LinearGaussian) -> Tensor:
    """C, d, and D where there is one, side by side in ``[..., D, K + 1 + I]``."""
    assert system.offset is not None
    parts = [system.emission, system.offset[..., None]]
    return torch.cat(parts + ([] if system.input_emission is None else [system.input_emission]), -1)


def products(first: Tensor, second: Tensor) -> Tensor:
    """Sum of outer products over sequences and steps, ``[..., B, T, K] -> [..., K, K]``."""
    return first.flatten(-3, -2).mT @ second.flatten(-3, -2)


def symmetric(matrix: Tensor) -> Tensor:
    """The symmetric part."""
    return (matrix + matrix.mT) / 2
