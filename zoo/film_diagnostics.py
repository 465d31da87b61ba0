"""Numbers for what trained models of film do: do their chains agree, does their film move?"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch

from ..data import Motion, generator
from ..inference import clamped_gibbs, convergence, run_filter
from . import store
from .pictures import draw_film
from .recipes import Recipe, find, table
from .recipes.film import FilmTask

FILMS = 10  # whose frames are predicted
STRIP = 20  # frames of a drawn film
DISAGREE = 1.1  # above it, chains are commonly taken not to have converged


class Agreement(NamedTuple):
    """R-hat and effective sample size of a frame's worst direction, over many frames.

    Arguments:
        rhat: median over frames.
        worst: the value that 9 frames in 10 stay below.
        apart: share of frames above ``DISAGREE``.
        ess: median effective sample size, of ``chains * draws``.
    """

    rhat: float
    worst: float
    apart: float
    ess: float


def gibbs(
    names: list[str], frames: int, chains: int, draws: int, burn: int, seed: int
) -> Iterator[tuple[str, Agreement]]:
    """Follows the clamped Gibbs chains of trained models at some frames of test film.

    Raises:
        ValueError: for a model that is not trained on film, or has no chain.
    """
    for name in names:
        net = store.load(name)
        task = find(net.card["name"]).task
        if not isinstance(task, FilmTask) or not hasattr(net, "gibbs"):
            raise ValueError(
                f"{name} has no chain of frames to follow: name a harmonium or an rVAE"
            )
        film = task.film(sequences=FILMS, seed=seed, split="test").obs
        past = run_filter(net, film)[:, film.shape[1] // 4 :].flatten(0, 1)
        chosen = torch.randperm(len(past), generator=generator(seed, "frames"))[:frames]
        followed = clamped_gibbs(net, past[chosen], chains, draws, burn, seed=seed)
        agreed = convergence(followed)
        rhat, ess = agreed.rhat.amax(-1), agreed.ess.amin(-1)
        yield (
            name,
            Agreement(
                float(rhat.median()),
                float(rhat.quantile(0.9)),
                float((rhat > DISAGREE).double().mean()),
                float(ess.median()),
            ),
        )


def motion(
    name: str, films: int, frames: int, seed: int, picture: Path | None = None
) -> Iterator[tuple[str, Motion]]:
    """How things move in real film and in that of every trained model of a table.

    Arguments:
        name: the table.
        films: films of each kind.
        frames: their length.
        seed: seed of all of them.
        picture: where to draw the first film of each kind, under one another, or None.

    Raises:
        ValueError: for a table that is not about film.
    """
    rows = table(name)
    task, first = rows[0].task, []
    if not isinstance(task, FilmTask):
        raise ValueError(f"the table {name} is not about film: name balls or mnist")
    real = task.film(sequences=films, steps=frames, seed=seed, split="test").obs
    for title, film in itertools.chain(
        [("real film", real)], _generated(rows, films, frames, seed)
    ):
        yield title, task.motion(film)
        first.append(film[:1])
    if picture is not None:
        draw_film(torch.cat(first), picture, STRIP, every=min(3, max(1, frames // STRIP)))


def _generated(
    rows: list[Recipe], films: int, frames: int, seed: int
) -> Iterator[tuple[str, torch.Tensor]]:
    for recipe in rows:
        if recipe.name not in store.shipped():
            continue
        net = store.load(recipe.name)
        for direction in getattr(net, "directions", ()):
            how = {"seed": seed, "noise": False, "direction": direction}
            yield f"{recipe.title}, {direction}", net.sample(films, frames, **how)
