"""Held-out sequences of the kind that a trained model learned from."""

from __future__ import annotations

from typing import Any

from ...data import Batch
from ..part import Part
from ..registry import read
from . import RECIPES

STEPS = 60  # frames of a sequence that are looked at


def data_of(card: dict[str, Any]) -> Part:
    """The data that a model learned from; of one that learned nothing, those of its table.

    Raises:
        ValueError: where there are none.
    """
    content = card["configuration"].get("data")
    if content is not None:
        return read(content)
    recipe = RECIPES.get(card.get("name", ""))
    for other in RECIPES.values():
        if recipe is not None and other.table == recipe.table and other.data is not None:
            return other.data
    name = card.get("name") or "this model"
    raise ValueError(f"{name} was not trained on data, so there is nothing to diagnose")


def held_out(
    card: dict[str, Any],
    num_sequences: int,
    seed: int = 0,
    split: str = "test",
    steps: int | None = STEPS,
) -> Batch:
    """Held-out sequences of the kind that a model was trained on.

    Arguments:
        card: the card of the model.
        num_sequences, seed, split, steps: how many, which, and how long; see ``Dataset.held_out``.

    Raises:
        ValueError: where it was not trained on data, or its data hold nothing out.
    """
    return data_of(card).build(seed=seed).held_out(num_sequences, seed, split, steps)
