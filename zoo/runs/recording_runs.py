"""Runs of the models of a recording: settings, training, scores and advice."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from ...data import RecordedTrials
from ..fitting.advice import advice_on
from ..fitting.scores import Figure
from ..part import Part
from ..plans.defaults import LATENTS, Sizes, plan_for
from ..plans.facts import PIECE, Facts
from ..plans.plan import Plan
from ..recipes.recipe import Recipe
from ..store import card_of, holds_model, load
from . import finished, recording_recipes, run

WIDTH = re.compile(r"hidden|hidden_dim|latent_dim|state_dim|width")


def plan_of(name: str, data: Part, latents: int | None = None, updates: int | None = None) -> Plan:
    """Model, rule and budget that follow from the training trials of a recording.

    Arguments:
        name: a model of ``zoo.compare``, such as ``rvae``.
        data: the recording.
        latents: size of the latent state; chosen when left out.
        updates: steps of the optimizer; chosen when left out.

    Raises:
        ValueError: for an unknown name, or a model that cannot be trained on such data.
    """
    facts = Facts.of(recording_recipes.training(data).parts["train"])
    return plan_for(name, facts, Sizes(LATENTS if latents is None else latents, updates))


def recipe_for(name: str, data: Part, plan: Plan) -> Recipe:
    """The recipe of a model of a recording, with the ranges of a search."""
    lengths = recording_recipes.training(data).lengths
    fit = plan.budget(int(lengths.sum()), len(lengths))
    return recording_recipes.recipe(name, data, plan.model, plan.rule, fit, ranges(plan.model, fit))


def check_changes(changes: Mapping[str, Any]) -> None:
    """Raises a ValueError for overrides that change how a recording is read or split."""
    for path in changes:
        if path.partition(".")[0] == "data":
            raise ValueError(f"cannot set {path!r} of a recording: use --bin, --split and the like")


def advice(recipe: Recipe, card: Mapping[str, Any], plan: Plan, value: float) -> list[str]:
    """What to try where a model ought to do better, in sentences.

    Arguments:
        recipe, card, plan: of the run.
        value: its score of the next bin: bits per spike or R².
    """
    found = advice_on(value, card.get("curve", []), plan)
    return [f"{recipe.title}: {each.text}" for each in found]


def recipe_of_run(folder: Path, path: Path | None = None) -> Recipe:
    """The recipe of a run, with the ranges of a search.

    Arguments:
        folder: the folder of the run.
        path: the file of the recording, where it is no longer where the card says.

    Raises:
        ValueError: for a folder that holds no run of a recording.
    """
    card = card_of(load(folder))
    if not recording_recipes.is_own(card):
        raise ValueError(f"{folder} holds no model of a recording: give the name of its recipe")
    recipe = recording_recipes.from_card(card, path)
    return dataclasses.replace(recipe, search=ranges(recipe.model, recipe.fit))


def ranges(model: Part, fit: Mapping[str, Any]) -> dict[str, Any]:
    """Where a search looks: widths from half to twice, rates from a fifth to five times."""
    found: dict[str, Any] = {
        f"model.{key}": (max(1, value // 2), 2 * value)
        for key, value in model.arguments.items()
        if WIDTH.fullmatch(key) and type(value) is int
    }
    rate = fit.get("lr")
    if isinstance(rate, Mapping):
        found["fit.lr"] = {prefix: (each / 5, each * 5) for prefix, each in rate.items()}
    elif rate is not None:
        found["fit.lr"] = (rate / 5, rate * 5)
    return found


def source(path: str | Path, **how: Any) -> Part:
    """The part of a recording, with the checksum of its file; ``how`` as ``RecordedTrials``."""
    part = Part(RecordedTrials, {"path": str(Path(path).absolute()), "longest": PIECE, **how})
    return Part(part.cls, {**part.arguments, "sha256": part.build().sha256})


def run_all(
    recipes: Sequence[Recipe],
    seed: int,
    out: Path,
    say: Callable[[str], None],
    **how: Any,
) -> dict[str, dict[str, Any]]:
    """Trains each model in a folder of its own: ``out`` for one, ``out/NAME`` for several.

    Arguments:
        recipes: of one recording.
        seed: seed of weights and noise.
        out: the folder.
        say: told of every model before its training.
        how: further arguments of ``run``.

    Returns:
        The card of each model, by its name. Finished runs of the same settings are not repeated.
    """
    cards = {}
    for recipe in recipes:
        folder = folder_of(recipe, recipes, out)
        done = None
        if holds_model(folder) and not how.get("overwrite"):
            try:
                done = finished.finished(folder, recipe, seed)
            except ValueError as error:
                what = "give another folder (--out), or --overwrite to replace it"
                raise ValueError(f"{error}: {what}") from error
        if done is None:
            say(f"{recipe.title}: trains in {folder}")
        cards[recipe.title] = done or run.run(recipe, seed, folder, **how)
    return cards


def folder_of(recipe: Recipe, recipes: Sequence[Recipe], out: Path) -> Path:
    """Where a model of several lies."""
    return out if len(recipes) == 1 else out / recipe.title


def scores(recipes: Sequence[Recipe], out: Path, seed: int) -> dict[str, dict[str, Figure]]:
    """The scores of each trained model on test trials, by its name."""
    found = {}
    for recipe in recipes:
        assert recipe.data is not None
        net = load(folder_of(recipe, recipes, out))
        found[recipe.title] = recording_recipes.scores_on_test(net, recipe.data, seed)
    return found
