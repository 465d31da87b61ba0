"""Held-out sequences of the kind that a trained model learned from."""

from __future__ import annotations

from typing import Any

import torch

from ...data import Batch, OneToMany, Polyphonic, generator
from ...data.synthetic import Synthetic
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
    recipe = RECIPES.get(card["name"])
    for other in RECIPES.values():
        if recipe is not None and other.table == recipe.table and other.data is not None:
            return other.data
    raise ValueError(f"{card['name']} was not trained on data, so there is nothing to diagnose")


def held_out(
    data: Part,
    sequences: int,
    seed: int,
    answers: bool = False,
    steps: int = STEPS,
    split: str = "test",
) -> Batch:
    """Held-out sequences of the kind that a model was trained on, of at most ``steps`` frames.

    Arguments:
        data: what it was trained on.
        sequences: how many.
        seed: which.
        answers: whether it gives one answer to each sequence, which then is not cut.
        steps: frames a sequence, at most.
        split: ``"test"`` or ``"validation"``.

    Raises:
        ValueError: for data without such a split.
    """
    maker, given = data.cls, dict(data.arguments)
    if maker is OneToMany:
        given |= {"sequences": sequences, "seed": seed, "split": split}
        return OneToMany(**given).batch()
    if maker is Polyphonic and answers:
        window = given.get("window", steps)
        rolls = Polyphonic(given["name"], split, window=window, stride=window)
        chosen = torch.randperm(len(rolls), generator=generator(seed, "report"))[:sequences]
        return rolls.rows(chosen)
    if maker is Polyphonic:
        rolls = Polyphonic(given["name"], split)
        chosen = torch.randperm(len(rolls), generator=generator(seed, "report"))[:sequences]
        return rolls.rows(chosen.tolist()).window(0, steps)
    if isinstance(maker, type) and issubclass(maker, Synthetic):
        given |= {"sequences": sequences, "steps": steps, "seed": seed, "split": split}
        return maker(**given).batch()
    raise ValueError(f"{data.name} has no {split} data to diagnose a model on")
