"""Bounds on the evidence of latent-variable models.

All are lower bounds on log p(x) in expectation; their negatives are upper bounds on the negative
log-likelihood. In nats a sequence. A figure per frame is the total over all sequences divided by
the total number of frames, never a mean of means.

Bounds draw from the caller's random state, and move it on, unless they are given a ``seed``: then
they have a random stream of their own, and say the same each time.
"""

from __future__ import annotations

import contextlib
import functools
import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import NamedTuple

import torch
from pyro import plate, poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import kl_divergence

from ..data import Batch
from .contracts import FrameModel, GibbsModel, SequenceModel
from .particles import run_particles
from .paths import Path, kl_steps
from .rng import RandomStream


class Terms(NamedTuple):
    """The two terms of an ELBO, of every draw and sequence.

    Arguments:
        divergence: the KL term, ``[k, B, T]``: a step each where the latent state is a ``Path``,
            otherwise ``T`` is 1.
        likelihood: log p(x | z), ``[k, B]``.
    """

    divergence: Tensor
    likelihood: Tensor

    @property
    def bound(self) -> Tensor:
        """The evidence lower bound of each sequence, ``[B]``."""
        return (self.likelihood - self.divergence.sum(-1)).mean(0)


def elbo_terms(net, data, particles: int = 1, divergence: Callable = kl_steps) -> Terms:
    """Evaluates the ELBO of a Pyro pair over whole sequences.

    The KL term is exact where torch knows the divergence. For paths that have none it is the
    divergence of each step given the path before it; for anything else, log q - log p of the draw.

    Arguments:
        net: holds ``model(data)`` and ``guide(data)``, with one plate, at dim -1.
        data: what they take.
        particles: draws ``k`` from the guide.
        divergence: ``divergence(q, p, path) -> [..., T]`` of two ``Path`` laws, in place of KL.

    Returns:
        The terms, with a graph.
    """
    drawn, joint = traces(net.model, net.guide, data, particles)
    steps = []
    for name in latent_sites(drawn):
        q, p, value = drawn.nodes[name]["fn"], joint.nodes[name]["fn"], drawn.nodes[name]["value"]
        path = isinstance(q, Path)
        steps.append(divergence(q, p, value) if path else _divergence(q, p, value)[..., None])
    joint.compute_log_prob(lambda name, site: name not in drawn.nodes)
    likelihood = sum(_log_probs(joint)).expand(particles, -1)
    return Terms(sum(steps, torch.zeros_like(likelihood[..., None])), likelihood)


def log_weights(model, guide, data, particles: int) -> Tensor:
    """log p(x, y) - log q(x | y), for each member of the model's outermost plate.

    Arguments:
        model, guide: a Pyro pair with one plate, at dim -1.
        data: their single argument.
        particles: number of independent draws ``k`` from the guide.

    Returns:
        ``[k, N]``, with a graph: ``logsumexp(0) - log k`` is the importance-weighted bound.
    """
    drawn, joint = traces(model, guide, data, particles)
    drawn.compute_log_prob()
    joint.compute_log_prob()
    total = sum(_log_probs(joint)) - sum(_log_probs(drawn))
    return total.expand(particles, -1)


@torch.no_grad()
def elbo(net, batch: Batch, samples: int = 1, seed: int | None = None) -> Tensor:
    """The evidence lower bound, averaged over draws from the guide; ``[B]``, nats a sequence.

    The exact log-likelihood of a model without latent state.

    Arguments:
        net: holds a Pyro pair over a batch.
        batch: the sequences.
        samples: draws from the guide.
        seed: of a random stream of its own; ``None`` draws from the caller's random state.

    Raises:
        ValueError: for less than one sample, a model without a Pyro pair, or one of single frames
            (rVAE, TVAE).
    """
    check_samples(samples)
    data = prepare_whole(net, batch)
    with _stream(batch, "ELBO", seed):
        return elbo_terms(net, data, samples).bound


@torch.no_grad()
def importance_bound(
    net, batch: Batch, samples: int, at_once: int = 10, seed: int | None = None
) -> Tensor:
    """The importance-weighted bound of whole sequences; ``[B]``, nats a sequence.

    Arguments:
        net: holds a Pyro pair over a batch.
        batch: the sequences.
        samples: draws ``k``; the bound rises with them.
        at_once: draws held in memory at a time.
        seed: of a random stream of its own; ``None`` draws from the caller's random state.

    Raises:
        ValueError: for less than one sample, or one held at a time; and as ``elbo`` does.

    Source: Burda et al., "Importance weighted autoencoders" (2016).
    """
    check_samples(samples, at_once=at_once)
    data = prepare_whole(net, batch)
    weigh = functools.partial(log_weights, net.model, net.guide, data)
    with _stream(batch, "importance bound", seed):
        return _in_parts(weigh, samples, at_once)


@torch.no_grad()
def frame_bound(
    net, batch: Batch, samples: int, at_once: int = 25, seed: int | None = None
) -> Tensor:
    """The importance-weighted bound of every frame given those before it, summed; ``[B]``, nats.

    Much tighter than that of whole sequences, but only of models whose latent noise is drawn
    afresh for every frame and forgotten after it (``net.framewise``), such as a VOSP.

    Arguments:
        net, batch, samples, at_once, seed: see ``importance_bound``.

    Raises:
        ValueError: for any other model, less than one sample, or one held at a time.
    """
    check_samples(samples, at_once=at_once)
    weigh = functools.partial(frame_weights, net, prepare_whole(net, batch))
    with _stream(batch, "frame bound", seed):
        return _in_parts(weigh, samples, at_once).sum(-1)


