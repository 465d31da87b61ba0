"""What the tables of music share: the task, its figures, and how a roll is drawn."""

from __future__ import annotations

import functools
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor

from ...data import Batch, MidiFolder, Polyphonic, write_midi
from ...inference import elbo, frame_bound, importance_bound, particle_bound
from ...inference.evaluate import elbo_terms, read
from ...inference.paths import marginal_increments
from ...inference.streams import RandomStream
from .task import Scores, Task, device_of

FRAMES = 8000  # padded frames scored at a time
GENERATED = 128  # frames of a drawn roll
# Seconds a frame when a roll is written as MIDI; the published files do not say.
STEPS = {"jsb": 0.5, "nottingham": 0.25, "piano-midi": 0.2, "musedata": 0.2}


@torch.no_grad()
def surrogate(model: torch.nn.Module, batch: Batch) -> Tensor:
    """The published objective, of which nothing is known but that it is no bound; ``[B]``."""
    divergence = lambda q, p, path: marginal_increments(q, p)  # noqa: E731
    return elbo_terms(model, read(model, batch), 10, divergence).bound


# Nats per frame: exact, an upper bound on the negative log-likelihood, or neither.
FIGURES: dict[str, Callable[[torch.nn.Module, Batch], Tensor]] = {
    "exact NLL": elbo,
    "ELBO": functools.partial(elbo, samples=10),
    "IW-50": functools.partial(importance_bound, samples=50),
    "IW-500 a frame": functools.partial(frame_bound, samples=500),
    "SMC-500": functools.partial(particle_bound, particles=500),
    "published objective (no bound)": surrogate,
}


def music_task(name: str, *figures: str) -> Task:
    """Nats per frame on the unsplit sequences of a data set.

    Arguments:
        name: the data set.
        figures: names in ``FIGURES``; the first is what validation looks at.
    """
    return Task(
        metric=figures[0],
        unit="nats per frame",
        score=functools.partial(score, name, figures),
        draw=functools.partial(draw, name),
        also=figures[1:],
    )


def score(
    name: str,
    figures: tuple[str, ...],
    model: torch.nn.Module,
    seed: int,
    split: str,
    midi: str | None = None,
) -> Scores:
    """Figures of every sequence, in nats per frame, weighted by its frames.

    Arguments:
        name, figures: see ``music_task``; on validation data the first figure alone.
        model, seed, split: the network, the seed of its draws, and which data.
        midi: a folder of MIDI files, or one, to score in place of the test data.
    """
    rolls = MidiFolder(midi, step=STEPS[name]) if midi else Polyphonic(name, split)
    chosen = figures[:1] if split == "validation" else figures
    device, values, frames = device_of(model), [], []
    with RandomStream(device, "score", seed):
        for _, rows in rolls.batches(FRAMES):
            batch = rows.to(device)
            bounds = torch.stack([FIGURES[figure](model, batch) for figure in chosen], 1)
            frames.append(batch.mask.sum(1))
            values.append(-bounds / frames[-1][:, None])
    return Scores(torch.cat(values).cpu(), torch.cat(frames).cpu())


def draw(name: str, model: torch.nn.Module, path: Path, seed: int, **how) -> None:
    """Writes generated music: as a MIDI file (.mid), a picture (.png), or numbers (.npz)."""
    from ..pictures import draw_rolls

    if path.suffix in (".mid", ".midi"):
        write_midi(path, model.sample(1, GENERATED, seed=seed, **how)[0], step=STEPS[name])
        return
    rolls = model.sample(3, GENERATED, seed=seed, **how)
    draw_rolls({f"sample {i + 1}": roll for i, roll in enumerate(rolls)}, path)
