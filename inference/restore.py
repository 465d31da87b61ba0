"""Restoring binary sequences with models of latent paths: denoising and imputation.

Each task has two kinds of method. The published one takes modes of q(z | x) and p(x | z): it is
fast, and treats the damaged data as true. The other makes the damage part of the model.

Sources: Bayer & Osendorfer, "Variational inference of latent state sequences using recurrent
networks" (2014), sections 4.2 and 4.3; Rezende et al., "Stochastic backpropagation and approximate
inference in deep generative models" (2014), for ``"gibbs"``; Mattei & Frellsen, "Leveraging the
exact likelihood of deep latent variable models" (2018), for its exact form.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.distributions import constraints

from ..data import Batch, BatchLike
from .checks import check_missing, check_number, check_real, check_samples, check_seed
from .conditional_smc import (
    Evidence,
    FrameSteps,
    PathSteps,
    Trajectory,
    evidence_of_missing,
    evidence_of_noise,
    run_conditional_smc,
    sample_whole_paths,
    smooth,
)
from .contracts import LatentPathModel, Recurrent
from .placing import batch_for
from .rng import RandomStream

STEPS = {"mode": 20, "gibbs": 100, "resample": 10}
MEMORY_INPUTS = ("samples", "restored", "noisy")
SIZE = 400_000  # particles times rows times frames held in memory at a time


@torch.no_grad()
def denoise(
    net: LatentPathModel,
    batch: BatchLike,
    rate: float | None = None,
    num_samples: int = 32,
    seed: int = 0,
    probabilities: bool = False,
    memory_input: str = "samples",
) -> Tensor:
    """Removes wrong notes from binary sequences.

    Without ``rate`` the method is the published one (section 4.2): the mode of q(z | noisy data),
    then the mode of p(x | z). A key that was silent may then sound.

    With ``rate`` the noise is part of the model: it turned each silent key on with this
    probability, and left sounding keys alone. Paths are proposed by the guide and weighed by
    p(noisy data | z) p(z) / q(z). Given z, a key that is heard sounded in truth with probability
    p / (p + (1 - p) rate), and a silent key was silent. Of a missing key nothing is known. The
    algorithm depends on the model:

    * Frames with noise of their own (``net.framewise``, a VOSP): an online filter. Frame t is
      restored from the noisy frames up to t. ``memory_input`` selects the input of the memory.
    * Frames that depend causally on the path (a VRAE with a ``CausalDecoder`` and distributions
      that can be stepped): a particle filter. Its proposals depend on the whole sequence, first on
      the noisy one and then on the result of the first pass. Its weights for frame t depend on
      frames up to t.
    * Any other model: weights of whole paths. In long sequences one path has all the weight, so
      the result is poor.

    Arguments:
        net: a model of latent paths with binary frames (``Bernoulli``, ``NADE``).
        batch: noisy sequences: a ``Batch``, or anything that ``data.as_batch`` takes. Missing
            values (``observed``) are restored, too.
        rate: probability that noise turned a silent key on, in (0, 1).
        num_samples: paths, or particles.
        seed: seed of a private random stream; the caller's random state is left alone.
        probabilities: return the probabilities that keys sounded, not the more likely values.
        memory_input: for a framewise model, the input of its memory in place of the noisy past:
            ``"samples"``, each particle's own sample of the clean frame, which is the exact filter;
            ``"restored"``, the more likely values; ``"noisy"``, the noisy frames.

    Returns:
        ``[B, T, M]``, zero in padding.

    Raises:
        ValueError: for unfit data, ``rate``, ``num_samples`` or ``memory_input``, a model without
            latent paths, missing values that the model does not take, or, with ``rate``, a model
            whose values are not binary.

    Example:
        >>> wrong = data.add_notes(batch.obs, batch.mask, rate=0.05)
        >>> inference.denoise(zoo.load("nottingham/vosp"), Batch(wrong, batch.mask), rate=0.05)
    """
    _check_net(net)
    check_samples(num_samples, seed=seed)
    if rate is not None:
        check_real("rate", rate, above=0, below=1)
    if memory_input not in MEMORY_INPUTS:
        known = ", ".join(MEMORY_INPUTS)
        raise ValueError(f"memory_input must be one of {known}, got {memory_input!r}")
    batch = batch_for(net, batch)
    check_missing(net, batch)
    real = batch.mask[..., None]
    if rate is None:
        method = "mean" if probabilities else "mode"
        return net.reconstruct(batch, method).masked_fill(~real, 0.0)
    _check_binary(net)
    if batch.observed is not None and memory_input == "noisy":
        raise ValueError(
            "memory_input='noisy' needs every value of the noisy frames, and some are missing: "
            "take 'samples' or 'restored'"
        )
    with RandomStream(batch.obs.device, "denoise", seed):
        found = [
            _clean_probabilities(net, part, rate, num_samples, memory_input)
            for part in _blocks(batch, num_samples)
        ]
    found = torch.cat(found).masked_fill(~real, 0.0)
    return found if probabilities else (found > 0.5).to(batch.obs)


def _clean_probabilities(
    net: Any, batch: Batch, rate: float, num_samples: int, memory_input: str
) -> Tensor:
    """Probabilities that keys sounded, ``[B, T, M]``."""
    evidence = evidence_of_noise(batch.obs, rate, batch.observed)
    encoding = net.prepare(batch)
    if _framewise(net):
        fed = batch.obs if memory_input == "noisy" else memory_input
        steps = FrameSteps(net, encoding, evidence, fed)
        return smooth(net.likelihood, steps, evidence, batch.mask, num_samples)
    stepped, restored = PathSteps.applies(net, encoding), torch.zeros_like(batch.obs)
    for again in (False, True):  # the guide, trained on clean data, proposes better from such
        if again:
            cleaner = (restored > 0.5).to(batch.obs)
            encoding = net.prepare(Batch(cleaner, batch.mask, inputs=batch.inputs))
        if stepped:
            steps = PathSteps(net, encoding)
            restored = smooth(net.likelihood, steps, evidence, batch.mask, num_samples)
        else:
            sample, _, weights = sample_whole_paths(
                net.likelihood, net, encoding, evidence, num_samples
            )
            restored = (weights.softmax(0)[..., None, None] * sample.expected).sum(0)
    return restored


class Imputation(NamedTuple):
    """Estimates of missing values; observed values are kept, padding is zero.

    Arguments:
        mean: expected values (probabilities of binary ones), ``[B, T, M]``.
        samples: the sequences at the end of each chain, ``[C, B, T, M]``.
    """

    mean: Tensor
    samples: Tensor


@torch.no_grad()
def impute(
    net: LatentPathModel,
    batch: Batch,
    method: str = "mode",
    steps: int | None = None,
    num_chains: int = 8,
    num_particles: int = 16,
    seed: int = 0,
) -> Imputation:
    """Fills in the values that were not observed.

    All methods start from random bits in their places, because Bernoulli models take no values
    between 0 and 1. The content of ``batch.obs`` there has no influence.

    * ``"mode"`` is the published method (section 4.3): the mode of q(z | x), then the mode of
      p(x | z), replace the missing values, repeatedly. It is a point estimate.
    * ``"gibbs"``: samples z from q(z | x), then the missing values from p(x | z). It is right only
      as far as q is. Within a frame of a NADE it ignores the other observed keys.
    * ``"resample"``: samples z from its posterior by iterated importance resampling. Paths that the
      guide proposes compete with the current path by p(observed | z) p(z) / q(z): step by step
      where the model can be stepped (conditional SMC), otherwise as whole paths. This leaves
      p(z, missing | observed) invariant for any number of particles. The guide of a VRAE sees the
      data as *another* chain has filled them in. (A chain's own data would have to be explained by
      its path as well, which slows it down.) A framewise VOSP is stepped with its own samples of
      missing frames, which later observed frames then weigh. The result is right in the limit of
      many passes. In long sequences the early past changes seldom, because all particles have one
      ancestor there: use more particles, and more chains, over which ``mean`` averages.

    For a VOSP, "mode" and "gibbs" use q and p of the filled-in sequence. Missing frames then depend
    on the filled-in past, and not on observed frames after them.

    Arguments:
        net: a model of latent paths.
        batch: the sequences, with ``observed`` True where a value was seen; see
            ``data.hide_steps``.
        method: ``"mode"``, ``"gibbs"`` or ``"resample"``.
        steps: passes; 20, 100 and 10 by default. The first half is not averaged over, and
            ``"mode"`` returns the last one alone.
        num_chains: independent chains, averaged over; ``"resample"`` needs two.
        num_particles: paths that compete, including the current one (``"resample"``).
        seed: seed of a private random stream; the caller's random state is left alone.

    Raises:
        ValueError: for unfit data or numbers, when nothing is missing, for a model without latent
            paths, or for a method that the model does not have.

    Example:
        >>> batch = data.hide_steps(batch, 8)
        >>> inference.impute(net, batch, method="resample").mean
    """
    _check_net(net)
    if method not in STEPS:
        raise ValueError(f"method must be one of {', '.join(STEPS)}, got {method!r}")
    steps = STEPS[method] if steps is None else steps
    check_seed(seed)
    check_number("steps", steps)
    least = 2 if method == "resample" else 1
    check_number(f"num_chains of {method!r}", num_chains, least)
    check_number(f"num_particles of {method!r}", num_particles, least)
    batch, missing = _blanked(batch_for(net, batch))
    if method == "resample":
        _check_binary(net)
    size = num_particles * num_chains if method == "resample" else num_chains
    blocks = _blocks(batch, size)
    where = zip(blocks, missing.split([len(part) for part in blocks]))
    with RandomStream(batch.obs.device, "impute", seed):
        parts = [
            _imputed(net, part, lost, method, steps, num_chains, num_particles)
            for part, lost in where
        ]
    means, samples = zip(*parts)
    return Imputation(torch.cat(means), torch.cat(samples, 1))


def _imputed(
    net: Any,
    batch: Batch,
    missing: Tensor,
    method: str,
    steps: int,
    num_chains: int,
    num_particles: int,
) -> tuple[Tensor, Tensor]:
    rows, shape = len(batch), (num_chains, *batch.obs.shape)
    filled = torch.where(missing, torch.randint(2, shape).to(batch.obs), batch.obs).flatten(0, 1)
    chains = batch.rows(torch.arange(rows, device=batch.obs.device).repeat(num_chains))
    missing = missing.repeat(num_chains, 1, 1)
    if method == "resample":
        passes = _resampled(net, filled, chains, missing, num_chains, num_particles, steps)
    else:
        passes = _replaced(net, filled, chains, missing, method, steps)
    total = torch.zeros_like(filled)
    kept = range(steps - 1 if method == "mode" else steps // 2, steps)
    for number, (values, expected) in enumerate(passes):
        filled = torch.where(missing, values, filled)
        if number in kept:
            total = total + torch.where(missing, expected, filled)
    mean = (total / len(kept)).view(shape).mean(0)
    return torch.where(missing[:rows], mean, batch.obs), filled.view(shape)


def _replaced(
    net: Any, filled: Tensor, chains: Batch, missing: Tensor, method: str, steps: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Passes of "mode" and "gibbs": frames ``[N, T, M]`` and their expected values."""
    for _ in range(steps):
        encoding = net.prepare(_filled(chains, filled))
        path = encoding.belief.mode if method == "mode" else encoding.belief.rsample()
        natural = net.natural(path, encoding)
        likelihood = net.likelihood
        values = likelihood.mode(natural) if method == "mode" else likelihood.sample(natural)
        yield values, likelihood.mean(natural)
        filled = torch.where(missing, values, filled)


