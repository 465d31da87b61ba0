"""Counts of a linear system, y ~ Poisson(exp(C x_t + d + D s_t)): inference and M step.

Source: J. H. Macke et al., "Empirical models of spiking in neural populations" (2011), with the
variational bound in place of Laplace's approximation: its expectations are exact for counts.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import pad

from .contracts import Readings
from .kalman import Beliefs
from .kalman_system import LinearGaussian, baseline, begun, drive
from .m_step import in_frames, weights_of, with_emission
from .sites import Bound, Sites, best_posterior, condition, site_smoother

LARGEST = 1e6  # expected count that a site may propose
SPREAD_OFFSET = 3.0  # standard deviation of the prior on d, about the log of the mean count
SPREAD_INPUT = 3.0  # that on the effect of an input of mean square 1
SPREAD_EMISSION = 1.0  # that on C
NEWTON, HALVINGS, VALUES_AT_ONCE = 4, 20, 2**22


def smooth_counts(system: LinearGaussian, data: Readings, before: Beliefs | None = None) -> Beliefs:
    """The best Gaussian posterior of the states given all counts, ``[..., B, T, K]``.

    Its ``log_likelihood`` is a lower bound on log p(y), ``[..., B]``.

    Arguments:
        system: the parameters, with leading axes or none.
        data: counts, with variance 0, or infinite where one is missing.
        before: beliefs to start from.
    """
    counts, seen, level = _given(system, data)

    def bound_at(sites: Sites) -> Bound:
        h, J = _pulled(system, sites, level)
        beliefs = site_smoother(system, h, J, data.mask, data.inputs)
        return _bound(system, beliefs, (h, J), counts, seen, level)

    if before is None:
        start = _first_sites(system, counts, seen)
    else:
        start = _target(counts, seen, *_moments(system, before, level))
    return best_posterior(bound_at, start)[0]


def filter_counts(system: LinearGaussian, data: Readings) -> Beliefs:
    """Assumed-density filter: beliefs given the counts up to each frame, ``[B, T, K]``.

    Each step keeps the best Gaussian posterior of that step alone. ``log_likelihood`` adds up
    the bounds of the steps; it approximates log p(y), and is no bound itself.

    Arguments:
        system: the parameters, without leading axes.
        data: see ``smooth_counts``.
    """
    counts, seen, level = _given(system, data)
    level, driven = level.expand_as(counts), drive(system, data.inputs, data.mask)
    moves, rows = begun(data.mask), len(counts)
    mean = system.initial_mean.expand(rows, 1, -1)
    cov = system.initial_covariance.expand(rows, 1, -1, -1)
    means, covs, total = [], [], torch.zeros_like(mean[:, 0, 0])
    for t in range(counts.shape[1]):
        if t > 0:
            ahead = mean @ system.dynamics.mT
            ahead = ahead if driven is None else ahead + driven[:, t - 1, None]
            wider = system.dynamics @ cov @ system.dynamics.mT + system.process
            on = moves[:, t - 1, None, None]
            mean, cov = torch.where(on, ahead, mean), torch.where(on[..., None], wider, cov)
        now = slice(t, t + 1)
        at = (counts[:, now], seen[:, now], level[:, now])
        prior = Beliefs(mean, cov, total)

        def bound_at(sites: Sites, prior: Beliefs = prior, at: tuple = at) -> Bound:
            h, J = _pulled(system, sites, at[2])
            mean, cov, normaliser = condition(prior.mean, prior.covariance, h, J)
            return _bound(system, Beliefs(mean, cov, normaliser[:, 0]), (h, J), *at)

        start = _target(*at[:2], *_moments(system, prior, at[2]))
        beliefs, _ = best_posterior(bound_at, start)
        mean, cov = beliefs.mean, beliefs.covariance
        means.append(mean)
        covs.append(cov)
        total = total + beliefs.log_likelihood
    return Beliefs(torch.cat(means, 1), torch.cat(covs, 1), total)


def _given(system: LinearGaussian, data: Readings) -> tuple[Tensor, Tensor, Tensor]:
    """Counts, 0 where missing; which were seen; and d + D s_t."""
    seen = data.variance.isfinite() & data.mask[..., None]
    level = baseline(system, data.inputs, data.mask)
    assert level is not None
    return data.value.masked_fill(~seen, 0.0), seen, level


def _first_sites(system: LinearGaussian, counts: Tensor, seen: Tensor) -> Sites:
    """Sites at the mean count of each channel."""
    rate = counts.sum((0, 1)) / seen.sum((0, 1)).clamp_min(1)
    rate = rate.clamp_min(1e-3).expand(*system.dynamics.shape[:-2], *counts.shape)
    return _target(counts, seen, rate.log(), torch.zeros_like(rate))


def _target(counts: Tensor, seen: Tensor, eta: Tensor, spread: Tensor) -> Sites:
    """The sites at which the gradient of the bound points, given moments of eta."""
    # A proposal may be of any size: the bound says whether it is any good.
    rate = (eta + spread / 2).exp().clamp(max=LARGEST).masked_fill(~seen, 0.0)
    return Sites(torch.where(seen, rate * eta + counts - rate, 0.0), rate)


def _pulled(system: LinearGaussian, sites: Sites, level: Tensor) -> tuple[Tensor, Tensor]:
    """Sites as functions of the state: h ``[..., B, T, K]`` and J ``[..., B, T, K, K]``."""
    C = system.emission.unsqueeze(-3)
    h = (sites.linear - sites.precision * level) @ C
    squares = (C.unsqueeze(-1) * C.unsqueeze(-2)).flatten(-2)
    return h, (sites.precision @ squares).unflatten(-1, C.shape[-1:] * 2)


def _moments(system: LinearGaussian, beliefs: Beliefs, level: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and variance of eta = C x_t + d + D s_t, ``[..., B, T, D]``."""
    C = system.emission.unsqueeze(-3)
    squares = (C.unsqueeze(-1) * C.unsqueeze(-2)).flatten(-2)
    return beliefs.mean @ C.mT + level, beliefs.covariance.flatten(-2) @ squares.mT


