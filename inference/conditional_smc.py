"""Conditional sequential Monte Carlo: samples of (path, data) given partial evidence.

Binary data may be known in part: a value may be missing, or a key that sounds may have been turned
on by noise. ``Evidence`` describes both cases by a shift of the log-odds of every value. Particles
carry a latent path and a sample of the data, are weighed by the evidence, and keep their ancestry,
so that whole paths can be sampled at the end.

A run with a ``reference`` keeps this trajectory among its particles (Andrieu et al., "Particle
Markov chain Monte Carlo methods", 2010). It is then one step of a Markov chain that leaves
p(path, data | evidence) invariant, for any number of particles.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor
from torch.distributions import Independent

from .contracts import Encoding
from .inputs import keyword
from .particles import effective_size, resample
from .paths import Path

CERTAIN = 1e4  # log-odds of an observed value


class Evidence(NamedTuple):
    """Evidence about binary data x: log p(evidence | x) = sum of ``penalty * (1 - x)``.

    Arguments:
        log_odds: log-odds that the evidence adds to each value: 0 where it is missing, ``CERTAIN``
            or ``-CERTAIN`` where it is known; ``[B, T, M]``.
        penalty: log p(evidence | x = 0) - log p(evidence | x = 1) of uncertain values, otherwise 0.
    """

    log_odds: Tensor
    penalty: Tensor

    def at(self, t: int) -> Evidence:
        """The evidence about one frame, ``[B, M]`` each."""
        return Evidence(self.log_odds[:, t], self.penalty[:, t])

    def rows(self, index: slice | Tensor) -> Evidence:
        """The evidence about some sequences."""
        return Evidence(self.log_odds[index], self.penalty[index])

    @property
    def known(self) -> Tensor:
        """True where a value is certain."""
        return self.log_odds.abs() >= CERTAIN


def evidence_of_missing(obs: Tensor, missing: Tensor) -> Evidence:
    """Every value is known except the missing ones; both ``[B, T, M]``."""
    log_odds = torch.where(missing, 0.0, CERTAIN * (2 * obs - 1))
    return Evidence(log_odds, torch.zeros_like(log_odds))


def evidence_of_noise(obs: Tensor, rate: float, observed: Tensor | None = None) -> Evidence:
    """Silent keys are silent; sounding keys were turned on by noise with probability ``rate``.

    Nothing is known of values that were not seen: ``obs`` and ``observed`` are ``[B, T, M]``.
    """
    penalty = obs * torch.tensor(rate, dtype=obs.dtype).log().item()
    log_odds = torch.where(obs > 0, -penalty, -CERTAIN)
    if observed is not None:  # a missing value is zero, and so is its penalty
        log_odds = log_odds.masked_fill(~observed, 0.0)
    return Evidence(log_odds, penalty)


class DataSample(NamedTuple):
    """Samples of the data given the evidence and the latent state.

    Arguments:
        values: ``[..., M]``.
        expected: probabilities of 1, ``[..., M]``; the samples where there is no closed form.
        weight: log of p(values, evidence | z) over the probability of the sample, ``[...]``.
    """

    values: Tensor
    expected: Tensor
    weight: Tensor


def sample_data(
    likelihood: Any, natural: Tensor, evidence: Evidence, given: Tensor | None = None
) -> DataSample:
    """Samples data from p(x | z), with log-odds shifted by the evidence, unit after unit.

    Where units are independent given z, the weight is p(evidence | z) for every sample. In a NADE,
    whose first natural parameters are log-odds as well, a unit depends on the units before it only,
    and the weight accounts for those after it.

    Arguments:
        likelihood: a likelihood of binary units, ``Bernoulli`` or ``NADE``.
        natural: ``[k, ..., N]``.
        evidence: fields ``[..., M]``.
        given: the sample of the first particle, ``[..., M]``.
    """
    distribution, units = likelihood.distribution(natural), likelihood.dim
    if evidence.known.all():
        values = (evidence.log_odds > 0).to(natural).expand(*natural.shape[:-1], units)
        return DataSample(values, values, distribution.log_prob(values))
    shifted = _shifted(natural, evidence)
    values = likelihood.sample(shifted)
    if given is not None:
        values = torch.cat((given[None], values[1:]))
    independent = isinstance(distribution, Independent)
    expected = likelihood.mean(shifted) if independent else values
    weight = distribution.log_prob(values) - likelihood.distribution(shifted).log_prob(values)
    return DataSample(values, expected, weight + (evidence.penalty * (1 - values)).sum(-1))


def _shifted(natural: Tensor, evidence: Evidence) -> Tensor:
    """Natural parameters with their log-odds shifted by the evidence."""
    units = evidence.log_odds.shape[-1]
    return torch.cat((natural[..., :units] + evidence.log_odds, natural[..., units:]), -1)


# Steps of particles -------------------------------------------------------------------------------

State = tuple[Tensor, ...]
Step = tuple[State, Tensor, Tensor, Tensor]


class Steps(Protocol):
    """The steps of one model's particles along a batch of ``B`` sequences."""

    feeds_samples: bool
    """Whether the data sampled for a frame change later frames."""

    def begin(self, num_particles: int) -> State:
        """The state before the first frame, tensors ``[k, B, ...]``."""
        ...

    def step(self, t: int, state: State, given: Tensor | None) -> Step:
        """Samples z_t, with ``given [B, K]`` as that of the first particle.

        Returns:
            The state, z_t ``[k, B, K]``, natural parameters ``[k, B, N]``, and
            log p(z_t) - log q(z_t) ``[k, B]``.
        """
        ...

    def feed(
        self, t: int, state: State, sample: DataSample, weights: Tensor
    ) -> tuple[State, Tensor]:
        """State and weights after the data of frame t were sampled."""
        ...


