"""Benchmark of EM iterations of linear systems, beside those of dynamax where it is installed."""

from __future__ import annotations

import importlib
import statistics
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

import torch
from torch import Tensor

from ...data import PPC, Batch
from ...inference.linear.fast import kernel
from ...inference.linear.kalman import kalman_smoother
from ...inference.linear.system import LinearGaussian, Readings
from ..models.lgds import LGDS
from ..recipes.population import PopulationReadout


class Iteration(NamedTuple):
    """Median milliseconds of an EM iteration: E step and M step.

    Arguments:
        task: the data and the system.
        torch: of the smoother in torch.
        compiled: of the compiled smoother; None without numba.
        dynamax: of dynamax, compiled by XLA; None where it is not installed.
    """

    task: str
    torch: float
    compiled: float | None
    dynamax: float | None


def kalman(repeats: int) -> Iterator[Iteration]:
    """Times EM iterations on the CPU, in float64; the forms take turns.

    The population code has one value a frame, with a known variance that differs from frame to
    frame. The channels are 40 at once, with noise that is learned.
    """
    codes, places = PPC(40, 1000, seed=0).batch(), PopulationReadout()
    yield _time("population code, K=2, 40 x 1000", LGDS(2, readout=places), codes, repeats)
    yield _time("population code, K=4, 40 x 1000", LGDS(4, readout=places), codes, repeats)
    random = torch.Generator().manual_seed(0)
    paths = torch.randn(60, 100, 3, generator=random).cumsum(1)
    channels = paths @ torch.randn(3, 40, generator=random)
    channels = Batch(channels + torch.randn(channels.shape, generator=random))
    yield _time("40 channels, K=3, 60 x 100", LGDS(3, 40), channels, repeats)


@torch.no_grad()
def _time(task: str, net: LGDS, batch: Batch, repeats: int) -> Iteration:
    torch.manual_seed(0)
    data = Readings(*net.measure(batch), batch.mask)
    system = net.guess(data, 1)

    def ours(compiled: bool) -> Callable[[], object]:
        def step() -> LinearGaussian:
            value, variance, mask, _ = data
            beliefs = kalman_smoother(system, value, variance, mask, compiled=compiled)
            return net.m_step(system, beliefs, data)

        return step

    steps = {"torch": ours(False)}
    if kernel() is not None:
        steps["compiled"] = ours(True)
    other = dynamax_iteration(system, data.value, data.variance)
    if other is not None:
        steps["dynamax"] = other
    times: dict[str, list[float]] = {name: [] for name in steps}
    for step in steps.values():
        step()  # compiles
    for name in list(steps) * repeats:
        start = time.perf_counter()
        steps[name]()
        times[name].append(1e3 * (time.perf_counter() - start))
    median = {name: statistics.median(each) for name, each in times.items()}
    return Iteration(task, median["torch"], median.get("compiled"), median.get("dynamax"))


def dynamax_iteration(
    system: LinearGaussian, value: Tensor, variance: Tensor
) -> Callable[[], tuple] | None:
    """An EM iteration of dynamax from the same system: new parameters and log-likelihoods.

    Arguments:
        system: the parameters, without inputs.
        value: ``[B, T, D]``, none of them missing.
        variance: their known variances, ``[B, T, D]``.

    Returns:
        The iteration, compiled in its first call; None where dynamax is not installed.
    """
    try:
        jax = importlib.import_module("jax")
        models = importlib.import_module("dynamax.linear_gaussian_ssm")
    except ImportError:
        return None
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
    values, variances = array(value), array(variance)

    def e_step(params, values, variances):  # noqa: ANN001, ANN202
        if not learns:
            params = params._replace(emissions=params.emissions._replace(cov=variances))
        return model.e_step(params, values)

    @jax.jit
    def iterate(params, values, variances):  # noqa: ANN001, ANN202
        moments, scores = jax.vmap(e_step, (None, 0, 0))(params, values, variances)
        return model.m_step(params, props, moments, None)[0], scores

    return lambda: jax.block_until_ready(iterate(params, values, variances))
