"""Recipes, a module a table. A table's name is the first half of its recipes' names."""

from ..part import Part, part
from . import balls, mnist, music, one_to_many, ppc, windows
from .recipe import Recipe, parse_overrides
from .task import Scores, Task

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe
    for module in (ppc, balls, mnist, music, one_to_many, windows)
    for recipe in module.RECIPES
}
# Tables that a paper prints as one.
COLLECTIONS: dict[str, tuple[str, ...]] = {
    "music": music.DATA,
    "onetomany-class": one_to_many.DATA["class"],
    "onetomany-regression": one_to_many.DATA["regression"],
    "pianomidi-tptt": windows.DATA,
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
    "members",
    "parse_overrides",
    "part",
    "table",
]


def find(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        ValueError: for an unknown name; the message lists what there is in its table.
    """
    if name not in RECIPES:
        table = name.partition("/")[0] + "/"
        near = [known for known in RECIPES if known.startswith(table)]
        near = near or [known for known in RECIPES if known.endswith("/" + name)] or TABLES
        raise ValueError(f"no recipe called {name!r}: there are {', '.join(near)} (seqzoo list)")
    return RECIPES[name]


def members(name: str) -> tuple[str, ...]:
    """The tables of a collection; a table is a collection of one.

    Raises:
        ValueError: for an unknown name.
    """
    if name not in COLLECTIONS and name not in TABLES:
        known = ", ".join([*TABLES, *COLLECTIONS])
        raise ValueError(f"no table called {name!r}: there are {known}")
    return COLLECTIONS.get(name, (name,))


def table(name: str) -> list[Recipe]:
    """All rows of a table.

    Raises:
        ValueError: for an unknown table.
    """
    if name not in TABLES:
        raise ValueError(f"no table called {name!r}: there are {', '.join(TABLES)}")
    return [recipe for recipe in RECIPES.values() if recipe.table == name]
