"""The recurrent exponential-family harmonium: p(x_t, y_t, u_{t-1}).

Sources: Makin, Dichter & Sabes (2015, 2016); Abdulsalam & Makin (2023).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..parts.likelihoods import ExponentialFamily
from .harmonium import Harmonium


class REFH(Harmonium):
    """Recurrent exponential-family harmonium: a joint model of y_t and u_{t-1}.

    It is temporally local by construction: p(x_t, y_t, u_{t-1}) is one static harmonium.

    Arguments:
        obs_dim: values a frame, ``M``.
        hidden_dim: binary hidden units, ``H``; also the size of u.
        likelihood: the family of the visible units, of dimension ``obs_dim``.
        scale: standard deviation of the initial weights.
        obs_mean: initial mean of a visible unit, which sets the biases; None sets them to 0.

    Raises:
        ValueError: when the dimension of the likelihood is not ``obs_dim``, or ``hidden_dim`` below
            1.
    """

    clamps_past = False
    directions = ("forwards", "backwards")
    factorisation = "p(x[t], y[t], u[t-1])"

    def __init__(
        self,
        obs_dim: int,
        hidden_dim: int,
        likelihood: ExponentialFamily,
        scale: float = 0.005,
        obs_mean: float | None = None,
    ) -> None:
        super().__init__(obs_dim, hidden_dim, likelihood, scale, obs_mean)
        self.past_bias = nn.Parameter(torch.zeros(hidden_dim))

    def past_emission(self, hidden: Tensor) -> Tensor:
        """Log-odds of u_{t-1} given x_t, ``[..., H] -> [..., H]``."""
        return functional.linear(hidden, self.past_weight.T, self.past_bias)

    def _past_bias(self, past: Tensor) -> Tensor:
        return past @ self.past_bias

    def backwards(
        self, sequences: int, steps: int, noise: bool = True, gibbs_steps: int = 25
    ) -> Tensor:
        """Samples ``[N, T, M]``, earliest frame first; see ``sample``.

        A chain of ``gibbs_steps`` rounds over y and u gives x_T. Then, without any chain, each x_t
        gives y_t and u_{t-1}, the mean of x_{t-1}.
        """
        start = self.likelihood.sample(self.obs_bias.expand(sequences, -1))
        past = self.sample_hidden(torch.sigmoid(self.past_bias.expand(sequences, -1)))
        obs, past = self.gibbs(start, past, gibbs_steps)
        mean, frames = self.step(self.encode(obs), past), []
        emit = self.likelihood.sample if noise else self.likelihood.mean
        for _ in range(steps):
            hidden = self.sample_hidden(mean)
            frames.append(emit(self.emission(hidden)))
            mean = torch.sigmoid(self.past_emission(hidden))
        return torch.stack(frames[::-1], 1)
