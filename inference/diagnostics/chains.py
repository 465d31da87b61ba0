"""Convergence of Markov chains: R-hat and effective sample size, and Gibbs chains to test."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...data import generator
from ...data.checks import shown
from ..checks import check_number, check_seed, check_sizes
from ..contracts import GibbsModel
from ..inputs import at, given_inputs, keyword
from ..placing import device_of
from ..rng import RandomStream


class Convergence(NamedTuple):
    """Agreement of chains, computed by ArviZ: one number for every scalar.

    Arguments:
        rhat: rank-normalised split R-hat of each scalar. 1 is agreement; above 1.01 the chains
            still differ. (The largest of several is above that by chance.)
        ess: bulk effective sample size, over all chains.
    """

    rhat: Tensor
    ess: Tensor


def convergence(samples: Tensor) -> Convergence:
    """R-hat and effective sample size of samples from chains.

    Arguments:
        samples: ``[C, S, ...]``: chains, then samples of each.

    Returns:
        Both of shape ``[...]``; NaN where all samples are equal. R-hat is infinite where no chain
        moves, and they differ.

    Raises:
        ValueError: for fewer than two chains or four samples.
    """
    import arviz

    if samples.dim() < 2 or samples.shape[0] < 2 or samples.shape[1] < 4:
        raise ValueError(
            "convergence needs samples of shape [chains, samples, ...], with at least 2 chains and "
            f"4 samples: got {tuple(samples.shape)}"
        )
    shape = samples.shape[2:]
    data = arviz.convert_to_dataset(
        {"samples": samples.reshape(*samples.shape[:2], -1).double().cpu().numpy()}
    )
    with np.errstate(invalid="ignore"):  # chains that do not move have no variance
        measured: tuple[Any, Any] = arviz.rhat(data), arviz.ess(data)
    rhat, ess = (torch.as_tensor(each["samples"].values).reshape(shape) for each in measured)
    stuck = (samples == samples[:, :1]).flatten(0, 1).all(0).cpu()
    still = (samples == samples[0, 0]).flatten(0, 1).all(0).cpu()  # ArviZ gives these an ESS
    # Without variance in any chain ArviZ's R-hat is rounding, or NaN where it runs with numba.
    rhat = rhat.masked_fill(stuck, math.inf)
    return Convergence(*(part.masked_fill(still, math.nan) for part in (rhat, ess)))


@torch.no_grad()
def clamped_gibbs(
    net: GibbsModel,
    past: Tensor,
    num_chains: int = 8,
    num_samples: int = 100,
    num_warmup: int = 25,
    num_probes: int = 8,
    seed: int = 0,
    inputs: Tensor | None = None,
) -> Tensor:
    """Runs Gibbs chains of the next frame with u_{t-1} clamped, from random frames.

    A frame is recorded by its projections on a few random directions, the probes.

    Arguments:
        net: a harmonium or an rVAE.
        past: u_{t-1}, ``[N, U]``.
        num_chains: chains ``C`` for each u.
        num_samples: Gibbs steps ``S`` that are kept.
        num_warmup: Gibbs steps before them, which are discarded.
        num_probes: directions ``P``.
        seed: seed of a private random stream; the caller's random state is left alone.
        inputs: s_t of these frames, ``[N, I]``, for a network that reads inputs.

    Returns:
        ``[C, S, N, P]``, for ``convergence``.

    Raises:
        ValueError: for numbers that are too small, a network without Gibbs chains, unfit inputs, or
            a ``past`` of another width than the network's.
    """
    check_sizes(num_chains=num_chains, num_samples=num_samples, num_probes=num_probes)
    check_seed(seed)
    check_number("num_warmup", num_warmup, 0)
    _check_chains(net, past)
    past = past.to(device_of(net) or past.device)
    clamped = past.repeat(num_chains, 1)
    inputs = given_inputs(net, at(inputs, (slice(None), None)), len(past), 1, past)
    now = keyword(None if inputs is None else inputs.repeat(num_chains, 1, 1)[:, 0])
    kept = []
    with RandomStream(past.device, "clamped Gibbs", seed):
        obs = net.random_frames(len(clamped), **now)
        size = (obs.shape[-1], num_probes)
        direction = torch.randn(size, generator=generator(seed, "probes")).to(obs)
        obs, _ = net.gibbs(obs, clamped, num_warmup, clamp_past=True, **now)
        for _ in range(num_samples):
            obs, _ = net.gibbs(obs, clamped, 1, clamp_past=True, **now)
            kept.append(obs @ direction)
    return torch.stack(kept).unflatten(1, (num_chains, -1)).transpose(0, 1)


def _check_chains(net: GibbsModel, past: Tensor) -> None:
    if not isinstance(net, GibbsModel):
        raise ValueError(
            f"{type(net).__name__} has no Gibbs chains of frames: those take an "
            "inference.GibbsModel, such as a harmonium or an rVAE"
        )
    width = net.initial(1).shape[-1]
    found = tuple(past.shape) if isinstance(past, Tensor) else shown(past)
    if not isinstance(past, Tensor) or past.dim() != 2 or past.shape[1] != width or not len(past):
        raise ValueError(
            f"past must be u_{{t-1}} of some frames, [N, {width}] for this {type(net).__name__}: "
            f"got {found}"
        )
