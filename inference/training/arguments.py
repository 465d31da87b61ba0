"""Checks of the arguments of ``fit``: one sentence for each mistake."""

from __future__ import annotations

import numbers
from collections.abc import Mapping
from typing import Any

import torch

from ...data import Batch, Dataset, Loader, as_batch

WHOLE = ("epochs", "shards", "validate_every", "patience", "batch_size")
REAL = ("average", "clip")


def check_arguments(arguments: Mapping[str, Any]) -> None:
    """Checks the numbers among the arguments of ``fit``, given by name; None is not given.

    Raises:
        ValueError: for a number of the wrong kind, or out of range.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    given.setdefault("epochs", arguments["epochs"])  # None is no number of epochs
    for names, kind, wanted in (
        (WHOLE, numbers.Integral, "a whole number"),
        (REAL, numbers.Real, "a number"),
    ):
        for name in names:
            if name in given and not isinstance(given[name], kind):
                raise ValueError(f"{name} must be {wanted}, got {given[name]!r}")
    for name in WHOLE:
        if name in given and given[name] < 1:
            raise ValueError(f"{name} must be at least 1, got {given[name]}")
    if "clip" in given and given["clip"] <= 0:
        raise ValueError(f"clip must be positive, got {given['clip']}")
    if "average" in given and not 0 <= given["average"] < 1:
        raise ValueError(f"average is a decay in [0, 1), got {given['average']}")
    if "patience" in given and "validate" not in given:
        raise ValueError("patience needs validate=: a score to be patient about")


def check_device(device: torch.device | str | None) -> None:
    """Raises a ValueError for a device that is not here."""
    try:
        torch.empty(0, device=device)
    except (RuntimeError, AssertionError) as error:
        raise ValueError(f"no device '{device}' here: {error}".splitlines()[0]) from error


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
