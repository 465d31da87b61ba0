"""Are one-step predictions as often right as they say?"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...data import Batch
from ...inference import calibration_error, coverage, frame_pit
from ...inference.calibration import LEVELS
from ..lgds import LGDS
from .drawing import diagonal, figure, ranks, save
from .subject import NotHere, Section, Subject
from .verdicts import OF_BITS, calibrated, in_words


def look_at_predictions(subject: Subject) -> list[Section]:
    """PIT of every value among what was predicted of it: drawn, or exact of a linear system."""
    subject.need_pair()
    net, batch = subject.net, subject.batch
    if subject.answers:
        raise NotHere("it gives one answer to a sequence: see the calibration of answers")
    if getattr(getattr(net, "likelihood", None), "grey", False):
        raise NotHere(
            "grey values are taken for expectations of bits, so their predictive intervals mean "
            "nothing"
        )
    if isinstance(net, LGDS):
        found, label, how = linear_pit(net, batch), "PIT of y[t] given the past", OF_LINEAR
    else:
        try:
            found = frame_pit(net, batch, subject.sizes.predictions, subject.seed)
        except ValueError as why:
            raise NotHere(str(why)) from why
        label = "PIT of x[t] given the past"
        how = "The PIT is the place of what came among draws that were predicted"
    found = found.cpu()
    error = calibration_error(found)
    covered = coverage(found, (0.5, 0.9)).tolist()
    verdict = calibrated(error)
    said = [
        f"Over {int((~found.isnan()).sum())} values, coverage is off by {error:.3f} on average "
        f"(expected calibration error); the 50 % interval covers {covered[0]:.1%}, that of 90 % "
        f"{covered[1]:.1%}.",
        in_words(verdict, covered[1], "one-step predictions"),
    ]
    if isinstance(net, LGDS):
        shared, chance = successive(found)
        said.append(
            f"Errors of successive frames correlate by {shared:.2f} (by chance {chance:.2f}): "
            + (
                "the system uses all that the past tells."
                if abs(shared) <= 3 * chance
                else "the system does not use all that the past tells, however right its intervals."
            )
        )
    values = batch.obs[batch.mask]
    if ((values == 0) | (values == 1)).all():
        said.append(OF_BITS)
    _draw(subject, found, label)
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
    value, variance = net.measure(batch.obs, batch.mask)
    seen = net.filter(batch.obs, batch.mask)
    A, C = system.dynamics, system.emission
    start = system.initial_mean.expand_as(seen.mean[:, :1])
    mean = torch.cat((start, seen.mean[:, :-1] @ A.mT), 1)
    start = system.initial_covariance.expand_as(seen.covariance[:, :1])
    ahead = A @ seen.covariance[:, :-1] @ A.mT + system.process
    covariance = torch.cat((start, ahead), 1)
    spread = (C @ covariance @ C.mT).diagonal(dim1=-2, dim2=-1) + variance
    away = (value - mean @ C.mT) / spread.sqrt()
    return torch.special.ndtr(away).masked_fill(~batch.mask[..., None], math.nan)


def successive(pits: Tensor) -> tuple[float, float]:
    """Correlation of one frame's error with the next one's, and what chance makes of it.

    Errors are measured by the normal law: those of a right prediction are independent.

    Arguments:
        pits: ``[B, T, D]``; NaN in padding.
    """
    errors = torch.special.ndtri(pits.clamp(1e-9, 1 - 1e-9))
    products = errors[:, :-1] * errors[:, 1:]
    real = ~products.isnan()
    shared = products[real].mean() / errors.square().nanmean()
    return float(shared), 1 / math.sqrt(max(1, int(real.sum())))


def _draw(subject: Subject, pits: Tensor, label: str) -> None:
    canvas, (left, right) = figure(2)
    ranks(left, pits.flatten(), 20, None)
    left.set(xlabel=label, ylabel="share of values")
    diagonal(right, LEVELS, coverage(pits), "nominal level", "share covered")
    save(canvas, subject, "pit.png")
