"""How things move in the film that trained models generate, from nothing and after real frames."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ...data.synthetic import Synthetic
from ...inference import Recurrent, rollout
from .. import catalogue, store
from ..models.generation import Generates
from ..models.predictive import PredictiveVAE
from ..pictures import plot_film
from ..recipes import Recipe, balls, mnist, table
from ..recipes.film_task import FilmTask
from .tracking import Motion, measure_balls, measure_digits, track_balls, track_digits

STRIP = 20  # frames of a film in the picture
GIVEN = 10  # real frames that a film goes on from


class Seen(NamedTuple):
    """What a tracker sees in films.

    Attributes:
        motion: how objects move.
        kept: number of frames until a film first lacks an object, median over films; the length
            of the films where it lacks none.
    """

    motion: Motion
    kept: float


def ball_motion(film: Tensor) -> Seen:
    """How the balls of film ``[N, T, 900]`` move."""
    paths = track_balls(film, rendering="squared", size=balls.SIZE)
    return Seen(measure_balls(paths), _kept(paths))


def digit_motion(film: Tensor) -> Seen:
    """How the digits of film ``[N, T, 4096]`` move."""
    paths = track_digits(film, size=mnist.SIZE)
    return Seen(measure_digits(paths, size=mnist.SIZE), _kept(paths))


def _kept(paths: Tensor) -> float:
    """See ``Seen``, of paths ``[N, T, K, 2]``."""
    whole = paths.isfinite().flatten(2).all(-1)
    frames = torch.where(whole.all(1), whole.shape[1], (~whole).int().argmax(1))
    return float(frames.double().quantile(0.5))


MEASURES = {"balls": ball_motion, "mnist": digit_motion}


def motion(
    name: str, films: int, frames: int, seed: int, picture: Path | None = None
) -> dict[str, Seen]:
    """Measures how objects move in real film and in that of every trained model of a table.

    A model generates film from nothing, in each direction that it has, and goes on from ten real
    frames: each frame that it predicts is read as if it had been seen. Where a model has a
    predictor of the state, both its mean and its draws go on.

    Arguments:
        name: the table.
        films: films of each kind.
        frames: their length.
        seed: seed of all of them.
        picture: file for the first film of each kind, one below the other, or None.

    Returns:
        The measures by title: of real film first, then of each model.

    Raises:
        ValueError: for a table that is not about film.
    """
    rows = table(name)
    task, found, first = rows[0].task, {}, []
    if not isinstance(task, FilmTask) or task.film is None:
        raise ValueError(f"the table {name} is not about film: name balls or mnist")
    real = task.film(sequences=films, steps=frames, seed=seed, split="test").obs
    made = itertools.chain([("real film", real)], _generated(rows, films, frames, seed, task.film))
    for title, film in made:
        found[title] = MEASURES[name](film)
        first.append(film[:1])
    if picture is not None:
        plot_film(torch.cat(first), picture, STRIP, every=min(3, max(1, frames // STRIP)))
    return found


def _generated(
    rows: list[Recipe], films: int, frames: int, seed: int, film: Callable[..., Synthetic]
) -> Iterator[tuple[str, Tensor]]:
    given = film(sequences=films, steps=GIVEN, seed=seed, split="test").obs
    for recipe in rows:
        if recipe.name not in catalogue.shipped():
            continue
        net = store.load(recipe.name)
        if not isinstance(net, Generates):
            continue
        for direction in net.directions:
            how = {"seed": seed, "noise": False, "direction": direction}
            yield f"{recipe.title}, {direction}", net.sample(films, frames, **how)
        if isinstance(net, Recurrent):
            predicts = isinstance(net, PredictiveVAE) and net.predictor is not None
            ways = {" at the mean": {"method": "mean"}, " by draws": {}} if predicts else {"": {}}
            for way, options in ways.items():
                future = rollout(net, given, frames, seed=seed, options=options).samples[0]
                yield f"{recipe.title}, after {GIVEN} real frames{way}", future
