"""Running a table: every row, several seeds, side by side with the published figures."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from pathlib import Path
from typing import Any

from . import store
from .recipes import Recipe, find, run
from .recipes import table as rows

Card = dict[str, Any]


def reproduce(
    recipes: list[Recipe],
    seeds: list[int],
    out: Path,
    jobs: int = 1,
    device: str | None = None,
    say: Callable[[str], None] = print,
) -> dict[str, list[Card]]:
    """Trains and scores every recipe with every seed; what ``out`` holds already is kept.

    Arguments:
        recipes: the rows.
        seeds: the seeds.
        out: folder of the runs, ``out/TABLE/ROW/seedN``.
        jobs: runs at a time, each a process with one thread.
        device: where to train.
        say: where to report progress.

    Returns:
        The cards of every row, by its name, in the order of the seeds.
    """
    cards: dict[tuple[str, int], Card] = {}
    waiting = []
    for recipe in recipes:
        for seed in seeds:
            folder = out / recipe.name / f"seed{seed}"
            done = _finished(folder, recipe)
            if done is not None:
                cards[recipe.name, seed] = done
                say(f"{recipe.name} seed {seed}: {_figure(done)} (kept from {done['date']})")
            else:
                waiting.append((recipe, seed, folder))
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(max(1, min(jobs, len(waiting))), mp_context=context) as pool:
        running = {pool.submit(_run, *work, device): work for work in waiting}
        for future in as_completed(running):
            recipe, seed, _ = running[future]
            cards[recipe.name, seed] = card = future.result()
            say(f"{recipe.name} seed {seed}: {_figure(card)} in {card['wall_time_s']:.0f} s")
    return {r.name: [cards[r.name, seed] for seed in seeds] for r in recipes}


def _run(recipe: Recipe, seed: int, folder: Path, device: str | None) -> Card:
    import torch

    torch.set_num_threads(1)
    return run(recipe, seed, folder, device=device, progress=False)


def _finished(folder: Path, recipe: Recipe) -> Card | None:
    """The card of a finished run of the very same recipe."""
    try:
        card = store.load_card(folder / store.CARD)
    except store.ModelError:
        return None
    whole = (folder / store.WEIGHTS).is_file()
    return card if whole and card.get("configuration") == recipe.configuration() else None


def _figure(card: Card) -> str:
    also = "".join(f", {name} {value:.3g}" for name, value in card.get("also", {}).items())
    return f"{card['metric']} {card['value']:.3g} {card['unit']}{also}"


def render(cards: dict[str, list[Card]]) -> str:
    """One table as text: obtained (mean ± sd, n), published, limit, and a line on differences."""
    recipes = [find(name) for name in cards]
    columns = _columns(recipes)
    widths = [max(len(column), 14) + 2 for column in columns]
    heads = "".join(f"{column:>{width}}" for column, width in zip(columns, widths))
    head = f"{'row':<30}{heads}{'n':>3}{'published':>11}{'limit':>10}{'wall s':>8}"
    lines, notes = [head, "-" * len(head)], []
    for recipe in recipes:
        total = store.summarise(cards[recipe.name])
        figures = _figures(recipe, total)
        lines.append(
            f"{recipe.title:<30}"
            + "".join(f"{_spread(figures.get(c)):>{width}}" for c, width in zip(columns, widths))
            + f"{total['n']:>3}{_or_dash(recipe.published, '.3g'):>11}"
            f"{_or_dash(recipe.limit, '.3g'):>10}{total['wall_time_s']:>8.0f}"
        )
        if recipe.note:
            notes.append(f"* {recipe.title}: {recipe.note}")
    first = recipes[0]
    lines.append(f"{first.table}: {first.task.unit}, mean ± sd; published: {first.source}.")
    return "\n".join(lines + notes)


def markdown(table: str) -> str:
    """The cards of a table that ship, as the Markdown that the README shows."""
    recipes = [recipe for recipe in rows(table) if recipe.name in store.carded()]
    if not recipes:
        raise ValueError(f"no card of the table {table} ships: seqzoo reproduce {table} makes some")
    columns = _columns(recipes)
    head = [
        "row",
        *(f"{c}, {recipes[0].task.unit}" for c in columns),
        "n",
        "published",
        "training, s",
    ]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for recipe in recipes:
        card = store.card(recipe.name)
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


def ship(cards: dict[str, list[Card]], out: Path, target: Path = store.SHIPPED) -> list[str]:
    """Copies the summary card of every row into the zoo, and the first seed's weights.

    Weights of a recipe that does not ship stay where they are.

    Returns:
        The names shipped.
    """
    names = []
    for name, seeds in cards.items():
        recipe = find(name)
        card = {
            **store.summarise(seeds),
            "weights_seed": seeds[0]["seed"],
            "published": recipe.published,
            "source": recipe.source,
            "limit": recipe.limit,
            "note": recipe.note,
            "command": f"seqzoo reproduce {recipe.table} --seeds {len(seeds)}",
        }
        weights = out / name / f"seed{seeds[0]['seed']}" / store.WEIGHTS
        if recipe.ships:
            content = weights.read_bytes()
            store.write_whole(
                target / f"{name}.safetensors", lambda part, data=content: part.write_bytes(data)
            )
        store.save_card(target / f"{name}.json", card)
        names.append(name)
    return names
