"""Methods of a kind that a network has not written."""

from __future__ import annotations

from typing import NoReturn

from torch import nn


def unwritten(net: nn.Module, method: str) -> NoReturn:
    """Raises the error of a method that a network of some kind has not written."""
    raise NotImplementedError(f"{type(net).__name__} must define {method}")


def missing(net: object, kind: type) -> list[str]:
    """Names of the methods of a kind that a network of that kind has not written."""
    names = [name for name in dir(kind) if _is_abstract(kind, name)]
    return [name for name in names if _is_abstract(type(net), name)]


def _is_abstract(kind: type, name: str) -> bool:
    return bool(getattr(getattr(kind, name, None), "__isabstractmethod__", False))