def frame_weights(net, data, particles: int) -> Tensor:
    """log p(x_t, z_t | past) - log q(z_t | past, x), zero in padding; ``[k, B, T]``, with a graph.

    Raises:
        ValueError: when the frames' weights are not independent of one another.
    """
    if not net.framewise:
        return SequenceModel.frame_weights(net, data, particles)  # which says so
    return net.frame_weights(data, particles)


@torch.no_grad()
def particle_bound(
    net, batch: Batch, particles: int, threshold: float = 0.5, seed: int | None = None
) -> Tensor:
    """A particle filter's estimate of log p(x); ``[B]``, nats a sequence.

    Arguments:
        net: a model whose decoder is ``causal`` in the latent path.
        batch: the sequences.
        particles, threshold: see ``run_particles``.
        seed: of a random stream of its own; ``None`` draws from the caller's random state.

    Raises:
        ValueError: when the model's decoder, prior or guide cannot be stepped.
    """
    check_batch(batch)
    with _stream(batch, "particle bound", seed):
        return filter_particles(net, batch, particles, threshold)


def filter_particles(net, batch: Batch, particles: int, threshold: float = 0.5) -> Tensor:
    """``particle_bound`` with a graph."""
    check_samples(particles, "particles")
    lengths, order = batch.mask.sum(1).sort(descending=True)
    steps = net.particle_steps(prepare_whole(net, batch.rows(order)))
    return run_particles(steps, lengths, particles, threshold)[order.argsort()]


def prepare_whole(net, batch: Batch):
    """What the Pyro pair of a model of whole sequences takes: ``net.prepare(batch)``.

    Raises:
        ValueError: for a model without a Pyro pair, one of single frames, or what is no batch.
    """
    check_pair(net)
    check_batch(batch)
    if isinstance(net, FrameModel):
        raise ValueError(
            f"{type(net).__name__} is a model of single frames given the statistics of the past, "
            'so whole sequences are not weighed: inference.loo(..., unit="frame") scores frames'
        )
    return net.prepare(batch)


def check_pair(net) -> None:
    """Raises a ValueError for a model without a Pyro pair, such as a harmonium."""
    if isinstance(net, (FrameModel, SequenceModel)):
        return
    name = type(net).__name__
    if isinstance(net, GibbsModel):
        how = "follow its Gibbs chains with inference.clamped_gibbs and convergence"
    else:
        how = (
            "score its predictions, or let it inherit inference.SequenceModel or FrameModel if it "
            "has one"
        )
    raise ValueError(
        f"{name} has no Pyro pair of model and guide, so nothing can be drawn or weighed: {how}"
    )


def check_batch(batch: Batch) -> None:
    """Raises a ValueError for what is no batch, such as bare frames or a whole data set."""
    if not isinstance(batch, Batch):
        raise ValueError(
            f"this takes a data.Batch, got a {type(batch).__name__}: data.Batch(obs, mask) makes "
            "one of frames, .batch() one of a data set"
        )


def check_samples(samples: int, name: str = "samples", at_once: int = 1) -> None:
    """Raises a ValueError for less than one sample, or none in memory at a time.

    Arguments:
        samples: how many.
        name: of the caller's argument.
        at_once: how many are held in memory at a time.
    """
    if samples < 1:
        raise ValueError(f"{name} must be at least 1, got {samples}: an average needs at least one")
    if at_once < 1:
        raise ValueError(f"at_once must be at least 1, got {at_once}: {name} in memory at a time")


def portions(draws: int, at_once: int) -> list[int]:
    """How many of so many draws are made at a time, which need not be a divisor."""
    return [min(at_once, draws - start) for start in range(0, draws, at_once)]


def _stream(batch: Batch, name: str, seed: int | None) -> AbstractContextManager:
    """A random stream of its own; without a seed, the caller's."""
    return contextlib.nullcontext() if seed is None else RandomStream(batch.obs.device, name, seed)


def _in_parts(weigh: Callable[[int], Tensor], samples: int, at_once: int) -> Tensor:
    """log of the mean of exp over ``samples`` weights, few of them in memory at a time."""
    parts = [weigh(number).logsumexp(0) for number in portions(samples, at_once)]
    return torch.stack(parts).logsumexp(0) - math.log(samples)


def latent_sites(trace) -> list[str]:
    """Names of the latent sites of a trace.

    Pyro counts a plate among ``trace.stochastic_nodes``. The log-probability of its indices is a
    number on the CPU, which does not mix with a latent's on another device.
    """
    names = trace.stochastic_nodes
    return [name for name in names if not site_is_subsample(trace.nodes[name])]


def traces(model, guide, data, particles: int):
    """Traces of guide and model with ``particles`` draws, at dim -2."""

    def vectorised(function):
        def run(data):
            with plate("particles", particles, dim=-2):
                return function(data)

        return run

    drawn = poutine.trace(vectorised(guide)).get_trace(data)
    return drawn, poutine.trace(poutine.replay(vectorised(model), trace=drawn)).get_trace(data)


def _divergence(q, p, value: Tensor) -> Tensor:
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return q.log_prob(value) - p.log_prob(value)


def _log_probs(trace) -> list[Tensor]:
    sites = [site for site in trace.nodes.values() if site["type"] == "sample"]
    return [site["log_prob"] for site in sites if isinstance(site.get("log_prob"), Tensor)]
