"""Recognition models of single frames, q(x_t | u_{t-1}, y_t).

``FrameGuide`` lists the members that a model uses. A user's own guide is any ``nn.Module`` with
these members.
"""

from __future__ import annotations

from typing import Protocol

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.nn import functional

from ...inference import kernels
from ...inference.checks import check_number, check_real, check_sizes
from ..part import Described
from .nets import MLP, SCANS, activation, activation_code

__all__ = ["FilmGuide", "GaussianGuide"]

STATISTICS = ("mean+spread", "mean")
MIN_SPREAD = 1e-4  # keeps a belief from becoming a point
MAX_MEAN = 5.0  # standard deviations of the prior: keeps the recursion of a new guide bounded
MAX_SPREAD = 5.0  # likewise: a spread that feeds on itself would grow without end
UNIT_SPREAD = 0.5413  # softplus(0.5413) = 1, the spread of the prior
LEAK = 0.8  # a new guide integrates with a leak: 0.8 of the last belief and 0.2 of the frame's


class FrameGuide(Protocol):
    """The members of a recognition model of single frames.

    Three more members are optional. ``advance(features, past)`` is a faster ``step`` for a past
    that is nowhere blank. ``scan(features, past, passes)`` runs all steps in one call, see
    ``Recurrent.scan``. ``complete = True`` says that u_t determines q(x_t), so that
    ``posterior(statistics)`` is that distribution.
    """

    @property
    def latent_dim(self) -> int:
        """Size of x, ``K``."""
        ...

    @property
    def statistics_dim(self) -> int:
        """Size of u, ``U``."""
        ...

    def initial(self, rows: int, /) -> Tensor:
        """Statistics before the first frame, ``[B, U]``."""
        ...

    def encode(self, obs: Tensor, /) -> Tensor:
        """Features of each frame alone, ``[..., M] -> [..., F]``."""
        ...

    def step(self, features: Tensor, past: Tensor, /) -> Tensor:
        """The statistics u_t, ``[N, F], [N, U] -> [N, U]``."""
        ...

    def posterior(self, statistics: Tensor, /) -> dist.TorchDistribution:
        """The belief with these statistics, ``[..., U]`` to event shape ``[K]``."""
        ...

    def __call__(self, features: Tensor, past: Tensor, /) -> dist.TorchDistribution:
        """q(x_t | u_{t-1}, y_t), batch shape ``[N]``, event shape ``[K]``."""
        ...


