"""What the tables of music share: the task, its figures, and how samples are written."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path

import torch
from torch import Tensor, nn

from ...data import Batch, MidiFolder, PianoRolls, Polyphonic, write_midi
from ...inference.contracts import SequenceModel
from ...inference.evaluate import (
    elbo_terms,
    frame_estimate,
    importance_estimate,
    particle_estimate,
    prepare_whole,
)
from ...inference.paths import kl_steps, marginal_increments
from ...inference.rng import RandomStream
from ..models.generation import Generates
from ..pictures import MUSIC, check_file, plot_rolls
from .task import Scores, Task, device_of

FRAMES = 8000  # padded frames scored at a time
GENERATED = 128  # frames of a sampled roll
# Seconds a frame when a roll is written as MIDI; the published files do not say.
STEPS = {"jsb": 0.5, "nottingham": 0.25, "piano-midi": 0.2, "musedata": 0.2}


# The estimators of ``inference.evaluate`` sample from the one random stream of ``score``, batch
# after batch.


def elbo(
    model: SequenceModel,
    batch: Batch,
    num_samples: int = 5,
    divergence: Callable[..., Tensor] = kl_steps,
) -> Tensor:
    """The evidence lower bound of each sequence, ``[B]``."""
    return elbo_terms(model, prepare_whole(model, batch), num_samples, divergence).bound


def surrogate(model: SequenceModel, batch: Batch) -> Tensor:
    """The published objective, which is no bound, ``[B]``."""
    return elbo(model, batch, divergence=lambda q, p, path: marginal_increments(q, p))


def importance(model: SequenceModel, batch: Batch, num_samples: int) -> Tensor:
    """The importance-weighted bound of each sequence, ``[B]``."""
    return importance_estimate(model, prepare_whole(model, batch), num_samples)


def importance_of_frames(model: SequenceModel, batch: Batch, num_samples: int) -> Tensor:
    """The importance-weighted bounds of each sequence's frames, summed, ``[B]``."""
    return frame_estimate(model, prepare_whole(model, batch), num_samples)


# Exact, upper bounds on the negative log-likelihood (the number of samples follows), or neither.
FIGURES: dict[str, Callable[..., Tensor]] = {
    "exact NLL": functools.partial(elbo, num_samples=1),
    "ELBO": elbo,
    "IW": importance,
    "IW a frame": importance_of_frames,
    "SMC": particle_estimate,
    "published objective (no bound)": surrogate,
}


SAMPLED = ("IW", "IW a frame", "SMC")
BY_SAMPLES = re.compile(r"(IW|SMC)-(\d+)( a frame)?")  # their names in a table


def figure(name: str) -> Callable[[nn.Module, Batch], Tensor]:
    """A figure by its name in a table, such as ``"SMC-500"`` or ``"IW-200 a frame"``; ``[B]``.

    Raises:
        ValueError: for a name that is none.
    """
    sampled = BY_SAMPLES.fullmatch(name)
    kind = "".join(part or "" for part in sampled.group(1, 3)) if sampled else name
    if kind not in FIGURES or (kind in SAMPLED) != bool(sampled):
        raise ValueError(f"no figure called {name!r}: such as ELBO, IW-50 or SMC-500")
    bound = FIGURES[kind]
    return (lambda model, batch: bound(model, batch, int(sampled[2]))) if sampled else bound


def music_task(data: str, *figures: str) -> Task:
    """Nats per frame on the unsplit sequences of a data set.

    Arguments:
        data: the data set.
        figures: their names, see ``figure``; the first is what validation looks at.
    """
    return Task(
        metric=figures[0],
        unit="nats per frame",
        score=functools.partial(score, data, figures),
        write_samples=functools.partial(write_samples, data),
        also=figures[1:],
    )


def score(
    data: str,
    figures: tuple[str, ...],
    model: nn.Module,
    seed: int,
    split: str,
    midi: str | None = None,
    transpose: str | None = None,
) -> Scores:
    """Figures of every sequence, in nats per frame, weighted by its frames.

    Arguments:
        data, figures: see ``music_task``; on validation data the first figure alone.
        model, seed, split: the network, the seed of its samples, and which data.
        midi: a folder of MIDI files, or one, to score in place of the test data.
        transpose: a tonic to which each of them is moved; ``"C"`` is that of the training data.

    Returns:
        The scores. Of files of one's own the notes say that models expect C, where they were not
        moved, and whether independent keys score better.
    """
    if transpose is not None and midi is None:
        raise ValueError("transpose moves files of your own: give their folder as midi, too")
    rolls: PianoRolls
    if midi is not None:
        rolls = MidiFolder(str(midi), step=STEPS[data], transpose=transpose)
    else:
        rolls = Polyphonic(data, split)
    chosen = figures[:1] if split == "validation" else figures
    device, values, frames = device_of(model), [], []
    with torch.no_grad(), RandomStream(device, "score", seed):
        for _, rows in rolls.batches(FRAMES):
            batch = rows.to(device)
            bounds = torch.stack([figure(name)(model, batch) for name in chosen], 1)
            frames.append(batch.observed_frames.sum(1))
            values.append(-bounds / frames[-1][:, None])
    scores = Scores(torch.cat(values).cpu(), torch.cat(frames).cpu())
    if midi is None:
        return scores
    return scores._replace(notes=_notes(data, chosen, scores, rolls, transpose))


def independent_keys(rolls: PianoRolls) -> float:
    """Nats per frame under keys that sound independently, each as often as it does in ``rolls``.

    No other rates score better: those of the training data do not, either.
    """
    return float(torch.distributions.Bernoulli(rolls.rates()).entropy().sum())


def _notes(
    data: str, figures: tuple[str, ...], scores: Scores, rolls: PianoRolls, transpose: str | None
) -> tuple[str, ...]:
    """What to know of the scores of files of one's own."""
    notes = []
    if transpose is None:
        notes.append(
            f"models of {data} are trained on music in C major and C minor, and expect it: "
            "transpose=C moves every file there"
        )
    plain = independent_keys(rolls)
    bounds = [
        figure
        for name, figure in zip(figures, scores.figures.tolist())
        if FIGURES.get(name) is not surrogate
    ]
    if not min(bounds) < plain:
        notes.append(
            f"independent keys at the rates of these files score {plain:.4g}, better than the "
            "model: the files are unlike its training data in key, in tempo "
            f"({STEPS[data]} s a frame) or in style"
        )
    return tuple(notes)


def write_samples(
    data: str, model: Generates, path: Path, seed: int, direction: str | None = None
) -> None:
    """Writes generated music: as a MIDI file (.mid), a picture (.png), or numbers (.npz)."""
    check_file(path, MUSIC)
    if path.suffix in (".mid", ".midi"):
        write_midi(
            path, model.sample(1, GENERATED, seed=seed, direction=direction)[0], step=STEPS[data]
        )
        return
    rolls = model.sample(3, GENERATED, seed=seed, direction=direction)
    plot_rolls({f"sample {i + 1}": roll for i, roll in enumerate(rolls)}, path)
