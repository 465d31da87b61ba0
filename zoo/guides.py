"""Recognition models: who guesses the latent state from what was seen.

A guide for one time step offers ``encode(obs)``, which sees each frame alone;
``guide(features, past)``, the distribution of x_t; ``step(features, past)``, its statistics u_t;
and the attributes ``features_dim`` and ``statistics_dim``. A user's own module with these goes
wherever a model takes ``guide=``.
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from .nets import MLP, activation

STATISTICS = ("mean+spread", "mean")
MIN_SPREAD = 1e-4  # a belief is never a point, and generated statistics never nonsense


class GaussianGuide(nn.Module):
    """q(x_t | u_{t-1}, y_t) = N(mean, spread²), diagonal: paper equation (2).

    The frame y_t passes a net of its own and meets u_{t-1} only after encoding.

    Arguments:
        obs_dim: values a frame, ``M``.
        latent_dim: size of x, ``K``.
        hidden: width of the two encoding layers and of the joint layer.
        statistics: what u_t is made of: ``"mean+spread"`` (as in the paper) or ``"mean"``.
        skip: let the mean depend on u_{t-1} through a linear map, too.
        nonlinearity: activation of the layers.
        encoder: a net from ``[..., M]`` to ``[..., hidden]`` in place of the two layers.
    """

    def __init__(
        self,
        obs_dim: int,
        latent_dim: int,
        hidden: int = 64,
        statistics: str = "mean+spread",
        skip: bool = True,
        nonlinearity: str = "relu",
        encoder: nn.Module | None = None,
    ):
        super().__init__()
        if statistics not in STATISTICS:
            raise ValueError(f"statistics must be one of {STATISTICS}, got {statistics!r}")
        self.latent_dim, self.statistics, self.features_dim = latent_dim, statistics, hidden
        self.complete = statistics == "mean+spread"  # u_t tells all of q(x_t)
        self.statistics_dim = latent_dim * (2 if statistics == "mean+spread" else 1)
        layers = [obs_dim, hidden, hidden]
        self.encoder = MLP(layers, nonlinearity, last=nonlinearity) if encoder is None else encoder
        self.from_frame = nn.Linear(hidden, hidden)
        self.from_past = nn.Linear(self.statistics_dim, hidden, bias=False)
        self.nonlinearity = activation(nonlinearity)
        self.heads = nn.Linear(hidden, 2 * latent_dim)
        self.skip = nn.Linear(self.statistics_dim, latent_dim, bias=False) if skip else None

    def initial(self, rows: int) -> Tensor:
        """u before the first frame, the statistics of the prior N(0, I): ``[B, U]``."""
        zeros = self.heads.bias.new_zeros(rows, self.latent_dim)
        return zeros if self.statistics == "mean" else torch.cat((zeros, zeros + 1), -1)

    def encode(self, obs: Tensor) -> Tensor:
        """``[..., M] -> [..., F]``; the frame's share of the joint layer is computed here, too."""
        return self.from_frame(self.encoder(obs))

    def moments(self, features: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and spread (standard deviation) of x_t, each ``[N, K]``."""
        joint = self.nonlinearity(torch.addmm(features, past, self.from_past.weight.T))
        mean, spread = self.heads(joint).chunk(2, -1)
        if self.skip is not None:
            mean = torch.addmm(mean, past, self.skip.weight.T)
        return mean, functional.softplus(spread) + MIN_SPREAD

    def step(self, features: Tensor, past: Tensor) -> Tensor:
        """u_t, ``[N, U]``."""
        mean, spread = self.moments(features, past)
        return mean if self.statistics == "mean" else torch.cat((mean, spread), -1)

    def forward(self, features: Tensor, past: Tensor) -> dist.TorchDistribution:
        """q(x_t | u_{t-1}, y_t), batch shape ``[N]``, event shape ``[K]``."""
        return dist.Normal(*self.moments(features, past), validate_args=False).to_event(1)

    def posterior(self, statistics: Tensor) -> dist.TorchDistribution:
        """The belief that ``[..., U]`` stands for (a point, where it lacks the spread)."""
        if self.statistics == "mean":
            return dist.Delta(statistics, event_dim=1)
        mean, spread = statistics.chunk(2, -1)
        return dist.Normal(mean, spread.clamp_min(MIN_SPREAD), validate_args=False).to_event(1)
