"""Facts of trials and channels, such as names: checks of their number."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any


def check_number_of(name: str, values: Sequence[Any], wanted: int, each: str) -> None:
    """Raises a ValueError for another number of values than wanted, one for each ``each``."""
    if len(values) != wanted:
        raise ValueError(f"{name}: {len(values)} values, one for each {each} are {wanted}")


def check_facts(names: Sequence[Any], conditions: Mapping[str, Sequence[Any]], number: int) -> None:
    """Raises a ValueError unless each trial has a name and a value of every condition."""
    check_number_of("names", names, number, "trial")
    for key, values in conditions.items():
        check_number_of(f"condition {key!r}", values, number, "trial")
