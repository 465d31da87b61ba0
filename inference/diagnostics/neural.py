"""Measures of predicted firing rates, in bits per spike.

They are those of Pei et al., "Neural Latents Benchmark '21: evaluating latent variable models of
neural population activity" (2021), and give the same numbers as the benchmark's ``nlb_tools``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...data import Batch, BatchLike, as_batch
from .values import Values, as_tensor

FLOOR = 1e-9  # takes the place of a rate of zero, at which a spike would be infinitely wrong


def bits_per_spike(rates: Values, batch: BatchLike) -> float:
    """How much better rates predict spikes than the mean of each neuron does, in bits per spike.

        (log p(spikes | rates) - log p(spikes | means)) / (number of spikes · log 2)

    Both are Poisson log-likelihoods of the counts that were seen. The means are those of the counts
    scored. For co-smoothing, give the held-out neurons and their rates; for forward prediction, the
    bins ahead and theirs.

    Arguments:
        rates: expected counts, ``[B, T, M]``.
        batch: the counts: a ``Batch``, or anything that ``data.as_batch`` takes.

    Raises:
        ValueError: for rates of another shape, negative or not finite, negative counts, or counts
            without a single spike.
    """
    batch = as_batch(batch)
    gain, spikes = gains(checked_rates(rates, batch), batch.obs, batch.seen.double())
    return float(gain.sum() / spikes.sum() / math.log(2))


def bits_per_neuron(rates: Values, batch: BatchLike) -> Tensor:
    """Bits per spike of each neuron alone, ``[M]``; NaN for a neuron without a spike.

    Weighted by their numbers of spikes, their mean is ``bits_per_spike`` up to neurons without one.

    Arguments:
        rates: expected counts, ``[B, T, M]``.
        batch: the counts: a ``Batch``, or anything that ``data.as_batch`` takes.

    Raises:
        ValueError: as ``bits_per_spike`` does.
    """
    batch = as_batch(batch)
    gain, spikes = gains(checked_rates(rates, batch), batch.obs, batch.seen.double())
    return ratio(gain.sum((0, 1)), spikes.sum((0, 1))) / math.log(2)


def gains(rates: Tensor, counts: Tensor, seen: Tensor) -> tuple[Tensor, Tensor]:
    """Gain in log-likelihood over the mean of each neuron, and number of spikes, of each value.

    Arguments:
        rates: expected counts, finite and not negative, ``[B, T, M]``.
        counts: ``[B, T, M]``.
        seen: 1 where a value counts and 0 elsewhere, ``[B, T, M]``.

    Returns:
        Gains in nats and spikes, zero where a value does not count, ``[B, T, M]`` each.

    Raises:
        ValueError: for negative counts, or counts without a single spike.
    """
    spikes = counts.double() * seen
    if (spikes < 0).any():
        raise ValueError("counts of spikes cannot be negative")
    if spikes.sum() == 0:
        raise ValueError("there is no spike among the counts, so there are no bits per spike")
    means = means_of(spikes, seen).expand_as(spikes)

    def log_likelihood(expected: Tensor) -> Tensor:
        expected = torch.where(expected == 0, FLOOR, expected)
        return (spikes * expected.log() - expected) * seen

    return log_likelihood(rates) - log_likelihood(means), spikes


def ratio(above: Tensor, below: Tensor) -> Tensor:
    """``above / below``, NaN where ``below`` is zero."""
    return torch.where(below > 0, above / below, torch.full_like(above, math.nan))


def means_of(values: Tensor, seen: Tensor) -> Tensor:
    """Mean of each channel over the values that count, ``[M]``; 0 for a channel without any.

    Arguments:
        values: zero where a value does not count, ``[B, T, M]``.
        seen: 1 or True where a value counts, ``[B, T, M]``.
    """
    return values.sum((0, 1)) / seen.sum((0, 1)).clamp_min(1)


def checked_rates(rates: Values, batch: Batch, least: float = 0.0) -> Tensor:
    """Rates as a float64 tensor beside the batch, zero where nothing was seen.

    Raises:
        ValueError: for another shape than the batch's, or values that are not finite or too small.
    """
    rates = as_tensor(rates, "rates").to(batch.obs.device)
    if rates.shape != batch.obs.shape:
        raise ValueError(f"rates are {tuple(rates.shape)}, the batch is {tuple(batch.obs.shape)}")
    rates = torch.where(batch.seen, rates, torch.zeros_like(rates))
    if not torch.isfinite(rates).all():
        raise ValueError("rates must be finite where a value was seen")
    if (rates < least).any():
        raise ValueError("rates cannot be negative: they are expected counts, not their logarithms")
    return rates
