"""How target propagation and backpropagation through time fare as the horizon grows."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor

from ...data import OneToMany
from ...inference import AlignmentCurve, StraightThrough, fit, target_alignment
from .. import catalogue, plain_json, store
from ..pictures import save_figure
from ..recipes import Recipe, one_to_many
from ..runs import reproduce

if TYPE_CHECKING:
    from matplotlib.axes import Axes

STEPS = (2, 5, 10, 20, 30, 50, 100)
CHANCE = {"class": 2.274, "regression": 0.0}  # nats of an answer that has forgotten the question
COLOURS = {
    **{"stptt": "#d1495b", "tptt": "#d1495b", "ste": "#00798c", "bptt": "#00798c"},
    "readout": "#8d99ae",
}
CONTROL = "readout"
BATCH = 500  # sequences that gradients are compared on


class Point(NamedTuple):
    """The held-out NLL of a rule at one horizon, in nats: mean and sd over ``n`` seeds."""

    kind: str
    row: str
    title: str
    steps: int
    value: float
    sd: float | None
    n: int


def curves(
    kinds: list[str],
    steps: list[int],
    seeds: int,
    out: Path,
    jobs: int,
    quick: bool = False,
    say: Callable[[str], None] = lambda line: None,
) -> list[Point]:
    """Trains both rules of the one-to-many tasks at every horizon; finished runs are kept.

    The recipes are those of the tables at other horizons. For numbers each rule has the setting
    that is best on validation data there, see ``one_to_many.CHOSEN``. The control, whose readout
    alone learns, is trained at the shortest and the longest horizon. A row that ships a card of
    the same settings and seeds is not trained again.

    Arguments:
        kinds: ``"class"``, ``"regression"`` or both.
        steps: the horizons.
        seeds: number of training seeds.
        out: folder of the runs.
        jobs: runs at a time.
        quick: train on the small budgets of the recipes.
        say: told of every run that is done.

    Raises:
        ValueError: for an unknown kind.
    """
    _check_kinds(kinds)
    *rules, control = one_to_many.MAKERS
    made = {
        (kind, length, make): make(kind, length)
        for kind in kinds
        for length in steps
        for make in (*rules, *([control] if length in (min(steps), max(steps)) else []))
    }
    made = {key: recipe.quickened() if quick else recipe for key, recipe in made.items()}
    totals = {r.name: card for r in made.values() if (card := _shipped(r, seeds)) is not None}
    for name in totals:
        say(f"{name}: from its card")
    missing = [recipe for recipe in made.values() if recipe.name not in totals]
    trained = reproduce.reproduce(missing, list(range(seeds)), out, jobs, say=say)
    totals |= {name: store.summarise(cards) for name, cards in trained.items()}
    return [_point(kind, length, totals[r.name]) for (kind, length, _), r in made.items()]


def _check_kinds(kinds: list[str]) -> None:
    unknown = set(kinds) - set(one_to_many.STEPS)
    if unknown:
        raise ValueError(f"kind must be class or regression, got {', '.join(unknown)}")


def _shipped(recipe: Recipe, seeds: int) -> dict[str, Any] | None:
    """The card of the package, where it tells of the same settings and seeds."""
    if recipe.name not in catalogue.carded():
        return None
    card = catalogue.card(recipe.name)
    same = card["configuration"] == plain_json.plain(recipe.configuration())
    return card if same and card["seeds"] == list(range(seeds)) else None


def _point(kind: str, steps: int, total: dict[str, Any]) -> Point:
    row = total["name"].split("/")[1]
    return Point(kind, row, total["title"], steps, total["value"], total["sd"], total["n"])


def plot_curves(points: list[Point], path: Path) -> None:
    """NLL against the horizon, a column for each task.

    Above are all rows with the limit, chance and published figures; below are both rules alone, on
    a scale on which their spread can be seen. A band is one sd over seeds to either side of the
    mean.

    Raises:
        ValueError: for a file ending that is not a picture's.
    """
    from matplotlib.figure import Figure

    kinds = list(dict.fromkeys(point.kind for point in points))
    figure = Figure(figsize=(5.4 * len(kinds), 7.0), layout="constrained")
    panels = figure.subplots(2, len(kinds), squeeze=False, height_ratios=(3, 2))
    for whole, rules, kind in zip(*panels, kinds):
        shown = [point for point in points if point.kind == kind]
        _plot_rows(whole, shown)
        for row, title in dict.fromkeys((point.row, point.title) for point in shown):
            published = [
                (length, figures[row])
                for (of, length), figures in one_to_many.PUBLISHED.items()
                if of == kind and row in figures
            ]
            if published:
                name = f"{title}, published"
                whole.plot(*zip(*published), "x", ms=8, color=COLOURS[row], label=name)
        limit = one_to_many.LIMITS[kind]
        whole.axhline(limit, color="black", lw=1, label=f"limit {limit}")
        whole.axhline(CHANCE[kind], color="grey", lw=1, ls=":", label="nothing remembered")
        whole.set_title(kind)
        whole.legend(fontsize=7)
        _plot_rows(rules, [point for point in shown if point.row != CONTROL])
        rules.legend(fontsize=7)
        rules.set_title("both rules alone", fontsize=10)
    save_figure(figure, path)


def _plot_rows(axis: Axes, points: list[Point]) -> None:
    """A line and a band for each row."""
    for row, title in dict.fromkeys((point.row, point.title) for point in points):
        line = [point for point in points if point.row == row]
        across, values = [p.steps for p in line], [p.value for p in line]
        spread = [p.sd or 0.0 for p in line]
        axis.plot(across, values, "o-", color=COLOURS[row], label=title, ms=4)
        below, above = ([v + sign * s for v, s in zip(values, spread)] for sign in (-1, 1))
        axis.fill_between(across, below, above, color=COLOURS[row], alpha=0.25, lw=0)
    axis.set(xscale="log", xlabel="steps T", ylabel="held-out NLL (nats)")
    axis.set_xticks(STEPS, [str(length) for length in STEPS])
    axis.minorticks_off()


class Alignment(NamedTuple):
    """How well target propagation followed the gradient at one horizon.

    Arguments:
        recipe: the recipe, trained by target propagation.
        steps: T.
        epochs: when gradients were compared.
        gradients: cosine between both rules' gradients of W_hh, at those times.
        states: cosine of the change of h_t that targets ask for and -dE/dh_t, ``[2, T]``: before
            and after training.
    """

    recipe: Recipe
    steps: int
    epochs: list[int]
    gradients: list[float]
    states: Tensor


def alignments(kind: str, steps: list[int], seed: int, quick: bool, device: str) -> list[Alignment]:
    """Trains by target propagation, and compares its gradient with BPTT's along the way.

    Once as published, and once as our rows are set.

    Arguments:
        kind: ``"class"`` or ``"regression"``.
        steps: the horizons.
        seed: seed of weights, data and noise.
        quick: train on the small budgets of the recipes.
        device: where to train.

    Raises:
        ValueError: for an unknown kind.
    """
    _check_kinds([kind])
    makers = one_to_many.AS_PUBLISHED[0], one_to_many.targets
    found = []
    for make, length in itertools.product(makers, steps):
        recipe = make(kind, length)
        recipe = recipe.quickened() if quick else recipe
        found.append(_alignment(recipe, kind, length, seed, device))
    return found


def _alignment(recipe: Recipe, kind: str, steps: int, seed: int, device: str) -> Alignment:
    rule, training = recipe.rule, recipe.data
    assert rule is not None, "rows of one-to-many have a rule"
    assert training is not None, "rows of one-to-many have training data"
    torch.manual_seed(seed)
    net = recipe.model.build().to(device)
    batch = OneToMany(kind, BATCH, steps, seed, "validation", device).batch()
    curve = AlignmentCurve(rule.build, StraightThrough, batch)

    def states() -> Tensor:
        return target_alignment(rule.build(net), batch)

    first = states()
    curve(net)
    every = max(1, recipe.fit["epochs"] // 20)
    how = {**recipe.fit, "validate_every": every, "validate": curve, "device": device}
    data = training.build(seed=seed)
    trained = fit(rule.build(net), data, seed=seed, progress=False, **how)
    epochs = [0] + [int(r["epoch"]) + 1 for r in trained.history if "validation" in r]
    gradients = curve.cosines["from_state.weight"]
    return Alignment(recipe, steps, epochs, gradients, torch.stack((first, states())))


def plot_alignments(found: list[Alignment], path: Path) -> None:
    """Gradient alignment over training; and step by step, back from the answer.

    Raises:
        ValueError: for a file ending that is not a picture's.
    """
    from matplotlib.figure import Figure

    titles = list(dict.fromkeys(one.recipe.title for one in found))
    figure = Figure(figsize=(9.5, 3.4 * len(titles)), layout="constrained")
    for (training, back), title in zip(figure.subplots(len(titles), 2, squeeze=False), titles):
        for number, one in enumerate(one for one in found if one.recipe.title == title):
            colour, name = f"C{number}", f"T={one.steps}"
            training.plot(one.epochs, one.gradients, color=colour, label=name)
            for cosines, style, when in zip(one.states, ("--", "-"), ("at first", "trained")):
                back.plot(cosines.flip(0), style, color=colour, label=f"{name}, {when}")
        training.set(xlabel="epoch", ylabel="cosine of the gradients of W_hh", ylim=(-0.3, 1.05))
        training.set_title(title, fontsize=10)
        back.set(xlabel="steps before the answer", ylabel="cosine of target step and -dE/dh")
        back.set(ylim=(-0.3, 1.05))
        for axis in (training, back):
            axis.axhline(0, color="grey", lw=0.7)
            axis.legend(fontsize=7)
    save_figure(figure, path)
