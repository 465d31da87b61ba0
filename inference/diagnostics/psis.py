"""Pareto-smoothed importance sampling: how far the samples of a guide can be trusted.

The importance weights of a guide q(z | x) are w = p(x, z) / q(z | x); they are equal where the
guide is the posterior. k-hat is the shape of a generalised Pareto distribution fitted to the
largest weights. It tells how many of their moments exist: above 0.7, importance sampling needs
more samples than one can afford. This holds for the true shape. An estimate from few samples
sees weights that are not yet in the tail. It is usually too high for latents of many dimensions,
and falls with more samples.

ArviZ fits and smooths the weights.

Sources: Vehtari et al., "Pareto smoothed importance sampling" (2024); Yao et al., "Yes, but did it
work?: evaluating variational inference" (2018).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...data import Batch, BatchLike
from ..checks import check_samples, portions
from ..contracts import Fold, FrameModel, SequenceModel
from ..evaluate import frame_weights
from ..placing import batch_for
from ..rng import RandomStream
from ..samples import prepare_plate, sample_sites, spread_out

FEWEST = 25  # samples: a fifth of them is the tail, and a fit takes at least five points
ALIKE = 1e-3  # nats: weights that differ by less have no tail to fit
ROUNDING = 1e-6  # relative error of a log-weight summed in float32
LEAST = 700.0  # nats below the largest weight, where a weight counts as zero


# Smoothing ----------------------------------------------------------------------------------------


class SmoothedWeights(NamedTuple):
    """Importance weights, the largest of them replaced by quantiles of a fitted distribution.

    Arguments:
        khat: shape of the fitted Pareto distribution, ``[...]``. It is infinite where no fit is
            possible, as where a few weights are far above the others. It is 0 where there is no
            tail to smooth: either all weights are equal but for rounding, as those of an exact
            posterior, or more samples share the largest weight than the tail holds, as happens
            with discrete latents.
        bound: log of the mean weight, nats, ``[...]``.
        effective: effective number of samples, ``[...]``.
        weights: normalised log-weights, ``[S, ...]``. All four are float64.
    """

    khat: Tensor
    bound: Tensor
    effective: Tensor
    weights: Tensor


def smooth_weights(log_weights: Tensor) -> SmoothedWeights:
    """Smooths importance weights ``[S, ...]`` along the first axis.

    Raises:
        ValueError: for fewer than 25 samples, NaN or infinite weights, or none above zero.
    """
    number, *shape = log_weights.shape
    check_enough(number)
    rows = log_weights.detach().double().cpu().numpy().reshape(number, -1).T
    top = rows.max(-1, keepdims=True)
    if not np.isfinite(top).all() or np.isnan(rows).any():
        raise ValueError("importance weights are NaN, infinite or all zero: check model and guide")
    rows = np.maximum(rows, top - LEAST)
    spread = (top - rows.min(-1, keepdims=True))[:, 0]
    error = ROUNDING * np.maximum(1.0, np.abs(top[:, 0]))
    shared = (rows >= top - error[:, None]).sum(-1) > _tail(number)
    uneven = (spread > ALIKE + error) & ~shared
    weights, khat = rows - np.logaddexp.reduce(rows, -1, keepdims=True), np.zeros(len(rows))
    if uneven.any():
        weights[uneven], found = _psislw(rows[uneven])
        khat[uneven] = np.where(np.isnan(found), np.inf, found)
    # The middle weight is not in the tail, so it was only divided by the sum of all weights.
    middle = np.argsort(rows, -1)[:, [number // 2]]
    total = np.take_along_axis(rows - weights, middle, -1)[:, 0]
    return SmoothedWeights(
        torch.from_numpy(khat).view(shape),
        torch.from_numpy(total - math.log(number)).view(shape),
        torch.from_numpy(1 / np.exp(2 * weights).sum(-1)).view(shape),
        torch.from_numpy(weights.T.copy()).view(number, *shape),
    )


def _tail(number: int) -> int:
    """The number of largest weights that ArviZ takes as the tail."""
    return math.ceil(min(number / 5, 3 * math.sqrt(number)))


def _psislw(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smoothed, normalised log-weights ``[N, S]`` and k-hat ``[N]``, by either version of ArviZ."""
    import arviz

    if hasattr(arviz, "psislw"):
        weights, shapes = arviz.psislw(rows)
        return np.asarray(weights), np.asarray(shapes)
    # ArviZ 1.x takes log-likelihoods, which are minus the log-weights.
    from arviz_stats.base import array_stats  # pyright: ignore[reportMissingImports]

    return array_stats.psislw(-rows)


def good_khat(num_samples: int) -> float:
    """The largest k-hat that can be trusted with so many samples: min(1 - 1 / log10 S, 0.7).

    Raises:
        ValueError: for fewer than 25 samples.
    """
    check_enough(num_samples)
    return min(1 - 1 / math.log10(num_samples), 0.7)


def check_enough(num_samples: int, at_once: int = 1, seed: int = 0) -> None:
    """Raises a ValueError for too few samples to fit a tail to, or none in memory at a time."""
    check_samples(num_samples, at_once, seed)
    if num_samples < FEWEST:
        raise ValueError(
            f"num_samples must be at least {FEWEST} for Pareto smoothing, got {num_samples}"
        )


# The weights of a guide ---------------------------------------------------------------------------


