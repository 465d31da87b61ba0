"""Do the Markov chains of a trained model agree? A number in place of "does not converge"."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch

from ..data import generator
from ..inference import clamped_gibbs, convergence, run_filter
from . import store
from .recipes import find
from .recipes.film import FilmTask

FILMS = 10  # whose frames are predicted
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
