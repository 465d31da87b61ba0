"""Simulation-based calibration: is a guide the posterior of its model, data aside?

Latents are drawn from the prior, data given those, and latents again from what claims to be the
posterior: the rank of the first among the second is uniform if it is.

Sources: Talts et al., "Validating Bayesian inference algorithms with simulation-based calibration"
(2018); Modrák et al., "Simulation-based calibration checking for Bayesian computation: the choice
of test quantities shapes sensitivity" (2023).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from pyro import poutine
from torch import Tensor

from ...data import Batch, generator
from ..contracts import Fold, Recurrent
from ..draws import Drawn, blanked, draw, latent_in_time, main_site, prepare, same
from ..kalman import LinearGaussian, kalman_smoother
from ..rng import RandomStream
from .calibration import EXPECTED, pit, uniformity

Draws = dict[str, Tensor]


class Simulator(NamedTuple):
    """What simulation-based calibration asks of a model and its inference.

    Arguments:
        simulate: draws latents from the prior, and data given them; returns whatever ``infer``
            takes of these.
        infer: ``infer(simulated, k)`` returns, by the name of what is tested, the truth
            ``[N, ...]`` with NaN in padding, and ``k`` draws ``[k, N, ...]`` of what claims to be
            the posterior given the data.
        device: where both draw random numbers.
    """

    simulate: Callable[[], Any]
    infer: Callable[[Any, int], tuple[Draws, Draws]]
    device: torch.device | str = "cpu"


class SBC(NamedTuple):
    """Where the truth lay among draws from a posterior of data that it made.

    Arguments:
        pits: its PIT, by the name of what was tested, ``[N, ...]``, independent over ``N``; NaN in
            padding.
        draws: ``S``, from each posterior.
    """

    pits: dict[str, Tensor]
    draws: int

    @property
    def ranks(self) -> dict[str, Tensor]:
        """Draws below the truth, 0 to S, ties broken at random; ``[N, ...]``."""
        return {name: (part * (self.draws + 1)).floor() for name, part in self.pits.items()}

    def p_values(self, bins: int = 10) -> dict[str, Tensor]:
        """Chi-squared p-value of uniformity of everything that was tested, ``[...]`` each.

        NaN where fewer than 5 values a bin were real, as at the end of the longest sequences.
        """
        return {name: self._tests(name, bins) for name in self.pits}

    def _tests(self, name: str, bins: int) -> Tensor:
        part = self.pits[name]
        columns = part.reshape(len(part), -1).T
        enough = ((~columns.isnan()).sum(1) >= EXPECTED * bins).tolist()
        each = [uniformity(c, bins) if many else float("nan") for c, many in zip(columns, enough)]
        return torch.tensor(each, dtype=torch.float64).view(part.shape[1:])

    def p_value(self, name: str | None = None, bins: int = 10) -> float:
        """One p-value of all tests, or of all of one name: the least times their number, up to 1.

        That is Bonferroni's, valid however the tests depend on one another. Those of too few values
        do not count.

        Raises:
            ValueError: for another name, or where no test has 5 values a bin.
        """
        if name is not None and name not in self.pits:
            raise ValueError(f"tested were {', '.join(self.pits)}: not {name!r}")
        names = self.pits if name is None else [name]
        each = torch.cat([self._tests(key, bins).flatten() for key in names])
        each = each[~each.isnan()]
        if not len(each):
            raise ValueError(
                f"{bins} bins take at least {EXPECTED * bins} values, which no test has: simulate "
                "more rounds"
            )
        return float((each.min() * len(each)).clamp_max(1))


@torch.no_grad()
def sbc(model: Simulator, rounds: int = 1, draws: int = 99, seed: int = 0) -> SBC:
    """Simulation-based calibration: draws from the prior, data, and draws from their posterior.

    Where the posterior is exact, the rank of the truth is uniform. It tests the inference, given
    that the model is right; data have no part in it. A guide that is but the prior passes too, by
    any test of the latents alone: what it fails is ``log_likelihood`` (Modrák et al.).

    Arguments:
        model: see ``simulator`` and ``linear_gaussian_simulator``.
        rounds: times that ``N`` sequences are drawn; 10 bins take 50 sequences at the least.
        draws: ``S``, from each posterior; the PIT is uniform with any number of them.
        seed: of everything; the caller's random state is left alone.

    Raises:
        ValueError: for less than one round or draw.

    Example:
        >>> found = sbc(simulator(net, batch), rounds=20)
        >>> found.p_value(), found.p_values()["z"].shape
    """
    if rounds < 1 or draws < 1:
        raise ValueError(f"rounds and draws must be at least 1, got {rounds} and {draws}")
    found: dict[str, list[Tensor]] = {}
    stream = RandomStream(model.device, "SBC", seed)
    for number in range(rounds):
        with stream:
            truth, drawn = model.infer(model.simulate(), draws)
        for index, name in enumerate(truth):
            key = int(generator(seed, number, index).initial_seed())
            found.setdefault(name, []).append(pit(truth[name], drawn[name], key))
    return SBC({name: torch.cat(parts) for name, parts in found.items()}, draws)


def simulator(
    net, batch: Batch, functions: dict[str, Callable[[Draws], Tensor]] | None = None
) -> Simulator:
    """Simulation from a model with a Pyro pair, and inference by its guide.

    Everything latent is tested, dimension by dimension, and ``log_likelihood``, log p(x | z).
    Models of single frames (rVAE) are tested on ``N`` frames, u_{t-1} simulated where the model
    explains it and taken from the batch where it is given (TVAE).

    Arguments:
        net: the model.
        batch: whose shape, mask and inputs are taken; the data are simulated.
        functions: further tests by name, of latents by name, ``[..., N, ...] -> [..., N]``.

    Raises:
        ValueError: for a model without latent state, or one of whole sequences that observes more
            than the data.
    """
    example = prepare(net, batch)
    fold = isinstance(example, Fold)
    with RandomStream(batch.obs.device, "simulator"):
        first = draw(net, example, 1, prior=True)
    main = main_site(first, example)
    if not first.latents:
        raise ValueError(f"{type(net).__name__} has no latent site, so there is nothing to infer")
    if len(first.data) > 1 and not fold:
        raise ValueError(
            f"{type(net).__name__} observes {sorted(first.data)}: give sbc a Simulator of your own"
        )
    if batch.target is not None and not same(first.data[main], example.obs):
        part = "target"
    else:
        part = "obs"
    reads = isinstance(net, Recurrent) and not fold  # frames read those before them

    def simulate():
        drawn = draw(net, example, 1, prior=True)
        data, latents = example, drawn.latents
        if fold:
            past = [name for name, value in drawn.data.items() if same(value, example.past)]
            data = data._replace(obs=drawn.laws[main].sample()[0])
            return data._replace(past=drawn.laws[past[0]].sample()[0]) if past else data, latents
        made = torch.zeros_like(getattr(batch, part))
        for t in range(batch.mask.shape[1] if reads else 1):
            frames = _given(net, data, latents).laws[main].sample()[0].to(made)
            if reads:  # of those to come nothing is known yet
                frames = torch.cat((made[:, :t], frames[:, t : t + 1], made[:, t + 1 :]), 1)
            made = frames
            data = prepare(net, dataclasses.replace(batch, **{part: made}))
        return data, latents

    def tests(latents: Draws, drawn: Drawn) -> Draws:
        scores = [law.log_prob(drawn.data[name]) for name, law in drawn.laws.items()]
        more = {name: function(latents) for name, function in (functions or {}).items()}
        return latents | {"log_likelihood": sum(scores)} | more

    def infer(simulated, number: int) -> tuple[Draws, Draws]:
        data, latents = simulated
        truth = tests(latents, _given(net, data, latents))
        truth = {name: value[0] for name, value in truth.items()}
        for name, law in () if fold else first.latent_laws.items():
            if latent_in_time(law, batch):
                truth[name] = blanked(truth[name], batch.mask, 1)
        drawn = draw(net, data, number)
        return truth, tests(drawn.latents, drawn)

    return Simulator(simulate, infer, batch.obs.device)


def linear_gaussian_simulator(
    system: LinearGaussian, variance: Tensor, mask: Tensor | None = None
) -> Simulator:
    """Simulation from a linear-Gaussian system, and inference by the Kalman smoother.

    What is drawn of the posterior of each x_t is its marginal, which is all that tests of single
    dimensions ask for. With the true system it is exact: a check of the checks.

    Arguments:
        system: the parameters, such as ``LGDS.system()``, without leading axes.
        variance: of the observations' noise, ``[B, T, D]``.
        mask: True where a frame is real, ``[B, T]``.
    """
    variance = variance.to(system.dynamics)
    batch, steps, _ = variance.shape

    def noise(covariance: Tensor) -> Tensor:
        factor = torch.linalg.cholesky(covariance)
        return torch.randn(batch, len(covariance)).to(covariance) @ factor.mT

    def simulate():
        states = [system.initial_mean + noise(system.initial_covariance)]
        for _ in range(steps - 1):
            states.append(states[-1] @ system.dynamics.mT + noise(system.process))
        states = torch.stack(states, 1)
        seen = states @ system.emission.mT
        return states, seen + variance.sqrt() * torch.randn_like(seen)

    def infer(simulated, number: int) -> tuple[Draws, Draws]:
        states, seen = simulated
        beliefs = kalman_smoother(system, seen, variance, mask)
        eps = torch.randn(number, *states.shape).to(states)
        drawn = beliefs.mean + beliefs.variance.sqrt() * eps
        real = states if mask is None else blanked(states, mask, 1)
        return {"x": real}, {"x": drawn}

    return Simulator(simulate, infer, variance.device)


def _given(net, data, latents: Draws) -> Drawn:
    """The laws of the data, given latents ``[k, N, ...]``."""

    class Conditioned:
        model = staticmethod(poutine.condition(net.model, data=latents))

    return draw(Conditioned, data, len(next(iter(latents.values()))), prior=True)
