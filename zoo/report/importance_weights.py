"""Importance weights of a guide's draws, and the bounds that they give."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ...data import Batch
from ...inference import Fold, SequenceModel
from ...inference.diagnostics.psis import raw_weights
from ...inference.particles import log_mean_exp
from ...inference.samples import prepare_plate, spread_out

AT_ONCE = 50  # draws


class Weights(NamedTuple):
    """Log importance weights of a guide's draws.

    Arguments:
        sequences: ``[S, B]``, or None of models of single frames.
        frames: ``[S, B, T]`` with NaN in padding, or None where frames share latent noise.
    """

    sequences: Tensor | None
    frames: Tensor | None


@torch.no_grad()
def log_weights(net, batch: Batch, draws: int, seed: int) -> Weights:
    """Weighs draws of a guide, of sequences and of frames, whichever are defined."""
    data = prepare_plate(net, batch)
    fold = isinstance(data, Fold)
    framewise = isinstance(net, SequenceModel) and net.framewise
    found = raw_weights(net, data, batch, draws, framewise, seed, AT_ONCE, "report weights")
    found = found.double().cpu()
    mask = batch.mask.cpu()
    if fold:
        return Weights(None, spread_out(found, mask))
    if framewise:
        return Weights(found.sum(-1), found.masked_fill(~mask, math.nan))
    return Weights(found, None)


def bounds(weights: Tensor, numbers: list[int]) -> Tensor:
    """The importance-weighted bound of M draws for each M, summed over all else; ``[len]``.

    All draws take part: in groups of M, whose bounds are averaged.

    Arguments:
        weights: log-weights ``[S, ...]``.
        numbers: each M, at most ``S``.
    """
    found = []
    for number in numbers:
        groups = len(weights) // number
        parts = weights[: groups * number].reshape(groups, number, -1)
        found.append(log_mean_exp(parts.transpose(0, 1)).mean(0).sum())
    return torch.stack(found)
