"""Are one-step predictions as often right as they say?"""

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
    """PIT of every value among what was predicted of it: drawn, or exact of a linear system."""
    context.need_pair()
    net, batch = context.net, context.batch
    if context.answers:
        raise NotApplicable("it gives one answer to a sequence: see the calibration of answers")
    if getattr(getattr(net, "likelihood", None), "grey", False):
        raise NotApplicable(
            "grey values are taken for expectations of bits, so their predictive intervals mean "
            "nothing"
        )
    if isinstance(net, LGDS):
        found, label, how = linear_pit(net, batch), "PIT of y[t] given the past", OF_LINEAR
    else:
        try:
            found = frame_pit(net, batch, context.sizes.predictions, context.seed)
        except ValueError as why:
            raise NotApplicable(str(why)) from why
        label = "PIT of x[t] given the past"
        how = "The PIT is the place of what came among draws that were predicted"
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
            f"Are predictive intervals as often right as they say? {how}: uniform if the "
            "predictions are right, a trough if they are too narrow, a hump if too wide, a slope "
            "if off to one side.",
            said,
            "pit.png",
            verdict,
        )
    ]


OF_LINEAR = (
    "What a linear system predicts is exactly Gaussian, and y is what it reads of a frame (of a "
    "population, the decoded position). The PIT is the cumulative probability of what came"
)


def linear_pit(net: LGDS, batch: Batch) -> Tensor:
    """PIT of what a linear system reads of each frame, under the Kalman filter's prediction.

    y_t given y_1 .. y_{t-1} is N(C m, C P C' + R_t), with m and P the state's mean and covariance
    one step ahead.

    Returns:
        ``[B, T, D]``, each value by itself; NaN in padding.
    """
    system = net.system()
    value, variance = net.measure(batch)
    seen = net.filter(batch)
    A, C = system.dynamics, system.emission
    start = system.initial_mean.expand_as(seen.mean[:, :1])
    mean = torch.cat((start, seen.mean[:, :-1] @ A.mT), 1)
    start = system.initial_covariance.expand_as(seen.covariance[:, :1])
    ahead = A @ seen.covariance[:, :-1] @ A.mT + system.process
    covariance = torch.cat((start, ahead), 1)
    spread = (C @ covariance @ C.mT).diagonal(dim1=-2, dim2=-1) + variance
    away = (value - mean @ C.mT) / spread.sqrt()
    return torch.special.ndtr(away).masked_fill(~batch.mask[..., None], math.nan)


class Errors(NamedTuple):
    """Errors of predictions, in standard deviations of what was predicted.

    Arguments:
        mean: of the value whose mean is furthest from 0.
        shared: correlation of one frame's error with the next one's, each less its mean.
        chance: standard deviation of either, of right predictions.
    """

    mean: float
    shared: float
    chance: float


def successive(pits: Tensor) -> Errors:
    """Whether errors are off on average, and whether one tells of the next.

    Errors are measured by the normal law: those of a right prediction are independent.

    Arguments:
        pits: ``[B, T, D]``; NaN in padding.
    """
    errors = torch.special.ndtri(pits.clamp(1e-9, 1 - 1e-9))
    means = errors.flatten(0, 1).nanmean(0)
    errors = errors - means
    products = errors[:, :-1] * errors[:, 1:]
    real = ~products.isnan()
    shared = products[real].mean() / errors.square().nanmean()
    furthest = means[means.abs().argmax()]
    return Errors(float(furthest), float(shared), 1 / math.sqrt(max(1, int(real.sum()))))


def _errors(pits: Tensor) -> list[str]:
    mean, shared, chance = successive(pits)
    said = [
        f"Errors have mean {mean:+.2f} in predicted standard deviations, and those of successive "
        f"frames correlate by {shared:.2f} (by chance either is within {2 * chance:.2f}).",
    ]
    if abs(shared) > 3 * chance:
        said.append("The system does not use all that the past tells, however right its intervals.")
    elif abs(mean) <= 3 * chance:
        said.append("As far as that tells, the system uses all that the past tells.")
    return said


def _plot(context: Context, pits: Tensor, label: str) -> None:
    canvas, (left, right) = figure(2)
    plot_histogram(left, pits.flatten(), 20, None)
    left.set(xlabel=label, ylabel="share of values")
    plot_coverage(right, pits)
    save(canvas, context, "pit.png")
