"""Recipes, a module a table. A table's name is the first half of its recipes' names."""

from . import balls, mnist, ppc
from .part import Part, part
from .recipe import Recipe, Task, parse_overrides, run

RECIPES: dict[str, Recipe] = {
    recipe.name: recipe for module in (ppc, balls, mnist) for recipe in module.RECIPES
}
TABLES: list[str] = list(dict.fromkeys(recipe.table for recipe in RECIPES.values()))

__all__ = [
    "RECIPES",
    "TABLES",
    "Part",
    "Recipe",
    "Task",
    "find",
    "parse_overrides",
    "part",
    "run",
    "table",
]


def find(name: str) -> Recipe:
    """A recipe by name.

    Raises:
        ValueError: for an unknown name; the message lists what there is.
    """
    if name not in RECIPES:
        raise ValueError(f"no recipe called {name!r}: there are {', '.join(RECIPES)}")
    return RECIPES[name]


def table(name: str) -> list[Recipe]:
    """All rows of a table.

    Raises:
        ValueError: for an unknown table.
    """
    if name not in TABLES:
        raise ValueError(f"no table called {name!r}: there are {', '.join(TABLES)}")
    return [recipe for recipe in RECIPES.values() if recipe.table == name]
