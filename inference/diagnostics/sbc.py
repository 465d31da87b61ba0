"""Simulation-based calibration: whether a guide is the posterior of its model.

Latents are sampled from the prior, data given these, and latents again from the approximate
posterior. If it is the posterior, the rank of the first among the second is uniform.

Sources: Talts et al., "Validating Bayesian inference algorithms with simulation-based calibration"
(2018); Modrák et al., "Simulation-based calibration checking for Bayesian computation: the choice
of test quantities shapes sensitivity" (2023).
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from ...data import BatchLike, generator
from ..checks import check_number, check_samples
from ..contracts import Fold, FrameModel, Recurrent, SequenceModel
from ..linear.checks import check_inputs
from ..linear.kalman import LinearGaussian, kalman_smoother
from ..linear.system import baseline, drive
from ..placing import batch_for
from ..rng import RandomStream
from ..samples import (
    SiteSamples,
    blanked,
    latent_in_time,
    main_site,
    prepare_plate,
    same,
    sample_sites,
)
from .calibration import EXPECTED, pit, uniformity

Values = dict[str, Tensor]


class Simulator(NamedTuple):
    """A model and its inference, as simulation-based calibration uses them.

    Arguments:
        simulate: samples latents from the prior, and data given them; returns the first argument
            of ``infer``.
        infer: ``infer(simulated, k)`` returns two dictionaries by the name of a tested quantity:
            its true values ``[N, ...]``, with NaN in padding, and ``k`` samples ``[k, N, ...]``
            from the approximate posterior given the data.
        device: the device of both random streams.
    """

    simulate: Callable[[], Any]
    infer: Callable[[Any, int], tuple[Values, Values]]
    device: torch.device | str = "cpu"


class SBC(NamedTuple):
    """The place of the truth among samples from the posterior of the data that it generated.

    Arguments:
        pits: the PIT by the name of the tested quantity, ``[N, ...]``, independent over ``N``; NaN
            in padding.
        num_samples: samples ``S`` from each posterior.
    """

    pits: dict[str, Tensor]
    num_samples: int

    @property
    def ranks(self) -> dict[str, Tensor]:
        """The number of samples below the truth, 0 to S, ties broken at random; ``[N, ...]``."""
        return {name: (part * (self.num_samples + 1)).floor() for name, part in self.pits.items()}

    def p_values(self, bins: int = 10) -> dict[str, Tensor]:
        """Chi-squared p-value of uniformity of every tested quantity, ``[...]`` each.

        NaN where fewer than 5 values per bin are real, as at the end of the longest sequences.
        """
        return {name: self._tests(name, bins) for name in self.pits}

    def _tests(self, name: str, bins: int) -> Tensor:
        part = self.pits[name]
        columns = part.reshape(len(part), -1).T
        enough = ((~columns.isnan()).sum(1) >= EXPECTED * bins).tolist()
        each = [uniformity(c, bins) if many else float("nan") for c, many in zip(columns, enough)]
        return torch.tensor(each, dtype=torch.float64).view(part.shape[1:])

    def p_value(self, name: str | None = None, bins: int = 10) -> float:
        """One p-value of all tests, or of all with one name: the least times their number, up to 1.

        This is Bonferroni's correction, valid however the tests depend on one another. Tests with
        too few values are left out.

        Raises:
            ValueError: for another name, or where no test has 5 values per bin.
        """
        if name is not None and name not in self.pits:
            raise ValueError(f"name must be one of {', '.join(self.pits)}, got {name!r}")
        names = self.pits if name is None else [name]
        each = torch.cat([self._tests(key, bins).flatten() for key in names])
        each = each[~each.isnan()]
        if not len(each):
            raise ValueError(
                f"{bins} bins need at least {EXPECTED * bins} values, which no test has: simulate "
                "more rounds"
            )
        return float((each.min() * len(each)).clamp_max(1))


@torch.no_grad()
def sbc(model: Simulator, rounds: int = 1, num_samples: int = 99, seed: int = 0) -> SBC:
    """Simulation-based calibration of a model and its inference.

    Where the posterior is exact, the rank of the truth is uniform. This tests the inference under
    the model; real data play no part. A guide that equals the prior also passes every test of the
    latents alone. It fails the test of ``log_likelihood`` (Modrák et al.).

    Arguments:
        model: see ``simulator`` and ``linear_gaussian_simulator``.
        rounds: the number of times that ``N`` sequences are simulated; 10 bins need at least 50
            sequences.
        num_samples: samples ``S`` from each posterior; the PIT is uniform for any number.
        seed: seed of a private random stream; the caller's random state is left alone.

    Raises:
        ValueError: for less than one round or sample.

    Example:
        >>> found = sbc(simulator(net, batch), rounds=20)
        >>> found.p_value(), found.p_values()["z"].shape
    """
    check_number("rounds", rounds)
    check_samples(num_samples, seed=seed)
    found: dict[str, list[Tensor]] = {}
    stream = RandomStream(model.device, "SBC", seed)
    for number in range(rounds):
        with stream:
            truth, samples = model.infer(model.simulate(), num_samples)
        for index, name in enumerate(truth):
            key = int(generator(seed, number, index).initial_seed())
            found.setdefault(name, []).append(pit(truth[name], samples[name], key))
    return SBC({name: torch.cat(parts) for name, parts in found.items()}, num_samples)


def simulator(
    net: SequenceModel | FrameModel,
    batch: BatchLike,
    functions: dict[str, Callable[[Values], Tensor]] | None = None,
) -> Simulator:
    """Simulation from a model with a Pyro pair, and inference by its guide.

    Every latent site is tested, dimension by dimension, and so is ``log_likelihood``, log p(x | z).
    Models of single frames (rVAE) are tested on ``N`` frames. Their u_{t-1} is simulated where the
    model explains it, and taken from the batch where it is given (TVAE).

    Arguments:
        net: the model.
        batch: a ``Batch``, or anything that ``data.as_batch`` takes. Its shape, mask, inputs and
            which values are missing are used; the data are simulated.
        functions: further quantities to test by name, functions of a dictionary of latents,
            ``[..., N, ...] -> [..., N]``.

    Raises:
        ValueError: for a model without latent state, or a model of whole sequences that observes
            more than the data.
    """
    batch = batch_for(net, batch)
    example = prepare_plate(net, batch)
    fold = isinstance(example, Fold)
    with RandomStream(batch.obs.device, "simulator"):
        first = sample_sites(net, example, 1, prior=True)
    main = main_site(first, example)
    if not first.latents:
        raise ValueError(f"{type(net).__name__} has no latent site to infer")
    if len(first.data) > 1 and not fold:
        raise ValueError(
            f"{type(net).__name__} observes {sorted(first.data)}: pass sbc a Simulator of your own"
        )
    if batch.target is not None and not same(first.data[main], example.obs):
        part = "target"
    else:
        part = "obs"
    sequential = isinstance(net, Recurrent) and not fold  # frames depend on those before them

    def given(data: Any, latents: Values) -> SiteSamples:
        number = len(next(iter(latents.values())))
        return sample_sites(net, data, number, prior=True, latents=latents)

    def simulate() -> tuple[Any, Values]:
        samples = sample_sites(net, example, 1, prior=True)
        data, latents = example, samples.latents
        if fold:
            past = [name for name, value in samples.data.items() if same(value, example.past)]
            frames = samples.distributions[main].sample()[0]
            if data.observed is not None:
                frames = frames.masked_fill(~data.observed, 0.0)
            data = data._replace(obs=frames)
            if past:
                data = data._replace(past=samples.distributions[past[0]].sample()[0])
            return data, latents
        made = torch.zeros_like(getattr(batch, part))
        for t in range(batch.mask.shape[1] if sequential else 1):
            frames = given(data, latents).distributions[main].sample()[0].to(made)
            if sequential:  # later frames are not known yet
                frames = torch.cat((made[:, :t], frames[:, t : t + 1], made[:, t + 1 :]), 1)
            made = frames
            data = prepare_plate(net, dataclasses.replace(batch, **{part: made}))
        return data, latents

    def tests(latents: Values, samples: SiteSamples) -> Values:
        scores = [each.log_prob(samples.data[name]) for name, each in samples.distributions.items()]
        more = {name: function(latents) for name, function in (functions or {}).items()}
        return latents | {"log_likelihood": sum(scores, torch.zeros(()))} | more

    def infer(simulated: tuple[Any, Values], number: int) -> tuple[Values, Values]:
        data, latents = simulated
        truth = tests(latents, given(data, latents))
        truth = {name: value[0] for name, value in truth.items()}
        for name, each in () if fold else first.latent_distributions.items():
            if latent_in_time(each, batch):
                truth[name] = blanked(truth[name], batch.mask, 1)
        samples = sample_sites(net, data, number)
        return truth, tests(samples.latents, samples)

    return Simulator(simulate, infer, batch.obs.device)


def linear_gaussian_simulator(
    system: LinearGaussian,
    variance: Tensor,
    mask: Tensor | None = None,
    inputs: Tensor | None = None,
) -> Simulator:
    """Simulation from a linear-Gaussian system, and inference by the Kalman smoother.

    Samples are from the marginal posterior of each x_t, which suffices for tests of single
    dimensions. With the true system the inference is exact, so this also checks ``sbc`` itself.

    Arguments:
        system: the parameters, such as ``LGDS.system()``, without leading axes.
        variance: known variances of the observation noise, ``[B, T, D]``.
        mask: True where a frame is real, ``[B, T]``.
        inputs: ``[B, T, I]``, for a system that takes them.

    Raises:
        ValueError: for inputs that do not fit the system.
    """
    variance = variance.to(system.dynamics)
    batch, steps, _ = variance.shape
    check_inputs(system, inputs, mask, variance.shape[:2])
    driven, base = drive(system, inputs, mask), baseline(system, inputs, mask)

    def noise(covariance: Tensor) -> Tensor:
        factor = torch.linalg.cholesky(covariance)
        return torch.randn(batch, len(covariance)).to(covariance) @ factor.mT

    def simulate() -> tuple[Tensor, Tensor]:
        states = [system.initial_mean + noise(system.initial_covariance)]
        for t in range(steps - 1):
            move = 0.0 if driven is None else driven[:, t]
            states.append(states[-1] @ system.dynamics.mT + move + noise(system.process))
        states = torch.stack(states, 1)
        seen = states @ system.emission.mT + (0.0 if base is None else base)
        if system.noise is not None:
            seen = seen + torch.stack([noise(system.noise) for _ in range(steps)], 1)
        return states, seen + variance.sqrt() * torch.randn_like(seen)

    def infer(simulated: tuple[Tensor, Tensor], number: int) -> tuple[Values, Values]:
        states, seen = simulated
        beliefs = kalman_smoother(system, seen, variance, mask, inputs)
        eps = torch.randn(number, *states.shape).to(states)
        samples = beliefs.mean + beliefs.variance.sqrt() * eps
        real = states if mask is None else blanked(states, mask, 1)
        return {"x": real}, {"x": samples}

    return Simulator(simulate, infer, variance.device)
