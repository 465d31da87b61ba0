"""Gradients of a rule and of its counterpart through time, compared along training."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

from ...inference import (
    BPTT,
    AlignmentCurve,
    AnswerModel,
    LocalELBO,
    OutputBPTT,
    StraightThrough,
    TargetPropagation,
)
from ...inference.rules.rule import LearningRule
from .context import Context, NotApplicable, Section
from .figures import BLUE, figure, save
from .retraining import train_along

EQUAL = 0.999  # cosine above which two gradients count as equal
OF_FRAMES = ("minibatch", "window", "chunk", "captured")  # arguments of LocalELBO alone
WHOLE = 10**9  # frames of a chunk: one piece, as in BPTT, so that both sample the same noise


class Pair(NamedTuple):
    """A rule and its counterpart through time.

    Arguments:
        own: makes the rule of the model.
        other: makes its counterpart.
        named: names of both.
        meaning: sentences on their cosine.
    """

    own: Callable[[Any], LearningRule]
    other: Callable[[Any], LearningRule]
    named: str
    meaning: list[str]


def diagnose_rules(context: Context) -> list[Section]:
    """Trains a fresh network by the model's rule, and compares gradients along the way."""
    pair = pair_of(context)
    if not context.training:
        raise NotApplicable("it trains a network: ask for it with --training")
    number, steps = len(context.batch), context.sizes.steps
    batch = context.data.held_out(number, context.seed, "validation", steps)
    curve = AlignmentCurve(pair.own, pair.other, batch, seed=context.seed)
    ships = AlignmentCurve(pair.own, pair.other, batch, seed=context.seed)
    ships(context.net)
    seen, read = train_along(context, curve)
    taught = [name for name, found in curve.modules.items() if not all(map(math.isnan, found))]
    if not taught:
        raise NotApplicable("no gradient arrives at any parameter, so there is nothing to compare")
    said = [
        f"A fresh network was trained by {context.rule.name} for {seen[-1]} updates ({read}) and "
        f"compared on {len(batch)} validation sequences, {batch.frames} frames.",
        *(_course(f"`{name}`", curve.modules[name], ships.modules[name]) for name in taught),
        _course("All together", curve.cosines["all"], ships.cosines["all"]),
    ]
    same = [name for name in taught if all(value >= EQUAL for value in curve.modules[name])]
    if same:
        said.append(f"Equal throughout: {', '.join(f'`{name}`' for name in same)}.")
    if len(same) < len(taught):
        said.append("All together, the largest gradients count most: see the single curves.")
    alone = [name for name in curve.modules if name not in taught]
    if alone:
        names = ", ".join(f"`{name}`" for name in alone)
        said.append(f"Left out, because at most one of the rules trains them: {names}.")
    _plot(context, pair, curve, ships, seen, taught)
    return [
        Section(
            "Gradients of two rules along training",
            f"How far do the gradients of {pair.named} agree while a network learns? Their cosine, "
            "on one held-out batch and with the same noise: 1 where both ask for the same change, "
            "0 where they are orthogonal.",
            [*said, *pair.meaning],
            "rules.png",
        )
    ]


def pair_of(context: Context) -> Pair:
    """The model's own rule and its counterpart.

    Raises:
        NotApplicable: for a rule that has none.
    """
    rule = context.rule
    maker = rule.cls
    if maker is LocalELBO:
        shared = {name: value for name, value in rule.arguments.items() if name not in OF_FRAMES}
        return Pair(
            lambda net: LocalELBO(net, chunk=WHOLE, **shared),
            lambda net: BPTT(net, **shared),
            "LocalELBO and BPTT",
            [
                "Parts that read u[t-1] as a number have the same gradient in both. By BPTT the "
                "parts that compute u also learn to make later frames easy to explain. LocalELBO "
                "omits that term on purpose, so a cosine below 1, or below 0, is no fault.",
            ],
        )
    if maker is TargetPropagation:
        sampled = context.net.num_stochastic > 0

        def through_time(net: AnswerModel) -> LearningRule:
            if not sampled:
                return OutputBPTT(net)
            return StraightThrough(net, num_samples=rule.build(net).num_samples)

        return Pair(
            rule.build,
            through_time,
            f"TargetPropagation and {'StraightThrough' if sampled else 'OutputBPTT'}",
            [
                "Both rules train the readout alike. Elsewhere a low cosine says that target "
                "propagation is not gradient descent. It is no verdict on learning.",
            ],
        )
    raise NotApplicable(f"it was trained by {rule.name}, which has no counterpart through time")


def _course(what: str, found: list[float], ships: list[float]) -> str:
    """The cosine at the start, at the end, and of the trained model."""
    first, last, trained = (
        "undefined" if math.isnan(value) else f"{value:.2f}"
        for value in (found[0], found[-1], ships[0])
    )
    return f"{what}: cosine {first} at first, {last} at the end, {trained} in the trained model."


def _plot(
    context: Context,
    pair: Pair,
    curve: AlignmentCurve,
    ships: AlignmentCurve,
    seen: list[int],
    taught: list[str],
) -> None:
    canvas, (axis,) = figure(1, 6.2)
    for number, name in enumerate(taught):  # dashed, so that equal curves show through each other
        style = ("-", "--", ":", "-.")[number % 4]
        axis.plot(seen, curve.modules[name], style, color=f"C{number + 1}", lw=1.4, label=name)
    thick = {"lw": 3.5, "ms": 6, "zorder": 1}
    axis.plot(seen, curve.cosines["all"], "o-", color=BLUE, label="all together", **thick)
    label = "all, in the\ntrained model"
    axis.axhline(ships.cosines["all"][0], color=BLUE, lw=1.2, ls=":", label=label)
    axis.axhline(0, color="black", lw=0.8)
    lowest = min((v for c in curve.modules.values() for v in c if not math.isnan(v)), default=0.0)
    axis.set(xlabel=f"updates by {context.rule.name}", ylim=(min(-0.1, lowest - 0.05), 1.05))
    axis.set_ylabel(f"cosine of the gradients\n{pair.named}", fontsize=9)
    axis.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    save(canvas, context, "rules.png")
