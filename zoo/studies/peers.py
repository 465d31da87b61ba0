"""seqzoo beside other packages on the same work: ratios measured in one run.

dynamax (JAX on the CPU, compiled by XLA) filters and fits linear systems; it is timed where
it is installed, ``pip install "seqzoo[peers]"``. Pyro's example of a deep Markov model has a site
for every time step; the model is written here by the equations of its paper.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...data import PPC, Batch
from ...inference import SequenceELBO
from ...inference.linear.fast import kernel
from ...inference.linear.kalman import kalman_filter, kalman_smoother
from ...inference.linear.system import LinearGaussian, Readings
from ..models.lgds import LGDS
from ..models.vrae import VRAE
from ..parts.likelihoods import Bernoulli
from ..recipes.population import PopulationReadout
from .deep_markov import DeepMarkovModel, TraceELBO
from .timing import least

DYNAMAX = "dynamax"


class Beside(NamedTuple):
    """The same work here and in another package: the least milliseconds of processor time of each.

    Arguments:
        task: the work.
        ours: of seqzoo.
        torch: of seqzoo without compiled kernels; None where it has no other form.
        peer: the other package or model.
        theirs: of it; None where it is not installed.
    """

    task: str
    ours: float
    torch: float | None
    peer: str
    theirs: float | None


def peers(repeats: int) -> Iterator[Beside]:
    """Times Kalman filters, EM and a step of a deep latent model, on the CPU; the forms take turns.

    The clock is the processor time of all threads, which other programs hardly change. Linear
    systems are in float64. The population code has one value a frame, with a known variance that
    differs from frame to frame. The channels are 40 at once, with noise that is learned.
    """
    codes, places = PPC(40, 1000, seed=0).batch(), PopulationReadout()
    random = torch.Generator().manual_seed(0)
    paths = torch.randn(60, 100, 3, generator=random).cumsum(1)
    channels = paths @ torch.randn(3, 40, generator=random)
    channels = Batch(channels + torch.randn(channels.shape, generator=random))
    for words, net, batch in (
        ("population code, K=2, 40 x 1000", LGDS(2, readout=places), codes),
        ("population code, K=4, 40 x 1000", LGDS(4, readout=places), codes),
        ("40 channels, K=3, 60 x 100", LGDS(3, 40), channels),
    ):
        yield from linear(words, net, batch, repeats)
    keys = Batch((torch.rand(20, 100, 88, generator=random) < 0.05).float())
    yield deep(keys, DeepMarkovModel(88), VRAE(88, 100, Bernoulli(88), hidden=228), repeats)


@torch.no_grad()
def linear(words: str, net: LGDS, batch: Batch, repeats: int) -> Iterator[Beside]:
    """A Kalman filter, and an iteration of EM (E step and M step), beside those of dynamax."""
    torch.manual_seed(0)
    data = Readings(*net.measure(batch), batch.mask)
    system = net.guess(data, 1)
    value, variance, mask, _ = data

    def filtered(compiled: bool) -> object:
        return kalman_filter(system, value, variance, mask, compiled=compiled)

    def iterated(compiled: bool) -> object:
        beliefs = kalman_smoother(system, value, variance, mask, compiled=compiled)
        return net.m_step(system, beliefs, data)

    other = Dynamax.of(system, value, variance)
    for task, ours, theirs in (("Kalman filter", filtered, "filter"), ("EM", iterated, "iterate")):
        steps = {"torch": partial(ours, False)}
        if kernel() is not None:
            steps["compiled"] = partial(ours, True)
        if other is not None:
            steps[DYNAMAX] = getattr(other, theirs)
        found = _least(steps, repeats)
        best = found.get("compiled", found["torch"])
        yield Beside(f"{task}, {words}", best, found["torch"], DYNAMAX, found.get(DYNAMAX))


def deep(batch: Batch, peer: DeepMarkovModel, net: VRAE, repeats: int) -> Beside:
    """A training step of a VRAE beside one of the deep Markov model of Pyro's example."""
    rules = {"ours": SequenceELBO(net), "theirs": TraceELBO(peer)}
    found = _least({name: partial(rule.gradients, batch) for name, rule in rules.items()}, repeats)
    rows, steps = batch.mask.shape
    words = f"step, {rows} x {steps}: VRAE, {_size(net)} parameters"
    return Beside(words, found["ours"], None, f"DMM in Pyro, {_size(peer)}", found["theirs"])


def _size(net: nn.Module) -> str:
    return f"{sum(part.numel() for part in net.parameters()) / 1e3:.0f}k"


def _least(steps: dict[str, Callable[[], object]], repeats: int) -> dict[str, float]:
    """The least milliseconds of processor time of each of some steps, which take turns."""
    for step in steps.values():
        step()  # compiles
    return {name: 1e3 * each for name, each in least(steps, repeats).items()}


class Dynamax:
    """A linear system in dynamax, with the same parameters; both calls compile at first.

    Arguments:
        jax, models: the modules.
        system: the parameters, without inputs.
        value: ``[B, T, D]``, none of them missing.
        variance: their known variances, ``[B, T, D]``.
    """

    def __init__(
        self, jax: Any, models: Any, system: LinearGaussian, value: Tensor, variance: Tensor
    ) -> None:
        jax.config.update("jax_enable_x64", True)
        array = lambda part: jax.numpy.asarray(part.numpy())  # noqa: E731
        learns = system.noise is not None
        biases = {"has_dynamics_bias": False, "has_emissions_bias": system.offset is not None}
        model = models.LinearGaussianSSM(system.dynamics.shape[-1], value.shape[-1], **biases)
        params, props = model.initialize(
            initial_mean=array(system.initial_mean),
            initial_covariance=array(system.initial_covariance),
            dynamics_weights=array(system.dynamics),
            dynamics_covariance=array(system.process),
            emission_weights=array(system.emission),
            emission_bias=None if system.offset is None else array(system.offset),
            emission_covariance=array(system.noise if learns else torch.eye(value.shape[-1])),
        )

        def known(params: Any, variances: Any) -> Any:
            """The parameters, with the known variances of a sequence."""
            if learns:
                return params
            return params._replace(emissions=params.emissions._replace(cov=variances))

        def one(params: Any, values: Any, variances: Any) -> Any:
            return model.filter(known(params, variances), values)

        def e_step(params: Any, values: Any, variances: Any) -> Any:
            return model.e_step(known(params, variances), values)

        def em(params: Any, values: Any, variances: Any) -> Any:
            moments, scores = jax.vmap(e_step, (None, 0, 0))(params, values, variances)
            return model.m_step(params, props, moments, None)[0], scores

        self.jax, given = jax, (params, array(value), array(variance))
        self._filter = partial(jax.jit(jax.vmap(one, (None, 0, 0))), *given)
        self._em = partial(jax.jit(em), *given)

    @classmethod
    def of(cls, system: LinearGaussian, value: Tensor, variance: Tensor) -> Dynamax | None:
        """The system in dynamax; None where it is not installed."""
        try:
            jax = importlib.import_module("jax")
            models = importlib.import_module("dynamax.linear_gaussian_ssm")
        except ImportError:
            return None
        return cls(jax, models, system, value, variance)

    def filter(self) -> Any:
        """Filtered means and covariances of all sequences, and log-likelihoods."""
        return self.jax.block_until_ready(self._filter())

    def iterate(self) -> Any:
        """New parameters after an iteration of EM, and log-likelihoods."""
        return self.jax.block_until_ready(self._em())
