"""Measures of predicted firing rates: bits per spike, R² after a linear map, and PSTHs.

Bits per spike and the R² of PSTHs are those of Pei et al., "Neural Latents Benchmark '21:
evaluating latent variable models of neural population activity" (2021).
"""

from __future__ import annotations

import math
from collections.abc import Hashable, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...data import Batch, BatchLike, as_batch
from ..checks import check_real

FLOOR = 1e-9  # of a rate, as in the benchmark: a spike at a rate of zero would be infinitely wrong


def bits_per_spike(rates: Tensor, batch: BatchLike) -> float:
    """How much better rates predict spikes than the mean of each neuron does, in bits per spike.

        (log p(spikes | rates) - log p(spikes | means)) / (number of spikes · log 2)

    Both are Poisson log-likelihoods of the counts that were seen. The means are those of the counts
    scored. For co-smoothing, give the held-out neurons and their rates.

    Arguments:
        rates: expected counts, ``[B, T, M]``.
        batch: the counts: a ``Batch``, or anything that ``data.as_batch`` takes.

    Raises:
        ValueError: for rates of another shape, negative or not finite, negative counts, or counts
            without a single spike.
    """
    batch = as_batch(batch)
    seen, counts, rates = _seen(batch), batch.obs.double(), _checked(rates, batch)
    if (counts < 0).any():
        raise ValueError("counts of spikes cannot be negative")
    total = counts.sum()
    if total == 0:
        raise ValueError("there is no spike among the counts, so there are no bits per spike")
    means = (counts.sum((0, 1)) / seen.sum((0, 1)).clamp_min(1)).expand_as(counts)

    def log_likelihood(expected: Tensor) -> Tensor:
        expected = expected.clamp_min(FLOOR)
        return ((counts * expected.log() - expected) * seen).sum()

    return float((log_likelihood(rates) - log_likelihood(means)) / total / math.log(2))


class Decoder(NamedTuple):
    """An affine map, fitted by ``fit_decoder``.

    Arguments:
        weight: ``[K, D]``.
        bias: ``[D]``.
    """

    weight: Tensor
    bias: Tensor

    def __call__(self, features: Tensor) -> Tensor:
        """``[..., K] -> [..., D]``."""
        return features.to(self.weight) @ self.weight + self.bias


def fit_decoder(features: Tensor, target: Tensor, mask: Tensor, ridge: float = 1e-6) -> Decoder:
    """The affine map from latents or rates to true states, behaviour or rates, by least squares.

    Fit it on training data, and score it on other data with ``r_squared``.

    Arguments:
        features: ``[B, T, K]``.
        target: ``[B, T, D]``.
        mask: which frames count, ``[B, T]``.
        ridge: penalty on squared weights, relative to the mean variance of the features.

    Raises:
        ValueError: for shapes that do not match, values that are not finite, or a negative ridge.
    """
    check_real("ridge", ridge, least=0)
    x, y = _rows(features, mask, "features"), _rows(target, mask, "target")
    centre, middle = x.mean(0), y.mean(0)
    x, y = x - centre, y - middle
    gram = x.T @ x
    penalty = ridge * gram.diagonal().mean().clamp_min(1e-12)
    eye = torch.eye(len(gram), dtype=gram.dtype, device=gram.device)
    weight = torch.linalg.solve(gram + penalty * eye, x.T @ y)
    return Decoder(weight, middle - centre @ weight)


def r_squared(predicted: Tensor, target: Tensor, mask: Tensor) -> Tensor:
    """The coefficient of determination of each column, ``[D]``; NaN where a target is constant.

    Arguments:
        predicted, target: ``[B, T, D]``.
        mask: which frames count, ``[B, T]``.

    Raises:
        ValueError: for shapes that do not match, or values that are not finite.
    """
    found, wanted = _rows(predicted, mask, "predicted"), _rows(target, mask, "target")
    if found.shape != wanted.shape:
        raise ValueError(
            f"predicted {tuple(predicted.shape)} and target {tuple(target.shape)} differ in shape"
        )
    residual, spread = (wanted - found).square().sum(0), (wanted - wanted.mean(0)).square().sum(0)
    return torch.where(spread > 0, 1 - residual / spread, torch.full_like(spread, math.nan))