class PathSteps:
    """Steps of a model whose frames depend causally on the latent path alone, such as a VRAE.

    The guide proposes the path.

    Arguments:
        net: a model with ``prior``, ``decoder``, ``decoder_input`` as a ``VRAE`` has them.
        encoding: of data that are close to the true ones; they determine the quality of proposals.
    """

    feeds_samples = False

    def __init__(self, net: Any, encoding: Encoding) -> None:
        self.net, self.rows = net, len(encoding.obs)
        self.prior: Path = net.prior(encoding.mask)
        self.belief, self.inputs = encoding.belief, encoding.inputs

    @staticmethod
    def applies(net: Any, encoding: Encoding) -> bool:
        """Whether the decoder is causal, and prior and guide are Markov chains."""
        distributions = net.prior(encoding.mask), encoding.belief
        markov = all(type(each).propose is not Path.propose for each in distributions)
        return markov and net.causal

    def begin(self, num_particles: int) -> State:
        shape = num_particles, self.rows
        memory = self.net.decoder.memory.initial(*shape)
        return memory.new_zeros(*shape, self.net.latent_dim), memory

    def step(self, t: int, state: State, given: Tensor | None = None) -> Step:
        before, memory = state
        net, decoder = self.net, self.net.decoder
        proposed, spread = self.belief.propose(t, before, memory)
        expected, scale = self.prior.propose(t, before, memory)
        now = _with_first(proposed + spread * torch.randn_like(proposed), given)
        noise, innovation = (now - proposed) / spread, (now - expected) / scale
        ratio = (noise.square() - innovation.square()) / 2 + (spread / scale).log()
        taken = now if net.decoder_input == "path" else innovation
        if self.inputs is not None:  # the decoder reads them after the path
            inputs = self.inputs[: now.shape[1], t].expand(*now.shape[:2], -1)
            taken = torch.cat((taken, inputs), -1)
        taken = decoder.take(taken, decoder.memory.output(memory))
        memory = decoder.memory.step(taken, memory)
        natural = decoder.emit(decoder.memory.output(memory), taken)
        return (now, memory), now, natural, ratio.sum(-1)

    def feed(
        self, t: int, state: State, sample: DataSample, weights: Tensor
    ) -> tuple[State, Tensor]:
        return state, weights


