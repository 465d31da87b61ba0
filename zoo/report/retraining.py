"""Training a fresh network as a model was trained, on a small part of the budget."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

from ...data import Batch, Dataset
from ...inference import AlignmentCurve, RandomStream, fit
from ...inference.rules.rule import LearningRule
from .. import store
from ..recipes import RECIPES
from ..recipes.held_out import data_of
from .context import Context, NotApplicable

POINTS = 10  # of a curve, besides the start


class Plan(NamedTuple):
    """How a network is trained: rows of data an epoch, epochs, those between two points."""

    rows: int
    epochs: int
    every: int


def train_along(context: Context, curve: AlignmentCurve) -> tuple[list[int], str]:
    """Trains a fresh network on the quick budget, or less where ``Sizes`` says so.

    Returns:
        The updates that were made before each point of the curve; and the data read, in words.
    """
    seed, settings = context.seed, store.card_of(context.net)["configuration"]
    how = {**settings.get("fit", {}), **_quick(context, "fit")}
    how.pop("patience", None)
    with RandomStream("cpu", "untrained", seed):
        rule = context.rule.build(store.build(store.card_of(context.net)))
    data = _data(context)
    batch = data.rows(list(range(min(how.get("batch_size") or len(data), len(data)))))
    rows = min(
        len(data) * how.get("epochs", 10),
        len(batch) * context.sizes.updates / rule.count(batch),
        len(batch) * context.sizes.values / batch.obs.numel(),
    )
    plan = plan_of(rows, len(data))
    some = data.subset(plan.rows, seed)
    how |= {"epochs": plan.epochs, "validate_every": plan.every}
    curve(rule.net)
    try:
        with RandomStream("cpu", "retraining", seed):
            done = fit(rule, some, validate=curve, seed=seed, device="cpu", progress=False, **how)
    except FloatingPointError as why:
        raise NotApplicable(f"training broke off: {why}") from why
    if done.interrupted:  # ``fit`` ends quietly then; a report does not
        raise KeyboardInterrupt
    each = _updates(rule, batch, plan.rows)
    epochs = [0] + [int(one["epoch"]) + 1 for one in done.history if "validation" in one]
    warm = ", without the warm-up" * bool(settings.get("warmup"))
    read = f"{plan.epochs} times {plan.rows} sequences of {type(data).__name__}{warm}"
    return [epoch * each for epoch in epochs], read


def plan_of(rows: float, size: int) -> Plan:
    """Epochs and rows of each, in ``POINTS`` equal parts.

    Arguments:
        rows: to be read in all, those of every epoch counted.
        size: rows that there are.
    """
    every = math.ceil(rows / POINTS / size)
    return Plan(max(1, int(rows / POINTS / every)), POINTS * every, every)


def _quick(context: Context, part: str) -> dict[str, Any]:
    """The changes that ``--quick`` makes to a recipe's ``fit`` or ``data``."""
    recipe = RECIPES.get(store.card_of(context.net).get("name", ""))
    changes = {} if recipe is None else recipe.quick
    return {
        path.removeprefix(f"{part}."): value
        for path, value in changes.items()
        if path.startswith(f"{part}.")
    }


def _data(context: Context) -> Dataset:
    """The training data; ``--quick`` may change their arguments."""
    changes = _quick(context, "data")
    if not changes:
        return context.data
    part = data_of(store.card_of(context.net))
    for name, value in changes.items():
        part = part.set([name], value)
    return part.build(seed=context.seed)


def _updates(rule: LearningRule, batch: Batch, rows: int) -> int:
    """How many updates an epoch of so many rows makes, in batches like this one."""
    whole, rest = divmod(rows, len(batch))
    return whole * rule.count(batch) + (rule.count(batch.rows(slice(rest))) if rest else 0)
