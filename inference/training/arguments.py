"""Checks of the arguments of ``fit``: one sentence for each mistake."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from ...data import Batch, Dataset, Loader, as_batch
from ...data.checks import shown
from ..checks import check_number, check_real, check_seed
from ..rules.rule import LearningRule
from .reading import CHANGEABLE

WHOLE = ("epochs", "shards", "validate_every", "patience", "batch_size")


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Checks the arguments of ``fit``, given by name; None is not given.

    Raises:
        ValueError: for an argument of the wrong kind, or a number out of range.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    given.setdefault("epochs", arguments["epochs"])  # None is no number of epochs
    for name in WHOLE:
        if name in given:
            check_number(name, given[name])
    check_seed(arguments["seed"])
    if "clip" in given:
        check_real("clip", given["clip"], above=0)
    if "average" in given:
        check_real("average", given["average"], least=0, below=1)
    if "validate" in given and not callable(given["validate"]):
        raise ValueError(
            "validate must be a function of the network that returns a number, such as "
            f"lambda net: score(net, batch), got a {type(given['validate']).__name__}"
        )
    if arguments["resume"] not in (True, False, "best"):
        raise ValueError(f"resume must be True, False or 'best', got {shown(arguments['resume'])}")
    if "patience" in given and "validate" not in given:
        raise ValueError("patience needs validate=: a score to be patient about")
    if "checkpoint" in given:
        _check_place(given["checkpoint"])


def check_changed(changed: str | Sequence[str], resumed: bool) -> list[str]:
    """The names of arguments that a resumed run may change, checked.

    Raises:
        ValueError: for others, or where no run is resumed.
    """
    if not isinstance(changed, (str, list, tuple, set)):
        raise ValueError(f"changed must be a list of names of arguments, got {shown(changed)}")
    names = [changed] if isinstance(changed, str) else list(changed)
    wrong = [name for name in names if name not in CHANGEABLE]
    if wrong:
        raise ValueError(f"changed takes {', '.join(CHANGEABLE)}, got {wrong[0]!r}")
    if names and not resumed:
        raise ValueError("changed is for a run that goes on: give checkpoint= and resume=True")
    return names


def check_rule(rule: object) -> None:
    """Raises a ValueError for anything but a learning rule."""
    if not isinstance(rule, LearningRule):
        raise ValueError(
            "fit takes a learning rule that holds the network, such as "
            f"inference.LocalELBO(net), got a {type(rule).__name__}"
        )


def score_of(value: Any) -> float:
    """The number that ``validate`` returned.

    Raises:
        ValueError: for anything but one number.
    """
    try:
        if isinstance(value, str):
            raise TypeError
        return float(value)
    except (TypeError, ValueError, RuntimeError) as error:
        raise ValueError(f"validate must return one number, got {shown(value)}") from error


def factor_of(value: Any, done: float) -> float:
    """The number that a schedule returned.

    Raises:
        ValueError: for anything but a finite number that is not negative.
    """
    try:
        factor = float(value)
    except (TypeError, ValueError, RuntimeError):
        factor = math.nan
    if not (math.isfinite(factor) and factor >= 0):
        raise ValueError(
            f"schedule must return a finite number, at least 0, got {shown(value)} at {done:g}"
        )
    return factor


def _check_place(place: Any) -> None:
    """Raises a ValueError where no file can be written."""
    if not isinstance(place, (str, Path)):
        raise ValueError(f"checkpoint must be the path of a file, got {shown(place)}")
    path = Path(place)
    try:
        if path.is_dir():
            raise ValueError(
                f"checkpoint must be a file, and {path} is a folder: name a file in it"
            )
        if path.exists() and not path.is_file():
            raise ValueError(f"checkpoint must be a file, and {path} is a device or a pipe")
        above = next((folder for folder in path.parents if folder.exists()), None)
    except OSError as error:  # a name that is too long, or not to be looked at
        raise ValueError(f"checkpoint cannot be written: {error.strerror}") from error
    if above is not None and not above.is_dir():
        raise ValueError(f"checkpoint {path} cannot be written: {above} is a file, not a folder")


def check_device(device: torch.device | str | None) -> None:
    """Raises a ValueError for a device that is not here, or whose tensors have no values."""
    try:
        where = torch.empty(0, device=device).device
    except (RuntimeError, AssertionError, ImportError) as error:
        why = str(error).partition("\n")[0].partition(". ")[0]
        raise ValueError(f"no device '{device}' here: {why}") from error
    if where.type == "meta":
        raise ValueError(f"no device '{device}' for numbers: tensors there have no values")


def loader_of(data: Any, batch_size: int | None, seed: int) -> Loader:
    """A loader of whatever ``fit`` was given.

    Raises:
        ValueError: for no data.
    """
    if isinstance(data, Loader):
        return data
    return Loader(data if isinstance(data, Dataset) else as_batch(data), batch_size, seed=seed)


def whole(data: Any) -> Batch:
    """All sequences of whatever ``fit`` was given, as one batch.

    Raises:
        ValueError: for no data.
    """
    source = data.dataset if isinstance(data, Loader) else data
    return source.batch() if isinstance(source, Dataset) else as_batch(source)
