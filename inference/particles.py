"""Particle filters: bounds on the evidence of models whose decoder is causal in the latent path.

Source: Doucet & Johansen, "A tutorial on particle filtering and smoothing" (2009); as a training
objective, Maddison et al., "Filtering variational objectives" (2017).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol

import torch
from torch import Tensor

from .checks import check_number, check_real

State = tuple[Tensor, ...]


class ParticleSteps(Protocol):
    """One pass of particles along a batch of sequences, the longest sequence first.

    * ``begin(num_particles) -> state``, tensors ``[k, B, ...]``;
    * ``step(t, state) -> state, weights [k, B]``: draws z_t from the proposal and weighs it by
      p(x_t, z_t | past) / q(z_t | past, x). The state may hold the first rows of the batch alone.
    """

    def begin(self, num_particles: int) -> State: ...

    def step(self, t: int, state: State) -> tuple[State, Tensor]: ...


def run_particles(
    steps: ParticleSteps, lengths: Sequence[int], num_particles: int, threshold: float = 0.5
) -> Tensor:
    """Estimates log p(x) of each sequence; ``[B]``, with a graph through draws and weights.

    The estimate of p(x) itself is unbiased, so the expectation of its logarithm never exceeds
    log p(x). Particles are resampled (systematically) where the effective sample size falls below
    a fraction of their number. No gradient passes through the choice.

    Arguments:
        steps: see ``ParticleSteps``.
        lengths: frames of each sequence, in descending order.
        num_particles: ``k``.
        threshold: that fraction, in [0, 1]; 1 resamples at every step, 0 never.

    Raises:
        ValueError: for numbers out of range.
    """
    check_number("num_particles", num_particles)
    check_real("threshold", threshold, least=0, most=1)
    state = steps.begin(num_particles)
    device = state[0].device if state else None
    weights = torch.zeros(num_particles, len(lengths), device=device)  # log, not normalised
    evidence = []  # of the sequences that have ended, the last of the batch first
    total = torch.zeros(len(lengths), device=device)
    alive = [sum(length > t for length in lengths) for t in range(lengths[0])]
    for t, rows in enumerate(alive):
        if rows < len(total):  # these sequences have ended
            evidence.append((total + log_mean_exp(weights))[rows:])
            state = tuple(part[:, :rows] for part in state)
            weights, total = weights[:, :rows], total[:rows]
        if t and threshold:
            poor = effective_size(weights.detach()) < threshold * num_particles
            poor |= torch.full_like(poor, threshold == 1)
            if poor.any():
                total = torch.where(poor, total + log_mean_exp(weights), total)
                state = resample(state, weights.detach(), poor)
                weights = torch.where(poor, torch.zeros_like(weights), weights)
        state, new = steps.step(t, state)
        weights = weights + new
    evidence.append(total + log_mean_exp(weights))
    return torch.cat(evidence[::-1])


def log_mean_exp(weights: Tensor) -> Tensor:
    """log of the mean of exp over the first axis, ``[k, ...] -> [...]``."""
    return weights.logsumexp(0) - math.log(len(weights))


def effective_size(weights: Tensor) -> Tensor:
    """Effective sample size, ``[B]``."""
    return (2 * weights.logsumexp(0) - (2 * weights).logsumexp(0)).exp()


def resample(state: State, weights: Tensor, where: Tensor) -> State:
    """Systematic resampling of the columns marked in ``where [B]``."""
    number, rows = weights.shape
    cumulative = weights.softmax(0).cumsum(0)
    combs = torch.arange(number, device=weights.device)[:, None]
    marks = (combs + torch.rand(rows, device=weights.device)) / number
    chosen = torch.searchsorted(cumulative.T.contiguous(), marks.T.contiguous()).T
    chosen = chosen.clamp_max(number - 1)
    chosen = torch.where(where, chosen, combs)
    columns = torch.arange(rows, device=weights.device)
    return tuple(part[chosen, columns] for part in state)
