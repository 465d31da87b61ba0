"""How well models restore music: notes found, against filters that know nothing of music."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor

from ..data import Batch, Polyphonic, add_notes, hide_steps
from ..inference import denoise, impute
from .pictures import draw_rolls

LEAST = 1e-4  # probabilities are taken to be this far from 0 and 1 when they are scored in nats
DRAWN = 64  # frames of a picture


class Row(NamedTuple):
    """One way to restore data, and how well it did.

    Arguments:
        name: of the way.
        precision: share of the notes it gives that are right.
        recall: share of the right notes that it gives.
        f1: their harmonic mean.
        nats: of a missing key in a frame, under the predicted probabilities; None for bits.
    """

    name: str
    precision: float
    recall: float
    f1: float
    nats: float | None = None


def score(name: str, found: Tensor, clean: Tensor, where: Tensor, graded: bool = False) -> Row:
    """Counts notes over all entries together; a key sounds where its value is above a half.

    Arguments:
        name: of the way.
        found: bits or probabilities, ``[B, T, M]``.
        clean: the truth, ``[B, T, M]``.
        where: which entries count, bool, ``[B, T, M]`` or ``[B, T, 1]``.
        graded: score probabilities in nats as well.
    """
    where = where.expand(clean.shape)
    given, right = (found > 0.5)[where], (clean > 0.5)[where]
    hits = int((given & right).sum())
    precision, recall = (hits / max(int(part.sum()), 1) for part in (given, right))
    f1 = 2 * hits / max(int(given.sum() + right.sum()), 1)
    nats = None
    if graded:
        chance = found[where].double().clamp(LEAST, 1 - LEAST)
        nats = -float(torch.where(right, chance, 1 - chance).log().mean())
    return Row(name, precision, recall, f1, nats)


# Filters -------------------------------------------------------------------------------------------


def supported(obs: Tensor, mask: Tensor) -> Tensor:
    """Keeps a key only where it sounds in the frame before or after as well, ``[B, T, M]``."""
    real = obs.masked_fill(~mask[..., None], 0.0)
    edge = torch.zeros_like(real[:, :1])
    before, after = torch.cat((edge, real[:, :-1]), 1), torch.cat((real[:, 1:], edge), 1)
    return real * torch.maximum(before, after)


def carried(obs: Tensor, observed: Tensor) -> Tensor:
    """The last value that was seen of each key, forward in time; 0 before there is one."""
    frames, last = [], torch.zeros_like(obs[:, 0])
    for value, seen in zip(obs.unbind(1), observed.unbind(1)):
        last = torch.where(seen, value, last)
        frames.append(last)
    return torch.stack(frames, 1)


# Tables --------------------------------------------------------------------------------------------


class Song(NamedTuple):
    """What is drawn of one sequence: rolls ``[T, M]`` by title, and hidden steps ``[T]``."""

    rolls: dict[str, Tensor]
    hidden: Tensor


def music(net) -> str:
    """The data set of a model that was trained on music.

    Raises:
        ValueError: for a model that has no latent path or was trained on something else.
    """
    table = net.card.get("name", "").partition("/")[0]
    if table not in PUBLISHED_SETS:
        raise ValueError(f"{table or 'this model'} is not music: name one of {_tables()}")
    if not hasattr(net, "prior") or not hasattr(net, "natural"):
        raise ValueError(
            f"{type(net).__name__} has no latent path to restore music with: name a VRAE or a VOSP"
        )
    return table
