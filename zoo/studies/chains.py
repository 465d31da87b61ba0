"""Agreement of the Gibbs chains that predict the next frame, and the distribution they sample.

R-hat of a frame is the largest of eight random directions. This maximum lies above 1 even for
independent samples, the more so the fewer they are. Hence the limit is 1.1 in place of the usual
1.01, and ``null`` gives the R-hat of independent samples.
"""

from __future__ import annotations

from typing import NamedTuple, TypeGuard

import torch
from torch import Tensor, nn

from ...data import generator
from ...inference import RandomStream, clamped_gibbs, convergence, run_filter
from ...inference.contracts import GibbsModel
from .. import store
from ..models.rvae import RVAE
from ..recipes.held_out import held_out

DISAGREE = 1.1  # R-hat of the worst of PROBES directions, above which chains disagree
PROBES = 8
INDEPENDENT = 40  # frames of independent samples
STATES = 25  # samples of the state of each frame, for its spread
SEQUENCES, STEPS = 10, 100  # test data whose frames are predicted


class Chains(NamedTuple):
    """How clamped Gibbs chains are followed.

    Arguments:
        frames: frames whose next frame is sampled.
        num_chains: chains of each frame.
        num_warmup: steps before those that are kept.
        num_samples: steps kept of each chain.
    """

    frames: int = 50
    num_chains: int = 8
    num_warmup: int = 25
    num_samples: int = 100


class Agreement(NamedTuple):
    """How well the chains of single frames agree, each judged by its worst direction.

    Arguments:
        rhat: R-hat, ``[N]``: of frames whose chains moved.
        ess: effective sample size, ``[N]``, of ``num_chains * num_samples``.
        still: frames whose chains did not move at all.
    """

    rhat: Tensor
    ess: Tensor
    still: int

    @property
    def apart(self) -> float:
        """Fraction of frames whose chains disagree."""
        return float((self.rhat > DISAGREE).double().mean())


def has_chains(net: nn.Module) -> TypeGuard[GibbsModel]:
    """Whether a model samples frames by Gibbs chains."""
    return isinstance(net, GibbsModel)


@torch.no_grad()
def follow(net: GibbsModel, obs: Tensor, how: Chains, seed: int = 0) -> Agreement:
    """Follows chains of some frames of ``obs [B, T, M]``, from after the first quarter of it.

    Raises:
        ValueError: when no chain moves.
    """
    past = _some(net, obs, how, seed)
    return _agreement(
        clamped_gibbs(net, past, how.num_chains, how.num_samples, how.num_warmup, PROBES, seed)
    )


def null(how: Chains, seed: int = 0) -> Agreement:
    """The agreement of independent samples of these sizes: chains can do no better."""
    size = how.num_chains, how.num_samples, INDEPENDENT, PROBES
    return _agreement(torch.randn(size, generator=generator(seed, "independent draws")))


@torch.no_grad()
def spreads(net: GibbsModel, obs: Tensor, how: Chains, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Spread (sd) of each latent x_t given u_{t-1}: of Gibbs chains, and of the model's posterior.

    Chains sample x_t from the guide, so that the two are equal only where the guide is the
    posterior. Both are averaged, as variances, over the frames of ``follow``.

    Returns:
        Both ``[K]``.

    Raises:
        ValueError: for any model but an rVAE, which alone samples x_t by both methods.
    """
    if not isinstance(net, RVAE):
        raise ValueError(f"{type(net).__name__} does not sample its state by both methods")
    past, found = _some(net, obs, how, seed), []
    for method in ("gibbs", "posterior"):
        with RandomStream(past.device, "spreads", seed):
            drawn = net.sample_state(past, STATES, method, steps=how.num_warmup + how.num_samples)
        found.append(drawn.var(0).mean(0).sqrt())
    return found[0], found[1]


def _some(net: GibbsModel, obs: Tensor, how: Chains, seed: int) -> Tensor:
    """u_{t-1} of some frames from after the first quarter, ``[N, U]``."""
    past = run_filter(net, obs)[:, obs.shape[1] // 4 :].flatten(0, 1)
    return past[torch.randperm(len(past), generator=generator(seed, "frames"))[: how.frames]]


def _agreement(samples: Tensor) -> Agreement:
    """The agreement of samples ``[C, D, N, P]``."""
    found = convergence(samples)
    rhat, ess = found.rhat.amax(-1), found.ess.amin(-1)
    moved = ~rhat.isnan()
    if not moved.any():
        raise ValueError("its chains did not move, so that R-hat is undefined")
    return Agreement(rhat[moved], ess[moved], int((~moved).sum()))


def compare(names: list[str], how: Chains, seed: int = 0) -> dict[str, Agreement]:
    """Follows the chains of trained models on test data, and as many independent samples.

    Returns:
        The agreement of the chains of each model, and of independent samples at the end.

    Raises:
        ValueError: for a model that has no chain.
    """
    nets: dict[str, GibbsModel] = {}
    for name in names:
        net = store.load(name)
        if not has_chains(net):
            raise ValueError(f"{name} samples no frames by Gibbs chains: name a harmonium or rVAE")
        nets[name] = net

    found = {}
    for name, net in nets.items():
        test = held_out(store.card_of(net), SEQUENCES, seed, steps=STEPS)
        found[name] = follow(net, test.obs, how, seed)
    return {**found, "independent samples": null(how, seed)}