class GaussianGuide(Described, nn.Module):
    """q(x_t | u_{t-1}, y_t) = N(mean, spread²), diagonal.

    A net encodes the frame before it meets u_{t-1}. With h(y) the encoded frame, c(y) the mean
    given the frame alone, and f the nonlinearity,

        mean_t = S u_{t-1} + g c(y_t) + V f(W_y h(y_t) + W_u u_{t-1})

    and the spread likewise through V. At the first frame, whose past is blank, the moments are
    those given the frame alone. A blank past is all zeros, which no belief is.

    Arguments:
        obs_dim: values a frame, ``M``.
        latent_dim: size of x, ``K``.
        hidden: width of the two encoding layers and of the joint layer.
        statistics: the statistics u_t: ``"mean+spread"``, as in the source, or ``"mean"``.
        emission_dim: number of latents, the first ones, that a frame alone determines; given one
            frame the others are N(0, 1). None takes all.
        nonlinearity: activation of the layers.
        encoder: a net from ``[..., M]`` to ``[..., hidden]`` in place of the two layers.

    Attributes:
        statistics_dim: size of u, ``U``.

    Raises:
        ValueError: for unknown statistics, or ``emission_dim`` outside 1 to ``latent_dim``.

    Source: Abdulsalam & Makin, "Learning recurrent models with temporally local rules" (2023),
    equation 2.
    """

    def __init__(
        self,
        obs_dim: int,
        latent_dim: int,
        hidden: int = 64,
        statistics: str = "mean+spread",
        emission_dim: int | None = None,
        nonlinearity: str = "relu",
        encoder: nn.Module | None = None,
    ) -> None:
        super().__init__()
        check_sizes(obs_dim=obs_dim, latent_dim=latent_dim, hidden=hidden)
        if statistics not in STATISTICS:
            raise ValueError(f"statistics must be one of {STATISTICS}, got {statistics!r}")
        if emission_dim is not None:
            check_number("emission_dim", emission_dim, most=latent_dim)
        self.latent_dim, self.statistics = latent_dim, statistics
        self.emission_dim = emission_dim or latent_dim
        self.features_dim = hidden
        self.complete = statistics == "mean+spread"  # u_t determines q(x_t)
        self.statistics_dim = latent_dim * (2 if self.complete else 1)
        layers = [obs_dim, hidden, hidden]
        self.encoder = MLP(layers, nonlinearity, last=nonlinearity) if encoder is None else encoder
        self.alone = nn.Linear(hidden, 2 * self.emission_dim)
        self.gain = nn.Parameter(torch.full((self.emission_dim,), 1 - LEAK))
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
        """All that needs no past, ``[..., M] -> [..., hidden + 4 K]``."""
        code = self.encoder(obs)
        alone = self.alone(code)
        mean, spread = alone.chunk(2, -1)
        rest = (0, self.latent_dim - self.emission_dim)
        blank = functional.pad(mean, rest), functional.pad(spread, rest, value=UNIT_SPREAD)
        return torch.cat((self.from_frame(code), self._lead(alone) + self.heads.bias, *blank), -1)

    def _lead(self, alone: Tensor) -> Tensor:
        """The term of a frame's own moments ``[..., 2 S]`` in those of x_t, ``[..., 2 K]``."""
        mean = alone[..., : self.emission_dim]
        return functional.pad(self.gain * mean, (0, 2 * self.latent_dim - self.emission_dim))

    def moments(self, features: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and spread (standard deviation) of x_t, each ``[N, K]``."""
        together, alone = self._moments(features, past)
        blank = past[:, -1:] == 0 if self.complete else (past == 0).all(-1, keepdim=True)
        return _split(torch.where(blank, alone, together))

    def step(self, features: Tensor, past: Tensor) -> Tensor:
        """u_t, ``[N, U]``."""
        return self._statistics(*self.moments(features, past))

    def advance(self, features: Tensor, past: Tensor) -> Tensor:
        """``step`` for a past that is nowhere blank, ``[N, U]``: every step of a sweep but one."""
        return self._statistics(*_split(self._moments(features, past)[0]))

    def scan(self, features: Tensor, past: Tensor, passes: Tensor) -> Tensor | None:
        """All steps by a kernel; None where it does not apply. See ``Recurrent.scan``."""
        methods = "step", "advance", "moments", "_moments", "_statistics"
        weights = self.from_past.weight.T, self.heads.weight.T
        code, scans = activation_code(self.nonlinearity), kernels.load(SCANS)
        if scans is None or code is None or kernels.overrides(self, GaussianGuide, *methods):
            return None
        if not kernels.suits(features, past, *weights):
            return None
        bounds = MAX_MEAN, MIN_SPREAD, MAX_SPREAD
        return kernels.scan(scans.gaussian, features, past, passes, *weights, code, *bounds)

    def _moments(self, features: Tensor, past: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and raw spread given both, and given the frame alone, each ``[N, 2 K]``."""
        pair = 2 * self.latent_dim
        drive, alone = features.split((self.from_past.out_features, pair), -1)
        drive = torch.addmm(drive, past, self.from_past.weight.T)
        joint, linear = drive.split((self.features_dim, pair), -1)
        return torch.addmm(linear, self.nonlinearity(joint), self.heads.weight.T), alone

    def _statistics(self, mean: Tensor, spread: Tensor) -> Tensor:
        mean = mean.clamp(-MAX_MEAN, MAX_MEAN)
        if not self.complete:
            return mean
        return torch.cat((mean, spread.clamp_max(MAX_SPREAD)), -1)

    def forward(self, features: Tensor, past: Tensor) -> dist.TorchDistribution:
        """q(x_t | u_{t-1}, y_t), batch shape ``[N]``, event shape ``[K]``."""
        return dist.Normal(*self.moments(features, past), validate_args=False).to_event(1)

    def posterior(self, statistics: Tensor) -> dist.TorchDistribution:
        """The belief with statistics ``[..., U]``; a point where they lack the spread."""
        if not self.complete:
            return dist.Delta(statistics, event_dim=1)
        mean, spread = statistics.chunk(2, -1)
        return dist.Normal(mean, spread.clamp_min(MIN_SPREAD), validate_args=False).to_event(1)


def _split(moments: Tensor) -> tuple[Tensor, Tensor]:
    """Mean and spread, of mean and raw spread in one tensor ``[N, 2 K]``."""
    mean, spread = moments.chunk(2, -1)
    spread = spread.contiguous()  # of a slice torch takes ten times as long
    return mean, functional.softplus(spread) + MIN_SPREAD


class FilmGuide(GaussianGuide):
    """A guide for frames with little noise, such as film.

    For noisy frames a filter averages over time, as ``GaussianGuide`` does at first. Of film that
    makes a blur. Here the first ``emission_dim`` latents begin as their moments given the frame
    alone. The others begin as mixtures of these moments and of u_{t-1}, so that they carry
    information about the past. With c(y) the moments given the frame alone,

        mean_t, spread_t = L c(y_t) + S u_{t-1} + V f(W_y h(y_t) + W_u u_{t-1})

    Arguments:
        obs_dim: values a frame, ``M``.
        latent_dim: size of x, ``K``.
        hidden: width of the two encoding layers and of the joint layer.
        statistics: the statistics u_t: ``"mean+spread"`` or ``"mean"``.
        emission_dim: number of latents, the first ones, that a frame alone determines. None takes
            all.
        nonlinearity: activation of the layers.
        encoder: a net from ``[..., M]`` to ``[..., hidden]`` in place of the two layers.
        rate: None mixes at random. A number begins the other latents as rates of change:
            ``rate`` times the difference between the latents given this frame and those in
            u_{t-1}.
        recurrent: let u_{t-1} enter. False gives q(x_t | y_t), so that codes are of first order:
            a control for a model whose state should hold more than the present frame.

    Raises:
        ValueError: for unknown statistics, or ``emission_dim`` outside 1 to ``latent_dim``.
    """

    def __init__(
        self,
        obs_dim: int,
        latent_dim: int,
        hidden: int = 64,
        statistics: str = "mean+spread",
        emission_dim: int | None = None,
        nonlinearity: str = "relu",
        encoder: nn.Module | None = None,
        *,
        rate: float | None = None,
        recurrent: bool = True,
    ) -> None:
        super().__init__(
            obs_dim, latent_dim, hidden, statistics, emission_dim, nonlinearity, encoder
        )
        if rate is not None:
            check_real("rate", rate)
        del self.gain
        seen, latents = self.emission_dim, self.latent_dim
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
            if not recurrent:
                self.from_past.requires_grad_(False).weight.zero_()

    def _lead(self, alone: Tensor) -> Tensor:
        return self.lead(alone)
