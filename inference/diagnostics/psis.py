"""Pareto-smoothed importance sampling: how far a guide's draws can be trusted, and what they say.

A guide q(z | x) is as good as the weights w = p(x, z) / q(z | x) of its draws are even. k-hat, the
shape of the generalised Pareto law of the largest ones, says how many of their moments exist: with
a shape above 0.7 no number of draws that one can afford will do. That holds of the true shape. An
estimate from few draws is of weights not yet in their tail, and usually higher where latents have
many dimensions: with more draws it may well fall.

Weights are fitted and smoothed by ArviZ.

Sources: Vehtari et al., "Pareto smoothed importance sampling" (2024); Yao et al., "Yes, but did it
work?: evaluating variational inference" (2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...data import Batch
from ..contracts import Fold
from ..draws import draw, prepare, spread_out
from ..evaluate import check_samples, frame_weights, portions
from ..rng import RandomStream

FEWEST = 25  # draws: a fifth of them is the tail, and five points are the least to fit
ALIKE = 1e-3  # nats: weights no further apart than that have no tail worth a fit
ROUNDING = 1e-6  # of a log-weight: about as much as sums in float32 are off by
LEAST = 700.0  # nats below the largest weight, from where on a weight is as good as zero


# Smoothing ----------------------------------------------------------------------------------------


class Smoothed(NamedTuple):
    """Importance weights whose largest ones were replaced by quantiles of a fitted Pareto law.

    Arguments:
        khat: shape of that law, ``[...]``: infinite where no law fits, as where a few weights
            stand alone above the others. 0 where there is no tail to smooth: all weights are equal
            but for rounding, as an exact posterior's are, or more draws share the largest than the
            tail would hold, as those of bits and classes may.
        bound: log of the mean weight, nats, ``[...]``.
        effective: effective number of draws, ``[...]``.
        weights: normalised log-weights, ``[S, ...]``; float64, as all of them.
    """

    khat: Tensor
    bound: Tensor
    effective: Tensor
    weights: Tensor


def smooth_weights(log_weights: Tensor) -> Smoothed:
    """Smooths importance weights ``[S, ...]``, all but the first axis one by one.

    Raises:
        ValueError: for fewer than 25 draws, NaN or infinite weights, or none above zero.
    """
    draws, *shape = log_weights.shape
    check_draws(draws)
    rows = log_weights.detach().double().cpu().numpy().reshape(draws, -1).T
    top = rows.max(-1, keepdims=True)
    if not np.isfinite(top).all() or np.isnan(rows).any():
        raise ValueError("importance weights are NaN, infinite or all zero: check model and guide")
    rows = np.maximum(rows, top - LEAST)
    spread = (top - rows.min(-1, keepdims=True))[:, 0]
    error = ROUNDING * np.maximum(1.0, np.abs(top[:, 0]))
    shared = (rows >= top - error[:, None]).sum(-1) > _tail(draws)
    uneven = (spread > ALIKE + error) & ~shared
    weights, khat = rows - np.logaddexp.reduce(rows, -1, keepdims=True), np.zeros(len(rows))
    if uneven.any():
        weights[uneven], found = _psislw(rows[uneven])
        khat[uneven] = np.where(np.isnan(found), np.inf, found)
    # The middle weight is no part of the tail: what it was divided by is the sum of all.
    middle = np.argsort(rows, -1)[:, [draws // 2]]
    total = np.take_along_axis(rows - weights, middle, -1)[:, 0]
    return Smoothed(
        torch.from_numpy(khat).view(shape),
        torch.from_numpy(total - math.log(draws)).view(shape),
        torch.from_numpy(1 / np.exp(2 * weights).sum(-1)).view(shape),
        torch.from_numpy(weights.T.copy()).view(draws, *shape),
    )


def _tail(draws: int) -> int:
    """How many of the largest weights ArviZ takes for the tail."""
    return math.ceil(min(draws / 5, 3 * math.sqrt(draws)))


def _psislw(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smoothed, normalised log-weights ``[N, S]`` and k-hat ``[N]``, by either line of ArviZ."""
    import arviz

    if hasattr(arviz, "psislw"):
        return arviz.psislw(rows)
    from arviz_stats.base import array_stats  # 1.x: it takes log-likelihoods, minus the log-weights

    return array_stats.psislw(-rows)


def good_khat(draws: int) -> float:
    """The largest k-hat to be trusted with so many draws: min(1 - 1 / log10 S, 0.7).

    Raises:
        ValueError: for fewer than 25 draws.
    """
    check_draws(draws)
    return min(1 - 1 / math.log10(draws), 0.7)


def check_draws(draws: int, at_once: int = 1) -> None:
    """Raises a ValueError for too few draws to fit a tail to, or none in memory at a time."""
    if draws < FEWEST:
        raise ValueError(f"Pareto smoothing takes at least {FEWEST} draws, got {draws}")
    check_samples(draws, "draws", at_once)