def _resampled(
    net: Any,
    filled: Tensor,
    chains: Batch,
    missing: Tensor,
    num_chains: int,
    num_particles: int,
    steps: int,
) -> Iterator[tuple[Tensor, Tensor]]:
    """Passes of "resample"."""
    evidence, likelihood = evidence_of_missing(filled, missing), net.likelihood
    if _framewise(net):
        encoding, trajectory = net.prepare(_filled(chains, filled)), None
        judged = chains.mask & (
            missing.any(-1).cumsum(1) > 0
        )  # earlier frames have nothing to choose
        for _ in range(steps):
            way = FrameSteps(net, encoding, evidence)
            trajectory = run_conditional_smc(
                likelihood, way, evidence, judged, num_particles, trajectory
            )
            yield trajectory.values, trajectory.expected
        return
    for values, _ in _replaced(net, filled, chains, missing, "gibbs", 10):
        filled = torch.where(missing, values, filled)  # the first proposals depend on these
    current: list[Trajectory | None] = [None, None]
    first = len(filled) // num_chains * (num_chains // 2)
    halves = slice(0, first), slice(first, None)
    for _ in range(steps):
        for turn, (own, other) in enumerate((halves, halves[::-1])):
            partners = filled[other]
            partners = partners.repeat(2, 1, 1)[: len(filled[own])]
            data = _filled(chains.rows(own), partners)
            found = _next_trajectory(net, data, evidence.rows(own), num_particles, current[turn])
            current[turn] = found
            filled = filled.clone()
            filled[own] = torch.where(missing[own], found.values, filled[own])
        halves_found = [half for half in current if half is not None]
        yield (
            torch.cat([half.values for half in halves_found]),
            torch.cat([half.expected for half in halves_found]),
        )


