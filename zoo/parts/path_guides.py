"""Recognition models over whole latent paths: modules that turn features of the data into a law.

Each is called as ``guide(features [B, T, F], mask [B, T], prior, decoder)``, where ``prior`` is the
law of paths under the model and ``decoder`` the model's own if it is a ``CausalDecoder`` that sees
innovations, else None. It returns an ``inference.Path``. A user's own guide is any module that does
so and has the attributes ``features_dim`` and ``dim``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...inference.paths import LinearChain, Path
from ..part import Described
from .checks import size_of
from .decoders import CausalDecoder

__all__ = ["Autoregressive", "Diagonal", "Increments", "MarkovChain"]

MIN_SPREAD = 1e-3  # of a step, in units of the prior's: a belief is never a point


class PathGuide(Described, nn.Module):
    """Mean and spread of every step, from the features of the data at that step.

    Arguments:
        features_dim: ``F``.
        dim: size ``K`` of the state.
    """

    coefficient = 0.0
    heads_count = 2

    def __init__(self, features_dim: int, dim: int):
        super().__init__()
        self.features_dim, self.dim = features_dim, dim
        self.heads = nn.Linear(features_dim, self.heads_count * dim)

    def forward(self, features: Tensor, mask: Tensor, prior: Path, decoder=None) -> LinearChain:
        """q(z | x), batch shape ``[B]``, event shape ``[T, K]``."""
        mean, spread = self.heads(features).chunk(2, -1)
        return LinearChain(mask, self.coefficient, mean, positive(spread))


class Diagonal(PathGuide):
    """q(z_t | x) = N(m_t, s_t²), the steps independent: the guide of the paper.

    Under a Wiener prior it cannot be good: see ``paths.marginal_increments``.
    """


class Increments(PathGuide):
    """q(z_t - z_{t-1} | x) = N(m_t, s_t²), the increments independent."""

    coefficient = 1.0


class MarkovChain(PathGuide):
    """q(z_t | z_{t-1}, x) = N(a_t z_{t-1} + m_t, s_t²), with a gate a_t in (0, 1): Gaussian.

    It holds the posterior of a model that is linear and Gaussian, dimension by dimension.
    """

    heads_count = 3

    def forward(self, features, mask, prior, decoder=None):
        gate, mean, spread = self.heads(features).chunk(3, -1)
        return LinearChain(mask, torch.sigmoid(gate + 2), mean, positive(spread))


class Autoregressive(Described, nn.Module):
    """q(z_t | z_{1:t-1}, x), Gaussian: where the decoder stands, and what is still to come.

    What the decoder remembers of the path so far, g_{t-1}, is what its next step is judged by, so
    the guide reads it beside the features of the data:

        mean_t, spread_t = V f(W features_t + U g_{t-1})

    are the moments of u_t, the step that the decoder takes (see ``CausalDecoder``), which moves z_t
    linearly. There is no exact KL term. Paths are drawn step by step; the density of a path that
    was not drawn here is computed at once.

    Arguments:
        features_dim: ``F``.
        dim: size ``K`` of the state.
        memory_dim: what the decoder's memory puts out, ``H``.
        hidden: width of the layer between.

    Source of the idea: Fraccaro et al., "Sequential neural models with stochastic layers" (2016).
    """

    def __init__(self, features_dim: int, dim: int, memory_dim: int, hidden: int = 200):
        super().__init__()
        self.features_dim, self.dim = features_dim, dim
        self.from_features = nn.Linear(features_dim, hidden)
        self.from_memory = nn.Linear(memory_dim, hidden, bias=False)
        self.heads = nn.Linear(hidden, 2 * dim)

    def forward(self, features: Tensor, mask: Tensor, prior: Path, decoder: CausalDecoder) -> Path:
        """q(z | x), batch shape ``[B]``, event shape ``[T, K]``.

        Raises:
            ValueError: where the decoder has no memory of the innovations.
        """
        if decoder is None:
            raise ValueError(
                "an Autoregressive guide reads a causal decoder's memory of innovations: give the "
                "model a CausalDecoder and sees='innovations', or take a MarkovChain guide"
            )
        return AutoregressivePath(prior, decoder, self, self.from_features(features), mask)

    def moments(self, drive: Tensor, remembered: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and spread of u_t, each ``[..., K]``."""
        joint = functional.relu(drive + self.from_memory(remembered))
        mean, spread = self.heads(joint).chunk(2, -1)
        return mean, positive(spread)


