"""Finished runs: where they lie, and whether a folder holds a certain one, whole and unchanged."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import plain_json
from ..cards import load_card
from ..model_files import CHECKSUM as WEIGHTS_CHECKSUM
from ..model_files import weights_of
from ..recipes.recipe import Recipe
from ..store import CARD, WEIGHTS, holds_model, load

# What a card says about a run, and the checksum of it.
RESULT = (
    *("name", "metric", "unit", "value", "also", "validation"),
    *("seed", "configuration", "epochs_run", "wall_time_s"),
)
CHECKSUM = "result_sha256"


def checksum(card: dict[str, Any]) -> str:
    """Of what a card says about its run."""
    result = plain_json.dumps({key: card.get(key) for key in RESULT})
    return hashlib.sha256(result.encode()).hexdigest()


def finished(folder: Path, recipe: Recipe, seed: int) -> dict[str, Any] | None:
    """The card of the finished run in a folder, or None where there is none.

    Raises:
        ModelError: for a card or weights that are damaged.
        ValueError: for a whole model of other settings, or a card that was changed after the run.
    """
    if not holds_model(folder):
        return None
    card = load_card(folder / CARD)
    if CHECKSUM not in card or WEIGHTS_CHECKSUM not in card:
        raise ValueError(f"{folder} holds a model without the checksums that a run writes")
    weights_of(folder / WEIGHTS, card)
    same = plain_json.plain(recipe.configuration())
    if card.get("configuration") != same or card.get("seed") != seed:
        raise ValueError(f"{folder} holds a finished run of other settings")
    if card[CHECKSUM] != checksum(card):
        raise ValueError(f"{folder / CARD} was changed after its run")
    load(folder, classes=[part.cls for part in recipe.model.parts()])
    return card


def place(root: Path, quick: bool, changes: Mapping[str, Any]) -> Path:
    """The folder of runs: those on a small budget, or with changed fields, have one of their own.

    Arguments:
        root: the folder of all runs.
        quick: whether the budget is small.
        changes: the fields of the recipe that are changed, as ``Recipe.override`` takes them.

    Returns:
        Such as ``root/quick/fit.epochs=3``.
    """
    root = root / "quick" if quick else root
    text = ",".join(f"{path}={value}" for path, value in sorted(changes.items()))
    name = re.sub(r"[^A-Za-z0-9.,=+-]+", "_", text)[:80]
    if name != text:  # two texts may look alike now
        name += "-" + hashlib.sha256(text.encode()).hexdigest()[:8]
    return root / name if changes else root
