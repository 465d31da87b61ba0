"""Do the Gibbs chains that predict a next frame agree?"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor, nn

from ..data import generator
from ..inference import clamped_gibbs, convergence, run_filter
from ..inference.rule import Recurrent
from . import store
from .held_out import data_of, held_out

DISAGREE = 1.1  # above it, chains are commonly taken not to have converged
SEQUENCES, STEPS = 10, 100  # whose frames are predicted


class Chains(NamedTuple):
    """How clamped Gibbs chains are followed: frames, chains a frame, steps before and kept."""

    frames: int = 50
    chains: int = 8
    burn: int = 25
    draws: int = 100


class Agreement(NamedTuple):
    """How well the chains of single frames agree, each judged by its worst direction.

    Arguments:
        rhat: R-hat, ``[N]``: of frames whose chains moved.
        ess: effective sample size, ``[N]``, of ``chains * draws``.
        still: frames whose chains did not move at all.
    """

    rhat: Tensor
    ess: Tensor
    still: int

    @property
    def apart(self) -> float:
        """Share of frames whose chains disagree."""
        return float((self.rhat > DISAGREE).double().mean())


def has_chains(net: nn.Module) -> bool:
    """Whether a model samples frames by Gibbs chains."""
    return hasattr(net, "gibbs") and isinstance(net, Recurrent)


@torch.no_grad()
def follow(net: nn.Module, obs: Tensor, how: Chains, seed: int = 0) -> Agreement:
    """Follows chains of some frames of ``obs [B, T, M]``, from after the first quarter of it.

    Raises:
        ValueError: when no chain moves.
    """
    past = run_filter(net, obs)[:, obs.shape[1] // 4 :].flatten(0, 1)
    chosen = torch.randperm(len(past), generator=generator(seed, "frames"))[: how.frames]
    found = convergence(
        clamped_gibbs(net, past[chosen], how.chains, how.draws, how.burn, seed=seed)
    )
    rhat, ess = found.rhat.amax(-1), found.ess.amin(-1)
    moved = ~rhat.isnan()
    if not moved.any():
        raise ValueError("its chains did not move, so that R-hat is undefined")
    return Agreement(rhat[moved], ess[moved], int((~moved).sum()))


def compare(names: list[str], how: Chains, seed: int = 0) -> Iterator[tuple[str, Agreement]]:
    """Follows the chains of trained models on test data, one model after the other.

    Raises:
        ValueError: at once, for a model that has no chain.
    """
    nets = {name: store.load(name) for name in names}
    for name, net in nets.items():
        if not has_chains(net):
            raise ValueError(f"{name} samples no frames by Gibbs chains: name a harmonium or rVAE")

    def found(net: nn.Module) -> Agreement:
        test = held_out(data_of(net.card), SEQUENCES, seed, steps=STEPS)
        return follow(net, test.obs, how, seed)

    return ((name, found(net)) for name, net in nets.items())
