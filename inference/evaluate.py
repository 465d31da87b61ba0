"""Bounds on the evidence of latent-variable models.

All are lower bounds on log p(x) in expectation, in nats per sequence. Their negatives are upper
bounds on the negative log-likelihood. A figure per frame is the total over all sequences divided
by the total number of frames, never a mean of means.

``elbo``, ``importance_bound``, ``frame_bound`` and ``particle_bound`` sample from a private random
stream, so they return the same value for the same ``seed``. With ``graph=True`` they can be
differentiated: they keep the graph and sample from torch's global random state, which ``fit`` sets
for every update of a rule. So do the functions under "Estimators", which take prepared data.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Container, Iterator, Mapping
from contextlib import contextmanager, nullcontext
from typing import Any, NamedTuple

import torch
from pyro import plate, poutine
from pyro.distributions.util import scale_and_mask
from pyro.poutine import Trace
from pyro.poutine.util import site_is_subsample
from torch import Tensor, nn
from torch.distributions import Distribution, kl_divergence

from ..data import Batch, BatchLike
from .checks import check_missing, check_number, check_samples, check_seed, portions
from .contracts import FrameModel, GibbsModel, SequenceModel
from .particles import run_particles
from .paths import Path, kl_steps
from .placing import batch_for
from .rng import LOCK, RandomStream

# Bounds -------------------------------------------------------------------------------------------


def elbo(
    net: SequenceModel,
    batch: BatchLike,
    num_samples: int = 1,
    seed: int = 0,
    graph: bool = False,
) -> Tensor:
    """The evidence lower bound, averaged over samples from the guide; ``[B]``, nats per sequence.

    It is the exact log-likelihood of a model without latent state.

    Arguments:
        net: a model with a Pyro pair over sequences.
        batch: the sequences: a ``Batch``, or anything that ``data.as_batch`` takes.
        num_samples: samples from the guide.
        seed: seed of a private random stream; the caller's random state is left alone.
        graph: keep the graph of the gradient, and sample from torch's global random state: for
            ``backward``, as in a rule of your own. A seed cannot be given then.

    Raises:
        ValueError: for less than one sample, for a seed beside ``graph``, for a model without a
            Pyro pair, or for a model of single frames (rVAE, TVAE).
    """
    check_samples(num_samples, seed=seed)
    batch = batch_for(net, batch)
    with _drawing(batch, "ELBO", seed, graph):
        return elbo_terms(net, prepare_whole(net, batch), num_samples).bound


def importance_bound(
    net: SequenceModel,
    batch: BatchLike,
    num_samples: int,
    at_once: int = 10,
    seed: int = 0,
    graph: bool = False,
) -> Tensor:
    """The importance-weighted bound of whole sequences; ``[B]``, nats per sequence.

    Arguments:
        net: a model with a Pyro pair over sequences.
        batch: the sequences: a ``Batch``, or anything that ``data.as_batch`` takes.
        num_samples: samples ``k`` from the guide; the bound rises with their number.
        at_once: samples held in memory at a time.
        seed: seed of a private random stream; the caller's random state is left alone.
        graph: keep the graph, of all samples at once, see ``elbo``.

    Raises:
        ValueError: for less than one sample in all or at a time; otherwise as ``elbo``.

    Source: Burda et al., "Importance weighted autoencoders" (2016).
    """
    check_samples(num_samples, at_once, seed)
    batch = batch_for(net, batch)
    with _drawing(batch, "importance bound", seed, graph):
        return importance_estimate(net, prepare_whole(net, batch), num_samples, at_once)


def frame_bound(
    net: SequenceModel,
    batch: BatchLike,
    num_samples: int,
    at_once: int = 25,
    seed: int = 0,
    graph: bool = False,
) -> Tensor:
    """The importance-weighted bound of each frame given those before it, summed; ``[B]``, nats.

    It is much tighter than the bound of whole sequences. It needs a model that samples its latent
    noise independently for each frame (``net.framewise``), such as a VOSP.

    Arguments:
        net, batch, num_samples, at_once, seed, graph: see ``importance_bound``.

    Raises:
        ValueError: for any other model, or for less than one sample in all or at a time.
    """
    check_samples(num_samples, at_once, seed)
    batch = batch_for(net, batch)
    with _drawing(batch, "frame bound", seed, graph):
        return frame_estimate(net, prepare_whole(net, batch), num_samples, at_once)


def particle_bound(
    net: SequenceModel,
    batch: BatchLike,
    num_particles: int,
    threshold: float = 0.5,
    seed: int = 0,
    graph: bool = False,
) -> Tensor:
    """A particle filter's estimate of log p(x); ``[B]``, nats per sequence.

    Arguments:
        net: a model whose decoder is ``causal`` in the latent path.
        batch: the sequences: a ``Batch``, or anything that ``data.as_batch`` takes.
        num_particles, threshold: see ``run_particles``.
        seed: seed of a private random stream; the caller's random state is left alone.
        graph: keep the graph, see ``elbo``.

    Raises:
        ValueError: when the model's decoder, prior or guide cannot be stepped.
    """
    check_seed(seed)
    check_number("num_particles", num_particles)
    batch = batch_for(net, batch)
    with _drawing(batch, "particle bound", seed, graph):
        return particle_estimate(net, batch, num_particles, threshold)


@contextmanager
def _drawing(batch: Batch, name: str, seed: int, graph: bool) -> Iterator[None]:
    """Where a bound draws: a private stream without a graph, or the global state with one."""
    if graph and seed:
        raise ValueError(
            f"graph=True draws from torch's global random state: leave seed={seed} out, or call "
            "torch.manual_seed"
        )
    stream = nullcontext() if graph else RandomStream(batch.obs.device, name, seed)
    with torch.set_grad_enabled(graph), stream:
        yield


# Estimators ---------------------------------------------------------------------------------------


class Terms(NamedTuple):
    """The two terms of an ELBO, for every sample and sequence.

    Arguments:
        divergence: the KL term, ``[k, B, T]``: one value per step where the latent state is a
            ``Path``, otherwise ``T`` is 1.
        likelihood: log p(x | z), ``[k, B]``.
    """

    divergence: Tensor
    likelihood: Tensor

    @property
    def bound(self) -> Tensor:
        """The evidence lower bound of each sequence, ``[B]``."""
        return (self.likelihood - self.divergence.sum(-1)).mean(0)


def elbo_terms(
    net: SequenceModel,
    data: Any,
    num_samples: int = 1,
    divergence: Callable[..., Tensor] = kl_steps,
) -> Terms:
    """Evaluates the ELBO of a Pyro pair over whole sequences.

    The KL term is exact where torch knows the divergence. For other paths it is the divergence of
    each step given the sampled path before it. For any other latent it is log q - log p of the
    sample.

    Arguments:
        net: has ``model(data)`` and ``guide(data)``, with one plate, at dim -1.
        data: the argument of both.
        num_samples: samples ``k`` from the guide.
        divergence: ``divergence(q, p, path) -> [..., T]`` of two ``Path`` distributions, in place
            of the KL divergence.

    Returns:
        The terms, with a graph.
    """
    guided, joint = traces(net.model, net.guide, data, num_samples)
    latents, priors, steps = sites(guided), sites(joint), []
    for name in latent_sites(guided):
        q, p, value = latents[name]["fn"], priors[name]["fn"], latents[name]["value"]
        path = isinstance(q, Path)
        steps.append(divergence(q, p, value) if path else _divergence(q, p, value)[..., None])
    likelihood = _log_prob(joint, set(guided.nodes)).expand(num_samples, -1)
    return Terms(sum(steps, torch.zeros_like(likelihood[..., None])), likelihood)


def negative_elbo(
    model: Callable[..., Any], guide: Callable[..., Any], data: Any, num_samples: int = 1
) -> Tensor:
    """The negative ELBO of a Pyro pair, summed over its plate and averaged over samples (nats).

    The KL term is exact where torch knows the divergence. This is Pyro's ``TraceMeanField_ELBO``
    without its checks for NaN, each of which waits for a GPU.

    Arguments:
        model, guide: a Pyro pair with one plate, at dim -1.
        data: their single argument.
        num_samples: independent samples from the guide.

    Raises:
        ValueError: for a latent whose samples carry no gradient.
    """
    if num_samples == 1:  # without an axis of samples
        guided, joint = _traced(model, guide, data)
    else:
        guided, joint = traces(model, guide, data, num_samples)
    beliefs, total = sites(guided), torch.zeros(())
    for name, site in sites(joint).items():
        if site_is_subsample(joint.nodes[name]):
            continue
        if site["is_observed"]:
            total = total + _scaled(site["fn"].log_prob(site["value"]), site).sum()
        else:
            q = beliefs[name]["fn"]
            if not q.has_rsample:
                raise ValueError(f"samples of {name!r} carry no gradient: {q} has no rsample")
            total = total - _scaled(_divergence(q, site["fn"], site["value"]), beliefs[name]).sum()
    return -total / num_samples


def log_weights(
    model: Callable[..., Any], guide: Callable[..., Any], data: Any, num_samples: int
) -> Tensor:
    """log p(x, y) - log q(x | y), for each member of the model's outermost plate.

    Arguments:
        model, guide: a Pyro pair with one plate, at dim -1.
        data: their single argument.
        num_samples: independent samples ``k`` from the guide.

    Returns:
        ``[k, N]``, with a graph: ``logsumexp(0) - log k`` is the importance-weighted bound.
    """
    guided, joint = traces(model, guide, data, num_samples)
    return (_log_prob(joint) - _log_prob(guided)).expand(num_samples, -1)


def importance_estimate(
    net: SequenceModel, data: Any, num_samples: int, at_once: int = 10
) -> Tensor:
    """``importance_bound`` of prepared data, from the global random state; ``[B]``."""
    weigh = functools.partial(log_weights, net.model, net.guide, data)
    return _log_mean_weight(weigh, num_samples, at_once)


def frame_estimate(net: SequenceModel, data: Any, num_samples: int, at_once: int = 25) -> Tensor:
    """``frame_bound`` of prepared data, from the global random state; ``[B]``."""
    weigh = functools.partial(frame_weights, net, data)
    return _log_mean_weight(weigh, num_samples, at_once).sum(-1)


def frame_weights(net: SequenceModel, data: Any, num_samples: int) -> Tensor:
    """log p(x_t, z_t | past) - log q(z_t | past, x), zero in padding; ``[k, B, T]``, with a graph.

    Raises:
        ValueError: when the frames' weights are not independent of one another.
    """
    if not net.framewise:
        return SequenceModel.frame_weights(net, data, num_samples)  # raises the error
    return net.frame_weights(data, num_samples)


def particle_estimate(
    net: SequenceModel, batch: Batch, num_particles: int, threshold: float = 0.5
) -> Tensor:
    """``particle_bound`` with a graph, from the global random state; ``[B]``."""
    check_number("num_particles", num_particles)
    lengths, order = batch.host.mask.sum(1).sort(descending=True)
    data = prepare_whole(net, batch.rows(order.tolist()))
    found = run_particles(net.particle_steps(data), lengths.tolist(), num_particles, threshold)
    return found[order.argsort().tolist()]


# Preparing and checking ---------------------------------------------------------------------------


def prepare_whole(net: SequenceModel, batch: Batch) -> Any:
    """``net.prepare(batch)``: the argument of the Pyro pair of a model of whole sequences.

    Raises:
        ValueError: for a model without a Pyro pair, for a model of single frames, or for missing
            values that the model does not leave out.
    """
    check_pair(net)
    if isinstance(net, FrameModel):
        raise ValueError(
            f"{type(net).__name__} is a model of single frames given the statistics of the past, "
            'not of whole sequences: inference.loo(..., unit="frame") scores frames'
        )
    check_missing(net, batch)
    return net.prepare(batch)


def check_pair(net: nn.Module) -> None:
    """Raises a ValueError for a model without a Pyro pair, such as a harmonium."""
    if isinstance(net, (FrameModel, SequenceModel)):
        return
    if isinstance(net, GibbsModel):
        advice = "follow its Gibbs chains with inference.clamped_gibbs and convergence"
    else:
        advice = (
            "score its predictions, or let it inherit inference.SequenceModel or FrameModel if it "
            "has one"
        )
    raise ValueError(
        f"{type(net).__name__} has no Pyro pair of model and guide to sample from: {advice}"
    )


def _log_mean_weight(weigh: Callable[[int], Tensor], num_samples: int, at_once: int) -> Tensor:
    """log of the mean of exp over ``num_samples`` weights, at most ``at_once`` in memory."""
    parts = [weigh(number).logsumexp(0) for number in portions(num_samples, at_once)]
    return torch.stack(parts).logsumexp(0) - math.log(num_samples)


def latent_sites(trace: Trace) -> list[str]:
    """Names of the latent sites of a trace.

    Pyro counts plates among ``trace.stochastic_nodes``. They are left out: the log-probability of
    a plate's indices is on the CPU, and cannot be added to that of a latent on another device.
    """
    names = trace.stochastic_nodes
    return [name for name in names if not site_is_subsample(trace.nodes[name])]


def traces(
    model: Callable[..., Any], guide: Callable[..., Any], data: Any, num_samples: int
) -> tuple[Trace, Trace]:
    """Traces of guide and model with ``num_samples`` samples, at dim -2."""

    def vectorised(function: Callable[..., Any]) -> Callable[..., Any]:
        def run(data: Any) -> Any:
            with plate("samples", num_samples, dim=-2):
                return function(data)

        return run

    return _traced(vectorised(model), vectorised(guide), data)


def _traced(model: Callable[..., Any], guide: Callable[..., Any], data: Any) -> tuple[Trace, Trace]:
    with LOCK:  # Pyro's stack of handlers is one for all threads
        guided = poutine.trace(guide).get_trace(data)
        return guided, poutine.trace(poutine.replay(model, trace=guided)).get_trace(data)


def sites(trace: Trace) -> dict[str, dict[str, Any]]:
    """The sample sites of a trace by name, plates among them."""
    nodes = {name: dict(site) for name, site in trace.nodes.items()}
    return {name: site for name, site in nodes.items() if site["type"] == "sample"}


def _divergence(q: Distribution, p: Distribution, value: Tensor) -> Tensor:
    try:
        return kl_divergence(q, p)
    except NotImplementedError:
        return q.log_prob(value) - p.log_prob(value)


def _scaled(value: Tensor, site: Mapping[str, Any]) -> Tensor:
    """A term of a site under the scale and the mask of Pyro's handlers."""
    return scale_and_mask(value, site["scale"], site["mask"])


def _log_prob(trace: Trace, without: Container[str] = ()) -> Tensor:
    """The sum of the sites' log-probabilities; zero where there is none.

    Pyro's own sum checks each for NaN, for which a GPU has to be waited for.
    """
    total = torch.zeros(())
    for name, site in sites(trace).items():
        if name not in without and not site_is_subsample(trace.nodes[name]):
            total = total + _scaled(site["fn"].log_prob(site["value"]), site)
    return total
