"""Recipes, a module a table. A table's name is the first half of its recipes' names.

Your own recipes join them by ``register``, or by a list ``RECIPES`` in a module that is given to
``import_module``, as ``seqzoo --import`` gives one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from .. import registry
from ..names import unknown
from ..part import Part, part
from . import balls, mnist, music, neurons, one_to_many, ppc, windows
from .recipe import Recipe, parse_overrides
from .task import Scores, Task

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for module in (ppc, balls, mnist, music, one_to_many, windows, neurons)
    for recipe in module.RECIPES
}
# Tables that belong together.
COLLECTIONS: dict[str, tuple[str, ...]] = {
    "music": music.DATA,
    "onetomany-class": one_to_many.DATA["class"],
    "onetomany-regression": one_to_many.DATA["regression"],
    "pianomidi-tptt": windows.DATA,
    "recordings": neurons.DATA,
}
TABLES: list[str] = list(dict.fromkeys(recipe.table for recipe in RECIPES.values()))


__all__ = [
    "COLLECTIONS",
    "RECIPES",
    "TABLES",
    "Part",
    "Recipe",
    "Scores",
    "Task",
    "find",
    "import_module",
    "index",
    "members",
    "parse_overrides",
    "part",
    "register",
    "rows",
    "table",
]


def find(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        ValueError: for an unknown name; the message has those that resemble it.
    """
    if name not in RECIPES:
        raise ValueError(unknown("recipe", name, RECIPES))
    return RECIPES[name]


def members(name: str) -> tuple[str, ...]:
    """The tables of a collection; a table is a collection of one.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in COLLECTIONS and name not in TABLES:
        raise ValueError(unknown("table", name, [*TABLES, *COLLECTIONS]))
    return COLLECTIONS.get(name, (name,))


def rows(name: str, only: Sequence[str] = ()) -> list[Recipe]:
    """The rows of a collection, table after table.

    Arguments:
        name: the collection or table.
        only: names of rows to take, ``TABLE/ROW`` or ``ROW``; all when left out.

    Raises:
        ValueError: for an unknown name, or a row of another table.
    """
    every = {recipe.name: recipe for each in members(name) for recipe in table(each)}
    chosen = []
    for row in only:
        found = [each for each in every if row in (each, each.partition("/")[2])]
        if not found and row in RECIPES:
            raise ValueError(f"{row} is no row of {name}: its table is {find(row).table}")
        if not found:
            raise ValueError(unknown("row", row, every))
        chosen += found
    return [every[row] for row in dict.fromkeys(chosen or every)]


def table(name: str) -> list[Recipe]:
    """All rows of a table.

    Raises:
        ValueError: for an unknown table.
    """
    if name not in TABLES:
        raise ValueError(unknown("table", name, TABLES))
    return [recipe for recipe in RECIPES.values() if recipe.table == name]


def index() -> dict[str, dict[str, Any]]:
    """Unit and published figure of every recipe, by name, in order, for ``zoo.catalogue``."""
    return {
        name: {"unit": recipe.task.unit or recipe.task.metric, "published": recipe.published}
        for name, recipe in RECIPES.items()
    }


def register(*recipes: Recipe) -> None:
    """Adds recipes to the zoo for as long as the program runs.

    Raises:
        ValueError: for a name that is not ``table/row``, or that another recipe has.
    """
    for recipe in recipes:
        if not re.fullmatch(r"(?!\.)[^/\\\0]+/(?!\.)[^/\\\0]+", recipe.name):  # it names a folder
            raise ValueError(f"a recipe is called TABLE/ROW, such as mine/rvae: got {recipe.name}")
        if RECIPES.setdefault(recipe.name, recipe) is not recipe:
            raise ValueError(f"there are two recipes called {recipe.name}: rename yours")
        if recipe.table not in TABLES:
            TABLES.append(recipe.table)


def import_module(name: str) -> ModuleType:
    """Imports a module that the user named: its classes and its ``RECIPES`` become known.

    Arguments:
        name: a module, looked for in the working directory, too, or a ``.py`` file.

    Raises:
        ValueError: when there is no such module, or a name in it is taken.
    """
    module = registry.import_module(name)
    found = getattr(module, "RECIPES", ())
    if found is not RECIPES:
        register(*found)
    return module


def import_modules(names: list[str]) -> None:
    """Imports several; what a worker process does before it is given a recipe."""
    for name in names:
        import_module(name)
