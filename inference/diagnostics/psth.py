"""Peri-stimulus time histograms: means over the trials of a condition, and scores of them.

R² is that of Pei et al., "Neural Latents Benchmark '21" (2021). The benchmark smooths
the spikes of training and test trials by a Gaussian. Their PSTHs are the target for the mean rates
of the test trials:

    target = inference.psth(spikes.obs, spikes, conditions, smooth=3.5)  # 70 ms in bins of 20 ms
    found = inference.psth(rates, test, test_conditions)
    inference.psth_r_squared(found, target)

Two things differ. The benchmark smooths the whole recording before it cuts trials out; here a trial
is smoothed by itself, and the kernel is normalised over the bins that were seen. The benchmark
drops short trials and cuts the others to the shortest; here each bin has the mean of the trials
that have it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Hashable, Mapping, Sequence

import numpy as np
import torch
from torch import Tensor

from ...data import BatchLike, as_batch
from ..checks import check_real
from .neural import checked_rates
from .values import Values


def gaussian_smooth(values: Values, batch: BatchLike, sd: float) -> Tensor:
    """Counts or rates smoothed along time by a Gaussian, ``[B, T, M]``, float64.

    The kernel ends at three standard deviations. It is normalised over the bins that were seen.
    Values at the ends of a trial and beside a gap are therefore not drawn to zero.

    Arguments:
        values: counts or rates, ``[B, T, M]``.
        batch: says which values were seen: a ``Batch``, or anything that ``data.as_batch`` takes.
        sd: standard deviation in bins; 0 changes nothing.

    Returns:
        Smoothed values, NaN where nothing was seen.

    Raises:
        ValueError: for another shape than the batch's, values that are not finite, or a negative
            ``sd``.
    """
    batch, reach = as_batch(batch), int(3 * check_real("sd", sd, least=0))
    seen, values = batch.seen.double(), checked_rates(values, batch, least=-math.inf)
    if reach > 0:
        steps = torch.arange(-reach, reach + 1, device=seen.device).double()
        kernel = (-0.5 * (steps / sd) ** 2).exp()[None, None]

        def convolve(rows: Tensor) -> Tensor:
            lines = rows.transpose(1, 2).flatten(0, 1)[:, None]  # [B M, 1, T]
            found = torch.nn.functional.conv1d(lines, kernel, padding=reach)
            return found[:, 0].unflatten(0, (len(rows), -1)).transpose(1, 2)

        values = convolve(values * seen) / convolve(seen).clamp_min(1e-300)
    return torch.where(seen > 0, values, torch.full_like(values, math.nan))


def psth(
    values: Values, batch: BatchLike, conditions: Sequence[Hashable], smooth: float = 0.0
) -> dict[Hashable, Tensor]:
    """Means over the trials of each condition.

    Arguments:
        values: counts or rates, ``[B, T, M]``.
        batch: says which values were seen: a ``Batch``, or anything that ``data.as_batch`` takes.
        conditions: the condition of each trial, ``[B]``.
        smooth: standard deviation, in bins, of the Gaussian that smooths each trial first.

    Returns:
        ``[T, M]`` for each condition, NaN in bins that no trial of the condition has.

    Raises:
        ValueError: for shapes or numbers of conditions that do not match.
    """
    batch = as_batch(batch)
    values = gaussian_smooth(values, batch, check_real("smooth", smooth, least=0))
    labels = list(np.asarray(conditions).tolist() if hasattr(conditions, "shape") else conditions)
    if len(labels) != len(batch):
        raise ValueError(f"{len(labels)} conditions for {len(batch)} trials")
    found: dict[Hashable, Tensor] = {}
    for condition in dict.fromkeys(labels):
        rows = [row for row, each in enumerate(labels) if each == condition]
        if not rows:  # NaN is not equal to itself
            raise ValueError("a trial's condition is NaN: leave the trial out, or name it")
        found[condition] = values[rows].nanmean(0)
    return found


def psth_r_squared(
    predicted: Mapping[Hashable, Tensor], target: Mapping[Hashable, Tensor]
) -> float:
    """R² of PSTHs over all conditions and bins, averaged over the neurons.

    A neuron whose target does not vary is left out. (The benchmark counts it as 0.)

    Arguments:
        predicted: PSTHs of predicted rates, from ``psth``.
        target: PSTHs of the counts. Conditions and bins that are not predicted are left out.

    Raises:
        ValueError: for neurons that differ in number, a predicted condition that has no target, or
            targets none of which varies.
    """

    def score(found: Tensor, wanted: Tensor) -> Tensor:
        return 1 - (wanted - found).square().sum() / (wanted - wanted.mean()).square().sum()

    return _averaged(predicted, target, score)


def psth_correlation(
    predicted: Mapping[Hashable, Tensor], target: Mapping[Hashable, Tensor]
) -> float:
    """Pearson correlation of PSTHs over all conditions and bins, averaged over the neurons.

    A neuron whose target does not vary is left out. One whose prediction is constant counts as 0.

    Arguments:
        predicted, target: see ``psth_r_squared``.

    Raises:
        ValueError: as ``psth_r_squared`` does.
    """

    def score(found: Tensor, wanted: Tensor) -> Tensor:
        found, wanted = found - found.mean(), wanted - wanted.mean()
        scale = (found.square().sum() * wanted.square().sum()).sqrt()
        return torch.where(scale > 0, (found * wanted).sum() / scale, torch.zeros_like(scale))

    return _averaged(predicted, target, score)


def _averaged(
    predicted: Mapping[Hashable, Tensor],
    target: Mapping[Hashable, Tensor],
    score: Callable[[Tensor, Tensor], Tensor],
) -> float:
    """A score of each neuron's PSTHs, ``(predicted [N], target [N])``, averaged."""
    pairs = []
    for condition, values in predicted.items():
        if condition not in target:
            raise ValueError(f"condition {condition!r} is predicted, but has no target")
        wanted = target[condition].double()
        found = values.to(wanted)
        if found.dim() != 2 or found.shape[1:] != wanted.shape[1:]:
            raise ValueError(
                f"PSTHs must be [T, M] of the same neurons M, got {tuple(found.shape)} and "
                f"{tuple(wanted.shape)}"
            )
        bins = min(len(found), len(wanted))
        pairs.append((found[:bins], wanted[:bins]))
    if not pairs:
        raise ValueError("there is no condition to score")
    scores = []
    for found, wanted in zip(*(torch.cat(each).T for each in zip(*pairs))):
        both = found.isfinite() & wanted.isfinite()
        if both.any() and (wanted[both] != wanted[both][0]).any():
            scores.append(score(found[both], wanted[both]))
    if not scores:
        raise ValueError("no neuron's PSTH varies, so there is no score")
    return float(torch.stack(scores).mean())
