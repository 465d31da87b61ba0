"""Are answers as uncertain as they should be?"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...inference import calibration_error, coverage, pit
from ...inference.calibration import LEVELS
from ..held_out import held_out
from ..outputs import Categorical
from .drawing import BLUE, diagonal, figure, ranks, save
from .subject import NotHere, Section, Subject
from .verdicts import OF_BITS, calibrated

ASKED = 50  # times as many answers as sequences elsewhere, whose calibration is seen
PATHS = 20  # of stochastic units, whose probabilities are averaged


def look_at_answers(subject: Subject) -> list[Section]:
    net = subject.net
    if not subject.answers:
        raise NotHere(f"{subject.name} answers no questions")
    number, seed = ASKED * subject.sequences, subject.seed
    batch = held_out(subject.data, number, seed, True, subject.sizes.steps)
    if net.at_every_step(batch):
        raise NotHere("it answers at every step, and answers of a sequence are not independent")
    drawn = net.answer(batch.obs, batch.mask, subject.sizes.predictions, seed)
    found = pit(batch.target, drawn, seed)
    error, covered = calibration_error(found), coverage(found, (0.5, 0.9)).tolist()
    chance = 0.3 / math.sqrt(len(batch))
    said = [
        f"Over {len(batch)} held-out answers, coverage of intervals is off by {error:.3f} on "
        f"average (about {chance:.3f} by chance); the 50 % interval covers {covered[0]:.1%}, that "
        f"of 90 % {covered[1]:.1%}."
    ]
    classes, bits = isinstance(net.output, Categorical), hasattr(net.output, "natural")
    discrete = classes or bits
    canvas, axes = figure(3 if discrete else 2)
    ranks(axes[0], found.flatten(), 10, len(batch) if classes or not bits else None)
    axes[0].set(xlabel="PIT of the answer", ylabel="share of answers")
    diagonal(axes[1], LEVELS, coverage(found), "nominal level", "share covered")
    if discrete:
        chance_of = net.predict(batch.obs, batch.mask, PATHS, seed).cpu()
        hits = batch.target.cpu()
        if classes:
            hits = torch.nn.functional.one_hot(hits, chance_of.shape[-1])
        said_so, came, counts = reliability(chance_of, hits)
        off = float(((said_so - came).abs() * counts).sum() / counts.sum())
        said.append(
            f"What is given a probability comes that often but for {off:.3f} on average, over all "
            f"{'classes' if classes else 'values'} ({PATHS} paths)."
        )
        error = max(error, off)
        diagonal(axes[2], said_so, came, "predicted probability", "how often it came")
        sure = (came * (1 - came) / counts).sqrt()
        axes[2].errorbar(said_so, came, 2 * sure, fmt="none", ecolor=BLUE, lw=1)
    if bits and ((batch.target == 0) | (batch.target == 1)).all():
        said.append(OF_BITS)
    verdict = calibrated(error)
    said.append(
        "**Good**: answers are as uncertain as they should be."
        if verdict == "good"
        else f"**{verdict.capitalize()}**: probabilities of answers are off; look at where."
    )
    save(canvas, subject, "answers.png")
    return [
        Section(
            "Calibration of answers",
            "Does what is given a probability come that often? Left, the place of the true answer "
            "among sampled ones (PIT), which is uniform if so; then coverage of intervals; "
            "right, where there are any, probabilities against frequencies, within two standard "
            "errors.",
            said,
            "answers.png",
            verdict,
        )
    ]


def reliability(chance: Tensor, came: Tensor, bins: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    """Mean predicted probability, frequency and number of cases in each bin that has any.

    Arguments:
        chance: predicted probabilities, any shape.
        came: 1 where it came so, the same shape.
        bins: equal bins of [0, 1].
    """
    chance, came = chance.flatten().double(), came.flatten().double()
    where = (chance * bins).long().clamp(0, bins - 1)
    counts = torch.bincount(where, minlength=bins)
    sums = [torch.bincount(where, value, minlength=bins) for value in (chance, came)]
    real = counts > 0
    return sums[0][real] / counts[real], sums[1][real] / counts[real], counts[real]