@torch.no_grad()
def importance_weights(
    net: SequenceModel | FrameModel,
    batch: BatchLike,
    num_samples: int = 1000,
    unit: str | None = None,
    seed: int = 0,
    at_once: int = 50,
) -> SmoothedWeights:
    """Smoothed importance weights of a guide's samples, for each sequence or frame.

    ``bound`` estimates log p(x). Smoothing biases it, so it is not a strict bound. Where k-hat is
    below 0.7 the bias is small, and its variance is less than that of ``importance_bound``;
    elsewhere it is the more biased of the two. Where k-hat is high, both are usually too low.

    Arguments:
        net: a model with a Pyro pair.
        batch: the sequences: a ``Batch``, or anything that ``data.as_batch`` takes.
        num_samples: samples ``S`` from the guide.
        unit: ``"sequence"`` or ``"frame"``. Frames can be weighed where they share no latent noise
            (VOSP), or where the model is one of single frames given u_{t-1} (rVAE); the default is
            ``"frame"`` for the latter. The factors of a latent chain cannot be weighed one by one:
            they are uneven even for an exact posterior, and only their product is not. To see how
            a guide depends on the length of a sequence, cut it: ``batch.window(0, t)``.
        seed: seed of a private random stream; the caller's random state is left alone.
        at_once: samples held in memory at a time.

    Returns:
        Fields of shape ``[B]``, or ``[B, T]`` with NaN in padding and where nothing was seen;
        ``weights`` have ``S`` in front.

    Raises:
        ValueError: for too few samples, or a model without such weights.
    """
    check_enough(num_samples, at_once, seed)
    batch = batch_for(net, batch)
    data = prepare_plate(net, batch)
    fold = isinstance(data, Fold)
    unit = unit or ("frame" if fold else "sequence")
    if unit not in ("sequence", "frame"):
        raise ValueError(f"unit must be 'sequence' or 'frame', got {unit!r}")
    if fold and unit == "sequence":
        raise ValueError(f"{type(net).__name__} is a model of single frames: take unit='frame'")

    framewise = unit == "frame" and not fold
    weights = raw_weights(net, data, batch, num_samples, framewise, seed, at_once)
    seen = batch.observed_frames
    found = smooth_weights(weights[:, seen] if framewise else weights)
    return _in_time(found, seen.cpu()) if unit == "frame" else found


def raw_weights(
    net: SequenceModel | FrameModel,
    data: Any,
    batch: Batch,
    num_samples: int,
    framewise: bool,
    seed: int,
    at_once: int,
    stream: str = "psis",
) -> Tensor:
    """log p - log q of a guide's samples, without smoothing.

    Arguments:
        net, num_samples, seed, at_once: see ``importance_weights``.
        data: the value of ``prepare_plate``.
        batch: the sequences.
        framewise: weigh each frame of a model whose frames share no latent noise.
        stream: name of the random stream.

    Returns:
        ``[S, B]``; of a fold ``[S, N]``; with ``framewise`` ``[S, B, T]``, zero in padding.
    """

    def weigh(number: int) -> Tensor:
        if framewise and isinstance(net, SequenceModel):
            return frame_weights(net, data, number)
        samples = sample_sites(net, data, number)
        return samples.log_p - samples.log_q

    return torch.cat(in_portions(weigh, batch, num_samples, at_once, seed, stream))


def khat(
    net: SequenceModel | FrameModel,
    batch: BatchLike,
    num_samples: int = 1000,
    unit: str | None = None,
    seed: int = 0,
    at_once: int = 50,
) -> Tensor:
    """PSIS k-hat of a guide, ``[B]`` or ``[B, T]``; good below ``good_khat``.

    k-hat compares the guide with the model's posterior, not the model with the data. It is hard on
    guides that are too narrow: a Gaussian with a fraction v of the right variance has k = 1 - v,
    which shows with many samples only. In one or two dimensions it accepts half the variance, which
    calibration does not. In many dimensions it is high for guides that are good in each. It cannot
    detect that a guide misses a whole mode, because the weights within the other modes are even.

    Arguments:
        net, batch, num_samples, unit, seed, at_once: see ``importance_weights``.

    Raises:
        ValueError: see ``importance_weights``.
    """
    return importance_weights(net, batch, num_samples, unit, seed, at_once).khat


def smoothed_bound(
    net: SequenceModel | FrameModel,
    batch: BatchLike,
    num_samples: int = 1000,
    unit: str | None = None,
    seed: int = 0,
    at_once: int = 50,
) -> Tensor:
    """The smoothed importance-weighted estimate of log p(x), ``[B]``, nats.

    For models of single frames it is a sum over frames, each given the statistics of its past,
    and not log p(x). The terms are log p(u_{t-1}, y_t) where the model explains the past (rVAE),
    and log p(y_t | u_{t-1}) where the past is given (TVAE).

    Arguments:
        net, batch, num_samples, unit, seed, at_once: see ``importance_weights``.

    Raises:
        ValueError: see ``importance_weights``.
    """
    bound = importance_weights(net, batch, num_samples, unit, seed, at_once).bound
    return bound if bound.dim() == 1 else bound.nansum(1)


def in_portions(
    function: Callable[[int], Tensor],
    batch: Batch,
    num_samples: int,
    at_once: int,
    seed: int,
    stream: str = "psis",
) -> list[Tensor]:
    """``function(k)`` for at most ``at_once`` samples at a time, in one private random stream."""
    with RandomStream(batch.obs.device, stream, seed):
        return [function(number) for number in portions(num_samples, at_once)]


def _in_time(found: SmoothedWeights, mask: Tensor) -> SmoothedWeights:
    return SmoothedWeights(*(spread_out(part, mask) for part in found))