class AutoregressivePath(Path):
    """What an ``Autoregressive`` guide returns.

    Arguments:
        prior: whose innovations are drawn.
        decoder: whose memory is read.
        guide: gives ``moments``.
        drive: what the data say of each step, ``[B, T, H]``.
        mask: ``[B, T]``.
        drawn: the last draw and what was computed on its way, which laws expanded from one another
            share: neither its density nor the decoder's memory of it need computing again.
    """

    def __init__(
        self, prior, decoder: CausalDecoder, guide, drive, mask, drawn: dict | None = None
    ):
        self.prior, self.decoder, self.guide, self.drive = prior, decoder, guide, drive
        self.drawn = {} if drawn is None else drawn
        super().__init__(mask, guide.dim, drive)

    def expand(self, batch_shape, _instance=None):
        drive = self.drive.expand(*batch_shape, *self.drive.shape[-2:])
        mask = self.real.expand(*batch_shape, -1)
        return AutoregressivePath(self.prior, self.decoder, self.guide, drive, mask, self.drawn)

    def from_innovations(self, noise):
        memory = self.decoder.memory
        state, steps = memory.initial(*noise.shape[:-2]), []
        for drive, eps in zip(self.drive.unbind(-2), noise.unbind(-2)):
            remembered = memory.output(state)
            mean, spread = self.guide.moments(drive, remembered)
            taken = mean + spread * eps
            state = memory.step(taken, state)
            steps.append((remembered, mean, spread, taken, memory.output(state)))
        before, mean, spread, taken, after = (torch.stack(parts, -2) for parts in zip(*steps))
        moments = self._innovations(mean, spread, before)
        path = self.prior.from_innovations(moments[0] + moments[1] * noise)
        self.drawn.update(path=path, moments=moments, trail=(after, taken))
        return path

    def to_innovations(self, path):
        innovations, scale = self.prior.to_innovations(path)
        if path is self.drawn.get("path"):
            mean, spread = self.drawn["moments"]
        else:
            before, _, _ = self.decoder.follow(innovations)
            mean, spread = self._innovations(*self.guide.moments(self.drive, before), before)
        return (innovations - mean) / spread, spread * scale

    def trail(self, path: Tensor) -> tuple[Tensor, Tensor] | None:
        """The decoder's memory after each step of the last draw, and u_t; None for other paths."""
        return self.drawn["trail"] if path is self.drawn.get("path") else None

    def propose(self, step, before, memory):
        centre, scale = self.prior.propose(step, before, memory)
        remembered = self.decoder.memory.output(memory)
        drive = self.drive[: before.shape[-2], step]
        mean, spread = self._innovations(*self.guide.moments(drive, remembered), remembered)
        return centre + scale * mean, scale * spread

    def _innovations(self, mean: Tensor, spread: Tensor, remembered: Tensor):
        """Moments of e_t from those of the step u_t that the decoder takes."""
        drift, scale = self.decoder.drift(remembered)
        return (mean - drift) / scale, spread / scale


def positive(raw: Tensor) -> Tensor:
    """Spreads from what a net puts out."""
    return functional.softplus(raw) + MIN_SPREAD


def check_guide(guide: nn.Module, dim: int, features_dim: int) -> None:
    """Raises a ValueError where a guide is of other latents or features than its model."""
    for name, found, needed in (
        ("latents", size_of(guide, "guide", "dim"), dim),
        ("features", size_of(guide, "guide", "features_dim"), features_dim),
    ):
        if found != needed:
            raise ValueError(f"the guide has {found} {name}, the model {needed}")
