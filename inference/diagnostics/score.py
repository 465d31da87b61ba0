"""How well a trained network does on data: predictions, held-out channels, likelihood."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ...data import Batch, BatchLike, generator
from ..checks import check_missing, check_real, check_samples, check_seed
from ..contracts import Network, evaluating
from ..latents import expected_values
from ..placing import batch_for
from ..rng import RandomStream
from .neural import bits_per_spike, means_of
from .values import are_counts

FLOOR = 0.01  # of a channel's mean: the least rate
KINDS = ("next", "cosmooth", "likelihood")
UNITS = {
    "next": ("bits/spike", "r2", "mse"),
    "cosmooth": ("bits/spike", "r2", "mse"),
    "likelihood": ("nats/frame", "bits/spike"),
}


def score(
    net: Network,
    data: BatchLike,
    kind: str = "next",
    unit: str | None = None,
    held_out: float | Sequence[int] = 0.25,
    num_samples: int = 100,
    seed: int = 0,
) -> float:
    """How well a trained network does on data that it was not trained on.

    * ``"next"``: how well each frame is predicted by its expected values given the frames before
      it, ``rates(net, data, given="past")``.
    * ``"cosmooth"``: some channels are hidden for the whole of every trial. They are predicted from
      the other channels by ``rates`` with the default ``given``, the most informed that the network
      has. The network was trained on all channels.
    * ``"likelihood"``: log p(y), exact or the best bound that the network has, see
      ``predictive_bound``.

    Missing values and padding never count.

    Arguments:
        net: a trained network.
        data: a ``data.Recording``, a ``Batch``, or anything that ``data.as_batch`` takes.
        kind: see above.
        unit: ``"bits/spike"`` of counts, the Poisson log-likelihood relative to that of the mean of
            each channel (see ``bits_per_spike``). Rates below a hundredth of that mean count as a
            hundredth, since those of a linear model may be negative. ``"mse"``, the mean squared
            error; ``"r2"``, the coefficient of determination, averaged over the channels
            that vary; or, of the likelihood, ``"nats/frame"``. None is ``"nats/frame"`` of the
            likelihood, otherwise ``"bits/spike"`` of whole numbers from 0 on, otherwise ``"r2"``.
        held_out: of ``"cosmooth"``, the fraction of the channels that are hidden, or a list of
            their numbers. A fraction hides the channels that ``Recording.split_channels`` of
            ``1 - held_out`` and the same seed holds out.
        num_samples: draws of the latent state, see ``rates`` and ``predictive_bound``.
        seed: seed of the choice of channels and of a private random stream.

    Raises:
        ValueError: for another kind or unit, a unit that has no meaning for these data, unfit data
            or numbers, or a network without such predictions or such a likelihood.

    Source: of ``"cosmooth"`` and bits per spike Pei et al., "Neural Latents Benchmark '21:
    evaluating latent variable models of neural population activity" (2021).
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, got {kind!r}")
    if unit is not None and unit not in UNITS[kind]:
        raise ValueError(f"unit of {kind!r} must be one of {', '.join(UNITS[kind])}, got {unit!r}")
    check_samples(num_samples, seed=seed)
    batch = batch_for(net, data)
    counts = are_counts(batch.obs[batch.seen])
    if unit == "bits/spike" and not counts:
        raise ValueError(
            "bits/spike is a unit of counts, whole numbers from 0 on, and these data hold others: "
            "take unit='r2' or 'mse'"
        )
    if kind == "likelihood":
        return _likelihood(net, batch, unit or "nats/frame", num_samples, seed)
    unit = unit or ("bits/spike" if counts else "r2")
    if kind == "next":
        _, values = expected_values(net, batch, "past", num_samples, seed)
        return score_values(values, batch, unit)
    hidden = hidden_channels(held_out, batch.obs.shape[-1], seed)
    _, values = expected_values(net, without(batch, hidden), None, num_samples, seed)
    seen = torch.zeros_like(batch.obs, dtype=torch.bool)
    seen[..., hidden] = batch.seen[..., hidden]
    rows = seen.flatten(1).any(1)
    if not rows.any():
        raise ValueError("no value of the channels that are held out was seen")
    scored = (
        dataclasses.replace(batch, observed=seen)
        if rows.all()
        else Batch(batch.obs[rows], batch.mask[rows], observed=seen[rows])
    )
    return score_values(values[rows], scored, unit)


