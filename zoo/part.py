"""Parts: a class and its arguments, as data that can be changed, saved and built.

``describe`` gives the part that an object was built from. Classes of the zoo inherit from
``Described``, which keeps their arguments; any other class is described by its attributes.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from .names import instead
from .signature import PLAIN, accepted, fitting, named

LONGEST = 4096  # values of a tensor that is given as an argument


@dataclass(frozen=True)
class Part:
    """A class with keyword arguments, which may be parts themselves.

    Arguments:
        cls: the class, or a function that builds something.
        arguments: its keyword arguments: numbers, text, None, parts, and lists and dicts of these.

    Raises:
        ValueError: for an argument that the class does not take.

    Example:
        >>> Part(Poisson, {"dim": 15}).build()
        Poisson(15)
    """

    cls: Callable[..., Any]
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        known = accepted(self.cls)
        for argument in self.arguments:
            if argument not in known:
                near = instead(argument, known, f"it has {', '.join(known)}")
                raise ValueError(f"{self.name} has no argument {argument!r}: {near}")

    @property
    def name(self) -> str:
        """The name of the class."""
        return self.cls.__name__

    def builds(self, kind: type) -> bool:
        """Whether it builds objects of a class, or of a subclass of it."""
        return isinstance(self.cls, type) and issubclass(self.cls, kind)

    def build(self, *positional: Any, **extra: Any) -> Any:
        """Builds the object; parts among the arguments are built first.

        Arguments:
            positional: arguments before those of the part, such as the network of a rule.
            extra: further arguments, which go before those of the part.

        Raises:
            ValueError: when the class refuses its arguments.
        """
        arguments = {
            key: _replaced(value, lambda part: part.build())
            for key, value in self.arguments.items()
        }
        try:
            return self.cls(*positional, **{**arguments, **extra})
        except (TypeError, AttributeError, ArithmeticError, MemoryError, RuntimeError) as error:
            why = str(error).splitlines() or [type(error).__name__]
            raise ValueError(f"{self} cannot be built: {why[0]}") from error

    def set(self, path: list[str], value: Any) -> Part:
        """A copy with one argument changed; ``path`` leads through nested parts.

        Raises:
            ValueError: for an argument that does not exist, or a value of another type.
        """
        key, *rest = path
        inner = self.arguments.get(key)
        if rest:
            if not isinstance(inner, Part):
                raise ValueError(f"{self.name}.{key} has no fields to set")
            value = inner.set(rest, value)
        elif isinstance(inner, Part) and isinstance(value, PLAIN):
            raise ValueError(
                f"{self.name}.{key} is a part, such as {inner}, and {value!r} is none: give a "
                "class with its arguments in brackets"
            )
        elif key in accepted(self.cls):
            value = fitting(self.cls, key, value)
        return Part(self.cls, {**self.arguments, key: value})

    def to_json(self) -> dict[str, Any]:
        """Plain data: ``{"part": name, argument: value, ...}``.

        Raises:
            ValueError: for an argument that is no data, such as a function.
        """
        plain: dict[str, Any] = {"part": self.name}
        for key, value in self.arguments.items():
            for missing in _leaves(value, Opaque):
                raise ValueError(f"{self.name}.{key} {missing.why}")
            plain[key] = _replaced(value, lambda part: part.to_json())
        return plain

    def parts(self) -> Iterator[Part]:
        """The part itself and every part among its arguments."""
        yield self
        for each in _leaves(self.arguments, Part):
            yield from each.parts()

    def built_with(self) -> dict[str, Any]:
        """The class and its arguments, for a checkpoint to compare."""
        return {"cls": self.cls, **self.arguments}

    def __str__(self) -> str:
        inner = ", ".join(f"{key}={value}" for key, value in self.arguments.items())
        return f"{self.name}({inner})"


@dataclass(frozen=True)
class Opaque:
    """An argument that cannot be described as data.

    Arguments:
        why: what it is, after the name of the argument: "is a function, ...".
    """

    why: str

    def build(self) -> Any:
        """Raises a ValueError."""
        raise ValueError(f"an argument {self.why}")


class Described:
    """A class whose objects keep, as a ``Part``, what they were built with.

    It goes first among the bases: ``class MyPrior(Described, nn.Module)``. The arguments are noted
    before ``__init__`` runs; they are no attribute of the module's state.
    """

    def __new__(cls, *args: Any, **arguments: Any) -> Self:
        built = super().__new__(cls)
        vars(built)["_part"] = _given(cls, args, arguments)
        return built

    def built_with(self) -> dict[str, Any]:
        """The arguments it was built with, for a checkpoint to compare."""
        given = vars(self)["_part"]
        return dict(given.arguments) if isinstance(given, Part) else {}


def part(cls: Callable[..., Any], /, **arguments: Any) -> Part:
    """A ``Part`` of a class.

    Example:
        >>> part(REFH, obs_dim=15, hidden_dim=240, likelihood=part(Poisson, dim=15))
    """
    return Part(cls, arguments)


def describe(built: object) -> Part:
    """The part that an object was built from.

    Of an object whose class is not ``Described``, every argument is read from the attribute of the
    same name.

    Raises:
        ValueError: for an object that has no such attributes.
    """
    found = _described(built)
    if isinstance(found, Part):
        return found
    why = found.why if isinstance(found, Opaque) else "is no object of a class"
    raise ValueError(f"the {type(built).__name__} {why}")


def tensor(data: list[Any], dtype: str = "float32") -> Tensor:
    """A tensor from nested lists: how one that is an argument is written.

    Raises:
        ValueError: for an unknown dtype.
    """
    kind = getattr(torch, dtype, None)
    if not isinstance(kind, torch.dtype):
        raise ValueError(f"torch has no dtype {dtype!r}")
    return torch.tensor(data, dtype=kind)


def _given(cls: type, args: tuple[Any, ...], arguments: dict[str, Any]) -> Part | Opaque:
    """What an object is being built with; it never fails, so that ``__init__`` may speak."""
    try:
        every = {**named(cls, args), **arguments}
        return Part(cls, {key: _described(value) for key, value in every.items()})
    except ValueError as error:
        return Opaque(f"cannot be described: {error}")


def _described(value: Any) -> Any:  # noqa: PLR0911 (a case a line)
    """A value as plain data, parts, and ``Opaque`` where it is neither."""
    if value is None or isinstance(value, (bool, int, float, str, Part, Opaque)):
        return value
    if isinstance(value, np.generic):
        return value.item()
    if isinstance(value, (list, tuple)):
        return [_described(each) for each in value]
    if isinstance(value, dict):
        if any(not isinstance(key, str) or key == "part" for key in value):
            return Opaque("is a dict whose keys are not text, or one of them 'part'")
        return {key: _described(each) for key, each in value.items()}
    if isinstance(value, Tensor):
        if value.numel() > LONGEST:
            return Opaque(f"is a tensor of {value.numel()} values, too many for a card")
        kind = str(value.dtype).removeprefix("torch.")
        return Part(tensor, {"data": value.detach().cpu().tolist(), "dtype": kind})
    if isinstance(value, torch.device):
        return str(value)
    if isinstance(value, type) or inspect.isroutine(value):
        name = getattr(value, "__name__", type(value).__name__)
        return Opaque(f"is {name}, a function or a class: give an object of a class instead")
    own = getattr(value, "__dict__", {}).get("_part")
    return _by_attributes(value) if own is None else own


def _by_attributes(value: object) -> Part | Opaque:
    """The part of an object that keeps each argument as the attribute of the same name."""
    cls, arguments = type(value), {}
    if cls.__module__.partition(".")[0] == "torch":
        return Opaque(
            f"is torch's {cls.__name__}, which does not tell its arguments: take nets.MLP, or a "
            "class of your own"
        )
    try:
        names = accepted(cls)
    except ValueError:  # a class written in C
        return Opaque(f"is of class {cls.__name__}, which does not tell its arguments")
    for name in names:
        try:
            arguments[name] = _described(getattr(value, name))
        except Exception:  # whatever a property of a user's class does
            return Opaque(
                f"is of class {cls.__name__}, which keeps no attribute {name!r}: set "
                f"self.{name} = {name} in it, or let it inherit from zoo.Described"
            )
    return Part(cls, arguments)


def _replaced(value: Any, change: Callable[[Any], Any]) -> Any:
    """A value in which every part, however deep in lists and dicts, is changed."""
    if isinstance(value, (Part, Opaque)):
        return change(value)
    if isinstance(value, (list, tuple)):
        return [_replaced(each, change) for each in value]
    if isinstance(value, dict):
        return {key: _replaced(each, change) for key, each in value.items()}
    return value


def _leaves(value: Any, kind: type) -> Iterator[Any]:
    """Every object of a kind in lists and dicts."""
    if isinstance(value, kind):
        yield value
    elif isinstance(value, (list, tuple)):
        for each in value:
            yield from _leaves(each, kind)
    elif isinstance(value, dict):
        yield from _leaves(list(value.values()), kind)
