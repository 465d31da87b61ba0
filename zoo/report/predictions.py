"""Calibration of one-step predictions."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ...data import Batch
from ...inference import frame_pit
from ..models.lgds import LGDS
from .calibration import BINARY_NOTE, in_numbers, in_words, measured, verdict_of
from .context import Context, NotApplicable, Section
from .figures import figure, plot_coverage, plot_histogram, save


def diagnose_predictions(context: Context) -> list[Section]:
    """Reports the PIT of every value: among samples, or exact for a linear system."""
    context.need_pair()
    net, batch = context.net, context.batch
    if context.answers:
        raise NotApplicable("it gives one answer to a sequence: see the calibration of answers")
    if getattr(getattr(net, "likelihood", None), "grey", False):
        raise NotApplicable(
            "grey values are expectations of bits, so their predictive intervals have no meaning"
        )
    if isinstance(net, LGDS):
        found, label, how = linear_pit(net, batch), "PIT of y[t] given the past", OF_LINEAR
    else:
        try:
            found = frame_pit(net, batch, context.sizes.predictions, context.seed)
        except ValueError as why:
            raise NotApplicable(str(why)) from why
        label = "PIT of x[t] given the past"
        how = "The PIT is the place of the value among predicted samples"
    found = found.cpu()
    seen = measured(found, batch.frames)
    verdict = verdict_of(seen.excess, seen.chance)
    said = [
        *in_numbers(seen, "values", "frames"),
        in_words(verdict, seen, "one-step predictions", "frames"),
    ]
    if isinstance(net, LGDS):
        said += _errors(found)
    values = batch.obs[batch.mask]
    if ((values == 0) | (values == 1)).all():
        said.append(BINARY_NOTE)
    _plot(context, found, label)
    return [
        Section(
            "Calibration of one-step predictions",
            f"Do predictive intervals hold as often as they should? {how}: uniform if the "
            "predictions are right, a trough if they are too narrow, a hump if too wide, a slope "
            "if they are biased.",
            said,
            "pit.png",
            verdict,
        )
    ]


OF_LINEAR = (
    "Predictions of a linear system are exactly Gaussian; y is the value that it reads from a "
    "frame (from a population, the decoded position). The PIT is the cumulative probability of y"
)


def linear_pit(net: LGDS, batch: Batch) -> Tensor:
    """PIT of the value that a linear system reads from each frame, under the Kalman filter.

    y_t given y_1 .. y_{t-1} is N(C m + d, C P C' + R_t), with m and P the state's mean and
    covariance one step ahead.

    Returns:
        ``[B, T, D]``, each value by itself; NaN in padding and where nothing was read.
    """
    value, variance = net.measure(batch)
    mean, spread = net.values(net.predict(batch), batch)
    away = (value - mean) / (spread + variance).sqrt()
    nothing = ~batch.mask[..., None] | variance.isinf()
    return torch.special.ndtr(away).masked_fill(nothing, math.nan)


class Errors(NamedTuple):
    """Errors of predictions, in predicted standard deviations.

    Arguments:
        mean: mean error of the value whose mean error is largest.
        correlation: correlation of the errors of successive frames.
        chance: standard deviation of either, of right predictions.
    """

    mean: float
    correlation: float
    chance: float


def successive(pits: Tensor) -> Errors:
    """Mean of the errors of predictions, and the correlation of successive ones.

    PITs become errors by the normal quantile function. Those of right predictions are
    independent.

    Arguments:
        pits: ``[B, T, D]``; NaN in padding.
    """
    errors = torch.special.ndtri(pits.clamp(1e-9, 1 - 1e-9))
    means = errors.flatten(0, 1).nanmean(0)
    errors = errors - means
    products = errors[:, :-1] * errors[:, 1:]
    real = ~products.isnan()
    correlation = products[real].mean() / errors.square().nanmean()
    furthest = means[means.abs().argmax()]
    return Errors(float(furthest), float(correlation), 1 / math.sqrt(max(1, int(real.sum()))))


def _errors(pits: Tensor) -> list[str]:
    mean, correlation, chance = successive(pits)
    said = [
        f"Errors have mean {mean:+.2f} in predicted standard deviations, and those of successive "
        f"frames correlate by {correlation:.2f} (by chance either is within {2 * chance:.2f}).",
    ]
    if abs(correlation) > 3 * chance:
        said.append(
            "The system does not use all information of the past, however right its intervals."
        )
    elif abs(mean) <= 3 * chance:
        said.append("No sign that the system leaves information of the past unused.")
    return said


def _plot(context: Context, pits: Tensor, label: str) -> None:
    canvas, (left, right) = figure(2)
    plot_histogram(left, pits.flatten(), 20, None)
    left.set(xlabel=label, ylabel="fraction of values")
    plot_coverage(right, pits)
    save(canvas, context, "pit.png")