def _filled(chains: Batch, obs: Tensor) -> Batch:
    """Chains with other frames, none of which is missing."""
    return Batch(obs, chains.mask, inputs=chains.inputs)


def _next_trajectory(
    net: Any, data: Batch, evidence: Evidence, num_particles: int, current: Trajectory | None
) -> Trajectory:
    """The next path and data of chains whose guide sees ``data``."""
    encoding, likelihood = net.prepare(data), net.likelihood
    if PathSteps.applies(net, encoding):
        steps = PathSteps(net, encoding)
        return run_conditional_smc(likelihood, steps, evidence, data.mask, num_particles, current)
    sample, path, weights = sample_whole_paths(
        likelihood, net, encoding, evidence, num_particles, current
    )
    chosen = torch.multinomial(weights.softmax(0).T, 1)[:, 0]
    rows = torch.arange(len(chosen), device=chosen.device)
    return Trajectory(*(part[chosen, rows] for part in (path, sample.values, sample.expected)))


# Checks -------------------------------------------------------------------------------------------


def _blanked(batch: Batch) -> tuple[Batch, Tensor]:
    """The data with zeros in place of missing values, and where these are, ``[B, T, M]``."""
    if not isinstance(batch, Batch) or batch.observed is None:
        raise ValueError(
            "nothing is missing: impute needs a Batch with observed, False at some value of a real "
            "frame (data.hide_steps makes one)"
        )
    return _filled(batch, batch.obs), ~batch.observed & batch.mask[..., None]


