"""Restoring binary sequences with models of latent paths: wrong notes out, missing values in.

Each task can be done in the way of the paper, by modes of q(z | x) and p(x | z), which is fast and
takes the damaged data for true; and with the damage as part of the model.

Sources: Bayer & Osendorfer, "Variational inference of latent state sequences using recurrent
networks" (2014), sections 4.2 and 4.3; Rezende et al., "Stochastic backpropagation and approximate
inference in deep generative models" (2014), for ``"gibbs"``; Mattei & Frellsen, "Leveraging the
exact likelihood of deep latent variable models" (2018), for its exact form.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.distributions import constraints

from ..data import Batch, check_sequences
from .checks import check_samples
from .conditional_smc import (
    Draw,
    Evidence,
    FrameSteps,
    PathSteps,
    draw_whole,
    hidden,
    noisy,
    smooth,
    swarm,
)
from .contracts import LatentPathModel, Recurrent
from .rng import RandomStream

STEPS = {"mode": 20, "gibbs": 100, "resample": 10}
FED = ("draws", "restored", "noisy")
SIZE = 400_000  # particles times rows times frames held in memory at a time


@torch.no_grad()
def denoise(
    net,
    obs: Tensor,
    mask: Tensor | None = None,
    rate: float | None = None,
    samples: int = 32,
    seed: int = 0,
    probabilities: bool = False,
    fed: str = "draws",
) -> Tensor:
    """Takes wrong notes out of binary sequences.

    Without ``rate``, as published (section 4.2): the mode of q(z | noisy data), then the mode of
    p(x | z). A key that was silent may then sound.

    With ``rate``, the noise is part of the model: a silent key was turned on with this probability
    and a sounding one left alone. Paths are proposed by the guide and weighed by
    p(noisy data | z) p(z) / q(z); a key that is heard sounded in truth with probability
    p / (p + (1 - p) rate) given z, and a silent one was silent. How it is done depends on the net:

    * frames with noise of their own (``net.framewise``, a VOSP): online; frame t is restored from
      the noisy frames up to t alone. The memory of the past is fed with clean frames, see ``fed``.
    * frames that depend causally on the path (a VRAE with a ``CausalDecoder`` and laws that can be
      stepped): a particle filter. Its proposals read the whole sequence, at first the noisy one
      and then, anew, what that restored; its weights for frame t know frames up to t.
    * any other: weights of whole paths. They tell little in long sequences, where one path has
      all the weight.

    Arguments:
        net: a model of latent paths with binary frames (``Bernoulli``, ``NADE``).
        obs: noisy data, ``[B, T, M]``.
        mask: True where a frame is real, ``[B, T]``.
        rate: probability that noise turned a silent key on, in (0, 1).
        samples: paths, or particles.
        seed: seed of the draws; the caller's random state is left alone.
        probabilities: return probabilities that a key sounded, not the likelier value.
        fed: what a framewise model's memory reads in place of the noisy past: ``"draws"``, each
            particle its own draw of the clean frame, which is the exact filter; ``"restored"``,
            the likelier values; ``"noisy"``, the noisy frames.

    Returns:
        ``[B, T, M]``, zero in padding.

    Raises:
        ValueError: for unfit data, ``rate``, ``samples`` or ``fed``, a net without latent paths,
            or, with ``rate``, a net whose values are not binary.

    Example:
        >>> wrong = data.add_notes(batch.obs, batch.mask, rate=0.05)
        >>> inference.denoise(zoo.load("nottingham/vosp"), wrong, batch.mask, rate=0.05)
    """
    _check_net(net)
    check_samples(samples)
    if fed not in FED:
        raise ValueError(f"fed must be one of {', '.join(FED)}, got {fed!r}")
    batch = Batch(obs, mask)
    real = batch.mask[..., None]
    if rate is None:
        by = "mean" if probabilities else "mode"
        return net.reconstruct(batch.obs, batch.mask, by=by).masked_fill(~real, 0.0)
    if not 0 < rate < 1:
        raise ValueError(f"rate must be a probability between 0 and 1, got {rate}")
    _check_binary(net)
    net.check(batch.obs[batch.mask])
    with RandomStream(obs.device, "denoise", seed):
        found = [_denoised(net, part, rate, samples, fed) for part in _blocks(batch, samples)]
    found = torch.cat(found).masked_fill(~real, 0.0)
    return found if probabilities else (found > 0.5).to(obs)


def _denoised(net, batch: Batch, rate: float, samples: int, fed: str) -> Tensor:
    """Probabilities that keys sounded, ``[B, T, M]``."""
    seen, encoding = noisy(batch.obs, rate), net.prepare(batch)
    if _framewise(net):
        fed = batch.obs if fed == "noisy" else fed
        steps = FrameSteps(net, encoding, seen, fed)
        return smooth(net.likelihood, steps, seen, batch.mask, samples)
    stepped, restored = PathSteps.fit(net, encoding), None
    for _ in range(2):  # the guide knows clean data alone: it proposes better from restored ones
        if restored is not None:
            encoding = net.prepare(Batch((restored > 0.5).to(batch.obs), batch.mask))
        if stepped:
            steps = PathSteps(net, encoding)
            restored = smooth(net.likelihood, steps, seen, batch.mask, samples)
        else:
            drawn, _, weights = draw_whole(net.likelihood, net, encoding, seen, samples)
            restored = (weights.softmax(0)[..., None, None] * drawn.expected).sum(0)
    return restored


class Imputation(NamedTuple):
    """What missing values may have been; observed values are kept, padding is zero.

    Arguments:
        mean: their expectations: probabilities, of binary values; ``[B, T, M]``.
        draws: the sequences that each chain ended with, ``[C, B, T, M]``.
    """

    mean: Tensor
    draws: Tensor


@torch.no_grad()
def impute(
    net,
    obs: Tensor,
    mask: Tensor | None = None,
    observed: Tensor | None = None,
    by: str = "mode",
    steps: int | None = None,
    chains: int = 8,
    particles: int = 16,
    seed: int = 0,
) -> Imputation:
    """Fills in the values that were not observed.

    All ways start from random bits in their places (Bernoulli models take nothing between 0 and
    1); what ``obs`` holds there has no influence, and may be NaN.

    * ``"mode"``, as published (section 4.3): mode of q(z | x), mode of p(x | z), replace the
      missing values, again and again. A point estimate.
    * ``"gibbs"``: draw z from q(z | x), then the missing values from p(x | z). Right only as far
      as q is; within a frame of a NADE it does not heed which other keys were observed.
    * ``"resample"``: draw z from its posterior by iterated importance resampling: paths that the
      guide proposes compete, with the current one among them, by p(observed | z) p(z) / q(z),
      step by step where the model can be stepped (a conditional particle filter), else as whole
      paths. Leaves p(z, missing | observed) invariant, however few the particles. A VRAE's guide
      reads the data as *another* chain has filled them in: a chain's own would have to
      count among what the path explains, which slows it down. A framewise VOSP is stepped
      through from its own draws of missing frames, which observed frames later on judge.
      It is right in the limit of many passes. In long sequences passes change the past seldom
      (at the end all particles have one ancestor there): give more particles, and more chains,
      whose average is what ``mean`` is.

    "mode" and "gibbs" go through a VOSP's q and p of the filled-in sequence, so that the missing
    frames are drawn from the filled-in past and know nothing of observed frames after them.

    Arguments:
        net: a model of latent paths.
        obs: the data, ``[B, T, M]``.
        mask: True where a frame is real, ``[B, T]``.
        observed: True where a value was seen, ``[B, T, M]``; see ``data.hide_steps``.
        by: ``"mode"``, ``"gibbs"`` or ``"resample"``.
        steps: passes; 20, 100 and 10 when left out. The first half is not averaged over, and
            ``"mode"`` counts its last one alone.
        chains: independent starts, averaged over; ``"resample"`` needs two.
        particles: paths that compete, the current one included (``"resample"``).
        seed: seed of starts and draws; the caller's random state is left alone.

    Raises:
        ValueError: for unfit data or numbers, when nothing is missing, for a net without latent
            paths, or a way that the net does not have.

    Example:
        >>> batch = data.hide_steps(batch, 8)
        >>> inference.impute(net, batch.obs, batch.mask, batch.observed, by="resample").mean
    """
    _check_net(net)
    if by not in STEPS:
        raise ValueError(f"by must be one of {', '.join(STEPS)}, got {by!r}")
    steps = STEPS[by] if steps is None else steps
    if steps < 1:
        raise ValueError(f"steps must be at least 1, got {steps}")
    least = 2 if by == "resample" else 1
    if chains < least or particles < least:
        raise ValueError(
            f"{by} needs {least} chains and {least} particles or more, got {chains} and {particles}"
        )
    batch, missing = _blanked(obs, mask, observed)
    if by == "resample":
        _check_binary(net)
    size = particles * chains if by == "resample" else chains
    where = zip(_blocks(batch, size), _split(missing, batch, size))
    with RandomStream(obs.device, "impute", seed):
        parts = [_imputed(net, part, lost, by, steps, chains, particles) for part, lost in where]
    means, draws = zip(*parts)
    return Imputation(torch.cat(means), torch.cat(draws, 1))


def _imputed(net, batch, missing, by, steps, chains, particles) -> tuple[Tensor, Tensor]:
    rows, shape = len(batch), (chains, *batch.obs.shape)
    filled = torch.where(missing, torch.randint(2, shape).to(batch.obs), batch.obs).flatten(0, 1)
    mask, missing = batch.mask.repeat(chains, 1), missing.repeat(chains, 1, 1)
    if by == "resample":
        passes = _resampled(net, filled, mask, missing, chains, particles, steps)
    else:
        passes = _replaced(net, filled, mask, missing, by, steps)
    total, kept = 0.0, range(steps - 1 if by == "mode" else steps // 2, steps)
    for number, (values, expected) in enumerate(passes):
        filled = torch.where(missing, values, filled)
        if number in kept:
            total = total + torch.where(missing, expected, filled)
    mean = (total / len(kept)).view(shape).mean(0)
    return torch.where(missing[:rows], mean, batch.obs), filled.view(shape)


def _replaced(net, filled, mask, missing, by, steps):
    """Passes of "mode" and "gibbs": frames ``[N, T, M]`` and what was expected of them."""
    for _ in range(steps):
        encoding = net.prepare(Batch(filled, mask))
        path = encoding.belief.mode if by == "mode" else encoding.belief.rsample()
        natural = net.natural(path, encoding)
        values = getattr(net.likelihood, "mode" if by == "mode" else "sample")(natural)
        yield values, net.likelihood.mean(natural)
        filled = torch.where(missing, values, filled)


def _resampled(net, filled, mask, missing, chains, particles, steps):
    """Passes of "resample"."""
    seen, likelihood = hidden(filled, missing), net.likelihood
    if _framewise(net):
        encoding, current = net.prepare(Batch(filled, mask)), None
        judged = mask & (missing.any(-1).cumsum(1) > 0)  # frames before have nothing to choose from
        for _ in range(steps):
            way = FrameSteps(net, encoding, seen)
            current = swarm(likelihood, way, seen, judged, particles, current)
            yield current.values, current.expected
        return
    for values, _ in _replaced(net, filled, mask, missing, "gibbs", 10):
        filled = torch.where(missing, values, filled)  # proposals are made from these to begin with
    current: list[Draw | None] = [None, None]
    first = len(filled) // chains * (chains // 2)
    halves = slice(0, first), slice(first, None)
    for _ in range(steps):
        for turn, (own, other) in enumerate((halves, halves[::-1])):
            partners = filled[other]
            partners = partners.repeat(2, 1, 1)[: len(filled[own])]
            current[turn] = _posterior(
                net, partners, mask[own], seen.rows(own), particles, current[turn]
            )
            filled = filled.clone()
            filled[own] = torch.where(missing[own], current[turn].values, filled[own])
        yield tuple(torch.cat([half[part] for half in current]) for part in (1, 2))


def _posterior(
    net, data: Tensor, mask: Tensor, seen: Evidence, particles: int, current: Draw | None
) -> Draw:
    """The next path, and data, of chains whose guide reads ``data``."""
    encoding, likelihood = net.prepare(Batch(data, mask)), net.likelihood
    if PathSteps.fit(net, encoding):
        return swarm(likelihood, PathSteps(net, encoding), seen, mask, particles, current)
    drawn, path, weights = draw_whole(likelihood, net, encoding, seen, particles, current)
    chosen = torch.multinomial(weights.softmax(0).T, 1)[:, 0]
    rows = torch.arange(len(chosen), device=chosen.device)
    return Draw(*(part[chosen, rows] for part in (path, drawn.values, drawn.expected)))


# What is asked for -------------------------------------------------------------------------------


def _blanked(obs, mask, observed) -> tuple[Batch, Tensor]:
    """The data with nothing in the place of missing values, and where these are, ``[B, T, M]``."""
    if not isinstance(observed, Tensor) or observed.dtype != torch.bool:
        raise ValueError(
            "observed must be a bool tensor, True where a value was seen: data.hide_steps makes one"
        )
    if not isinstance(obs, Tensor) or obs.shape != observed.shape:
        found = tuple(obs.shape) if isinstance(obs, Tensor) else type(obs).__name__
        raise ValueError(f"observed must be shaped like obs {found}, got {tuple(observed.shape)}")
    check_sequences(torch.zeros_like(obs), mask)
    batch = Batch(obs.masked_fill(~observed, 0), mask)
    missing = ~observed & batch.mask[..., None]
    if not missing.any():
        raise ValueError("nothing is missing: observed is True at every value of a real frame")
    return batch, missing


def _check_net(net) -> None:
    if not isinstance(net, LatentPathModel):
        raise ValueError(
            f"{type(net).__name__} has no latent path to restore data with: take a VRAE or a VOSP"
        )


def _check_binary(net) -> None:
    natural = torch.zeros(net.likelihood.natural_dim, device=net.device)
    support = net.likelihood.distribution(natural).support
    if getattr(support, "base_constraint", support) is not constraints.boolean:
        raise ValueError(
            f"{type(net.likelihood).__name__} values are not binary: this takes Bernoulli or NADE"
        )


def _framewise(net) -> bool:
    """Whether a net is stepped from frame to frame.

    Raises:
        ValueError: when its frames share latent noise beside a memory of frames.
    """
    if not isinstance(net, Recurrent):
        return False
    if not net.framewise:
        raise ValueError(
            f"the frames of this {type(net).__name__} share latent noise: leave rate out, or "
            "impute by gibbs"
        )
    return True


def _blocks(batch: Batch, copies: int) -> list[Batch]:
    """Rows that are held in memory together."""
    many = max(1, SIZE // (copies * batch.mask.shape[1]))
    return [batch.rows(slice(i, i + many)) for i in range(0, len(batch), many)]


def _split(missing: Tensor, batch: Batch, copies: int) -> list[Tensor]:
    sizes = [len(part) for part in _blocks(batch, copies)]
    return list(missing.split(sizes))
