"""Parts: a class of the zoo and its arguments, as data that can be changed, saved and built."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

PARTS: dict[str, Callable] = {}


def register(*parts: Callable) -> None:
    """Makes classes known by name, so that a card can say which one it needs."""
    PARTS.update({part.__name__: part for part in parts})


@dataclass(frozen=True)
class Part:
    """A class by name with keyword arguments, which may be parts themselves.

    Example:
        >>> Part("Poisson", {"dim": 15}).build()
        Poisson(15)
    """

    name: str
    arguments: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if self.name not in PARTS:
            raise ValueError(f"unknown part {self.name!r}: known are {', '.join(sorted(PARTS))}")
        known = accepted(PARTS[self.name])
        for argument in self.arguments:
            if argument not in known:
                raise ValueError(
                    f"{self.name} has no argument {argument!r}: it has {', '.join(known)}"
                )

    def build(self, *positional, **extra) -> Any:
        """Builds the object; parts among the arguments are built first."""
        arguments = {
            key: value.build() if isinstance(value, Part) else value
            for key, value in self.arguments.items()
        }
        try:
            return PARTS[self.name](*positional, **{**arguments, **extra})
        except (TypeError, AttributeError) as error:
            raise ValueError(f"{self} cannot be built: {error}") from error

    def set(self, path: list[str], value: Any) -> Part:
        """A copy with one argument changed; ``path`` leads through nested parts."""
        key, *rest = path
        inner = self.arguments.get(key)
        if rest:
            if not isinstance(inner, Part):
                raise ValueError(f"{self.name}.{key} has no fields to set")
            value = inner.set(rest, value)
        return Part(self.name, {**self.arguments, key: value})

    def to_json(self) -> dict[str, Any]:
        """Plain data: ``{"part": name, argument: value, ...}``."""
        plain = {k: v.to_json() if isinstance(v, Part) else v for k, v in self.arguments.items()}
        return {"part": self.name, **plain}

    @staticmethod
    def from_json(content: dict[str, Any]) -> Part:
        """The inverse of ``to_json``."""
        if not isinstance(content, dict):
            raise ValueError(f"not a part: {content!r}")
        arguments = {
            key: Part.from_json(value) if isinstance(value, dict) and "part" in value else value
            for key, value in content.items()
            if key != "part"
        }
        return Part(content["part"], arguments)

    def __str__(self) -> str:
        inner = ", ".join(f"{key}={value}" for key, value in self.arguments.items())
        return f"{self.name}({inner})"


def part(cls: Callable, **arguments) -> Part:
    """A ``Part`` of a class, which becomes known by its name.

    Example:
        >>> part(REFH, obs_dim=15, hidden_dim=240, likelihood=part(Poisson, dim=15))
    """
    register(cls)
    return Part(cls.__name__, arguments)


def accepted(function: Callable) -> list[str]:
    """Names of the keyword arguments that a class or function takes.

    A ``**`` argument of a constructor stands for what its base classes take.
    """
    known: list[str] = []
    constructors = (
        [base.__init__ for base in function.__mro__ if "__init__" in vars(base)]
        if inspect.isclass(function)
        else [function]
    )
    for constructor in constructors:
        parameters = inspect.signature(constructor).parameters.values()
        known += [p.name for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
        if not any(p.kind is p.VAR_KEYWORD for p in parameters):
            break
    return [name for name in dict.fromkeys(known) if name != "self"]


def literal(text: str) -> Any:
    """A value given on the command line: a Python literal, else the text itself."""
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
