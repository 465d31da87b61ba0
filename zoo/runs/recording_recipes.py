"""Recipes for recordings of one's own: made for a file, and made again from a model's card."""

from __future__ import annotations

import dataclasses
import functools
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ...data import DataError, RecordedTrials, Recording
from ...data.recordings.trials import checksum
from ...inference import Network, score
from ..fitting.scores import Figure, scores
from ..part import Part
from ..plans.facts import Facts, in_pieces
from ..plans.validation import validation_loss
from ..recipes.recipe import Recipe
from ..recipes.task import Task
from ..registry import read

TABLE = "recording"  # the first half of the names of these recipes


def is_own(card: Mapping[str, Any]) -> bool:
    """Whether a card is that of a model of a recording in a file."""
    data = (card.get("configuration") or {}).get("data") or {}
    return data.get("part") == RecordedTrials.__name__


def recipe(
    name: str,
    data: Part,
    model: Part,
    rule: Part,
    fit: Mapping[str, Any],
    search: Mapping[str, Any],
) -> Recipe:
    """The recipe of a model of a recording.

    Its figure is the loss of the next bin: bits per spike with a minus sign for counts, the mean
    squared error for traces. On validation data it is ``plans.validation.validation_loss``, which
    the rules lower.

    Arguments:
        name: the model, such as ``rvae``.
        data: the recording, a part of ``RecordedTrials``.
        model, rule, fit, search: see ``Recipe``.
    """
    unit = "-bits/spike" if unit_of(data) == "bits/spike" else "mse"
    return Recipe(
        f"{TABLE}/{name}",
        name,
        Task("next bin", unit, functools.partial(_score, data), functools.partial(_write, data)),
        model,
        rule,
        data,
        dict(fit),
        validate=True,
        search=dict(search),
    )


def from_card(card: Mapping[str, Any], path: str | Path | None = None) -> Recipe:
    """The recipe of the run that wrote a card.

    Arguments:
        card: the card.
        path: the file of the recording, in place of that of the card; its content must be the same.

    Raises:
        DataError: when the file is not there or has changed.
    """
    configuration = card["configuration"]
    parts = {key: read(configuration[key]) for key in ("model", "rule", "data")}
    data = parts["data"]
    if path is not None:
        data = Part(data.cls, {**data.arguments, "path": str(Path(path).absolute())})
    try:
        checksum(data.arguments["path"], data.arguments["sha256"])
        built = recipe(
            str(card["name"]).partition("/")[2], data, parts["model"], parts["rule"], {}, {}
        )
    except DataError as error:
        raise DataError(f"{error}; --data FILE names the recording that the model has") from error
    return dataclasses.replace(built, fit=configuration.get("fit") or {})


def training(data: Part) -> RecordedTrials:
    """The recording that a part names, read once for all scores of a run."""
    return _read(json.dumps(data.to_json()))


@functools.lru_cache(2)
def _read(described: str) -> RecordedTrials:
    return read(json.loads(described)).build()


def unit_of(data: Part) -> str:
    """The unit of predictions of a recording, which its training trials decide."""
    return Facts.of(training(data).parts["train"]).unit


def scores_on_test(net: nn.Module, data: Part, seed: int) -> dict[str, Figure]:
    """How well a model does on the test trials of a recording, by kind of ``inference.score``."""
    return scores(cast(Network, net), training(data).parts["test"], unit_of(data), seed=seed)


def _score(data: Part, net: nn.Module, seed: int, split: str) -> Tensor:
    """The loss of a split, ``[1, 1]``."""
    recording = training(data).parts[split]
    if split == "validation":
        return torch.tensor([[validation_loss(net, in_pieces(recording).batch())]])
    unit, sign = ("bits/spike", -1) if unit_of(data) == "bits/spike" else ("mse", 1)
    value = score(cast(Network, net), recording, "next", unit, seed=seed)
    return torch.tensor([[sign * value]])


def _write(data: Part, net: nn.Module, path: Path, seed: int, direction: str | None) -> None:
    """Writes as many trials as the test has, of the median length, that the model generates."""
    test = training(data).parts["test"]
    if path.suffix != ".npz":
        raise ValueError(f"trials that a model generates are written as .npz: got {path.name}")
    how = {} if direction is None else {"direction": direction}
    steps = int(test.lengths.median())
    samples = cast(Any, net).sample(len(test), steps, seed=seed, **how)
    made = Recording(samples.cpu().numpy(), test.bin, channels=test.channels, unit=test.unit)
    made.save(path)