def _check_net(net: LatentPathModel) -> None:
    if not isinstance(net, LatentPathModel):
        raise ValueError(
            f"{type(net).__name__} has no latent path to restore data with: take a VRAE or a VOSP"
        )


def _check_binary(net: Any) -> None:
    natural = torch.zeros(net.likelihood.natural_dim, device=net.device)
    support = net.likelihood.distribution(natural).support
    if isinstance(support, constraints.independent):
        support = support.base_constraint
    if support is not constraints.boolean:
        raise ValueError(
            f"{type(net.likelihood).__name__} values are not binary: take a model with a Bernoulli "
            "or NADE likelihood"
        )


def _framewise(net: LatentPathModel) -> bool:
    """Whether a model is stepped from frame to frame.

    Raises:
        ValueError: when its frames share latent noise in addition to a memory of frames.
    """
    if not isinstance(net, Recurrent):
        return False
    if not net.framewise:
        raise ValueError(
            f"the frames of this {type(net).__name__} share latent noise: denoise without rate, or "
            "impute with method='gibbs'"
        )
    return True


def _blocks(batch: Batch, copies: int) -> list[Batch]:
    """Rows that are held in memory together."""
    many = max(1, SIZE // (copies * batch.mask.shape[1]))
    return [batch.rows(slice(i, i + many)) for i in range(0, len(batch), many)]
