"""Annealed importance sampling: the likelihood of a model whose normaliser is unknown."""

from __future__ import annotations

import itertools
import math
from typing import Any

import torch
from torch import Tensor

from ..data import Batch, BatchLike
from .ahead import swept
from .checks import check_seed, check_sizes
from .contracts import EnergyModel, Tempered, evaluating
from .placing import batch_for
from .rng import RandomStream

ROWS = 20_000  # chains times frames that run at once


@torch.no_grad()
def annealed_likelihood(
    net: EnergyModel,
    batch: BatchLike,
    num_chains: int = 20,
    temperatures: int = 500,
    seed: int = 0,
    reverse: bool = False,
) -> Tensor:
    """log p(y_1 .. y_T) of a harmonium, estimated; ``[B]``, in nats.

    The log-likelihood of a frame given the frames before it is -F(y_t, u_{t-1}) - log Z(u_{t-1}).
    Chains that start at independent units estimate the normaliser Z. They pass through a sequence
    of distributions, the last of which is the model. **The estimate is too high in expectation**:
    the mean weight is an unbiased estimate of Z, and its logarithm is too low.

    With ``reverse`` the chains start at the data and pass through the same distributions backwards.
    The result is a lower bound in expectation on the log-likelihood of the sampler: of frames that
    are drawn by such a chain in place of the model. It agrees with the likelihood of the model
    in the limit of many temperatures. Where both figures agree, the first is not much too high.

    Arguments:
        net: a REFH, TRBM or RTRBM. A network that explains u_{t-1}, such as a REFH, is scored with
            u_{t-1} given.
        batch: the sequences: a ``Batch``, or anything that ``data.as_batch`` takes.
        num_chains: chains of each frame.
        temperatures: distributions that a chain passes through.
        seed: seed of a private random stream; the caller's random state is left alone.
        reverse: see above.

    Raises:
        ValueError: for numbers below 1, for another network, for data outside the support, or for
            missing values.

    Example:
        >>> net, test = zoo.load("ppc/rtrbm"), data.PPC(sequences=2, steps=50, split="test").batch()
        >>> high = annealed_likelihood(net, test, num_chains=5, temperatures=100)
        >>> low = annealed_likelihood(net, test, num_chains=5, temperatures=100, reverse=True)

    Source: Neal, "Annealed importance sampling" (2001); Salakhutdinov & Murray, "On the
    quantitative analysis of deep belief networks" (2008). Of ``reverse``: Burda, Grosse &
    Salakhutdinov, "Accurate and conservative estimates of MRF log-likelihood using reverse
    annealing" (2015).
    """
    check_sizes(num_chains=num_chains, temperatures=temperatures)
    check_seed(seed)
    if not isinstance(net, EnergyModel):
        raise ValueError(
            f"{type(net).__name__} is not an inference.EnergyModel, such as a harmonium: "
            "inference.predictive_bound is for networks with a likelihood or a bound"
        )
    batch = batch_for(net, batch)
    _check(batch)
    with RandomStream(batch.obs.device, "annealing", seed), evaluating(net):
        past = swept(net, batch).statistics[:, :-1][batch.mask]
        obs = batch.obs[batch.mask]
        found = []
        for some in torch.arange(len(obs), device=obs.device).split(max(1, ROWS // num_chains)):
            between = net.tempered(past[some].repeat(num_chains, 1), obs)
            frames = obs[some].repeat(num_chains, 1)
            run = _backwards if reverse else _forwards
            found.append(run(between, frames, temperatures).view(num_chains, -1))
    weights = torch.cat(found, 1)
    sign = 1 if reverse else -1  # forwards it is the normaliser that is averaged over chains
    average = sign * ((sign * weights).logsumexp(0) - math.log(num_chains))
    scores = average.new_zeros(batch.mask.shape)
    scores[batch.mask] = average
    return scores.sum(1)


def _forwards(between: Tempered[Any], obs: Tensor, temperatures: int) -> Tensor:
    """log p(y) of each chain by its own estimate of the normaliser, ``[N]``, float64."""
    chains, log_normaliser = between.start(), between.log_normaliser.double()
    for low, high in _steps(temperatures):
        lower, upper = between.log_density(chains, low, high).double()
        log_normaliser = log_normaliser + upper - lower
        chains = between.move(chains, high)
    return between.log_density(between.at(obs), 1.0)[0].double() - log_normaliser


def _backwards(between: Tempered[Any], obs: Tensor, temperatures: int) -> Tensor:
    """log p(y) of each chain under the sampler, from chains that start at ``obs``; ``[N]``."""
    chains = between.at(obs)
    found = between.log_density(chains, 1.0)[0].double() - between.log_normaliser.double()
    for low, high in reversed(_steps(temperatures)):
        chains = between.move(chains, high)
        lower, upper = between.log_density(chains, low, high).double()
        found = found + lower - upper
    return found


def _steps(temperatures: int) -> list[tuple[float, float]]:
    """Neighbouring pairs of equally spaced inverse temperatures from 0 to 1."""
    betas = [k / temperatures for k in range(temperatures + 1)]
    return list(itertools.pairwise(betas))


def _check(batch: Batch) -> None:
    if batch.observed is not None and not bool((batch.observed | ~batch.mask[..., None]).all()):
        raise ValueError(
            "annealed_likelihood takes no missing values: the normaliser of a harmonium is that of "
            "whole frames"
        )