def psth(values: Tensor, batch: BatchLike, conditions: Sequence[Hashable]) -> Tensor:
    """Means over the trials of each condition, in the order in which conditions first appear.

    Arguments:
        values: counts or rates, ``[B, T, M]``.
        batch: says which values were seen: a ``Batch``, or anything that ``data.as_batch`` takes.
        conditions: the condition of each trial, ``[B]``.

    Returns:
        ``[C, T, M]``, NaN in bins that no trial of the condition has.

    Raises:
        ValueError: for shapes or numbers of conditions that do not match.
    """
    batch = as_batch(batch)
    seen, values = _seen(batch), _checked(values, batch, least=-math.inf)
    if len(conditions) != len(batch):
        raise ValueError(f"{len(conditions)} conditions for {len(batch)} trials")
    means = []
    for condition in dict.fromkeys(conditions):
        rows = [row for row, each in enumerate(conditions) if each == condition]
        number = seen[rows].sum(0)
        total = (values[rows] * seen[rows]).sum(0)
        means.append(torch.where(number > 0, total / number, torch.full_like(total, math.nan)))
    return torch.stack(means)


def psth_r_squared(rates: Tensor, batch: BatchLike, conditions: Sequence[Hashable]) -> float:
    """R² between PSTHs of predicted rates and of counts, averaged over the neurons.

    Arguments:
        rates: expected counts, ``[B, T, M]``.
        batch: the counts.
        conditions: the condition of each trial, ``[B]``.

    Raises:
        ValueError: as ``psth`` does.
    """
    batch = as_batch(batch)
    wanted, found = psth(batch.obs, batch, conditions), psth(rates, batch, conditions)
    scores = []
    for target, predicted in zip(wanted.flatten(0, 1).T, found.flatten(0, 1).T):
        known = target.isfinite()
        spread = (target[known] - target[known].mean()).square().sum()
        if spread > 0:
            scores.append(1 - (target - predicted)[known].square().sum() / spread)
    if not scores:
        raise ValueError("no neuron's PSTH varies, so there is no R²")
    return float(torch.stack(scores).mean())


def _seen(batch: Batch) -> Tensor:
    """Which values count, ``[B, T, M]``, float64."""
    seen = batch.mask[..., None].expand(batch.obs.shape)
    return (seen if batch.observed is None else batch.observed).double()


def _checked(rates: Tensor, batch: Batch, least: float = 0.0) -> Tensor:
    """Values as float64, zero where nothing was seen."""
    if rates.shape != batch.obs.shape:
        raise ValueError(f"rates are {tuple(rates.shape)}, the batch is {tuple(batch.obs.shape)}")
    rates = rates.detach().to(batch.obs.device).double()
    rates = torch.where(_seen(batch) > 0, rates, torch.zeros_like(rates))
    if not torch.isfinite(rates).all() or (rates < least).any():
        raise ValueError("rates must be finite, and cannot be negative")
    return rates


def _rows(values: Tensor, mask: Tensor, name: str) -> Tensor:
    """The frames that count, ``[N, D]``, float64."""
    if values.dim() != 3 or mask.shape != values.shape[:2] or not mask.any():
        raise ValueError(
            f"{name} must be [B, T, D] beside a mask [B, T] with a frame that counts, got "
            f"{tuple(values.shape)} and {tuple(mask.shape)}"
        )
    rows = values.detach()[mask.to(values.device)].double()
    if not torch.isfinite(rows).all():
        raise ValueError(f"{name} must be finite in every frame that counts")
    return rows
