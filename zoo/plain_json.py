"""JSON as the standard has it: infinity and NaN become null, and are named beside it."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from typing import Any, NoReturn

#: The field with the path (RFC 6901) and the name of each number that JSON cannot hold.
NOT_FINITE = "not_finite"


def dumps(content: dict[str, Any], indent: int | None = None) -> str:
    """Plain data, tensors and arrays as one JSON object.

    A number that is infinite or NaN is written as null. The object then has the further field
    ``"not_finite": {"/also/IW-50": "inf"}``.

    Arguments:
        content: what to write.
        indent: spaces of each level; all on one line if None.

    Raises:
        TypeError: for an object that is no data.
    """
    found: dict[str, str] = {}
    plain = _finite(content, "", found)
    return json.dumps({**plain, NOT_FINITE: found} if found else plain, indent=indent)


def loads(text: bytes | str) -> Any:
    """The inverse of ``dumps``. Bytes may begin with a byte-order mark.

    Raises:
        ValueError: for text that is no JSON, NaN and Infinity included.
    """
    try:
        content = json.loads(text, parse_constant=_refuse)
    except RecursionError as error:
        raise ValueError("its brackets are nested too deeply") from error
    if isinstance(content, dict) and isinstance(content.get(NOT_FINITE), dict):
        for path, name in content.pop(NOT_FINITE).items():
            _put(content, list(_steps(path)), name)
    return content


def plain(value: Any) -> Any:
    """A value as it is after it was written and read: lists for tuples, numbers for tensors."""
    return loads(dumps({"value": value}))["value"]


def _refuse(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _finite(value: Any, path: str, found: dict[str, str]) -> Any:
    """A copy that JSON can hold; ``found`` gets the path of each number that it cannot."""
    if hasattr(value, "tolist"):  # a tensor, or an array or number of NumPy
        value = value.tolist()
    if isinstance(value, float) and not math.isfinite(value):
        found[path] = str(float(value))
        return None
    if isinstance(value, dict):
        return {key: _finite(each, f"{path}/{_escaped(key)}", found) for key, each in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(each, f"{path}/{number}", found) for number, each in enumerate(value)]
    return value


def _escaped(key: object) -> str:
    return str(key).replace("~", "~0").replace("/", "~1")


def _steps(path: str) -> Iterator[str]:
    for step in path.split("/")[1:]:
        yield step.replace("~1", "/").replace("~0", "~")


def _put(content: Any, steps: list[str], name: Any) -> None:
    """Puts the number back in place of its null."""
    try:
        for step in steps[:-1]:
            content = content[_key(content, step)]
        last = _key(content, steps[-1])
        if content[last] is None and name in ("nan", "inf", "-inf"):
            content[last] = float(name)
    except (LookupError, TypeError, ValueError):
        raise ValueError(f"its field {NOT_FINITE!r} names what it does not have") from None


def _key(content: Any, step: str) -> Any:
    return int(step) if isinstance(content, list) else step
