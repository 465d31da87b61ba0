"""How things move in the film that trained models generate."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path

import torch

from .. import store
from ..models.generation import Generates
from ..pictures import plot_film
from ..recipes import Recipe, balls, mnist, table
from ..recipes.film_task import FilmTask
from .tracking import Motion, measure_balls, measure_digits, track_balls, track_digits

STRIP = 20  # frames of a film in the picture


def ball_motion(film: torch.Tensor) -> Motion:
    """How the balls of film ``[N, T, 900]`` move."""
    return measure_balls(track_balls(film, rendering="squared", size=balls.SIZE))


def digit_motion(film: torch.Tensor) -> Motion:
    """How the digits of film ``[N, T, 4096]`` move."""
    return measure_digits(track_digits(film, size=mnist.SIZE), size=mnist.SIZE)


MEASURES = {"balls": ball_motion, "mnist": digit_motion}


def motion(
    name: str, films: int, frames: int, seed: int, picture: Path | None = None
) -> dict[str, Motion]:
    """Measures how objects move in real film and in that of every trained model of a table.

    Arguments:
        name: the table.
        films: films of each kind.
        frames: their length.
        seed: seed of all of them.
        picture: file for the first film of each kind, one below the other, or None.

    Returns:
        The measures by title: of real film first, then of each model in each direction.

    Raises:
        ValueError: for a table that is not about film.
    """
    rows = table(name)
    task, found, first = rows[0].task, {}, []
    if not isinstance(task, FilmTask) or task.film is None:
        raise ValueError(f"the table {name} is not about film: name balls or mnist")
    real = task.film(sequences=films, steps=frames, seed=seed, split="test").obs
    for title, film in itertools.chain(
        [("real film", real)], _generated(rows, films, frames, seed)
    ):
        found[title] = MEASURES[name](film)
        first.append(film[:1])
    if picture is not None:
        plot_film(torch.cat(first), picture, STRIP, every=min(3, max(1, frames // STRIP)))
    return found


def _generated(
    rows: list[Recipe], films: int, frames: int, seed: int
) -> Iterator[tuple[str, torch.Tensor]]:
    for recipe in rows:
        if recipe.name not in store.shipped():
            continue
        net = store.load(recipe.name)
        if not isinstance(net, Generates):
            continue
        for direction in net.directions:
            how = {"seed": seed, "noise": False, "direction": direction}
            yield f"{recipe.title}, {direction}", net.sample(films, frames, **how)
