"""A short report on a trained model: which of its statements can be trusted, with figures.

What is looked at follows from what a model has: a guide, Gibbs chains, answers, targets. Whatever
does not apply is left out, and the report says why.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ..data import Batch, OneToMany, Polyphonic, generator
from ..data.files import write_whole
from ..data.synthetic import Synthetic
from ..inference import (
    SBC,
    Fold,
    RandomStream,
    TargetPropagation,
    calibration_error,
    clamped_gibbs,
    convergence,
    coverage,
    frame_pit,
    good_khat,
    pit,
    run_filter,
    save_arviz,
    sbc,
    simulator,
    target_alignment,
    to_arviz,
)
from ..inference.calibration import LEVELS
from ..inference.draws import draw, prepare, spread_out
from ..inference.evaluate import frame_weights
from ..inference.outputs import Answers
from ..inference.particles import log_mean_exp
from ..inference.psis import check_draws, smooth_weights
from ..inference.rule import Recurrent
from . import store
from .diagnose import DISAGREE
from .outputs import Categorical
from .pictures import save_figure
from .recipes import RECIPES
from .recipes.part import PARTS, Part
from .recipes.task import device_of

SEQUENCES, DRAWS = 20, 500
STEPS = 60  # frames of a sequence that are looked at
LENGTHS = (5, 10, 20, 40)  # where sequences are cut, to see how k-hat grows with them
ANSWERS = 10  # times as many sequences of nets that give one answer each
ASKED = 50  # and for the calibration of the answers
PATHS = 20  # of stochastic units, whose probabilities are averaged
PREDICTIONS = 99  # of each frame
SIMULATED, SIMULATED_STEPS = 100, 20  # sequences of simulation-based calibration, and their frames
FOLDED = 5  # sequences whose frames are simulated, or weighed, one by one
HIGH = 0.7  # k-hat that no number of draws makes up for
WIDE = 500  # values of a frame, from where on so few are weighed
EXPORTED = 1_000_000  # numbers that are written of latents and predictions of each kind
EXPORTED_DRAWS = 25, 100  # at least, at most
UNITS = {"PPC": "neuron", "Polyphonic": "key", "BouncingBalls": "pixel", "MovingMNIST": "pixel"}
AT_ONCE = 50

BLUE, RED, GREEN, GREY = "#1d3557", "#d1495b", "#00798c", "#8d99ae"


class Section(NamedTuple):
    """One diagnostic.

    Arguments:
        title: its name.
        question: what it answers.
        found: the numbers and what they say, a sentence each.
        figure: name of the picture, or None.
        verdict: ``"good"``, ``"fair"``, ``"bad"``, or empty where there is nothing to judge.
    """

    title: str
    question: str
    found: list[str]
    figure: str | None = None
    verdict: str = ""


class Report(NamedTuple):
    """What was found, and where it is written.

    Arguments:
        path: ``report.md``.
        sections: what applied.
        left_out: title and reason of what did not.
        files: everything that was written.
    """

    path: Path
    sections: list[Section]
    left_out: list[tuple[str, str]]
    files: list[Path]


class Chains(NamedTuple):
    """How clamped Gibbs chains are followed: frames, chains a frame, steps before and kept."""

    frames: int = 50
    chains: int = 8
    burn: int = 25
    draws: int = 100


class NotHere(Exception):
    """A diagnostic does not apply; the message says why."""


class Subject(NamedTuple):
    """A trained model and what is asked of it.

    Arguments:
        net: the model.
        out: folder of the figures.
        sequences, draws, seed: how much is looked at.
        chains: of Gibbs sampling.
        batch: test data.
        data: ``Part`` that its training data were built from.
        answers: whether it gives one answer to each sequence.
        limit: log-probability (nats) that no net can beat, or None.
    """

    net: Any
    out: Path
    sequences: int
    draws: int
    seed: int
    chains: Chains
    batch: Batch
    data: Part
    answers: bool
    limit: float | None

    @property
    def paired(self) -> bool:
        """Whether there are a model and a guide."""
        return all(callable(getattr(self.net, part, None)) for part in ("model", "guide"))

    @property
    def name(self) -> str:
        return type(self.net).__name__

    def need_pair(self) -> None:
        if not self.paired:
            raise NotHere(f"{self.name} has no Pyro pair of model and guide to draw from")

    def need_latents(self) -> None:
        self.need_pair()
        few = self.batch.rows(slice(1))
        with RandomStream(few.obs.device, "report"), torch.no_grad():
            latents = draw(self.net, prepare(self.net, few), 1, prior=True).latents
        if not latents:
            raise NotHere(
                f"the Pyro model of this {self.name} draws no latent state (there is none, or it is"
                " integrated out), so a guide has nothing to infer"
            )


def report(
    name: str | Path,
    out: Path,
    sequences: int = SEQUENCES,
    draws: int = DRAWS,
    seed: int = 0,
    chains: Chains | None = None,
) -> Report:
    """Looks into a trained model on test data, and writes ``report.md`` and figures.

    Arguments:
        name: a model that ships, or the folder of one.
        out: folder to write to; made if missing.
        sequences: test sequences; of nets that answer questions 10 times as many.
        draws: draws of the guide, at least 25.
        seed: of data and draws; the caller's random state is left alone.
        chains: how Gibbs chains are followed.

    Raises:
        ValueError: for too few draws, or a model that none of this applies to.
    """
    check_draws(draws)
    if sequences < 1:
        raise ValueError(f"sequences must be at least 1, got {sequences}")
    with RandomStream("cpu", "report", seed):  # to build a network draws weights
        net = store.load(name)
    if net.card["configuration"].get("data") is None:
        raise ValueError(f"{name} was not trained on data, so there is nothing to diagnose")
    data = Part.from_json(net.card["configuration"]["data"])
    answers = isinstance(net, Answers)
    batch = held_out(data, sequences * (ANSWERS if answers else 1), seed, answers)
    recipe = RECIPES.get(net.card.get("name"))
    limit = -recipe.limit if answers and recipe is not None and recipe.limit is not None else None
    parts = sequences, draws, seed, chains or Chains(), batch, data, answers, limit
    subject = Subject(net, Path(out), *parts)
    sections, left_out = [], []
    for title, look in LOOKS.items():
        try:
            sections += look(subject)
        except NotHere as why:
            left_out.append((title, str(why)))
    if not sections:
        reasons = "; ".join(dict.fromkeys(why for _, why in left_out))
        raise ValueError(f"no diagnostic applies to {name}: {reasons}")
    files = [subject.out / one.figure for one in sections if one.figure is not None]
    path = subject.out / "report.md"
    text = _written(subject, sections, left_out)
    write_whole(path, lambda part: part.write_text(text))
    return Report(path, sections, left_out, [path, *files])


def held_out(data: Part, sequences: int, seed: int, answers: bool = False) -> Batch:
    """Test sequences of the kind that a model was trained on, at most 60 frames each.

    Raises:
        ValueError: for data without a test split.
    """
    maker, given = PARTS[data.name], dict(data.arguments)
    if maker is OneToMany:
        given |= {"samples": sequences, "seed": seed, "split": "test"}
        return OneToMany(**given).batch()
    if maker is Polyphonic and answers:
        window = given.get("window", STEPS)
        rolls = Polyphonic(given["name"], "test", window=window, stride=window)
        chosen = torch.randperm(len(rolls), generator=generator(seed, "report"))[:sequences]
        return rolls.rows(chosen)
    if maker is Polyphonic:
        rolls = Polyphonic(given["name"], "test")
        chosen = torch.randperm(len(rolls), generator=generator(seed, "report"))[:sequences]
        return rolls.rows(chosen.tolist()).window(0, STEPS)
    if isinstance(maker, type) and issubclass(maker, Synthetic):
        given |= {"sequences": sequences, "steps": STEPS, "seed": seed, "split": "test"}
        return maker(**given).batch()
    raise ValueError(f"{data.name} has no test data to diagnose a model on")


# A guide's weights --------------------------------------------------------------------------------


class Weights(NamedTuple):
    """Log importance weights of a guide's draws.

    Arguments:
        sequences: ``[S, B]``, or None of models of single frames.
        frames: ``[S, B, T]`` with NaN in padding, or None where frames share latent noise.
    """

    sequences: Tensor | None
    frames: Tensor | None


@torch.no_grad()
def log_weights(net, batch: Batch, draws: int, seed: int) -> Weights:
    """Weighs draws of a guide, of sequences and of frames, whichever are defined."""
    data = prepare(net, batch)
    fold = isinstance(data, Fold)
    framewise = getattr(net, "framewise", False) and not fold
    parts = []
    with RandomStream(batch.obs.device, "report weights", seed):
        for start in range(0, draws, AT_ONCE):
            number = min(AT_ONCE, draws - start)
            if framewise:
                parts.append(frame_weights(net, data, number))
            else:
                drawn = draw(net, data, number)
                parts.append(drawn.log_p - drawn.log_q)
    found = torch.cat(parts).double().cpu()
    mask = batch.mask.cpu()
    if fold:
        return Weights(None, spread_out(found, mask))
    if framewise:
        return Weights(found.sum(-1), found.masked_fill(~mask, math.nan))
    return Weights(found, None)


def bounds(weights: Tensor, numbers: list[int]) -> Tensor:
    """The importance-weighted bound of M draws for each M, summed over all else; ``[len]``.

    All draws take part: in groups of M, whose bounds are averaged.

    Arguments:
        weights: log-weights ``[S, ...]``.
        numbers: each M, at most ``S``.
    """
    found = []
    for number in numbers:
        groups = len(weights) // number
        parts = weights[: groups * number].reshape(groups, number, -1)
        found.append(log_mean_exp(parts.transpose(0, 1)).mean(0).sum())
    return torch.stack(found)


def _guide(subject: Subject) -> list[Section]:
    """k-hat and the bound: both are of the same weights."""
    subject.need_latents()
    if hasattr(subject.net, "foresee") and subject.batch.obs.shape[-1] > WIDE:
        subject = subject._replace(batch=subject.batch.rows(slice(FOLDED)))
    found = log_weights(subject.net, subject.batch, subject.draws, subject.seed)
    return [_khat(subject, found), _bound(subject, found)]


def _khat(subject: Subject, found: Weights) -> Section:
    limit = good_khat(subject.draws)
    mask = subject.batch.mask.cpu()
    what = "prior, which is the guide here," if subject.answers else "guide"
    said, shapes, panels = [], None, []
    if found.frames is not None:
        smoothed = smooth_weights(found.frames[:, mask])
        shapes = spread_out(smoothed.khat, mask)
        said.append(_shares("frames", smoothed.khat, limit))
        said.append(
            f"Of {subject.draws} draws, a frame has the use of {smoothed.effective.median():.0f} "
            "(median effective number)."
        )
        panels = ["frames", "time"]
        judged = smoothed.khat
    if found.sequences is not None:
        smoothed = smooth_weights(found.sequences)
        said.append(_shares("sequences", smoothed.khat, limit))
        said.append(
            f"Of {subject.draws} draws, a sequence has the use of "
            f"{smoothed.effective.median():.1f} (median effective number)."
        )
        judged, whole = smoothed.khat if shapes is None else judged, smoothed.khat
    else:
        whole = shapes.nanmedian(1).values
        said.append(
            f"{subject.name} is a model of single frames, so a sequence has no weights of its own: "
            f"the medians over the frames of each go from {whole.min():.2f} to {whole.max():.2f}."
        )
    cuts: dict[int, Tensor] = {}
    if shapes is None and not subject.answers:
        for steps in (length for length in LENGTHS if length < mask.shape[1]):
            batch = subject.batch.window(0, steps)
            cut = log_weights(subject.net, batch, subject.draws, subject.seed).sequences
            cuts[steps] = smooth_weights(cut).khat
        cuts[mask.shape[1]] = whole
        panels = ["length"]
        middle = ", ".join(f"{float(k.median()):.2f} at {t}" for t, k in cuts.items())
        said.append(
            f"Frames share a latent path, so that none has weights of its own; cut after so many "
            f"frames, sequences have a median k-hat of {middle}."
        )
    bad = float((judged > limit).double().mean())
    verdict = "good" if bad <= 0.05 else "fair" if float(judged.median()) <= HIGH else "bad"
    said.append(
        {
            "good": f"**Good**: importance weights of the {what} can be trusted nearly everywhere.",
            "fair": f"**Fair**: the {what} can be trusted in part; mind where k-hat is high.",
            "bad": f"**Bad**: weights of the {what} are too uneven: estimates from weighted draws "
            "should not be used, and the bounds below are loose."
            + " That is common for paths of many dimensions, each of which may be well described."
            * (shapes is None),
        }[verdict]
    )

    figure, axes = _figure(1 + len(panels))
    _sorted_khat(axes[0], whole, limit, "median of a sequence" if found.sequences is None else None)
    for axis, panel in zip(axes[1:], panels):
        if panel == "frames":
            shown = shapes[mask].numpy()
            shown = shown[np.isfinite(shown)]
            axis.hist(shown, bins=30, color=BLUE)
            axis.axvline(limit, color=RED, ls="--", lw=1)
            axis.set(xlabel="k-hat of a frame", ylabel="frames")
        elif panel == "time":
            low, middle, high = np.nanquantile(_finite(shapes), (0.1, 0.5, 0.9), axis=0)
            axis.fill_between(range(len(middle)), low, high, color=BLUE, alpha=0.2, lw=0)
            axis.plot(middle, color=BLUE, label="median, 10 % to 90 %")
            axis.axhline(limit, color=RED, ls="--", lw=1)
            axis.set(xlabel="frame t", ylabel="k-hat")
            axis.legend(frameon=False, fontsize=8)
        else:
            spread = torch.stack([_finite(k) for k in cuts.values()])
            low, middle, high = np.nanquantile(spread, (0.1, 0.5, 0.9), axis=1)
            axis.fill_between(list(cuts), low, high, color=BLUE, alpha=0.2, lw=0)
            axis.plot(list(cuts), middle, "o-", color=BLUE, label="median, 10 % to 90 %", ms=4)
            axis.axhline(limit, color=RED, ls="--", lw=1)
            axis.set(xlabel="frames of a sequence, from its start", ylabel="k-hat")
            axis.legend(frameon=False, fontsize=8)
    _save(figure, subject, "khat.png")
    return Section(
        "k-hat of importance weights",
        f"How far can draws of the {what} stand in for the posterior? k-hat is the tail of their "
        f"importance weights: below {limit:.2f} weighted draws can be trusted if there are "
        f"{subject.draws} of them; above 0.7 no affordable number will do. It compares the guide "
        "with the model's posterior, not the model with data, and forgives half the variance.",
        said,
        "khat.png",
        verdict,
    )


def _shares(what: str, khat: Tensor, limit: float) -> str:
    low = int((khat <= limit).sum())
    return (
        f"k-hat is below {limit:.2f} for {low} of {khat.numel()} {what} "
        f"(median {khat.median():.2f}, largest {khat.max():.2f})."
    )


def _sorted_khat(axis, khat: Tensor, limit: float, label: str | None) -> None:
    ranked = _finite(khat).sort().values.numpy()
    colours = [RED if value > limit else BLUE for value in ranked]
    axis.scatter(range(1, len(ranked) + 1), ranked, s=14, c=colours)
    axis.axhline(limit, color=RED, ls="--", lw=1, label=f"{limit:.2f}, the most to trust")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set(xlabel="sequences, in order", ylabel=f"k-hat, {label or 'whole sequences'}")
    axis.legend(frameon=False, fontsize=8)


def _finite(values: Tensor) -> Tensor:
    return values.masked_fill(values.isinf(), math.nan)


def _bound(subject: Subject, found: Weights) -> Section:
    batch, frames = subject.batch, found.frames
    weights = found.sequences if frames is None else frames[:, batch.mask.cpu()]
    each = len(batch) if subject.answers else batch.frames
    unit = "nats an answer" if subject.answers else "nats a frame"
    few = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
    numbers = [number for number in few if 2 * number <= len(weights)] + [len(weights)]
    curve = bounds(weights, numbers) / each
    smoothed = float(smooth_weights(weights).bound.sum()) / each
    first, last = float(curve[0]), float(curve[-1])
    rising = last - float(curve[-2])
    name = "ELBO" if not subject.answers else "bound of one path"
    said = [
        f"The {name} is {first:.3f} {unit}; with {numbers[-1]} draws the bound is {last:.3f}, "
        f"{last - first:.3f} higher.",
        f"From {numbers[-2]} to {numbers[-1]} draws it changed by {rising:+.4f}. Smoothed "
        f"(PSIS), the {numbers[-1]} draws give {smoothed:.3f}.",
    ]
    if subject.limit is not None:
        said.append(f"No network can exceed {subject.limit:.3f} on average (all data, not these).")
    if found.sequences is None:
        said.append("It is of a frame together with the statistics u of what was seen before it.")
    size = abs(rising)
    verdict = "good" if size < 0.01 else "fair" if size < 0.1 else "bad"
    said.append(
        {
            "good": "**Good**: it has levelled off. (Where k-hat is high, that proves nothing.)",
            "fair": "**Fair**: it still rises a little; log p(x) lies above.",
            "bad": "**Bad**: it still rises, so that log p(x) is well above."
            + " Take `inference.particle_bound`." * hasattr(subject.net, "walk"),
        }[verdict]
    )
    figure, (axis,) = _figure(1)
    axis.plot(numbers, curve, "o-", color=BLUE, ms=4, label="importance-weighted bound")
    axis.plot(numbers[-1], smoothed, "*", ms=11, color=GREEN, label="smoothed (PSIS)")
    if subject.limit is not None:
        axis.axhline(subject.limit, color="black", lw=1, label="what no net can exceed")
    axis.set(xscale="log", xlabel="draws M", ylabel=unit)
    axis.legend(frameon=False, fontsize=8)
    _save(figure, subject, "bound.png")
    return Section(
        "Importance-weighted bound",
        "How much log-likelihood does the guide lose? A bound that rises with the number of draws "
        "tells that the guide is not the posterior, and by how much at least.",
        said,
        "bound.png",
        verdict,
    )


# Calibration --------------------------------------------------------------------------------------


def _predictions(subject: Subject) -> list[Section]:
    subject.need_pair()
    if subject.answers:
        raise NotHere("it gives one answer to a sequence: see the calibration of answers")
    if getattr(getattr(subject.net, "likelihood", None), "grey", False):
        raise NotHere(
            "grey values are taken for expectations of bits, so their predictive intervals mean "
            "nothing"
        )
    try:
        found = frame_pit(subject.net, subject.batch, PREDICTIONS, subject.seed)
    except ValueError as why:
        raise NotHere(str(why)) from why
    found = found.cpu()
    error = calibration_error(found)
    covered = coverage(found, (0.5, 0.9)).tolist()
    verdict = _calibrated(error)
    said = [
        f"Over {int((~found.isnan()).sum())} values, coverage is off by {error:.3f} on average "
        f"(expected calibration error); the 50 % interval covers {covered[0]:.1%}, that of 90 % "
        f"{covered[1]:.1%}.",
        _in_words(verdict, covered[1], "one-step predictions"),
    ]
    values = subject.batch.obs[subject.batch.mask]
    if ((values == 0) | (values == 1)).all():
        said.append(OF_BITS)
    _draw_pit(subject, found, "pit.png", "PIT of x[t] given the past")
    return [
        Section(
            "Calibration of one-step predictions",
            "Are predictive intervals as often right as they say? The PIT is the place of what came"
            " among draws that were predicted: uniform if the predictions are right, a trough if "
            "they are too narrow, a hump if too wide, a slope if off to one side.",
            said,
            "pit.png",
            verdict,
        )
    ]


OF_BITS = (
    "Values are bits: most of a bit's PIT is drawn at random, so this test forgives much, and its "
    "histogram is flat unless rates are badly off."
)


def _calibrated(error: float) -> str:
    return "good" if error < 0.02 else "fair" if error < 0.05 else "bad"


def _in_words(verdict: str, ninety: float, what: str) -> str:
    if verdict == "good":
        return f"**Good**: {what} are calibrated."
    width = "too narrow" if ninety < 0.88 else "too wide" if ninety > 0.92 else "off in places"
    return f"**{verdict.capitalize()}**: intervals of {what} are {width}."


def _draw_pit(subject: Subject, pits: Tensor, name: str, label: str) -> None:
    figure, (left, right) = _figure(2)
    _ranks(left, pits.flatten(), 20, None)
    left.set(xlabel=label, ylabel="share of values")
    _diagonal(right, LEVELS, coverage(pits), "nominal level", "share covered")
    _save(figure, subject, name)


def _ranks(axis, pits: Tensor, bins: int, number: int | None) -> None:
    """A histogram of PITs over that of uniform ones; ``number`` independent values make a band."""
    pits = pits[~pits.isnan()].numpy()
    counts = np.histogram(pits, bins, (0, 1))[0] / len(pits)
    axis.bar((np.arange(bins) + 0.5) / bins, counts, 0.9 / bins, color=BLUE)
    axis.axhline(1 / bins, color="black", lw=1)
    if number is not None:
        from scipy.stats import binom

        low, high = binom.ppf((0.005, 0.995), number, 1 / bins) / number
        label = "where 99 % of uniform ones are"
        axis.axhspan(low, high, color=GREY, alpha=0.35, lw=0, zorder=0, label=label)
        axis.legend(frameon=False, fontsize=8, loc="upper center")
    axis.set(xlim=(0, 1), ylim=(0, max(2.2 / bins, 1.2 * counts.max())))


def _diagonal(axis, across, up, xlabel: str, ylabel: str) -> None:
    axis.plot((0, 1), (0, 1), color="black", lw=0.8)
    axis.plot(across, up, "o-", color=BLUE, ms=4)
    axis.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, 1), ylim=(0, 1), aspect="equal")


def _simulation(subject: Subject) -> list[Section]:
    subject.need_latents()
    if subject.answers:
        raise NotHere(
            "the guide of this net is its prior, by which ranks of latents are uniform whatever "
            "the posterior is"
        )
    if getattr(getattr(subject.net, "likelihood", None), "grey", False):
        raise NotHere("the model draws bits and the guide reads grey values: it would be misled")
    batch, fold = subject.batch, hasattr(subject.net, "foresee")
    if fold:
        batch = batch.rows(slice(FOLDED))
    steps = STEPS if fold else min(SIMULATED_STEPS, int(batch.mask.sum(1).min()))
    batch = batch.window(0, steps)
    try:
        model = simulator(subject.net, batch)
    except ValueError as why:
        raise NotHere(str(why)) from why
    each = batch.frames if fold else len(batch)
    rounds = math.ceil(SIMULATED / each)
    found = sbc(model, rounds, PREDICTIONS, subject.seed)
    number = rounds * each
    latents = [name for name in found.pits if name != "log_likelihood"]
    values = {name: found.p_value(name) for name in found.pits}
    what = "frames" if fold else f"sequences of {steps} frames"
    said = [f"{number} {what} were simulated from the model, each with {PREDICTIONS} draws."]
    for name, value in values.items():
        tests = found.p_values()[name]
        some = f", the least of {tests.numel()} tests times their number" if tests.dim() else ""
        said.append(f"p-value of uniform ranks of `{name}`: {value:.2g}{some}.")
        if tests.dim():
            low = float((tests[~tests.isnan()] < 0.01).double().mean())
            said.append(f"Of the single tests of `{name}`, {low:.0%} have p < 0.01.")
    rank = float(found.pits["log_likelihood"].median())
    if values["log_likelihood"] <= 0.01 and abs(rank - 0.5) > 0.1:
        more, less = ("worse", "loses") if rank > 0.5 else ("better", "overstates")
        said.append(
            f"The median place of `log_likelihood` is {rank:.2f}: draws of the guide explain the "
            f"data {more} than the true latents do, so it {less} some of what data tell of them."
        )
    good = all(value > 0.01 for value in values.values())
    said.append(
        "**Good**: nothing tells the guide's draws from those of the posterior."
        if good
        else "**Bad**: the guide is not the model's posterior: "
        f"{', '.join(f'`{name}`' for name, value in values.items() if value <= 0.01)} failed. "
        "(It learned on data, and what the model makes up may lie outside of those.)"
    )
    _draw_sbc(subject, found, latents, number)
    return [
        Section(
            "Simulation-based calibration",
            "Is the guide the posterior of the model, data aside? Latents and data are drawn from "
            "the model, and the rank of the true latents among draws of the guide is uniform if "
            "so. A trough is a guide too narrow, a hump one too wide, a slope one that is shifted;"
            " where `log_likelihood` alone fails, single latents are right, all together are not.",
            said,
            "sbc.png",
            "good" if good else "bad",
        )
    ]


def _draw_sbc(subject: Subject, found: SBC, latents: list[str], number: int) -> None:
    figure, axes = _figure(len(found.pits))
    for axis, name in zip(axes, [*latents, *(n for n in found.pits if n not in latents)]):
        pits = found.pits[name]
        single = pits.dim() == 1
        _ranks(axis, pits.flatten(), 10, number if single else None)
        axis.set_title(name if single else f"{name}, all steps and dimensions", fontsize=10)
        axis.set(xlabel="rank of the truth", ylabel="share")
    _save(figure, subject, "sbc.png")


def _answers(subject: Subject) -> list[Section]:
    net = subject.net
    if not subject.answers:
        raise NotHere(f"{subject.name} answers no questions")
    number, seed = ASKED * subject.sequences, subject.seed
    batch = held_out(subject.data, number, seed, True)
    if net.at_every_step(batch):
        raise NotHere("it answers at every step, and answers of a sequence are not independent")
    drawn = net.answer(batch.obs, batch.mask, PREDICTIONS, seed)
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
    figure, axes = _figure(3 if discrete else 2)
    _ranks(axes[0], found.flatten(), 10, len(batch) if classes or not bits else None)
    axes[0].set(xlabel="PIT of the answer", ylabel="share of answers")
    _diagonal(axes[1], LEVELS, coverage(found), "nominal level", "share covered")
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
        _diagonal(axes[2], said_so, came, "predicted probability", "how often it came")
        sure = (came * (1 - came) / counts).sqrt()
        axes[2].errorbar(said_so, came, 2 * sure, fmt="none", ecolor=BLUE, lw=1)
    if bits and ((batch.target == 0) | (batch.target == 1)).all():
        said.append(OF_BITS)
    verdict = _calibrated(error)
    said.append(
        "**Good**: answers are as uncertain as they should be."
        if verdict == "good"
        else f"**{verdict.capitalize()}**: probabilities of answers are off; look at where."
    )
    _save(figure, subject, "answers.png")
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


# Chains, targets, draws ---------------------------------------------------------------------------


def _chains(subject: Subject) -> list[Section]:
    net, how = subject.net, subject.chains
    if not (hasattr(net, "gibbs") and isinstance(net, Recurrent)):
        raise NotHere(f"{subject.name} samples no frames by Gibbs chains")
    obs = subject.batch.obs
    with torch.no_grad():
        past = run_filter(net, obs)[:, obs.shape[1] // 4 :].flatten(0, 1)
    order = torch.randperm(len(past), generator=generator(subject.seed, "frames"))
    past = past[order[: how.frames]]
    followed = clamped_gibbs(net, past, how.chains, how.draws, how.burn, seed=subject.seed)
    found = convergence(followed)
    rhat, ess = found.rhat.amax(-1), found.ess.amin(-1)
    moved = ~rhat.isnan()
    rhat, ess, total = rhat[moved], ess[moved], how.chains * how.draws
    if not len(rhat):
        raise NotHere("its chains did not move, so that R-hat is undefined")
    apart = float((rhat > DISAGREE).double().mean())
    verdict = "good" if apart <= 0.05 else "fair" if apart <= 0.5 else "bad"
    said = [
        f"{how.chains} chains from random starts, {how.burn} steps, then {how.draws} kept, at "
        f"{len(rhat)} frames, each judged by the worst of eight random directions.",
        f"R-hat: median {rhat.median():.2f}, nine in ten below {rhat.quantile(0.9):.2f}; "
        f"{apart:.0%} of frames above {DISAGREE}.",
        f"Effective sample size: median {ess.median():.0f} of {total}.",
        {
            "good": "**Good**: chains agree; what they draw can be taken for the model's "
            "prediction.",
            "fair": "**Fair**: some chains disagree: take several, or let them run longer.",
            "bad": "**Bad**: most chains disagree: a prediction depends on where its chain began. "
            "Start chains near the answer, take many, or run them longer.",
        }[verdict],
    ]
    if not moved.all():
        said.insert(1, f"At {int((~moved).sum())} further frames chains did not move at all.")
    figure, (left, right) = _figure(2)
    left.hist(rhat.numpy(), bins=20, color=BLUE)
    left.axvline(DISAGREE, color=RED, ls="--", lw=1, label=f"{DISAGREE}: chains disagree above")
    left.set(xlabel="R-hat of a frame's worst direction", ylabel="frames")
    left.legend(frameon=False, fontsize=8)
    right.hist(ess.numpy(), bins=20, color=BLUE)
    right.axvline(total, color="black", lw=1, ls=":", label=f"{total} draws")
    right.set(xlabel="effective sample size", ylabel="frames", xlim=(0, None))
    right.legend(frameon=False, fontsize=8)
    _save(figure, subject, "chains.png")
    return [
        Section(
            "Clamped Gibbs chains",
            "Do chains of the next frame, given the same past, forget where they began? R-hat "
            "compares chains from random starts: 1 is agreement. The effective sample size says "
            "what their draws are worth in independent ones.",
            said,
            "chains.png",
            verdict,
        )
    ]


def _targets(subject: Subject) -> list[Section]:
    rule = Part.from_json(subject.net.card["configuration"]["rule"])
    if rule.name != TargetPropagation.__name__:
        raise NotHere(f"it was trained by {rule.name}, which sends no targets back")
    batch, seed = subject.batch, subject.seed
    found = target_alignment(rule.build(subject.net), batch, seed)
    with RandomStream(device_of(subject.net), "untrained", seed):
        fresh = store.build(subject.net.card)
    before = target_alignment(rule.build(fresh), batch, seed)
    real = found[~found.isnan()]
    if not len(real):
        raise NotHere("no gradient arrives at any state, so there is nothing to align with")
    first, last, mean = float(real[0]), float(real[-1]), float(real.mean())
    verdict = "good" if first > 0.5 else "fair" if first > 0.1 else "bad"
    said = [
        f"Cosine of targets and gradient: {last:.2f} at the answer, {first:.2f} at the first step, "
        f"{mean:.2f} on average. (A gradient arrives at {len(real)} of {len(found)} steps; in an "
        f"untrained network at {int((~before.isnan()).sum())}.)",
        {
            "good": "**Good**: targets ask of early states what the gradient would.",
            "fair": "**Fair**: at the first step targets point the gradient's way, a little.",
            "bad": "**Bad**: at the first step targets and gradient have little in common. That "
            "need not be the targets' fault: of saturated units the gradient vanishes, or is one "
            "of few sequences.",
        }[verdict],
    ]
    figure, (axis,) = _figure(1)
    steps = range(1, len(found) + 1)
    axis.plot(steps, before, "o--", color=GREY, ms=3, label="before training")
    axis.plot(steps, found, "o-", color=BLUE, ms=4, label="trained")
    axis.axhline(0, color="black", lw=0.8)
    axis.set(xlabel="step t", ylabel="cosine of target and gradient", ylim=(-1.05, 1.05))
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.legend(frameon=False, fontsize=8)
    _save(figure, subject, "targets.png")
    return [
        Section(
            "Alignment of targets",
            "Does target propagation ask of a state what its gradient does? Step by step, the "
            "cosine between what targets ask of h[t] and -dE/dh[t] by backpropagation.",
            said,
            "targets.png",
            verdict,
        )
    ]


def _arviz(subject: Subject) -> list[Section]:
    subject.need_pair()
    few = subject.batch.rows(slice(1))
    with RandomStream(few.obs.device, "report"), torch.no_grad():
        latents = draw(subject.net, prepare(subject.net, few), 1).latents.values()
    each = few.obs.numel() + sum(value.numel() for value in latents)  # of a draw and sequence
    least, most = EXPORTED_DRAWS
    draws = min(subject.draws, max(least, min(most, EXPORTED // each)))
    rows = min(subject.sequences, max(1, EXPORTED // (draws * each)))
    batch = subject.batch.rows(slice(rows))
    found = to_arviz(subject.net, batch, draws, subject.seed, UNITS.get(subject.data.name, "unit"))
    path = subject.out / "posterior.nc"
    save_arviz(found, path)
    size = path.stat().st_size / 1e6
    return [
        Section(
            "Draws, for ArviZ",
            "What does the model say of single sequences? `arviz.from_netcdf('posterior.nc')` has "
            "draws of posterior and prior, predictions, likelihoods and the data.",
            [
                f"{draws} draws of {rows} sequence{'s' * (rows > 1)}, {size:.1f} MB.",
                "Draws are independent: there is one chain, and R-hat says nothing of them "
                "(`arviz.summary(..., kind='stats')`).",
            ],
            "posterior.nc",
        )
    ]


LOOKS: dict[str, Callable[[Subject], list[Section]]] = {
    "k-hat and importance-weighted bound": _guide,
    "Calibration of one-step predictions": _predictions,
    "Simulation-based calibration": _simulation,
    "Calibration of answers": _answers,
    "Clamped Gibbs chains": _chains,
    "Alignment of targets": _targets,
    "Draws, for ArviZ": _arviz,
}


# Writing ------------------------------------------------------------------------------------------


def _figure(panels: int):
    from matplotlib.figure import Figure

    figure = Figure(figsize=(0.8 + 3.9 * panels, 3.4), layout="constrained")
    return figure, figure.subplots(1, panels, squeeze=False)[0]


def _save(figure, subject: Subject, name: str) -> None:
    save_figure(figure, subject.out / name)


def _written(subject: Subject, sections: list[Section], left_out: list[tuple[str, str]]) -> str:
    card, batch = subject.net.card, subject.batch
    lines = [f"# Diagnostics of {card['name']}", ""]
    lines += [
        f"{card.get('title', subject.name)} ({subject.name}), on {len(batch)} held-out sequences of"
        f" {subject.data.name}, {batch.frames} frames, seed {subject.seed}.",
        "",
    ]
    judged = [one for one in sections if one.verdict]
    if judged:
        lines += ["| diagnostic | verdict |", "|---|---|"]
        lines += [f"| {one.title} | {one.verdict} |" for one in judged] + [""]
    for one in sections:
        lines += [f"## {one.title}", "", one.question, ""]
        lines += [f"- {sentence}" for sentence in one.found] + [""]
        if one.figure is not None and one.figure.endswith(".png"):
            lines += [f"![{one.title}]({one.figure})", ""]
    if left_out:
        lines += ["## Left out", ""]
        lines += [f"- {title}: {why}." for title, why in left_out] + [""]
    return "\n".join(lines)
