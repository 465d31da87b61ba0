"""The path from independent units to a harmonium, for ``inference.annealed_likelihood``."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from ...inference.contracts import Tempered
from ..parts.likelihoods import Bernoulli

if TYPE_CHECKING:
    from .harmonium import Harmonium


class Frames(NamedTuple):
    """Frames of chains, and the drive of their hidden units at inverse temperature 1.

    Arguments:
        obs: ``[N, M]``.
        drive: W_y T(y) + W_u u + b, ``[N, H]``.
    """

    obs: Tensor
    drive: Tensor


class TemperedHarmonium(Tempered[Frames]):
    """p(y | u) with couplings scaled by beta, its hidden units summed out:

        log f(y) = (1 - beta) a_0'T(y) + beta (a_y + W_v u)'T(y) + B(y)
                   + sum_j log(1 + exp(beta (W_y T(y) + W_u u + b)_j))

    A move draws x given y, then y given x. For counts it is exact as long as log-rates stay below
    ``LINEAR_FROM``, as the exponential form of the family is.

    Arguments:
        net: the harmonium.
        past: u_{t-1}, ``[N, H]``.
        obs: frames, ``[F, M]``; a_0 are the natural parameters of their mean.

    Raises:
        ValueError: for grey values.

    Source: Salakhutdinov & Murray (2008), section 4.1.
    """

    def __init__(self, net: Harmonium, past: Tensor, obs: Tensor) -> None:
        self.net, self.rows = net, len(past)
        self.bias = torch.addmm(net.hidden_bias, past, net.past_weight.T)
        self.visible_bias = net.visible_bias(past)
        if isinstance(net.likelihood, Bernoulli) and ((obs != 0) & (obs != 1)).any():
            raise ValueError(
                "grey values have no probability under binary units: binarise the data, or score "
                "predictions with inference.score(kind='next', unit='mse')"
            )
        self.base = net.likelihood.natural(obs.mean(0))
        units = net.likelihood.log_normaliser(self.base)
        self.log_normaliser = units.sum() + net.hidden_dim * math.log(2)

    def start(self) -> Frames:
        return self.at(self.net.likelihood.sample(self.base.expand(self.rows, -1)))

    def at(self, obs: Tensor) -> Frames:
        statistic = self.net.likelihood.statistic(obs)
        return Frames(obs, torch.addmm(self.bias, statistic, self.net.obs_weight.T))

    def log_density(self, frames: Frames, *betas: float) -> Tensor:
        statistic = self.net.likelihood.statistic(frames.obs)
        base = self.net.likelihood.log_base(frames.obs).sum(-1)
        found = []
        for beta in betas:
            visible = (statistic * self._bias(beta)).sum(-1)
            found.append(visible + base + functional.softplus(beta * frames.drive).sum(-1))
        return torch.stack(found)

    def move(self, frames: Frames, beta: float) -> Frames:
        hidden = self.net.sample_hidden(torch.sigmoid(beta * frames.drive))
        natural = torch.addmm(self._bias(beta), hidden, self.net.obs_weight, alpha=beta)
        return self.at(self.net.likelihood.sample(natural))

    def _bias(self, beta: float) -> Tensor:
        return torch.lerp(self.base, self.visible_bias, beta)
