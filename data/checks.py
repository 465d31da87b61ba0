"""Checks of numbers among arguments: counts, seeds and real numbers, one sentence for each mistake.

Every public function and constructor checks its numbers here, before it does anything else.
"""

from __future__ import annotations

import math
import numbers
from collections.abc import Sequence
from typing import Any


def check_number(name: str, value: int, least: int = 1, most: int | None = None) -> int:
    """A count, size or index, checked: a whole number of Python or numpy.

    Bools, floats (2.0 as well), text, None, tensors and arrays are none.

    Arguments:
        name: the caller's name for it.
        value: the number.
        least, most: its range, ends included.

    Returns:
        The number as an ``int``.

    Raises:
        ValueError: for anything else, or a number out of range.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Integral):
        raise ValueError(f"{name} must be a whole number, got {shown(value)}")
    if most is not None and not least <= value <= most:
        raise ValueError(f"{name} must be from {least} to {most}, got {value}")
    if value < least:
        raise ValueError(f"{name} must be at least {least}, got {value}")
    return int(value)


def check_sizes(**sizes: int) -> None:
    """Raises a ValueError unless all of several counts or sizes, by name, are at least 1."""
    for name, value in sizes.items():
        check_number(name, value)


def check_layers(name: str, sizes: Sequence[int], fewest: int = 1) -> None:
    """Raises a ValueError unless ``sizes`` is a list of at least ``fewest`` sizes."""
    if not isinstance(sizes, list | tuple) or len(sizes) < fewest:
        wanted = f"{fewest} or more whole numbers"
        raise ValueError(f"{name} must be a list of {wanted}, got {shown(sizes)}")
    for size in sizes:
        check_number(f"each of {name}", size)


def check_seed(seed: int, name: str = "seed") -> int:
    """A seed, checked: a whole number that is not negative.

    Raises:
        ValueError: for anything else.
    """
    return check_number(name, seed, 0)


def check_real(
    name: str,
    value: float,
    *,
    least: float = -math.inf,
    most: float = math.inf,
    above: float = -math.inf,
    below: float = math.inf,
) -> float:
    """A real number, checked: finite, of Python or numpy, and in its range.

    Arguments:
        name: the caller's name for it.
        value: the number.
        least, most: its range, ends included.
        above, below: its range, ends excluded.

    Returns:
        The number, an ``int`` or a ``float``.

    Raises:
        ValueError: for bools, text, None, tensors, arrays, NaN, infinity, or a number out of range.
    """
    if isinstance(value, bool) or not isinstance(value, numbers.Real) or not math.isfinite(value):
        raise ValueError(f"{name} must be a finite number, got {shown(value)}")
    if not (least <= value <= most and above < value < below):
        ends = (
            ("at least", least),
            ("above", above),
            ("at most", most),
            ("below", below),
        )
        wanted = " and ".join(f"{word} {end:g}" for word, end in ends if math.isfinite(end))
        raise ValueError(f"{name} must be {wanted}, got {value}")
    return value if isinstance(value, int) else float(value)


def shown(value: Any) -> str:
    """A wrong argument, as an error shows it: in full where it is short, else its type."""
    text = repr(value)
    kind = type(value).__name__
    return text if len(text) <= 40 and "\n" not in text else f"a {kind}"
