"""Classes by name: what a card and ``--set`` may build.

Every class that models, parts, rules and data sets export is known, and every class that a program
hands over. A name that is known to nobody is looked up among the entry points ``seqzoo.parts`` of
installed packages. A card never names a module.
"""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import sys
import warnings
from collections.abc import Callable, Iterable
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any

from .. import data, inference
from . import models, parts
from .names import instead
from .part import Described, Part, tensor
from .signature import fitting, named

GROUP = "seqzoo.parts"  # entry points of installed packages
Class = Callable[..., Any]


def exported(module: ModuleType) -> list[type]:
    """The classes that a module exports: those in ``__all__``, or the public ones it defines."""
    names = getattr(module, "__all__", None)
    if names is None:
        here = module.__name__
        names = [
            name
            for name, value in vars(module).items()
            if not name.startswith("_") and getattr(value, "__module__", None) == here
        ]
    return [value for name in names if inspect.isclass(value := getattr(module, name))]


def _by_name(classes: Iterable[Class]) -> dict[str, Class]:
    return {cls.__name__: cls for cls in classes}


#: What a model is built of.
PARTS: dict[str, Class] = _by_name(
    [
        *exported(models),
        *(
            cls
            for name in parts.__all__
            for cls in exported(getattr(parts, name))
            if issubclass(cls, Described)
        ),
        tensor,
    ]
)
#: What else a recipe names.
RULES_AND_DATA: dict[str, Class] = _by_name(
    [
        *(cls for cls in exported(inference) if issubclass(cls, inference.LearningRule)),
        *(
            cls
            for cls in exported(data)
            if issubclass(cls, data.Dataset) and cls is not data.Dataset
        ),
    ]
)
#: Modules that the user named, in order: other processes import them, too.
IMPORTED: list[str] = []


def register(*classes: Class) -> None:
    """Makes classes known by name.

    Raises:
        ValueError: for a name that another class has.
    """
    for cls in classes:
        other = PARTS.get(cls.__name__) or RULES_AND_DATA.get(cls.__name__)
        if other not in (None, cls):
            raise ValueError(
                f"there are two classes called {cls.__name__}, one in {other.__module__} and one "
                f"in {cls.__module__}: rename yours"
            )
        kinds = (data.Dataset, inference.LearningRule)
        beside = inspect.isclass(cls) and issubclass(cls, kinds)
        (RULES_AND_DATA if beside else PARTS)[cls.__name__] = cls


def find(name: str, classes: Iterable[Class] = (), model: bool = False) -> Class:
    """A class by name.

    Arguments:
        name: its name.
        classes: classes handed over, which go first.
        model: look among what models are built of alone.

    Raises:
        ValueError: for an unknown name.
    """
    known = PARTS if model else RULES_AND_DATA | PARTS
    known = {**known, **_by_name(classes)}
    if name not in known:
        points = entry_points(group=GROUP, name=name)
        if not points:
            foreign = (
                f"hand its class over, zoo.load(..., classes=[{name}]) or --import MODULE, or "
                f"install a package with an entry point {name} in {GROUP}"
            )
            raise ValueError(f"unknown part {name!r}: {instead(name, known, foreign)}")
        return next(iter(points)).load()
    return known[name]


def read(content: Any, classes: Iterable[Class] = (), model: bool = False) -> Part:
    """The inverse of ``Part.to_json``.

    Arguments:
        content: ``{"part": name, argument: value, ...}``.
        classes, model: see ``find``.

    Raises:
        ValueError: for an unknown name or argument, or for what is no part.
    """
    if not isinstance(content, dict) or not isinstance(content.get("part"), str):
        raise ValueError(f"not a part: {content!r}")
    classes = tuple(classes)

    def value_of(value: Any) -> Any:
        if isinstance(value, list):
            return [value_of(each) for each in value]
        if isinstance(value, dict) and "part" in value:
            return read(value, classes, model)
        if isinstance(value, dict):
            return {key: value_of(each) for key, each in value.items()}
        return value

    given = {key: value_of(value) for key, value in content.items() if key != "part"}
    return Part(find(content["part"], classes, model), given)


