"""Linear systems whose frames say something that is not Gaussian: the best Gaussian posterior.

Each frame is replaced by a site exp(h_t' x_t - x_t' J_t x_t / 2), so that the posterior is the
smoother's. The sites are chosen to maximise a lower bound on log p(y), by natural-gradient steps
that are halved where the bound would fall. Where log p(y_t | x_t) is concave, the bound has one
maximum.

Sources: M. E. Khan and W. Lin, "Conjugate-computation variational inference" (2017); M. Opper and
C. Archambeau, "The variational Gaussian approximation revisited" (2009).
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from .checks import Data
from .fast import Independent, run, why_not
from .kalman import solve
from .system import Beliefs, LinearGaussian, begun, drive

STEPS, HALVINGS, TOLERANCE = 100, 30, 1e-10  # the tolerance is relative to the bound


class Sites(NamedTuple):
    """What is put in place of p(y_t | x_t), in the canonical parameters of y_t's own scale.

    A site of channel c is exp(linear * eta - precision * eta^2 / 2), eta = C_c x_t + d_c + D_c s_t.

    Arguments:
        linear: ``[..., B, T, D]``.
        precision: ``[..., B, T, D]``, not negative; 0 where a value is missing.
    """

    linear: Tensor
    precision: Tensor

    def towards(self, other: Sites, step: Tensor) -> Sites:
        """A part of the way to others, ``step [..., B, 1, 1]``."""
        return Sites(*(a + step * (b - a) for a, b in zip(self, other)))


class Bound(NamedTuple):
    """A Gaussian posterior and its bound on log p(y).

    Arguments:
        beliefs: p(x | sites); ``log_likelihood`` is the bound, ``[..., B]``.
        target: sites at which the gradient of the bound points.
    """

    beliefs: Beliefs
    target: Sites


def best_posterior(bound_at: Callable[[Sites], Bound], start: Sites) -> tuple[Beliefs, Sites]:
    """The Gaussian posterior with the highest bound, and its sites.

    Arguments:
        bound_at: the bound at some sites, of sequences that are independent of one another.
        start: sites to begin at.
    """
    sites, now = start, bound_at(start)
    score = now.beliefs.log_likelihood.nan_to_num(-torch.inf, posinf=-torch.inf)
    step = torch.ones_like(score)
    for _ in range(STEPS):
        trial = sites.towards(now.target, step[..., None, None])
        there = bound_at(trial)
        found = there.beliefs.log_likelihood.nan_to_num(-torch.inf, posinf=-torch.inf)
        better = found >= score
        small = TOLERANCE * score.abs().clamp_min(1.0)
        settled = (found - score).abs() <= small
        sites, now = _chosen(better, trial, sites), _chosen_bound(better, there, now)
        score = torch.where(better, found, score)
        step = torch.where(better, (2 * step).clamp_max(1.0), step / 2)
        if (settled | (step < 2.0**-HALVINGS)).all():
            break
    return now.beliefs._replace(log_likelihood=score), sites


def _chosen(where: Tensor, first: Sites, second: Sites) -> Sites:
    return Sites(*(_pick(where, a, b) for a, b in zip(first, second)))


def _chosen_bound(where: Tensor, first: Bound, second: Bound) -> Bound:
    pairs = zip(first.beliefs, second.beliefs)
    parts = (None if a is None or b is None else _pick(where, a, b) for a, b in pairs)
    beliefs = Beliefs(*parts)  # pyright: ignore[reportArgumentType]
    return Bound(beliefs, _chosen(where, first.target, second.target))


def _pick(where: Tensor, first: Tensor, second: Tensor) -> Tensor:
    return torch.where(where[(...,) + (None,) * (first.dim() - where.dim())], first, second)


# Gaussian inference given sites ------------------------------------------------------------------


def condition(
    mean: Tensor, covariance: Tensor, h: Tensor, J: Tensor
) -> tuple[Tensor, Tensor, Tensor]:
    """N(mean, covariance) times exp(h'x - x'Jx / 2): its moments, and the log of its integral.

    Arguments:
        mean, h: ``[..., K]``.
        covariance, J: ``[..., K, K]``; either may be singular.
    """
    eye = torch.eye(mean.shape[-1], dtype=mean.dtype, device=mean.device)
    mixed = eye + covariance @ J
    after = torch.linalg.solve_ex(mixed, covariance)[0]
    after = (after + after.mT) / 2
    push = h - (J @ mean[..., None])[..., 0]
    moved = (after @ push[..., None])[..., 0]
    quadratic = (J @ mean[..., None])[..., 0] * mean
    log_det = torch.linalg.slogdet(mixed)[1]
    total = ((h * mean) - quadratic / 2 + push * moved / 2).sum(-1) - log_det / 2
    return mean + moved, after, total


def site_smoother(
    system: LinearGaussian,
    sites: Sites,
    level: Tensor,
    mask: Tensor,
    inputs: Tensor | None = None,
) -> Beliefs:
    """p(x | sites), with lag-one covariances; ``log_likelihood`` is the log of the normaliser.

    The normaliser is that of exp(h'x - x'Jx / 2), see ``pulled``.

    Arguments:
        system: the parameters, with leading axes or none.
        sites: ``[..., B, T, D]``.
        level: d + D s_t, broadcasts to ``[..., B, T, D]``.
        mask: True where a frame is real, ``[B, T]``.
        inputs: ``[B, T, I]``.
    """
    driven = drive(system, inputs, mask)
    linear, precision = sites.linear - sites.precision * level, sites.precision
    data = Data(linear, precision, None, driven)
    if why_not(system, data) is not None:
        return _smoother(system, *pulled(system, sites, level), mask, driven)
    # A site is a value of its own variance.
    seen = precision > 0
    value = torch.where(seen, linear / precision, 0.0)
    variance = torch.where(seen, 1 / precision, torch.inf)
    nothing = torch.zeros_like(value[..., 0])
    beliefs = run(system, data, Independent(system.emission, value, variance, nothing), mask, True)
    more = torch.where(seen, linear * value - precision.log(), 0.0).sum((-2, -1)) / 2
    return beliefs._replace(log_likelihood=beliefs.log_likelihood + more)


def pulled(system: LinearGaussian, sites: Sites, level: Tensor) -> tuple[Tensor, Tensor]:
    """Sites as functions exp(h'x - x'Jx / 2) of the state, but for a constant.

    Returns:
        h ``[..., B, T, K]`` and J ``[..., B, T, K, K]``.
    """
    C = system.emission.unsqueeze(-3)
    squares = (C.unsqueeze(-1) * C.unsqueeze(-2)).flatten(-2)
    h = (sites.linear - sites.precision * level) @ C
    return h, (sites.precision @ squares).unflatten(-1, C.shape[-1:] * 2)


def _smoother(
    system: LinearGaussian, h: Tensor, J: Tensor, mask: Tensor, driven: Tensor | None
) -> Beliefs:
    """``site_smoother`` in torch, on any device."""
    steps = h.shape[-2]
    moves = begun(mask)[:, :-1]
    whole = bool(moves.all())
    A, Q = (part.unsqueeze(-3) for part in (system.dynamics, system.process))
    eye = torch.eye(A.shape[-1], dtype=A.dtype, device=A.device)
    mean = system.initial_mean.unsqueeze(-2).expand(h[..., 0, :].shape)
    cov = system.initial_covariance.unsqueeze(-3).expand(J[..., 0, :, :].shape)
    filtered, ahead, total = [], [], torch.zeros_like(mean[..., 0])
    for t in range(steps):
        if t > 0:
            A_t, Q_t = A, Q
            if not whole:
                on = moves[:, t - 1, None, None]
                A_t, Q_t = torch.where(on, A, eye), torch.where(on, Q, 0.0)
            mean = (A_t @ mean[..., None])[..., 0]
            if driven is not None:
                mean = mean + driven[..., t - 1, :]
            crossed = A_t @ cov
            cov = crossed @ A_t.mT + Q_t
            ahead.append((mean, cov, crossed))
        mean, cov, term = condition(mean, cov, h[..., t, :], J[..., t, :, :])
        filtered.append((mean, cov))
        total = total + term
    means, covs, lagged = [mean], [cov], []
    if steps > 1:
        gains = solve(*(torch.stack([step[i] for step in ahead], -3) for i in (1, 2))).mT
    for t in reversed(range(steps - 1)):
        gain = gains[..., t, :, :]
        lagged.append(cov @ gain.mT)
        mean = filtered[t][0] + (gain @ (mean - ahead[t][0])[..., None])[..., 0]
        cov = filtered[t][1] + gain @ (cov - ahead[t][1]) @ gain.mT
        means.append(mean)
        covs.append(cov)
    empty = J.new_zeros(*J.shape[:-3], 0, *J.shape[-2:])
    return Beliefs(
        torch.stack(means[::-1], -2),
        torch.stack(covs[::-1], -3),
        total,
        torch.stack(lagged[::-1], -3) if lagged else empty,
    )
