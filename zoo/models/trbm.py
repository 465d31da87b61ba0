"""Harmoniums given the past: p(x_t, y_t | u_{t-1}), with dynamic biases.

Sources: Sutskever & Hinton (2007); Sutskever, Hinton & Taylor (2009); Boulanger-Lewandowski, Bengio
& Vincent, "Modeling temporal dependencies in high-dimensional sequences" (2012).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..parts.likelihoods import ExponentialFamily
from .harmonium import Harmonium


class TRBM(Harmonium):
    """Temporal RBM: u_{t-1} is a dynamic bias of the hidden units, without gradient through time.

    Arguments:
        obs_dim: values a frame, ``M``.
        hidden_dim: binary hidden units, ``H``; also the size of u.
        likelihood: the family of the visible units, of dimension ``obs_dim``.
        scale: standard deviation of the initial weights.
        obs_mean: initial mean of a visible unit, which sets the biases; None sets them to 0.
        visible_past: u_{t-1} is a dynamic bias of the visible units as well, as in the RTRBM of
            Boulanger-Lewandowski et al. (2012).

    Raises:
        ValueError: when the dimension of the likelihood is not ``obs_dim``, or ``hidden_dim`` below
            1.
    """

    def __init__(
        self,
        obs_dim: int,
        hidden_dim: int,
        likelihood: ExponentialFamily,
        scale: float = 0.005,
        obs_mean: float | None = None,
        visible_past: bool = False,
    ) -> None:
        super().__init__(obs_dim, hidden_dim, likelihood, scale, obs_mean)
        self.visible_past = visible_past
        if visible_past:
            self.visible_weight = nn.Parameter(scale * torch.randn(obs_dim, hidden_dim))

    def visible_bias(self, past: Tensor | None) -> Tensor:
        if not self.visible_past:
            return self.obs_bias
        if past is None:
            raise ValueError(f"the visible units of this {type(self).__name__} need u[t-1]")
        return self.obs_bias + past @ self.visible_weight.T


class RTRBM(TRBM):
    """Recurrent temporal RBM: the TRBM with the gradient through time.

    Arguments: see ``TRBM``.
    """

    through_time = True