def _bound(
    system: LinearGaussian,
    beliefs: Beliefs,
    pulled: tuple[Tensor, Tensor],
    counts: Tensor,
    seen: Tensor,
    level: Tensor,
) -> Bound:
    """E[log p(y | x)] - KL(p(x | sites) || p(x)), and where its gradient points."""
    mean, cov, (h, J) = beliefs.mean, beliefs.covariance, pulled
    eta, spread = _moments(system, beliefs, level)
    each = counts * eta - (eta + spread / 2).exp() - torch.lgamma(counts + 1)
    said = torch.where(seen, each, 0.0).sum((-2, -1))
    second = cov + mean.unsqueeze(-1) * mean.unsqueeze(-2)
    taken = (h * mean).sum((-2, -1)) - (J * second).sum((-3, -2, -1)) / 2
    bound = said - taken + beliefs.log_likelihood
    return Bound(beliefs._replace(log_likelihood=bound), _target(counts, seen, eta, spread))


# M step ------------------------------------------------------------------------------------------


def count_prior(system: LinearGaussian, data: Readings) -> tuple[Tensor, Tensor]:
    """Means and precisions of the normal prior on C, d and D side by side, ``[K + 1 + I]``.

    It counts where a channel has hardly any spike: without it, the rate of a silent one has no
    maximum. About d it weighs like a spike or less in all data together.
    """
    seen = data.variance.isfinite() & data.mask[..., None]
    total = data.value.masked_fill(~seen, 0.0).sum().clamp_min(0.5)
    level, states = (total / seen.sum()).log(), system.dynamics.shape[-1]
    mean, precision = [0.0] * states, [SPREAD_EMISSION**-2] * states
    mean, precision = [*mean, float(level)], [*precision, SPREAD_OFFSET**-2]
    if data.inputs is not None:
        size = data.inputs[data.mask].square().mean(0).clamp_min(1e-12) / SPREAD_INPUT**2
        mean, precision = mean + [0.0] * len(size), precision + size.tolist()
    like = system.dynamics
    return like.new_tensor(mean), like.new_tensor(precision)


def log_count_prior(system: LinearGaussian, data: Readings) -> Tensor:
    """log-density of C, d and D under ``count_prior``, up to a constant, ``[...]``."""
    mean, precision = count_prior(system, data)
    return -((weights_of(system) - mean).square() * precision).sum((-2, -1)) / 2


def fit_counts(system: LinearGaussian, beliefs: Beliefs, data: Readings) -> LinearGaussian:
    """The system with C, d, and D where it has one, moved by Newton steps of each channel.

    They raise the expected log-density of counts and parameters, which is concave.

    Arguments:
        system: the parameters; those of the states stay.
        beliefs: those of ``smooth_counts``.
        data: what was read.
    """
    value, seen, features, cov = in_frames(beliefs, data)
    centre, precision = count_prior(system, data)
    weights = weights_of(system)
    size = math.prod(features.shape[:-2]) * value.shape[-1] * features.shape[-1]
    rows = torch.arange(len(value), device=value.device).split(max(1, VALUES_AT_ONCE // size))
    cross = value.mT @ features

    def rates(weights: Tensor, at: Tensor) -> Tensor:
        C = weights[..., : cov.shape[-1]]
        squares = (C.unsqueeze(-1) * C.unsqueeze(-2)).flatten(-2)
        spread = cov[..., at, :, :].flatten(-2) @ squares.mT
        eta = features[..., at, :] @ weights.mT + spread / 2
        return torch.where(seen[at], eta.exp(), 0.0)

    def score(weights: Tensor) -> Tensor:
        said = (cross * weights).sum(-1) - sum(rates(weights, at).sum(-2) for at in rows)
        return said - ((weights - centre).square() * precision).sum(-1) / 2

    now = score(weights)
    for _ in range(NEWTON):
        slope, curvature = cross - (weights - centre) * precision, torch.diag(precision)
        for at in rows:
            rate, C = rates(weights, at), weights[..., : cov.shape[-1]]
            moved = cov[..., at, :, :] @ C.unsqueeze(-3).mT  # V C'
            extra = features.shape[-1] - C.shape[-1]
            tilted = features[..., at, :].unsqueeze(-1) + pad(moved, (0, 0, 0, extra))
            tilted = tilted.movedim(-1, -3)  # [..., D, N, F]
            weighted = tilted * rate.mT.unsqueeze(-1)
            slope = slope - weighted.sum(-2)
            total = (rate.mT @ cov[..., at, :, :].flatten(-2)).unflatten(-1, cov.shape[-2:])
            curvature = curvature + weighted.mT @ tilted
            curvature = curvature + pad(total, (0, extra) * 2)
        step = torch.linalg.solve(curvature, slope.unsqueeze(-1))[..., 0]
        part = torch.ones_like(now)
        for _ in range(HALVINGS):
            trial = weights + part.unsqueeze(-1) * step
            there = score(trial)
            better = there >= now
            if better.all():
                break
            part = torch.where(better, part, part / 2)
        trial = torch.where(better.unsqueeze(-1), trial, weights)
        gain = torch.where(better, there - now, 0.0)
        weights, now = trial, now + gain
        if (gain <= 1e-9 * now.abs().clamp_min(1.0)).all():
            break
    return with_emission(system, weights)
