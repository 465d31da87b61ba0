"""The validation figure of a recipe while it trains."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .. import folders
from ..recipes import Recipe
from ..runs.run import UNFINISHED, train
from ..store import holds_model


def curve(
    recipe: Recipe,
    every: int,
    out: Path,
    seed: int = 0,
    device: str | None = None,
    protocol: Mapping[str, Any] | None = None,
) -> dict[int, float]:
    """Trains a recipe and scores it on validation data as it goes.

    Arguments:
        recipe: the recipe.
        every: epochs between scores; the last epoch is scored in any case.
        out: folder of the run. Its checkpoint stays there: a run that was stopped goes on from it,
            and a finished one is read.
        seed: seed of the weights, the data and all noise.
        device: where to train.
        protocol: how the task scores, see ``Task.measure``.

    Returns:
        The figure after each scored epoch, by the number of epochs. A warm-up does not count.

    Raises:
        ValueError: for a recipe that does not train by gradients, a protocol that it does not have,
            or a folder that holds something else.
    """
    if not recipe.by_gradient:
        raise ValueError(f"{recipe.name} does not train by gradients, so that it has no curve")
    score = functools.partial(recipe.task.score, **(protocol or {}))
    scored = dataclasses.replace(
        recipe, task=dataclasses.replace(recipe.task, score=score), validate=True
    ).override({"fit.validate_every": every})
    with folders.claimed(out, UNFINISHED, holds_model):
        history = train(scored, seed, out, device, resume=True, progress=False).history
    return {int(each["epoch"]) + 1: each["validation"] for each in history if "validation" in each}
