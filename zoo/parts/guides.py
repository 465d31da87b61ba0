"""Recognition models: who guesses the latent state from what was seen.

A guide for one time step offers ``initial(rows)``, the statistics before the first frame;
``encode(obs)``, which sees each frame alone; ``guide(features, past)``, the distribution of x_t;
``step(features, past)``, its statistics u_t; and the attribute ``statistics_dim``. A user's own
module with these goes wherever a model takes ``guide=``. It may offer ``advance``, a quicker
``step`` for when no past is blank.
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from ..part import Described
from .nets import MLP, activation

__all__ = ["FilmGuide", "GaussianGuide"]

STATISTICS = ("mean+spread", "mean")
MIN_SPREAD = 1e-4  # a belief is never a point, and generated statistics never nonsense
MAX_MEAN = 5.0  # standard deviations of the prior: a half-trained recursion must not run away
UNIT_SPREAD = 0.5413  # softplus(0.5413) = 1, the spread of the prior
LEAK = 0.8  # a new guide is a leaky integrator: 0.8 of the belief before, 0.2 of the frame's


class GaussianGuide(Described, nn.Module):
    """q(x_t | u_{t-1}, y_t) = N(mean, spread²), diagonal: paper equation (2).

    The frame passes a net of its own and meets u_{t-1} only after encoding. With h(y) the encoded
    frame, c(y) the mean that the frame alone suggests, and f the nonlinearity,

        mean_t = S u_{t-1} + g c(y_t) + V f(W_y h(y_t) + W_u u_{t-1})

    and the spread likewise through V. Without a past, at the first frame, the moments are those
    the frame alone suggests. A blank past is zero throughout, which no belief is.

    Arguments:
        obs_dim: values a frame, ``M``.
        latent_dim: size of x, ``K``.
        hidden: width of the two encoding layers and of the joint layer.
        statistics: what u_t is made of: ``"mean+spread"`` (as in the paper) or ``"mean"``.
        seen: latents that a frame alone tells of; about the others it says N(0, 1).
        nonlinearity: activation of the layers.
        encoder: a net from ``[..., M]`` to ``[..., hidden]`` in place of the two layers.

    Raises:
        ValueError: for unknown statistics, or ``seen`` outside 1 to ``latent_dim``.
    """

    def __init__(
        self,
        obs_dim: int,
        latent_dim: int,
        hidden: int = 64,
        statistics: str = "mean+spread",
        seen: int | None = None,
        nonlinearity: str = "relu",
        encoder: nn.Module | None = None,
    ):
        super().__init__()
        if statistics not in STATISTICS:
            raise ValueError(f"statistics must be one of {STATISTICS}, got {statistics!r}")
        if seen is not None and not 1 <= seen <= latent_dim:
            raise ValueError(f"seen must be 1 to latent_dim ({latent_dim}), got {seen}")
        self.latent_dim, self.statistics, self.seen = latent_dim, statistics, seen or latent_dim
        self.features_dim = hidden
        self.complete = statistics == "mean+spread"  # u_t tells all of q(x_t)
        self.statistics_dim = latent_dim * (2 if self.complete else 1)
        layers = [obs_dim, hidden, hidden]
        self.encoder = MLP(layers, nonlinearity, last=nonlinearity) if encoder is None else encoder
        self.alone = nn.Linear(hidden, 2 * self.seen)
        self.gain = nn.Parameter(torch.full((self.seen,), 1 - LEAK))
        self.from_frame = nn.Linear(hidden, hidden)
        self.from_past = nn.Linear(self.statistics_dim, hidden + 2 * latent_dim, bias=False)
        self.nonlinearity = activation(nonlinearity)
        self.heads = nn.Linear(hidden, 2 * latent_dim)
        with torch.no_grad():
            self.from_past.weight[:hidden] *= 1 - LEAK
            self.from_past.weight[hidden:] = LEAK * torch.eye(2 * latent_dim, self.statistics_dim)
            self.from_past.weight[hidden + latent_dim :] = 0.0
            self.heads.weight *= 0.1
            self.heads.bias[latent_dim:] = -1.5

    def initial(self, rows: int) -> Tensor:
        """The blank past, ``[B, U]``."""
        return self.heads.weight.new_zeros(rows, self.statistics_dim)

    def encode(self, obs: Tensor) -> Tensor:
        """``[..., M] -> [..., hidden + 4 K]``: all that can be computed without the past."""
        code = self.encoder(obs)
        alone = self.alone(code)
        mean, spread = alone.chunk(2, -1)
        rest = (0, self.latent_dim - self.seen)
        blank = functional.pad(mean, rest), functional.pad(spread, rest, value=UNIT_SPREAD)
        return torch.cat((self.from_frame(code), self._lead(alone) + self.heads.bias, *blank), -1)

    def _lead(self, alone: Tensor) -> Tensor:
        """What the frame's own moments ``[..., 2 S]`` add to those of x_t, ``[..., 2 K]``."""
        mean = alone[..., : self.seen]
        return functional.pad(self.gain * mean, (0, 2 * self.latent_dim - self.seen))

    def moments(self, features: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and spread (standard deviation) of x_t, each ``[N, K]``."""
        together, alone = self._moments(features, past)
        blank = past[:, -1:] == 0 if self.complete else (past == 0).all(-1, keepdim=True)
        mean, spread = torch.where(blank, alone, together).chunk(2, -1)
        return mean, functional.softplus(spread) + MIN_SPREAD

    def step(self, features: Tensor, past: Tensor) -> Tensor:
        """u_t, ``[N, U]``."""
        return self._statistics(*self.moments(features, past))

    def advance(self, features: Tensor, past: Tensor) -> Tensor:
        """``step`` where no past is blank, without looking: what a sweep does but once."""
        mean, spread = self._moments(features, past)[0].chunk(2, -1)
        return self._statistics(mean, functional.softplus(spread) + MIN_SPREAD)

    def _moments(self, features: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and raw spread with the past, and from the frame alone, each ``[N, 2 K]``."""
        pair = 2 * self.latent_dim
        drive, alone = features.split((self.from_past.out_features, pair), -1)
        drive = torch.addmm(drive, past, self.from_past.weight.T)
        joint, linear = drive.split((self.features_dim, pair), -1)
        return torch.addmm(linear, self.nonlinearity(joint), self.heads.weight.T), alone

    def _statistics(self, mean: Tensor, spread: Tensor) -> Tensor:
        mean = mean.clamp(-MAX_MEAN, MAX_MEAN)
        return torch.cat((mean, spread), -1) if self.complete else mean

    def forward(self, features: Tensor, past: Tensor) -> dist.TorchDistribution:
        """q(x_t | u_{t-1}, y_t), batch shape ``[N]``, event shape ``[K]``."""
        return dist.Normal(*self.moments(features, past), validate_args=False).to_event(1)

    def posterior(self, statistics: Tensor) -> dist.TorchDistribution:
        """The belief that ``[..., U]`` stands for (a point, where it lacks the spread)."""
        if not self.complete:
            return dist.Delta(statistics, event_dim=1)
        mean, spread = statistics.chunk(2, -1)
        return dist.Normal(mean, spread.clamp_min(MIN_SPREAD), validate_args=False).to_event(1)


class FilmGuide(GaussianGuide):
    """A guide for frames that show their own latents all but without noise.

    Where a frame is noisy the default's leaky average over frames is what a filter does; of film it
    makes a blur. Here the latents that are seen begin as what the frame alone says of them, and the
    others as mixtures of that and of u_{t-1}, so that there is something of the past to keep. With
    c(y) the moments that the frame alone suggests,

        mean_t, spread_t = L c(y_t) + S u_{t-1} + V f(W_y h(y_t) + W_u u_{t-1})

    Arguments:
        rate: None mixes at random. A number begins the others as rates of change, ``rate`` times
            the difference of what this frame and u_{t-1} say: a velocity that is built in, where
            a random mixture has to become one by learning.
        others: see ``GaussianGuide``.
    """

    def __init__(self, *sizes, rate: float | None = None, **parts):
        super().__init__(*sizes, **parts)
        del self.gain
        seen, latents = self.seen, self.latent_dim
        self.lead = nn.Linear(2 * seen, 2 * latents, bias=False)
        others = min(seen, latents - seen)
        with torch.no_grad():
            lead, past = self.lead.weight, self.from_past.weight[self.features_dim :]
            lead.zero_()
            past.zero_()
            lead[:seen, :seen] = lead[latents : latents + seen, seen:] = torch.eye(seen)
            if rate is None:
                lead[seen:latents, :seen].normal_(std=seen**-0.5)
                past[seen:latents, :seen].normal_(std=seen**-0.5)
            else:
                lead[seen : seen + others, :others] = rate * torch.eye(others)
                past[seen : seen + others, :others] = -rate * torch.eye(others)
            self.heads.bias.zero_()
            self.heads.bias[latents + seen :] = -1.5

    def _lead(self, alone: Tensor) -> Tensor:
        return self.lead(alone)
