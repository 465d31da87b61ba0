"""Importance weights of samples from a guide, and the bounds that they give."""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ...data import Batch
from ...inference import Fold, FrameModel, SequenceModel
from ...inference.diagnostics.psis import raw_weights
from ...inference.particles import log_mean_exp
from ...inference.samples import prepare_plate, spread_out

AT_ONCE = 50  # samples


class Weights(NamedTuple):
    """Log importance weights of samples from a guide.

    Arguments:
        sequences: weights of whole sequences, ``[S, B]``, or None for models of single frames.
        frames: weights of frames, ``[S, B, T]`` with NaN in padding and where nothing was seen;
            None where the frames share latent noise.
    """

    sequences: Tensor | None
    frames: Tensor | None


@torch.no_grad()
def log_weights(
    net: SequenceModel | FrameModel, batch: Batch, num_samples: int, seed: int
) -> Weights:
    """Weighs samples from a guide.

    Arguments:
        net: a model with a guide.
        batch: data, ``[B, T, M]``.
        num_samples: samples ``S``.
        seed: seed of the samples.

    Returns:
        The weights of whole sequences and of single frames, whichever are defined.
    """
    data = prepare_plate(net, batch)
    fold = isinstance(data, Fold)
    framewise = isinstance(net, SequenceModel) and net.framewise
    found = raw_weights(net, data, batch, num_samples, framewise, seed, AT_ONCE, "report weights")
    found = found.double().cpu()
    seen = batch.observed_frames.cpu()
    if fold:
        return Weights(None, spread_out(found, seen))
    if framewise:
        return Weights(found.sum(-1), found.masked_fill(~seen, math.nan))
    return Weights(found, None)


def bounds(weights: Tensor, numbers: list[int]) -> Tensor:
    """The importance-weighted bound of M samples for each M, summed over all other axes.

    All samples are used: the bounds of groups of M samples are averaged.

    Arguments:
        weights: log-weights, ``[S, ...]``.
        numbers: each M, at most ``S``.

    Returns:
        Nats, ``[len(numbers)]``.
    """
    found = []
    for number in numbers:
        groups = len(weights) // number
        parts = weights[: groups * number].reshape(groups, number, -1)
        found.append(log_mean_exp(parts.transpose(0, 1)).mean(0).sum())
    return torch.stack(found)
