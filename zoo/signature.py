"""What a class or function takes: names of its arguments, and values that fit their types."""

from __future__ import annotations

import collections.abc
import functools
import inspect
import math
import numbers
from collections.abc import Callable, Iterator
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

import numpy as np
from pyro.nn import PyroModule
from torch import nn

from ..data.checks import shown

TRUE, FALSE, NONE = ("true", "yes", "on"), ("false", "no", "off"), ("none", "null")
PLAIN = (bool, int, float, str, list, tuple, dict, set, frozenset, complex, bytes)


def accepted(function: Callable[..., Any]) -> list[str]:
    """Names of the keyword arguments that a class or function takes.

    A ``**`` argument of a constructor stands for what its base classes take.
    """
    known = [
        parameter.name
        for _, parameters in _constructors(function)
        for parameter in parameters
        if parameter.kind in (parameter.POSITIONAL_OR_KEYWORD, parameter.KEYWORD_ONLY)
    ]
    return list(dict.fromkeys(known))


def named(function: Callable[..., Any], args: tuple[Any, ...]) -> dict[str, Any]:
    """The names that positional arguments have, ``{name: value}``.

    Raises:
        ValueError: for more of them than there are names.
    """
    left, found = list(args), {}
    for _, parameters in _constructors(function):
        for parameter in parameters:
            if left and parameter.kind is parameter.POSITIONAL_OR_KEYWORD:
                found.setdefault(parameter.name, left.pop(0))
    if left:
        raise ValueError(f"{_name(function)} has no name for its argument {left[0]!r}")
    return found


def fitting(function: Callable[..., Any], name: str, value: Any, what: str = "") -> Any:
    """A value as an argument takes it: a word for a bool becomes one, a tuple becomes a list.

    An argument without an annotation takes anything.

    Arguments:
        function: the class or function.
        name: the argument.
        value: what was given for it.
        what: the argument as the message calls it; ``function.name`` when left out.

    Raises:
        ValueError: for a value of another type.
    """
    hint = _hint(function, name)
    try:
        return _fit(value, hint)
    except TypeError as error:
        quotes = isinstance(value, (int, float)) and str in (*get_args(hint), hint)
        raise ValueError(
            f"{what or f'{_name(function)}.{name}'} takes {_words(hint)}, not {shown(value)}"
            f"{': put text in quotes of its own' if quotes else ''}"
        ) from error


def _fit(value: Any, hint: Any) -> Any:  # noqa: PLR0911 (a type a line)
    """The value as a type takes it; a TypeError where it does not."""
    origin, inner = get_origin(hint), get_args(hint)
    if isinstance(value, np.generic):
        value = value.item()
    if origin is Annotated:
        return _fit(value, inner[0])
    if origin in (Union, UnionType):
        return _fit_one(value, inner)
    if origin is Literal:
        return inner[_index(value, inner)]
    kind = origin or hint
    if not isinstance(kind, type) or kind in (Any, object):  # a type variable is no type
        return value
    if hint is type(None):
        return _word(value, dict.fromkeys(NONE), value is None)
    if kind is bool:
        words = {**dict.fromkeys(TRUE, True), **dict.fromkeys(FALSE, False)}
        return _word(value, words, isinstance(value, bool))
    if kind in (int, float):
        abstract = numbers.Integral if kind is int else numbers.Real
        return _only(value, isinstance(value, abstract) and not isinstance(value, bool))
    if kind is str:
        return _only(value, isinstance(value, str))
    if issubclass(kind, collections.abc.Mapping):
        _only(value, isinstance(value, collections.abc.Mapping))
        of_key, of_value = inner or (str, Any)
        return {_fit(key, of_key): _fit(each, of_value) for key, each in value.items()}
    if kind is not collections.abc.Callable and issubclass(kind, collections.abc.Iterable):
        return _fit_list(value, kind, inner)
    # A class of ours, or a function: parts and objects fit, plain data do not; text names a device.
    return _only(value, not isinstance(value, PLAIN) and value is not None)


def _fit_one(value: Any, hints: tuple[Any, ...]) -> Any:
    """As the type of several that takes it unchanged, or else the first that takes it."""
    found = []
    for hint in hints:
        try:
            found.append(_fit(value, hint))
        except TypeError:
            continue
    if not found:
        raise TypeError
    return next((each for each in found if each is value), found[0])


def _fit_list(value: Any, kind: type, inner: tuple[Any, ...]) -> Any:
    if not isinstance(value, (list, tuple)):  # a tensor, or an object of a class that iterates
        return _only(value, not isinstance(value, PLAIN) and value is not None)
    if kind is tuple and inner and inner[-1] is not Ellipsis:
        _only(value, len(value) == len(inner))
        return [_fit(each, hint) for each, hint in zip(value, inner)]
    return [_fit(each, inner[0] if inner else Any) for each in value]


def _only(value: Any, fits: bool) -> Any:
    if not fits or (isinstance(value, float) and not math.isfinite(value)):
        raise TypeError
    return value


def _word(value: Any, words: dict[str, Any], fits: bool) -> Any:
    """The meaning of a word, however it is spelt, or the value itself."""
    if isinstance(value, str) and value.casefold() in words:
        return words[value.casefold()]
    return _only(value, fits)


def _index(value: Any, known: tuple[Any, ...]) -> int:
    for index, each in enumerate(known):
        if type(each) is type(value) and each == value:
            return index
    raise TypeError


WORDS = {int: "a whole number", float: "a number", bool: "true or false", str: "text"}


def _words(hint: Any) -> str:  # noqa: PLR0911 (a type a line)
    """A type in words."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _words(inner[0])
    if origin in (Union, UnionType):
        return " or ".join(dict.fromkeys(_words(each) for each in inner))
    if origin is Literal:
        return " or ".join(map(repr, inner))
    if hint in (None, type(None)):
        return "None"
    kind = origin or hint
    if kind in WORDS:
        return WORDS[kind]
    if kind is collections.abc.Callable or not isinstance(kind, type):
        return "a function"
    if issubclass(kind, collections.abc.Mapping):
        return "a dict in braces"
    if issubclass(kind, (list, tuple)) or kind.__module__ == "collections.abc":
        count = f"{len(inner)} values" if kind is tuple and Ellipsis not in inner else "values"
        return f"a list of {count}"
    return f"a part of class {kind.__name__}, its arguments in brackets"


def _hint(function: Callable[..., Any], name: str) -> Any:
    """The type of an argument; Any where nothing tells it."""
    for each, parameters in _constructors(function):
        for parameter in parameters:
            if parameter.name == name and parameter.annotation is not parameter.empty:
                try:
                    return get_type_hints(each)[name]
                except (NameError, TypeError, KeyError):  # names that only a type checker has
                    return Any
    return Any


def _constructors(
    function: Callable[..., Any],
) -> Iterator[tuple[Callable[..., Any], list[inspect.Parameter]]]:
    """A function, or the constructors of a class and of the bases it passes to.

    Each comes with its parameters, without ``self``.
    """
    if not inspect.isclass(function):
        plain = function.func if isinstance(function, functools.partial) else function
        yield plain, list(inspect.signature(function).parameters.values())
        return
    for base in function.__mro__:
        if base in (PyroModule, nn.Module, object):
            return
        if "__init__" not in vars(base):
            continue
        parameters = list(inspect.signature(base.__init__).parameters.values())[1:]
        yield base.__init__, parameters
        if not any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in parameters):
            return


def _name(function: Callable[..., Any]) -> str:
    return getattr(function, "__name__", type(function).__name__)
