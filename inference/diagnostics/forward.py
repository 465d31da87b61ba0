"""Forward prediction: the last bins of every trial, predicted from those before them."""

from __future__ import annotations

import dataclasses
import math
from typing import NamedTuple

import torch
from torch import Tensor

from ...data import BatchLike
from ..checks import check_number, check_samples
from ..contracts import Network
from ..latents import expected_values
from ..placing import batch_for
from .neural import gains, means_of, ratio
from .values import are_counts

UNITS = ("bits/spike", "r2")


class ForwardPrediction(NamedTuple):
    """Scores of predicted bins.

    Arguments:
        total: the score of all predicted bins together.
        ahead: the score of the bins 1, 2, .. ahead, ``[bins]``; NaN where none of them has a spike
            or varies.
        unit: ``"bits/spike"`` or ``"r2"``.
    """

    total: float
    ahead: Tensor
    unit: str


@torch.no_grad()
def forward_prediction(
    net: Network,
    data: BatchLike,
    bins: int,
    unit: str | None = None,
    num_samples: int = 100,
    seed: int = 0,
) -> ForwardPrediction:
    """How well a trained network predicts the last bins of every trial from those before them.

    All channels are hidden in these bins. The network tells what it expects there by ``rates`` with
    the default ``given``. Scores are relative to the mean of each channel in the predicted bins, as
    in the Neural Latents Benchmark. Missing values and padding never count.

    Arguments:
        net: a trained network that takes missing values. Train a network that encodes whole
            sequences, such as a VRAE, with ``sees_missing=True``: otherwise it reads zeros.
        data: a ``data.Recording``, a ``Batch``, or anything that ``data.as_batch`` takes.
        bins: number of bins that are predicted at the end of each trial.
        unit: ``"bits/spike"`` of counts, or ``"r2"``, averaged over the channels that vary; None is
            the former for whole numbers from 0 on.
        num_samples: draws of the latent state, see ``rates``.
        seed: seed of a private random stream.

    Raises:
        ValueError: for a trial that has no more than ``bins`` bins or none that was seen before
            them, another unit, unfit data or numbers, or a network without such predictions.

    Source: Pei et al., "Neural Latents Benchmark '21: evaluating latent variable models of neural
    population activity" (2021).
    """
    bins = check_number("bins", bins)
    check_samples(num_samples, seed=seed)
    if unit is not None and unit not in UNITS:
        raise ValueError(f"unit must be one of {', '.join(UNITS)}, got {unit!r}")
    batch = batch_for(net, data)
    steps = torch.arange(batch.mask.shape[1], device=batch.mask.device)
    first = (batch.mask * (steps + 1)).amax(1, keepdim=True) - bins  # bin that is predicted first
    real = batch.mask.sum(1)
    if (real <= bins).any():
        row = int((real <= bins).nonzero()[0])
        raise ValueError(
            f"trial {row} has {int(real[row])} bins: too few to predict the last {bins}"
        )
    seen = batch.seen
    known = seen & (steps < first)[..., None]
    blank = ~known.flatten(1).any(1)
    if blank.any():
        row = int(blank.nonzero()[0])
        raise ValueError(f"trial {row} has no value that was seen before its last {bins} bins")
    _, values = expected_values(
        net, dataclasses.replace(batch, observed=known), None, num_samples, seed
    )
    wanted = seen & ~known
    if not wanted.any():
        raise ValueError(f"no value in the last {bins} bins of a trial was seen")
    target, counted = batch.obs.double(), wanted.double()
    values = torch.where(wanted, values.double(), torch.zeros_like(target))
    counts = are_counts(target[wanted])
    unit = unit or ("bits/spike" if counts else "r2")
    if unit == "bits/spike" and not counts:
        raise ValueError("bits/spike is a unit of whole numbers from 0 on: take unit='r2'")
    if unit == "bits/spike":
        # without an axis of channels: spikes of all neurons count alike
        above, below = gains(values.clamp_min(0), target, counted)
        above, below = above.sum(2, keepdim=True) / math.log(2), below.sum(2, keepdim=True)
    else:
        means = means_of(target * counted, counted)
        below = (target - means).square() * counted
        above = below - (target - values).square() * counted
    each = [steps - first == step for step in range(bins)]  # [B, T]
    ahead = [ratio(above[at].sum(0), below[at].sum(0)).nanmean() for at in each]
    total = float(ratio(above.sum((0, 1)), below.sum((0, 1))).nanmean())
    if math.isnan(total):
        raise ValueError("no channel varies in the predicted bins, so there is no r2")
    return ForwardPrediction(total, torch.stack(ahead).cpu(), unit)