def parse(text: str) -> Any:
    """A value given on the command line: a part, a Python literal, or else the text itself.

    Parts are written as calls, ``Gaussian(dim=15)``, whose arguments are literals or parts. Nothing
    is evaluated: the text is parsed, and only known classes are called.

    Raises:
        ValueError: for a call of anything else, of a class with arguments that it does not take, or
            for text that is nested too deeply.
    """
    try:
        with warnings.catch_warnings(action="ignore"):  # text need not be good Python
            tree = ast.parse(text.strip(), mode="eval").body
        if any(isinstance(node, ast.Call) for node in ast.walk(tree)):
            return _value(tree)
        value = ast.literal_eval(tree)
    except (RecursionError, MemoryError) as error:
        raise ValueError(f"{text[:20]!r}... has too many brackets, one in another") from error
    except NoValue:
        raise
    except (SyntaxError, ValueError, TypeError):
        return text
    return value if _is_data(value) else text


class NoValue(ValueError):
    """Text with brackets that is no part."""


def _value(node: ast.expr) -> Any:
    """A literal in which calls are parts, and bare words text."""
    if isinstance(node, ast.Call):
        return _part(node)
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, (ast.List, ast.Tuple)):
        return [_value(each) for each in node.elts]
    if isinstance(node, ast.Dict):
        keys = [key.value if isinstance(key, ast.Constant) else None for key in node.keys]
        if not all(isinstance(key, str) for key in keys):
            raise NoValue(f"{ast.unparse(node)}: write the keys of a dict as text in quotes")
        return dict(zip(keys, (_value(each) for each in node.values)))
    try:
        value = ast.literal_eval(node)
    except (ValueError, TypeError) as error:
        raise NoValue(
            f"{ast.unparse(node)!r} is neither a number, nor text in quotes, nor a class with its "
            "arguments in brackets"
        ) from error
    if not _is_data(value):
        raise NoValue(f"{ast.unparse(node)!r} is neither a number nor text")
    return value


def _part(node: ast.Call) -> Part:
    """A part written as a call, whose values fit their arguments."""
    if not isinstance(node.func, ast.Name):
        raise NoValue(f"{ast.unparse(node)}: write the name of a class, as in Gaussian(15)")
    if any(isinstance(each, ast.Starred) for each in node.args) or any(
        each.arg is None for each in node.keywords
    ):
        raise NoValue(f"{ast.unparse(node)}: write every argument out")
    try:
        cls = find(node.func.id)
        given = named(cls, tuple(_value(each) for each in node.args))
        for each in node.keywords:
            if each.arg in given:
                raise ValueError(f"{node.func.id} is given {each.arg} twice")
            given[str(each.arg)] = _value(each.value)
        Part(cls, given)  # which knows the names
        return Part(cls, {name: fitting(cls, name, each) for name, each in given.items()})
    except ValueError as error:
        raise NoValue(str(error)) from error


def _is_data(value: Any) -> bool:
    """Whether a literal is one that a card can hold."""
    if isinstance(value, (list, tuple)):
        return all(_is_data(each) for each in value)
    if isinstance(value, dict):
        return all(isinstance(key, str) and _is_data(each) for key, each in value.items())
    return value is None or isinstance(value, (bool, int, float, str))


def import_module(name: str) -> ModuleType:
    """Imports a module that the user named, and makes its classes known.

    Arguments:
        name: a module, looked for in the working directory, too, or a ``.py`` file.

    Raises:
        ValueError: when there is no such module or file, or a module of the file's name.
    """
    module = _from_file(Path(name)) if name.endswith(".py") else _from_name(name)
    register(*(cls for cls in exported(module)))
    if name not in IMPORTED:
        IMPORTED.append(name)
    return module


def _from_name(name: str) -> ModuleType:
    here = str(Path.cwd())
    if here not in sys.path and "" not in sys.path:
        sys.path.append(here)
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # a module that the user's own imports
        raise ValueError(f"there is no module {name!r}: give its name or its .py file") from error


def _from_file(path: Path) -> ModuleType:
    path = path.resolve()
    loaded = sys.modules.get(path.stem)
    if loaded is not None:
        if getattr(loaded, "__file__", None) == str(path):
            return loaded
        raise ValueError(f"there is another module called {path.stem!r}: rename {path.name}")
    if not path.is_file():
        raise ValueError(f"there is no file {path}")
    spec = importlib.util.spec_from_file_location(path.stem, path)
    if spec is None or spec.loader is None:
        raise ValueError(f"{path} is no Python file")
    module = importlib.util.module_from_spec(spec)
    sys.modules[path.stem] = module  # other processes find its classes by this name
    try:
        spec.loader.exec_module(module)
    except BaseException:
        del sys.modules[path.stem]
        raise
    return module
