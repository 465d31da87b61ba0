"""Tables of obtained and published figures, as text and as Markdown."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from rich.table import Table

from ...data.files import write_whole
from .. import catalogue, plain_json, store
from ..recipes import COLLECTIONS, RECIPES, Recipe, find, index
from ..recipes import table as rows_of
from . import printing

Card = dict[str, Any]

# The place of a table on a page: ``refresh`` writes the lines between the two comments.
PLACE = re.compile(r"(<!-- table: (\S+) -->\n)(.*?)(<!-- end table -->)", re.DOTALL)

# A row or two of most tables, for who sees the zoo for the first time. Each has two seeds or more.
SUMMARY = (
    *("ppc/kf-true", "ppc/rvae", "ppc/refh", "ppc/rtrbm"),
    *("balls/rvae", "balls/rtrbm"),
    *("jsb/vrae", "jsb/vosp", "jsb/vosp-published", "jsb/vosp-nade"),
    *("nottingham/vosp", "piano-midi/vosp"),
    *(
        "onetomany-class-t20/stptt",
        "onetomany-regression-t30/tptt",
        "onetomany-regression-t30/bptt",
    ),
    *("pianomidi-t50/stptt", "pianomidi-t50/ste"),
)


def render(cards: dict[str, list[Card]]) -> Table:
    """One table to print: obtained (mean ± sd, n) beside published and limit.

    Arguments:
        cards: the cards of each row, one of each seed; none of a row whose runs failed.
    """
    recipes = [find(name) for name in cards]
    columns, rows = _columns(recipes), []
    for recipe in recipes:
        found = cards[recipe.name]
        total = store.summarise(found) if found else {"n": 0, "wall_time_s": 0.0}
        figures = _figures(recipe, total) if found else {}
        rows.append(
            [
                recipe.title,
                *(_spread(figures.get(column)) for column in columns),
                str(total["n"]),
                _or_dash(recipe.published, ".3g"),
                _or_dash(recipe.limit, ".3g"),
                f"{total['wall_time_s']:.0f}",
            ]
        )
    return printing.table(["row", *columns, "n", "published", "limit", "wall s"], rows)


def remarks(cards: dict[str, list[Card]]) -> str:
    """The lines below a table: its unit and source, and a line for each row that differs."""
    recipes = [find(name) for name in cards]
    first = recipes[0]
    unit = f"{first.task.unit}, " if first.task.unit else ""
    source = f"; published: {first.source}" if first.source else ""
    lines = [f"{first.table}: {unit}mean ± sd{source}."]
    lines += [f"* {recipe.title}: {recipe.note}" for recipe in recipes if recipe.note]
    return "\n".join(lines)


def markdown(name: str) -> str:
    """The figures of a table, of a model, or of the whole zoo, as Markdown, from the cards.

    Arguments:
        name: a table such as ``"ppc"``, a model such as ``"RVAE"``, or ``"summary"``.

    Raises:
        ValueError: for a name of which no card ships.
    """
    if name == "summary":
        return _across([find(row) for row in SUMMARY])
    of_model = [recipe for recipe in RECIPES.values() if recipe.model.name == name]
    return _across(_carded(of_model, name)) if of_model else _rows(name)


def refreshed(page: str) -> str:
    """A page whose tables, each between ``<!-- table: NAME -->`` and its end, are made anew."""
    return PLACE.sub(lambda place: f"{place[1]}{markdown(place[2])}\n{place[4]}", page)


def refresh(folder: Path) -> list[Path]:
    """Makes the tables of all Markdown pages anew, in ``folder`` and its ``docs``.

    Returns:
        The pages that changed.
    """
    changed = []
    for page in [*folder.glob("*.md"), *folder.glob("docs/**/*.md")]:
        text = page.read_text(encoding="utf-8")
        new = refreshed(text)
        if new != text:
            write_whole(page, lambda part, new=new: part.write_text(new, encoding="utf-8"))
            changed.append(page)
    return changed


def write_index() -> None:
    """Writes the file from which ``zoo.catalogue`` knows the zoo's own recipes."""
    content = {"collections": list(COLLECTIONS), "recipes": index()}
    text = plain_json.dumps(content, indent=1) + "\n"
    write_whole(catalogue.INDEX, lambda part: part.write_text(text, encoding="utf-8"))


def _carded(recipes: list[Recipe], name: str) -> list[Recipe]:
    found = [recipe for recipe in recipes if recipe.name in catalogue.carded()]
    if not found:
        raise ValueError(f"no card of {name} ships: seqzoo reproduce makes some")
    return found


def _across(recipes: list[Recipe]) -> str:
    """Rows of several tables, with all their figures in one cell."""
    head = "row", "model", "trained by", "obtained", "unit", "n", "published", "limit"
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for recipe in recipes:
        card = catalogue.card(recipe.name)
        figures = _figures(recipe, card).items()
        cells = [
            f"`{recipe.name}`",
            f"`{recipe.model.name}`",
            f"`{recipe.rule.name}`" if recipe.rule else "-",
            "; ".join(f"{name} **{_spread(figure, scientific)}**" for name, figure in figures),
            recipe.task.unit,
            str(card["n"]),
            scientific(recipe.published, 1),
            scientific(recipe.limit, 1),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _rows(table: str) -> str:
    """The rows of one table, all their figures."""
    recipes = _carded(rows_of(table), f"the table {table}")
    columns = _columns(recipes)
    head = [
        "row",
        *(f"{c}, {recipes[0].task.unit}".removesuffix(", ") for c in columns),
        "n",
        "published",
        "training, s",
    ]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for recipe in recipes:
        card = catalogue.card(recipe.name)
        figures = _figures(recipe, card)
        cells = [recipe.title, *(_spread(figures.get(column), scientific) for column in columns)]
        cells += [str(card["n"]), scientific(recipe.published, 1), f"{card['wall_time_s']:.0f}"]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _columns(recipes: list[Recipe]) -> list[str]:
    """The columns of all rows, in the order in which rows bring them."""
    return list(dict.fromkeys(column for recipe in recipes for column in recipe.task.columns))


def _figures(recipe: Recipe, card: Card) -> dict[str, Card]:
    """Value and sd of every figure of a row, by its column."""
    return dict(zip(recipe.task.columns, [card, *card.get("also", {}).values()]))


def _spread(figure: Card | None, form: Callable[[float, int], str] | None = None) -> str:
    """``2.27e-4 ± 1.8e-5``; a dash where a row has no such figure."""
    form = form or (lambda value, digits: f"{value:.{digits + 1}g}")
    if figure is None:
        return "-"
    sd = figure["sd"]
    spread = "" if sd is None else f" ± {form(sd, 1) if sd < 0.01 else f'{sd:.2g}'}"
    return form(figure["value"], 2) + spread


def _or_dash(value: float | None, form: str) -> str:
    return "-" if value is None else format(value, form)


def scientific(value: float | None, digits: int) -> str:
    """2.25e-4 for 0.000225; numbers of ordinary size stay as they are."""
    if value is None:
        return "-"
    if abs(value) >= 0.01:
        return f"{value:#.3g}"
    return f"{value:.{digits}e}".replace("e-0", "e-")