def predictive_bound(
    net: Network, batch: BatchLike, num_samples: int = 100, seed: int = 0
) -> Tensor:
    """log p(y_1 .. y_T), exact or the best lower bound that a network has; ``[B]``, in nats.

    It is exact for a network without latent states and for a linear-Gaussian system. Otherwise it
    is a lower bound in expectation, which rises with the number of samples. A network of single
    frames (an rVAE) draws x_t from p(x_t | u_{t-1}). The bound of a frame is the logarithm of the
    mean of p(y_t | x_t). A network of latent paths has the bound of a particle filter, or
    the importance-weighted bound of frames or of paths. Missing values and padding do not count.

    Arguments:
        net: a network with a likelihood.
        batch: the sequences: a ``Batch``, or anything that ``data.as_batch`` takes.
        num_samples: draws of the latent state, or particles.
        seed: seed of a private random stream; the caller's random state is left alone.

    Raises:
        ValueError: for unfit data or numbers, or a network without a tractable likelihood.
    """
    check_samples(num_samples, seed=seed)
    batch = batch_for(net, batch)
    if not isinstance(net, Network):
        raise ValueError(f"{type(net).__name__} has no likelihood: see inference.Network")
    check_missing(net, batch)
    stream = RandomStream(batch.obs.device, "predictive bound", seed)
    with torch.no_grad(), evaluating(net), stream:
        return net.log_predictive(batch, num_samples)


def hidden_channels(held_out: float | Sequence[int], width: int, seed: int) -> list[int]:
    """The numbers of the channels that are hidden, checked."""
    check_seed(seed)
    if isinstance(held_out, int | float):
        check_real("held_out", held_out, above=0, below=1)
        order = torch.randperm(width, generator=generator(seed, "channels")).tolist()
        chosen = sorted(order[round((1 - held_out) * width) :])
    else:
        chosen = list(held_out)
        if any(type(each) is not int or not 0 <= each < width for each in chosen):
            raise ValueError(f"held_out must be numbers of channels from 0 to {width - 1}")
        if len(set(chosen)) < len(chosen):
            raise ValueError("held_out has a channel twice")
    if not 0 < len(chosen) < width:
        raise ValueError(f"{width} channels must leave some held in and some held out")
    return chosen


def without(batch: Batch, hidden: list[int]) -> Batch:
    """The batch with some channels hidden in every frame."""
    seen = batch.seen.clone()
    seen[..., hidden] = False
    blank = ~seen.flatten(1).any(1)
    if blank.any():
        row = int(blank.nonzero()[0])
        raise ValueError(f"trial {row} has no value in the channels that are held in")
    return dataclasses.replace(batch, observed=seen)


def _counts(likelihood: Any, batch: Batch) -> bool:
    """Whether a likelihood is of whole numbers, so that it has bits per spike."""
    if likelihood is None:
        return False
    natural = torch.zeros(likelihood.natural_dim, device=batch.obs.device)
    return bool(likelihood.distribution(natural).support.is_discrete)


def _likelihood(net: Network, batch: Batch, unit: str, num_samples: int, seed: int) -> float:
    total = float(predictive_bound(net, batch, num_samples, seed).double().sum())
    if unit == "nats/frame":
        return total / batch.frames
    if not _counts(getattr(net, "likelihood", None), batch):
        raise ValueError(
            f"the likelihood of this {type(net).__name__} is a density, and has no bits/spike: "
            "take unit='nats/frame', or kind='next'"
        )
    means = _mean_of_channels(batch).clamp_min(1e-9)
    null = torch.distributions.Poisson(means, validate_args=False).log_prob(batch.obs.double())
    spikes = float(batch.obs.double().sum())
    if spikes == 0:
        raise ValueError("there is no spike among the counts, so there are no bits per spike")
    return (total - float((null * batch.seen).sum())) / spikes / math.log(2)


def score_values(values: Tensor, batch: Batch, unit: str) -> float:
    """Expected values ``[B, T, M]`` against the data that were seen; see ``score`` for units."""
    if unit == "bits/spike":
        return bits_per_spike(torch.maximum(values, FLOOR * _mean_of_channels(batch)), batch)
    seen, target = batch.seen, batch.obs.double()
    error = ((values.double() - target) * seen).square()
    if unit == "mse":
        return float(error.sum() / seen.sum())
    spread = ((target - _mean_of_channels(batch)) * seen).square().sum((0, 1))
    # Rounding leaves a constant channel some spread, so that its values are compared.
    low, high = target.masked_fill(~seen, torch.inf), target.masked_fill(~seen, -torch.inf)
    varies = high.amax((0, 1)) > low.amin((0, 1))
    if not varies.any():
        raise ValueError("no channel varies, so there is no r2: take unit='mse'")
    return float(1 - (error.sum((0, 1))[varies] / spread[varies]).mean())


def _mean_of_channels(batch: Batch) -> Tensor:
    """Mean of each channel over the values that were seen, ``[M]``, float64."""
    return means_of(batch.obs.double(), batch.seen)
