"""Particles with a memory of where they came from: draws of (path, data) given partial evidence.

What is known of binary data need not be the data: a value may be hidden, or a key that sounds may
have been turned on by noise. Both are said by ``Evidence``, which tilts the log-odds of every
value. Particles then carry a latent path and a draw of the data, are weighed by what was seen, and
keep their ancestry, so that whole paths can be drawn in the end.

With a ``reference``, a path that is among the particles and survives (Andrieu et al., "Particle
Markov chain Monte Carlo methods", 2010), a run is one step of a Markov chain that leaves
p(path, data | evidence) invariant, however few the particles.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

import torch
from torch import Tensor
from torch.distributions import Independent

from .particles import effective_size, resample
from .paths import Path

SURE = 1e4  # log-odds of a value that was seen


class Evidence(NamedTuple):
    """What is known of binary data x: log p(seen | x) = sum of ``price * (1 - x)``.

    Arguments:
        tilt: log-odds that seeing adds to each value: 0 where it is hidden, ``SURE`` or
            ``-SURE`` where it is known; ``[B, T, M]``.
        price: log p(seen | x = 0) - log p(seen | x = 1) of values in doubt, otherwise 0.
    """

    tilt: Tensor
    price: Tensor

    def at(self, t: int) -> Evidence:
        """That of one frame, ``[B, M]`` each."""
        return Evidence(self.tilt[:, t], self.price[:, t])

    def rows(self, index) -> Evidence:
        """That of some rows."""
        return Evidence(self.tilt[index], self.price[index])

    @property
    def known(self) -> Tensor:
        """True where a value is certain."""
        return self.tilt.abs() >= SURE


def hidden(obs: Tensor, missing: Tensor) -> Evidence:
    """Every value is seen but those that are missing; both ``[B, T, M]``."""
    tilt = torch.where(missing, 0.0, SURE * (2 * obs - 1))
    return Evidence(tilt, torch.zeros_like(tilt))


def noisy(obs: Tensor, rate: float) -> Evidence:
    """Silent keys are silent, sounding ones were perhaps turned on, with probability ``rate``."""
    price = obs * torch.tensor(rate, dtype=obs.dtype).log().item()
    return Evidence(torch.where(obs > 0, -price, -SURE), price)


class Guess(NamedTuple):
    """Draws of the data given the evidence and the latent state.

    Arguments:
        values: ``[..., M]``.
        expected: probabilities of 1, ``[..., M]``; the draws where a law has no closed form.
        weight: log of p(values, seen | z) over the probability of having drawn them, ``[...]``.
    """

    values: Tensor
    expected: Tensor
    weight: Tensor


def guess(likelihood, natural: Tensor, seen: Evidence, given: Tensor | None = None) -> Guess:
    """Draws data from p(x | z), its log-odds tilted by the evidence, unit after unit.

    Where units are independent given z the weight is p(seen | z), whatever is drawn. In a NADE,
    whose first natural parameters are log-odds as well, a unit sees the units before it alone, and
    the weight makes up for those after it.

    Arguments:
        likelihood: of binary units, ``Bernoulli`` or ``NADE``.
        natural: ``[k, ..., N]``.
        seen: parts ``[..., M]``.
        given: what the first particle shall have drawn, ``[..., M]``.
    """
    law, units = likelihood.distribution(natural), likelihood.dim
    if seen.known.all():
        values = (seen.tilt > 0).to(natural).expand(*natural.shape[:-1], units)
        return Guess(values, values, law.log_prob(values))
    tilted = torch.cat((natural[..., :units] + seen.tilt, natural[..., units:]), -1)
    values = likelihood.sample(tilted)
    if given is not None:
        values = torch.cat((given[None], values[1:]))
    expected = likelihood.mean(tilted) if isinstance(law, Independent) else values
    weight = law.log_prob(values) - likelihood.distribution(tilted).log_prob(values)
    return Guess(values, expected, weight + (seen.price * (1 - values)).sum(-1))


# How particles take a step -----------------------------------------------------------------------

State = tuple[Tensor, ...]


class Steps(Protocol):
    """One model's way along a batch of ``B`` sequences.

    * ``begin(k) -> state``, tensors ``[k, B, ...]``;
    * ``step(t, state, given) -> state, z_t [k, B, K], natural [k, B, N], log p(z_t) - log q(z_t)``;
      the first particle takes ``given [B, K]`` where there is one;
    * ``feed(t, state, guess, weights) -> state, weights``: what drawn data change.
    """

    shares: bool  # whether the data drawn for a frame change later ones

    def begin(self, particles: int) -> State: ...

    def step(self, t: int, state: State, given: Tensor | None): ...

    def feed(self, t: int, state: State, drawn: Guess, weights: Tensor): ...


class PathSteps:
    """Frames depend on the latent path alone, causally; a guide proposes it, such as a VRAE's.

    Arguments:
        net: has ``prior``, ``decoder``, ``decoder_input`` as a ``VRAE``.
        encoding: of data that are near the true ones: they decide how good proposals are.
    """

    shares = False

    def __init__(self, net, encoding):
        self.net, self.rows = net, len(encoding.obs)
        self.prior, self.belief = net.prior(encoding.mask), encoding.belief

    @staticmethod
    def fit(net, encoding) -> bool:
        """Whether a model can be stepped through like this."""
        laws = net.prior(encoding.mask), encoding.belief
        stepped = all(type(law).propose is not Path.propose for law in laws)
        return stepped and net.causal

    def begin(self, particles):
        shape = particles, self.rows
        memory = self.net.decoder.memory.initial(*shape)
        return memory.new_zeros(*shape, self.net.latent_dim), memory

    def step(self, t, state, given=None):
        before, memory = state
        net, decoder = self.net, self.net.decoder
        guessed, spread = self.belief.propose(t, before, memory)
        expected, scale = self.prior.propose(t, before, memory)
        now = _first(guessed + spread * torch.randn_like(guessed), given)
        noise, innovation = (now - guessed) / spread, (now - expected) / scale
        ratio = (noise.square() - innovation.square()) / 2 + (spread / scale).log()
        taken = now if net.decoder_input == "path" else innovation
        taken = decoder.take(taken, decoder.memory.output(memory))
        memory = decoder.memory.step(taken, memory)
        natural = decoder.emit(decoder.memory.output(memory), taken)
        return (now, memory), now, natural, ratio.sum(-1)

    def feed(self, t, state, drawn, weights):
        return state, weights


class FrameSteps:
    """Frames depend on the frames before and on noise of their own, such as a framewise VOSP's.

    Noise is proposed by the guide, which reads the frame that the evidence and the past make
    likeliest; where nothing of a frame was seen, by the prior.

    Arguments:
        net: has ``memory``, ``prior``, ``belief``, ``natural`` as a ``VOSP``.
        encoding: of the batch; only its kind is used.
        evidence: of the batch.
        fed: what the memory is fed with: ``"draws"``, each particle with its own draw of the
            data; ``"restored"``, all with the likelier values; or the data ``[B, T, M]``.
    """

    def __init__(self, net, encoding, evidence: Evidence, fed: str | Tensor = "draws"):
        self.net, self.encoding, self.evidence, self.fed = net, encoding, evidence, fed
        self.rows, self.shares = len(encoding.obs), isinstance(fed, str) and fed == "draws"

    def begin(self, particles):
        return (self.net.initial(particles * self.rows).unflatten(0, (particles, self.rows)),)

    def step(self, t, state, given=None):
        net, features = self.net, self.net.memory.output(state[0])
        seen, shape = self.evidence.at(t), features.shape[:2]
        flat = features.flatten(0, 1)[:, None]
        real = torch.ones(flat.shape[:2], dtype=torch.bool, device=flat.device)
        prior = net.prior(real)
        frame = self.encoding._replace(mask=real, features=flat, belief=prior)
        if seen.known.all():
            likely = (seen.tilt > 0).to(flat).expand(*shape, -1)
        else:
            natural = net.natural(prior.mode.expand(len(flat), 1, -1), frame)[:, 0]
            natural = natural.unflatten(0, shape)
            units = seen.tilt.shape[-1]
            tilted = torch.cat((natural[..., :units] + seen.tilt, natural[..., units:]), -1)
            likely = net.likelihood.mode(tilted)
        belief = net.belief(likely.flatten(0, 1)[:, None], real, flat)
        blank = ~(seen.tilt != 0).any(-1).expand(shape).flatten()
        path = torch.where(blank[:, None, None], prior.rsample(), belief.rsample())
        path = _first(path.view(*shape, -1), given).reshape(path.shape)
        ratio = prior.log_prob(path) - belief.log_prob(path)
        ratio = torch.where(blank, 0.0, ratio).view(shape)
        natural = net.natural(path, frame)[:, 0].unflatten(0, shape)
        return state, path.view(*shape, -1), natural, ratio

    def feed(self, t, state, drawn, weights):
        if isinstance(self.fed, Tensor):
            values = self.fed[:, t].expand(drawn.values.shape)
        elif self.shares:
            values = drawn.values
        else:
            likely = (weights.softmax(0)[..., None] * drawn.expected).sum(0) > 0.5
            values = likely.to(drawn.values).expand(drawn.values.shape)
        past = state[0].flatten(0, 1)
        past = self.net.step(self.net.encode(values.flatten(0, 1)), past)
        return (past.view(state[0].shape),), weights if self.shares else torch.zeros_like(weights)


def _first(values: Tensor, given: Tensor | None) -> Tensor:
    return values if given is None else torch.cat((given[None].to(values), values[1:]))


# Runs --------------------------------------------------------------------------------------------


class Draw(NamedTuple):
    """A path and data, drawn together.

    Arguments:
        path: ``[B, T, K]``.
        values: ``[B, T, M]``.
        expected: probabilities of 1 given the path, ``[B, T, M]``.
    """

    path: Tensor
    values: Tensor
    expected: Tensor


def swarm(
    likelihood,
    steps: Steps,
    evidence: Evidence,
    mask: Tensor,
    particles: int,
    reference: Draw | None = None,
) -> Draw:
    """Draws a path and data for each sequence, from the particles at the end."""
    trail = list(_run(likelihood, steps, evidence, mask, particles, reference))
    chosen = torch.multinomial(trail[-1][-1].softmax(0).T, 1).T  # [1, B]
    parts = []
    for parents, path, drawn, _ in trail[::-1]:
        parts.append([_pick(part, chosen)[0] for part in (path, drawn.values, drawn.expected)])
        chosen = parents.gather(0, chosen)
    return Draw(*(torch.stack(part[::-1], 1) for part in zip(*parts)))


def smooth(
    likelihood, steps: Steps, evidence: Evidence, mask: Tensor, particles: int, lag: int = 0
) -> Tensor:
    """Probabilities of 1 given the evidence up to ``lag`` frames after each, ``[B, T, M]``.

    Source: Kitagawa, "Monte Carlo filter and smoother for non-Gaussian nonlinear state space
    models" (1996): further back, all particles have the same few ancestors.
    """
    waiting, frames = [], []  # expected values of the last frames, each particle's ancestors' own
    for parents, _, drawn, weights in _run(likelihood, steps, evidence, mask, particles, None):
        waiting = [_pick(part, parents) for part in waiting] + [drawn.expected]
        share = weights.softmax(0)[..., None]
        if len(waiting) > lag:
            frames.append((share * waiting.pop(0)).sum(0))
    frames += [(share * part).sum(0) for part in waiting]
    return torch.stack(frames, 1)


def _run(likelihood, steps, evidence, mask, particles, reference):
    """Yields, at each step: parents ``[k, B]``, z_t ``[k, B, K]``, the guess, and log-weights."""
    state, rows = steps.begin(particles), mask.shape[0]
    weights = state[0].new_zeros(particles, rows)
    own = torch.arange(particles, device=mask.device)[:, None].expand(particles, rows)
    forced = reference is not None and (steps.shares or likelihood.natural_dim != likelihood.dim)
    for t in range(mask.shape[1]):
        parents, real = own, mask[:, t]
        poor = (effective_size(weights) < particles / 2) & real
        if poor.any():
            parents = _parents(weights, poor, own, reference is not None)
            state = tuple(_pick(part, parents) for part in state)
            weights = torch.where(poor, 0.0, weights)
        given = None if reference is None else reference.path[:, t]
        state, path, natural, ratio = steps.step(t, state, given)
        given = reference.values[:, t] if forced else None
        drawn = guess(likelihood, natural, evidence.at(t), given)
        weights = weights + torch.where(real, ratio + drawn.weight, 0.0)
        kept = weights
        state, weights = steps.feed(t, state, drawn, weights)
        yield parents, path, drawn, kept


def _parents(weights: Tensor, where: Tensor, own: Tensor, conditional: bool) -> Tensor:
    """Whose children the particles are; with a reference, the first one is its own child."""
    if not conditional:
        return resample((own,), weights, where)[0]
    drawn = torch.multinomial(weights.softmax(0).T, len(own), replacement=True).T
    return torch.where(where, torch.cat((own[:1], drawn[1:])), own)


def _pick(part: Tensor, chosen: Tensor) -> Tensor:
    """Particles ``chosen [k', B]`` of ``part [k, B, ...]``."""
    return part[chosen, torch.arange(part.shape[1], device=part.device)]


def draw_whole(
    likelihood, net, encoding, evidence: Evidence, particles: int, reference: Draw | None = None
) -> tuple[Guess, Tensor, Tensor]:
    """Whole paths from the guide, for models that cannot be stepped; the reference comes first.

    Returns:
        Guesses ``[k, B, T, *]``, paths ``[k, B, T, K]`` and log-weights ``[k, B]``.
    """
    prior = net.prior(encoding.mask)
    path = encoding.belief.rsample((particles,))
    forced = reference is not None and likelihood.natural_dim != likelihood.dim
    if reference is not None:
        path = _first(path, reference.path)
    given = reference.values if forced else None
    drawn = guess(likelihood, net.natural(path, encoding), evidence, given)
    seen = torch.where(encoding.mask, drawn.weight, 0.0).sum(-1)
    return drawn, path, seen + prior.log_prob(path) - encoding.belief.log_prob(path)