class FrameSteps:
    """Steps of a model whose frames depend on earlier frames and on noise of their own (VOSP).

    The guide proposes the noise. Its input is the most likely frame given the evidence and the
    past. Where a frame has no evidence, the prior proposes.

    Arguments:
        net: a model with ``memory``, ``prior``, ``belief``, ``natural`` as a ``VOSP`` has them.
        encoding: of the batch; a template for the encodings of single frames.
        evidence: about the batch.
        memory_input: the input of the memory: ``"samples"``, each particle's own sample of the
            data; ``"restored"``, the more likely values for all; or the data ``[B, T, M]``.
    """

    def __init__(
        self,
        net: Any,
        encoding: Encoding,
        evidence: Evidence,
        memory_input: str | Tensor = "samples",
    ) -> None:
        self.net, self.encoding, self.evidence = net, encoding, evidence
        self.memory_input, self.rows = memory_input, len(encoding.obs)
        self.feeds_samples = isinstance(memory_input, str) and memory_input == "samples"

    def begin(self, num_particles: int) -> State:
        memory = self.net.initial(num_particles * self.rows)
        return (memory.unflatten(0, (num_particles, self.rows)),)

    def step(self, t: int, state: State, given: Tensor | None = None) -> Step:
        net, features = self.net, self.net.memory.output(state[0])
        evidence, shape = self.evidence.at(t), features.shape[:2]
        flat = features.flatten(0, 1)[:, None]
        real = torch.ones(flat.shape[:2], dtype=torch.bool, device=flat.device)
        prior = net.prior(real)
        inputs = self._inputs(t, shape[0])
        beside = keyword(inputs, (slice(None), None))
        frame = self.encoding._replace(mask=real, features=flat, belief=prior, **beside)
        if evidence.known.all():
            likely = (evidence.log_odds > 0).to(flat).expand(*shape, -1)
        else:
            natural = net.natural(prior.mode.expand(len(flat), 1, -1), frame)[:, 0]
            likely = net.likelihood.mode(_shifted(natural.unflatten(0, shape), evidence))
        belief = net.belief(net.encode(likely.flatten(0, 1)[:, None], **beside), real, flat)
        blank = ~(evidence.log_odds != 0).any(-1).expand(shape).flatten()
        path = torch.where(blank[:, None, None], prior.rsample(), belief.rsample())
        path = _with_first(path.view(*shape, -1), given).reshape(path.shape)
        ratio = prior.log_prob(path) - belief.log_prob(path)
        ratio = torch.where(blank, 0.0, ratio).view(shape)
        natural = net.natural(path, frame)[:, 0].unflatten(0, shape)
        return state, path.view(*shape, -1), natural, ratio

    def feed(
        self, t: int, state: State, sample: DataSample, weights: Tensor
    ) -> tuple[State, Tensor]:
        if isinstance(self.memory_input, Tensor):
            values = self.memory_input[:, t].expand(sample.values.shape)
        elif self.feeds_samples:
            values = sample.values
        else:
            likely = (weights.softmax(0)[..., None] * sample.expected).sum(0) > 0.5
            values = likely.to(sample.values).expand(sample.values.shape)
        past = state[0].flatten(0, 1)
        beside = keyword(self._inputs(t, len(values)))
        past = self.net.step(self.net.encode(values.flatten(0, 1), **beside), past)
        weights = weights if self.feeds_samples else torch.zeros_like(weights)
        return (past.view(state[0].shape),), weights

    def _inputs(self, t: int, num_particles: int) -> Tensor | None:
        """The inputs of frame t, for all particles, ``[k * B, I]``."""
        inputs = self.encoding.inputs
        return None if inputs is None else inputs[:, t].repeat(num_particles, 1)


def _with_first(values: Tensor, given: Tensor | None) -> Tensor:
    """Values of particles, with a given one as that of the first particle."""
    return values if given is None else torch.cat((given[None].to(values), values[1:]))


# Runs ---------------------------------------------------------------------------------------------


class Trajectory(NamedTuple):
    """A path and data, sampled together.

    Arguments:
        path: ``[B, T, K]``.
        values: ``[B, T, M]``.
        expected: probabilities of 1 given the path, ``[B, T, M]``.
    """

    path: Tensor
    values: Tensor
    expected: Tensor


def run_conditional_smc(
    likelihood: Any,
    steps: Steps,
    evidence: Evidence,
    mask: Tensor,
    num_particles: int,
    reference: Trajectory | None = None,
) -> Trajectory:
    """Samples a path and data for each sequence, from the particles at the end of a run."""
    trail = list(_run(likelihood, steps, evidence, mask, num_particles, reference))
    chosen = torch.multinomial(trail[-1][-1].softmax(0).T, 1).T  # [1, B]
    parts = []
    for parents, path, sample, _ in trail[::-1]:
        parts.append([_pick(part, chosen)[0] for part in (path, sample.values, sample.expected)])
        chosen = parents.gather(0, chosen)
    return Trajectory(*(torch.stack(part[::-1], 1) for part in zip(*parts)))


