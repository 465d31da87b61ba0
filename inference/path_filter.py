"""Filtering a latent path by particles, and the frames that they expect next.

Particles at frame t carry z_1 .. z_t and are distributed as p(z_1 .. z_t | x_1 .. x_t), the better
the more there are. The guide proposes z_t from an encoding of x_1 .. x_t alone, so that no particle
knows of a later frame: with an encoding of the whole sequence few particles would, through the
guide's means, and their predictions would look better than they are.

Source: Doucet & Johansen, "A tutorial on particle filtering and smoothing" (2009).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ..data import Batch
from .conditional_smc import PathSteps
from .particles import resample

PARTICLES = 100  # the least that filter; fewer of them are given where fewer are asked for


class Filtering(NamedTuple):
    """Particles of frame t, ``k`` of each sequence.

    Arguments:
        ahead: natural parameters of frame t given the particles of frame t - 1, ``[k, B, N]``.
        state: z_t given x_1 .. x_t, ``[k, B, K]``.
        natural: natural parameters of frame t given these, ``[k, B, N]``.
    """

    ahead: Tensor
    state: Tensor
    natural: Tensor


def filter_paths(net: Any, batch: Batch, num_particles: int) -> Iterator[Filtering]:
    """Particles of each frame in turn, all of equal weight.

    Arguments:
        net: a model that ``PathSteps`` runs, such as a ``VRAE`` with a ``CausalDecoder``.
        batch: the sequences.
        num_particles: ``k``, with ``PARTICLES`` as the least.
    """
    number = max(num_particles, PARTICLES)
    seen = batch.observed_frames
    encoding = net.prepare(batch)
    prior = PathSteps(net, encoding._replace(belief=net.path_prior(batch.mask)))
    state = prior.begin(number)
    for t in range(batch.obs.shape[1]):
        ahead_state, ahead_path, ahead, _ = prior.step(t, state)
        if not seen[:, t].any():
            state, path, natural = ahead_state, ahead_path, ahead
        else:
            steps = PathSteps(net, net.encoded(batch.window(0, t + 1)))
            state, path, natural, ratio = steps.step(t, state)
            weights = ratio + net.frame_log_prob(natural, batch, t)
            blank = ~seen[:, t, None]
            state = tuple(
                torch.where(blank, before, now) for before, now in zip(ahead_state, state)
            )
            path, natural = torch.where(blank, ahead_path, path), torch.where(blank, ahead, natural)
            parts = (*state, path, natural)
            *state, path, natural = resample(parts, weights, seen[:, t])
            state = tuple(state)
        yield Filtering(*(thinned(part, num_particles) for part in (ahead, path, natural)))


def thinned(particles: Tensor, number: int) -> Tensor:
    """Some of the particles, evenly apart: systematic resampling keeps their order."""
    if number == len(particles):
        return particles
    chosen = torch.linspace(0, len(particles) - 1, number).round().long()
    return particles[chosen.to(particles.device)]
