"""Counts of a linear system, y ~ Poisson(exp(C x_t + d + D s_t)): inference and M step.

Source: J. H. Macke et al., "Empirical models of spiking in neural populations" (2011), with the
variational bound in place of Laplace's approximation: its expectations are exact for counts.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import pad

from .m_step import in_frames, weights_of, with_emission
from .sites import Bound, Sites, best_posterior, condition, pulled, site_smoother
from .system import Beliefs, LinearGaussian, Readings, baseline, begun, drive

LARGEST = 14.0  # log of an expected count that a site may propose
SPREAD_OFFSET = 3.0  # standard deviation of the prior on d, about the log of the mean count
SPREAD_INPUT = 3.0  # that on the effect of an input of mean square 1
SPREAD_EMISSION = 1.0  # that on C
NEWTON, HALVINGS, VALUES_AT_ONCE = 3, 20, 2**20


class Counts(NamedTuple):
    """What is given of y ~ Poisson(exp(eta)), eta = C x_t + level.

    Arguments:
        value: y, 0 where missing, ``[B, T, D]``.
        seen: True where a count was seen, ``[B, T, D]``.
        level: d + D s_t, ``[..., B, T, D]``.
        constant: log y!, ``[B, T]``.
    """

    value: Tensor
    seen: Tensor
    level: Tensor
    constant: Tensor

    @classmethod
    def of(cls, system: LinearGaussian, data: Readings) -> Counts:
        """Those of a batch."""
        seen = data.seen
        value = data.value.masked_fill(~seen, 0.0)
        level = baseline(system, data.inputs, data.mask)
        assert level is not None
        shape = (*system.dynamics.shape[:-2], *value.shape)
        return cls(value, seen, level.expand(shape), torch.lgamma(value + 1).sum(-1))

    def at(self, t: int) -> Counts:
        """Those of one frame."""
        now = slice(t, t + 1)
        value, seen, constant = self.value[:, now], self.seen[:, now], self.constant[:, now]
        return Counts(value, seen, self.level[..., now, :], constant)


def smooth_counts(system: LinearGaussian, data: Readings, before: Beliefs | None = None) -> Beliefs:
    """The best Gaussian posterior of the states given all counts, ``[..., B, T, K]``.

    Its ``log_likelihood`` is a lower bound on log p(y), ``[..., B]``.

    Arguments:
        system: the parameters, with leading axes or none.
        data: counts, with variance 0, or infinite where one is missing.
        before: beliefs to start from.
    """
    given = Counts.of(system, data)

    def bound_at(sites: Sites) -> Bound:
        beliefs = site_smoother(system, sites, given.level, data.mask, data.inputs)
        return _bound(system, beliefs, sites, given)

    if before is None:  # the mean count of each channel
        rate = given.value.sum((0, 1)) / given.seen.sum((0, 1)).clamp_min(1)
        eta = rate.clamp_min(1e-3).log().expand_as(given.level)
        start = _target(given, eta, torch.zeros_like(eta))
    else:
        start = _target(given, *_moments(system, before, given))
    return best_posterior(bound_at, start)[0]


def filter_counts(system: LinearGaussian, data: Readings) -> Beliefs:
    """Assumed-density filter: beliefs given the counts up to each frame, ``[B, T, K]``.

    Each step keeps the best Gaussian posterior of that step alone. ``log_likelihood`` adds up
    the bounds of the steps; it approximates log p(y), and is no bound itself.

    Arguments:
        system: the parameters, without leading axes.
        data: see ``smooth_counts``.
    """
    given, driven = Counts.of(system, data), drive(system, data.inputs, data.mask)
    moves, rows = begun(data.mask), len(data.value)
    mean = system.initial_mean.expand(rows, 1, -1)
    cov = system.initial_covariance.expand(rows, 1, -1, -1)
    means, covs, total = [], [], torch.zeros_like(mean[:, 0, 0])
    for t in range(data.value.shape[1]):
        if t > 0:
            ahead = mean @ system.dynamics.mT
            ahead = ahead if driven is None else ahead + driven[:, t - 1, None]
            wider = system.dynamics @ cov @ system.dynamics.mT + system.process
            on = moves[:, t - 1, None, None]
            mean, cov = torch.where(on, ahead, mean), torch.where(on[..., None], wider, cov)
        prior, now = Beliefs(mean, cov, total), given.at(t)

        def bound_at(sites: Sites, prior: Beliefs = prior, now: Counts = now) -> Bound:
            h, J = pulled(system, sites, now.level)
            mean, cov, normaliser = condition(prior.mean, prior.covariance, h, J)
            return _bound(system, Beliefs(mean, cov, normaliser[:, 0]), sites, now)

        beliefs, _ = best_posterior(bound_at, _target(now, *_moments(system, prior, now)))
        mean, cov = beliefs.mean, beliefs.covariance
        means.append(mean)
        covs.append(cov)
        total = total + beliefs.log_likelihood
    return Beliefs(torch.cat(means, 1), torch.cat(covs, 1), total)


def _target(given: Counts, eta: Tensor, spread: Tensor) -> Sites:
    """The sites at which the gradient of the bound points, given moments of eta."""
    # A proposal may be of any size: the bound says whether it is any good.
    rate = (eta + spread / 2).clamp_max(LARGEST).exp().masked_fill(~given.seen, 0.0)
    return Sites(torch.where(given.seen, rate * eta + given.value - rate, 0.0), rate)


def _moments(system: LinearGaussian, beliefs: Beliefs, given: Counts) -> tuple[Tensor, Tensor]:
    """Mean and variance of eta, ``[..., B, T, D]``."""
    C = system.emission.unsqueeze(-3)
    squares = (C.unsqueeze(-1) * C.unsqueeze(-2)).flatten(-2)
    return beliefs.mean @ C.mT + given.level, beliefs.covariance.flatten(-2) @ squares.mT


def _bound(system: LinearGaussian, beliefs: Beliefs, sites: Sites, given: Counts) -> Bound:
    """E[log p(y | x)] - KL(p(x | sites) || p(x)), and where its gradient points."""
    eta, spread = _moments(system, beliefs, given)
    each = given.value * eta - (eta + spread / 2).exp()
    # The sites' part, E[log site] of each value, leaves out what the normaliser leaves out.
    away = eta - given.level
    second = spread + away.square()
    linear = sites.linear - sites.precision * given.level
    each = torch.where(given.seen, each - linear * away + sites.precision * second / 2, 0.0)
    bound = (each.sum(-1) - given.constant).sum(-1) + beliefs.log_likelihood
    return Bound(beliefs._replace(log_likelihood=bound), _target(given, eta, spread))


# M step ------------------------------------------------------------------------------------------


def count_prior(system: LinearGaussian, data: Readings) -> tuple[Tensor, Tensor]:
    """Means and precisions of the normal prior on C, d and D side by side, ``[K + 1 + I]``.

    It counts where a channel has hardly any spike: without it, the rate of a silent one has no
    maximum. About d it weighs like a spike or less in all data together.
    """
    seen = data.seen
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