def smooth(
    likelihood: Any,
    steps: Steps,
    evidence: Evidence,
    mask: Tensor,
    num_particles: int,
    lag: int = 0,
) -> Tensor:
    """Probabilities of 1 given the evidence up to ``lag`` frames after each, ``[B, T, M]``.

    The lag limits the loss of ancestors: far back, all particles descend from the same few.

    Source: Kitagawa, "Monte Carlo filter and smoother for non-Gaussian nonlinear state space
    models" (1996).
    """
    waiting, frames = [], []  # expected values of the last frames, by particle
    for parents, _, sample, weights in _run(likelihood, steps, evidence, mask, num_particles, None):
        waiting = [_pick(part, parents) for part in waiting] + [sample.expected]
        normalised = weights.softmax(0)[..., None]
        if len(waiting) > lag:
            frames.append((normalised * waiting.pop(0)).sum(0))
    frames += [(normalised * part).sum(0) for part in waiting]
    return torch.stack(frames, 1)


def _run(
    likelihood: Any,
    steps: Steps,
    evidence: Evidence,
    mask: Tensor,
    num_particles: int,
    reference: Trajectory | None,
) -> Iterator[tuple[Tensor, Tensor, DataSample, Tensor]]:
    """Yields parents ``[k, B]``, z_t ``[k, B, K]``, the data and log-weights of each step."""
    state, rows = steps.begin(num_particles), mask.shape[0]
    weights = state[0].new_zeros(num_particles, rows)
    own = torch.arange(num_particles, device=mask.device)[:, None].expand(num_particles, rows)
    dependent = steps.feeds_samples or likelihood.natural_dim != likelihood.dim
    for t in range(mask.shape[1]):
        parents, real = own, mask[:, t]
        poor = (effective_size(weights) < num_particles / 2) & real
        if poor.any():
            parents = _parents(weights, poor, own, reference is not None)
            state = tuple(_pick(part, parents) for part in state)
            weights = torch.where(poor, 0.0, weights)
        given = None if reference is None else reference.path[:, t]
        state, path, natural, ratio = steps.step(t, state, given)
        given = None if reference is None or not dependent else reference.values[:, t]
        sample = sample_data(likelihood, natural, evidence.at(t), given)
        weights = weights + torch.where(real, ratio + sample.weight, 0.0)
        kept = weights
        state, weights = steps.feed(t, state, sample, weights)
        yield parents, path, sample, kept


def _parents(weights: Tensor, where: Tensor, own: Tensor, conditional: bool) -> Tensor:
    """The parent of each particle; with a reference, the first particle is its own parent."""
    if not conditional:
        return resample((own,), weights, where)[0]
    chosen = torch.multinomial(weights.softmax(0).T, len(own), replacement=True).T
    return torch.where(where, torch.cat((own[:1], chosen[1:])), own)


def _pick(part: Tensor, chosen: Tensor) -> Tensor:
    """Particles ``chosen [k', B]`` of ``part [k, B, ...]``."""
    return part[chosen, torch.arange(part.shape[1], device=part.device)]


def sample_whole_paths(
    likelihood: Any,
    net: Any,
    encoding: Encoding,
    evidence: Evidence,
    num_samples: int,
    reference: Trajectory | None = None,
) -> tuple[DataSample, Tensor, Tensor]:
    """Samples whole paths from the guide, for models that cannot be stepped.

    The reference is the first of them.

    Returns:
        Data ``[k, B, T, *]``, paths ``[k, B, T, K]`` and log-weights ``[k, B]``.
    """
    prior = net.prior(encoding.mask)
    path = encoding.belief.rsample((num_samples,))
    given = None
    if reference is not None:
        path = _with_first(path, reference.path)
        given = reference.values if likelihood.natural_dim != likelihood.dim else None
    sample = sample_data(likelihood, net.natural(path, encoding), evidence, given)
    weights = torch.where(encoding.mask, sample.weight, 0.0).sum(-1)
    return sample, path, weights + prior.log_prob(path) - encoding.belief.log_prob(path)
