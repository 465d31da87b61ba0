"""What the tables of film share: predicting the next frame, and drawing generated film."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from ...data.synthetic import Synthetic
from ...data.track import Motion
from ...inference import predict_next
from .recipe import Task

CHAINS = 8
GENERATED = 100  # frames of a drawn film
SEQUENCES = 10  # predicted at a time: a prediction is CHAINS times as large as its film


@dataclass(frozen=True)
class FilmTask(Task):
    """A task on film.

    Attributes:
        film: ``film(sequences=, seed=, split=, device=)`` draws some.
        motion: measures how what film ``[N, T, size²]`` shows moves.
    """

    film: Callable[..., Synthetic] | None = None
    motion: Callable[[torch.Tensor], Motion] | None = None


def next_frame_task(
    name: str, film: Callable[..., Synthetic], motion: Callable[[torch.Tensor], Motion]
) -> FilmTask:
    """Next-frame error: squared, per pixel, over all frames after the first.

    Arguments:
        name: what the film is, in a few words.
        film: ``film(seed=, split=, device=)`` draws the film to predict.
        motion: see ``FilmTask``.
    """

    def score(model: torch.nn.Module, seed: int, split: str) -> torch.Tensor:
        """Of a single chain (the mean over chains of its error), and of the chains' mean."""
        device = next(iter(model.state_dict().values()), torch.empty(0)).device
        data = film(seed=seed, split=split, device=device)
        errors = []
        for start in range(0, len(data), SEQUENCES):
            obs = data.rows(slice(start, start + SEQUENCES)).obs
            predicted = predict_next(model, obs, chains=CHAINS, seed=seed)
            single = (predicted.chains - obs)[:, :, 1:].square().mean((0, 2, 3))
            together = (predicted.mean - obs)[:, 1:].square().mean((1, 2))
            errors.append(torch.stack((single, together), 1))
        return torch.cat(errors)

    def draw(model: torch.nn.Module, path: Path, seed: int) -> None:
        """Writes generated film: moving (.gif), as strips (.png), or as numbers (.npz)."""
        from ..pictures import draw_film

        if not hasattr(model, "sample"):
            raise ValueError(f"{type(model).__name__} generates nothing")
        draw_film(model.sample(sequences=4, steps=GENERATED, seed=seed, noise=False), path)

    return FilmTask(
        metric=f"next-frame MSE ({name}), single chain",
        unit="per pixel",
        score=score,
        draw=draw,
        also=(f"mean of {CHAINS} chains",),
        film=film,
        motion=motion,
    )
