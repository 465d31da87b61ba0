"""Calibration of answers."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...inference import pit
from ..parts.likelihoods import Categorical, Likelihood
from .calibration import BINARY_NOTE, in_numbers, in_words, measured, verdict_of
from .context import Context, NotApplicable, Section
from .figures import BLUE, figure, plot_coverage, plot_histogram, plot_reliability, save

ASKED = 50  # answers for each sequence of the report
PATHS = 20  # paths of stochastic units over which probabilities are averaged


def diagnose_answers(context: Context) -> list[Section]:
    """Reports PIT, coverage and reliability of answers."""
    net = context.net
    if not context.answers:
        raise NotApplicable(f"{context.name} answers no questions")
    number, seed = ASKED * context.sequences, context.seed
    batch = context.data.held_out(number, seed, steps=context.sizes.steps)
    assert batch.target is not None  # data of questions have answers
    if net.at_every_step(batch):
        raise NotApplicable(
            "it answers at every step, and the answers of a sequence are not independent"
        )
    sampled = net.sample_answers(batch, context.sizes.predictions, seed)
    found = pit(batch.target, sampled, seed)
    seen = measured(found, len(batch))
    excess = seen.excess
    values = "held-out answers" if seen.values == len(batch) else "values of held-out answers"
    said = in_numbers(seen, values, "answers")
    classes, bits = isinstance(net.output, Categorical), isinstance(net.output, Likelihood)
    discrete = classes or bits
    canvas, axes = figure(3 if discrete else 2)
    plot_histogram(axes[0], found.flatten(), 10, len(batch) if classes or not bits else None)
    axes[0].set(xlabel="PIT of the answer", ylabel="fraction of answers")
    plot_coverage(axes[1], found)
    if discrete:
        chance_of = net.predict(batch, PATHS, seed).cpu()
        hits = batch.target.cpu()
        if classes:
            hits = torch.nn.functional.one_hot(hits, chance_of.shape[-1])
        said_so, came, counts = reliability(chance_of, hits)
        off, chance = unreliability(said_so, came, counts)
        said.append(
            f"Probabilities differ from frequencies by {off:.3f} on average (by chance about "
            f"{chance:.3f}), over all {'classes' if classes else 'values'} ({PATHS} "
            "paths)."
        )
        excess = max(excess, off - 2 * chance)
        plot_reliability(axes[2], said_so, came, "predicted probability", "how often it came")
        sure = (came * (1 - came) / counts).sqrt()
        axes[2].errorbar(said_so, came, 2 * sure, fmt="none", ecolor=BLUE, lw=1)
    if bits and ((batch.target == 0) | (batch.target == 1)).all():
        said.append(BINARY_NOTE)
    verdict = verdict_of(excess, seen.chance)
    said.append(in_words(verdict, seen, "answers", "answers"))
    save(canvas, context, "answers.png")
    return [
        Section(
            "Calibration of answers",
            "Do answers come as often as the model says? Left: the place of the true answer among "
            "sampled ones (PIT), which is uniform if they do. Middle: coverage of intervals. "
            "Right, for classes and bits: frequencies against probabilities, with two standard "
            "errors.",
            said,
            "answers.png",
            verdict,
        )
    ]


def unreliability(said: Tensor, came: Tensor, counts: Tensor) -> tuple[float, float]:
    """Mean distance of probabilities from frequencies, and its size by chance.

    Arguments:
        said, came, counts: results of ``reliability``. Cases count as independent.
    """
    off = ((said - came).abs() * counts).sum() / counts.sum()
    spread = (said * (1 - said) * counts).sqrt().sum() / counts.sum()
    return float(off), float(math.sqrt(2 / math.pi) * spread)


def reliability(chance: Tensor, came: Tensor, bins: int = 10) -> tuple[Tensor, Tensor, Tensor]:
    """Mean predicted probability, frequency and number of cases in each bin that has cases.

    Arguments:
        chance: predicted probabilities, any shape.
        came: 1 where the event happened, the same shape.
        bins: number of equal bins of [0, 1].
    """
    chance, came = chance.flatten().double(), came.flatten().double()
    where = (chance * bins).long().clamp(0, bins - 1)
    counts = torch.bincount(where, minlength=bins)
    sums = [torch.bincount(where, value, minlength=bins) for value in (chance, came)]
    real = counts > 0
    return sums[0][real] / counts[real], sums[1][real] / counts[real], counts[real]