# A guide's weights --------------------------------------------------------------------------------


@torch.no_grad()
def weigh(
    net,
    batch: Batch,
    draws: int = 1000,
    by: str | None = None,
    seed: int = 0,
    at_once: int = 50,
) -> Smoothed:
    """Weighs a guide's draws, and smooths the weights of each sequence or frame.

    ``bound`` estimates log p(x); as smoothing biases it, it is no bound in the strict sense. Where
    k-hat is below 0.7 the bias is small, and its variance less than ``importance_bound``'s;
    elsewhere it is the more biased of the two. Where k-hat is high both are too low as a rule.

    Arguments:
        net: a model with a Pyro pair.
        batch: the sequences.
        draws: ``S``, from the guide.
        by: ``"sequence"``; or ``"frame"``, of models whose frames share no latent noise (VOSP) or
            are taken out of time (rVAE, whose frames are given u_{t-1}), which is the default for
            the latter. The factors that a chain of latents contributes step by step would not do:
            an exact posterior's are uneven, their product alone is not. How the guide fares with
            the length of a sequence is seen by cutting it: ``batch.window(0, t)``.
        seed: of the draws; the caller's random state is left alone.
        at_once: draws held in memory at a time.

    Returns:
        Parts ``[B]``, or ``[B, T]`` with NaN in padding; its weights have ``S`` in front.

    Raises:
        ValueError: for too few draws, or a model that cannot be weighed so.
    """
    check_draws(draws, at_once)
    data = prepare(net, batch)
    fold = isinstance(data, Fold)
    by = by or ("frame" if fold else "sequence")
    if by not in ("sequence", "frame"):
        raise ValueError(f"by must be 'sequence' or 'frame', got {by!r}")
    if fold and by == "sequence":
        raise ValueError(f"{type(net).__name__} is a model of single frames: weigh by='frame'")

    framewise = by == "frame" and not fold
    weights = raw_weights(net, data, batch, draws, framewise, seed, at_once)
    found = smooth_weights(weights[:, batch.mask] if framewise else weights)
    return _placed(found, batch.mask.cpu()) if by == "frame" else found


def raw_weights(
    net,
    data,
    batch: Batch,
    draws: int,
    framewise: bool,
    seed: int,
    at_once: int,
    stream: str = "psis",
) -> Tensor:
    """log p - log q of a guide's draws, as they are.

    Arguments:
        net, draws, seed, at_once: see ``weigh``.
        data: what ``prepare`` makes of the batch.
        batch: the sequences.
        framewise: of each frame of a model whose frames share no latent noise.
        stream: name of the random stream that draws.

    Returns:
        ``[S, B]``; of a fold ``[S, N]``; with ``framewise`` ``[S, B, T]``, zero in padding.
    """

    def make(number: int) -> Tensor:
        if framewise:
            return frame_weights(net, data, number)
        drawn = draw(net, data, number)
        return drawn.log_p - drawn.log_q

    return torch.cat(in_parts(make, batch, draws, at_once, seed, stream))


def khat(
    net,
    batch: Batch,
    draws: int = 1000,
    by: str | None = None,
    seed: int = 0,
    at_once: int = 50,
) -> Tensor:
    """PSIS k-hat of a guide, ``[B]`` or ``[B, T]``, see ``weigh``: below ``good_khat`` is good.

    It compares the guide with the model's posterior, not the model with the data, and is hard on
    guides that are too narrow: a Gaussian with a share v of the right variance has k = 1 - v, found
    with many draws only. In one or two dimensions it forgives half the variance, which calibration
    does not; in many dimensions it is high for guides that are good in each. A guide that misses a
    whole mode has even weights where it looks: nothing here can tell.
    """
    return weigh(net, batch, draws, by, seed, at_once).khat


def smoothed_bound(
    net,
    batch: Batch,
    draws: int = 1000,
    by: str | None = None,
    seed: int = 0,
    at_once: int = 50,
) -> Tensor:
    """The smoothed importance-weighted estimate of log p(x), ``[B]``, nats; see ``weigh``.

    Of models of single frames it is a sum over frames, each given the statistics of its past, and
    not log p(x): of log p(u_{t-1}, y_t) where the model explains the past (rVAE), of
    log p(y_t | u_{t-1}) where it is given (TVAE).
    """
    bound = weigh(net, batch, draws, by, seed, at_once).bound
    return bound if bound.dim() == 1 else bound.nansum(1)


def in_parts(
    make: Callable[[int], Tensor],
    batch: Batch,
    draws: int,
    at_once: int,
    seed: int,
    stream: str = "psis",
) -> list[Tensor]:
    """``make(k)`` of few draws at a time, from a random stream of its own."""
    with RandomStream(batch.obs.device, stream, seed):
        return [make(number) for number in portions(draws, at_once)]


def _placed(found: Smoothed, mask: Tensor) -> Smoothed:
    return Smoothed(*(spread_out(part, mask) for part in found))
