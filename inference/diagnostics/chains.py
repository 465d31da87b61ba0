"""Whether Markov chains agree: R-hat and effective sample size, and chains to follow."""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...data import generator
from ..contracts import GibbsModel
from ..rng import RandomStream


class Convergence(NamedTuple):
    """Whether chains agree, by ArviZ: one number for every scalar that was followed.

    Arguments:
        rhat: rank-normalised split R-hat of each scalar; 1 is agreement, and above 1.01 chains
            still differ. (The largest of several is above that by chance.)
        ess: bulk effective sample size, over all chains.
    """

    rhat: Tensor
    ess: Tensor


def convergence(draws: Tensor) -> Convergence:
    """R-hat and effective sample size of draws ``[C, D, ...]``: chains, then draws.

    Returns:
        Both of shape ``[...]``; NaN where all draws are equal.

    Raises:
        ValueError: for fewer than two chains or four draws.
    """
    import arviz

    if draws.dim() < 2 or draws.shape[0] < 2 or draws.shape[1] < 4:
        raise ValueError(
            "convergence takes [chains, draws, ...], at least 2 chains and 4 draws: "
            f"got {tuple(draws.shape)}"
        )
    shape = draws.shape[2:]
    data = arviz.convert_to_dataset(
        {"draws": draws.reshape(*draws.shape[:2], -1).double().cpu().numpy()}
    )
    with np.errstate(invalid="ignore"):  # of draws that do not move
        found = [
            torch.as_tensor(measure(data)["draws"].values).reshape(shape)
            for measure in (arviz.rhat, arviz.ess)
        ]
    still = (draws == draws[0, 0]).flatten(0, 1).all(0).cpu()  # of those, ArviZ says that all count
    return Convergence(*(part.masked_fill(still, math.nan) for part in found))


@torch.no_grad()
def clamped_gibbs(
    net: GibbsModel,
    past: Tensor,
    chains: int = 8,
    draws: int = 100,
    burn: int = 25,
    probes: int = 8,
    seed: int = 0,
) -> Tensor:
    """Follows Gibbs chains of the next frame with u_{t-1} clamped, from random starts.

    A frame is followed through its projections on a few random directions.

    Arguments:
        net: a harmonium or an rVAE.
        past: u_{t-1}, ``[N, U]``.
        chains: chains ``C`` for each u.
        draws: Gibbs steps that are kept, ``D``.
        burn: Gibbs steps before them.
        probes: directions ``P``.
        seed: seed of chains and directions; the caller's random state is left alone.

    Returns:
        ``[C, D, N, P]``, for ``convergence``.

    Raises:
        ValueError: for less than one chain, draw or probe, fewer than 0 steps before them, a
            network without such chains, or a ``past`` that is not its.
    """
    for name, number, least in (
        *(("chains", chains, 1), ("draws", draws, 1)),
        *(("probes", probes, 1), ("burn", burn, 0)),
    ):
        if number < least:
            raise ValueError(f"{name} must be at least {least}, got {number}")
    _check_chains(net, past)
    clamped = past.repeat(chains, 1)
    kept = []
    with RandomStream(past.device, "clamped Gibbs", seed):
        obs = net.random_frames(len(clamped))
        size = (obs.shape[-1], probes)
        direction = torch.randn(size, generator=generator(seed, "probes")).to(obs)
        obs, _ = net.gibbs(obs, clamped, burn, clamp_past=True)
        for _ in range(draws):
            obs, _ = net.gibbs(obs, clamped, 1, clamp_past=True)
            kept.append(obs @ direction)
    return torch.stack(kept).unflatten(1, (chains, -1)).transpose(0, 1)


def _check_chains(net: GibbsModel, past: Tensor) -> None:
    if not isinstance(net, GibbsModel):
        raise ValueError(
            f"{type(net).__name__} has no Gibbs chains of frames: those take an "
            "inference.GibbsModel, such as a harmonium or an rVAE"
        )
    width = net.initial(1).shape[-1]
    if past.dim() != 2 or past.shape[1] != width or not len(past):
        raise ValueError(
            f"past must be u_{{t-1}} of some frames, [N, {width}] for this {type(net).__name__}: "
            f"got {tuple(past.shape)}"
        )
