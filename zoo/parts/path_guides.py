"""Recognition models of whole latent paths, q(z_{1:T} | x_{1:T}), given features of the data.

``PathGuide`` lists the members that a model uses. A user's own guide is any ``nn.Module`` with
these members.
"""

from __future__ import annotations

from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...inference.checks import check_sizes
from ...inference.paths import LinearChain, Path
from ..part import Described
from .checks import size_of
from .decoders import SteppedDecoder

__all__ = ["Autoregressive", "Diagonal", "Increments", "MarkovChain"]

MIN_SPREAD = 1e-3  # of a step, in units of the prior's: keeps a belief from becoming a point


class PathGuide(Protocol):
    """The members of a recognition model of latent paths."""

    @property
    def features_dim(self) -> int:
        """Values of the features, ``F``."""
        ...

    @property
    def dim(self) -> int:
        """Size of the state, ``K``."""
        ...

    def __call__(
        self, features: Tensor, mask: Tensor, prior: Path, decoder: SteppedDecoder | None, /
    ) -> Path:
        """q(z | x), batch shape ``[B]``, event shape ``[T, K]``.

        Arguments:
            features: ``[B, T, F]``.
            mask: True where a frame is real, ``[B, T]``.
            prior: the distribution over paths under the model.
            decoder: that of the model, where it is a causal decoder of innovations; else None.

        A model with ``input_dim`` also gives ``inputs``, ``[B, T, I]``, which the decoder reads
        after the path.
        """
        ...


class StepGuide(Described, nn.Module):
    """Mean and spread of every step given the features of the data at that step.

    Arguments:
        features_dim: ``F``.
        dim: size ``K`` of the state.
    """

    coefficient = 0.0
    heads_count = 2

    def __init__(self, features_dim: int, dim: int) -> None:
        super().__init__()
        check_sizes(features_dim=features_dim, dim=dim)
        self.features_dim, self.dim = features_dim, dim
        self.heads = nn.Linear(features_dim, self.heads_count * dim)

    def forward(
        self,
        features: Tensor,
        mask: Tensor,
        prior: Path,
        decoder: SteppedDecoder | None = None,
        inputs: Tensor | None = None,
    ) -> LinearChain:
        """q(z | x), batch shape ``[B]``, event shape ``[T, K]``."""
        mean, spread = self.heads(features).chunk(2, -1)
        return LinearChain(mask, self.coefficient, mean, positive(spread))


class Diagonal(StepGuide):
    """q(z_t | x) = N(m_t, s_t²), with independent steps.

    It is a poor approximation under a Wiener prior: see ``paths.marginal_increments``.

    Arguments:
        features_dim: ``F``.
        dim: size ``K`` of the state.

    Source: Bayer & Osendorfer, "Variational inference of latent state sequences using recurrent
    networks" (2014).
    """


class Increments(StepGuide):
    """q(z_t - z_{t-1} | x) = N(m_t, s_t²), with independent increments.

    Arguments:
        features_dim: ``F``.
        dim: size ``K`` of the state.
    """

    coefficient = 1.0


class MarkovChain(StepGuide):
    """q(z_t | z_{t-1}, x) = N(a_t z_{t-1} + m_t, s_t²), with a gate a_t in (0, 1).

    The family contains the posterior of a linear-Gaussian model with independent dimensions.

    Arguments:
        features_dim: ``F``.
        dim: size ``K`` of the state.
    """

    heads_count = 3

    def forward(
        self,
        features: Tensor,
        mask: Tensor,
        prior: Path,
        decoder: SteppedDecoder | None = None,
        inputs: Tensor | None = None,
    ) -> LinearChain:
        """q(z | x), batch shape ``[B]``, event shape ``[T, K]``."""
        gate, mean, spread = self.heads(features).chunk(3, -1)
        return LinearChain(mask, torch.sigmoid(gate + 2), mean, positive(spread))


class Autoregressive(Described, nn.Module):
    """q(z_t | z_{1:t-1}, x), Gaussian, given the decoder's state and the features of the data.

    Frames depend on the path through the decoder's memory, so the guide reads its output g_{t-1}:

        mean_t, spread_t = V f(W features_t + U g_{t-1})

    are the moments of u_t, the step of the decoder (see ``CausalDecoder``), in which z_t is linear.
    There is no exact KL term. Paths are sampled step by step. The density of any other path is
    computed for all steps at once.

    Arguments:
        features_dim: ``F``.
        dim: size ``K`` of the state.
        memory_dim: values of the output of the decoder's memory, ``H``.
        hidden: width of the hidden layer.

    Source: Fraccaro et al., "Sequential neural models with stochastic layers" (2016).
    """

    def __init__(self, features_dim: int, dim: int, memory_dim: int, hidden: int = 200) -> None:
        super().__init__()
        check_sizes(features_dim=features_dim, dim=dim, memory_dim=memory_dim, hidden=hidden)
        self.features_dim, self.dim = features_dim, dim
        self.from_features = nn.Linear(features_dim, hidden)
        self.from_memory = nn.Linear(memory_dim, hidden, bias=False)
        self.heads = nn.Linear(hidden, 2 * dim)

    def forward(
        self,
        features: Tensor,
        mask: Tensor,
        prior: Path,
        decoder: SteppedDecoder | None,
        inputs: Tensor | None = None,
    ) -> Path:
        """q(z | x), batch shape ``[B]``, event shape ``[T, K]``.

        Raises:
            ValueError: where the model has no causal decoder of innovations.
        """
        if decoder is None:
            raise ValueError(
                "an Autoregressive guide needs a causal decoder of innovations: give the model a "
                "CausalDecoder and decoder_input='innovations', or use a MarkovChain guide"
            )
        drive = self.from_features(features)
        return AutoregressivePath(prior, decoder, self, drive, mask, inputs)

    def moments(self, drive: Tensor, remembered: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and spread of u_t, each ``[..., K]``."""
        joint = functional.relu(drive + self.from_memory(remembered))
        mean, spread = self.heads(joint).chunk(2, -1)
        return mean, positive(spread)


class AutoregressivePath(Path):
    """The distribution over paths of an ``Autoregressive`` guide.

    Arguments:
        prior: the distribution whose innovations are sampled.
        decoder: the decoder whose memory is read.
        guide: the guide, for its ``moments``.
        drive: terms of the data in the hidden layer, ``[B, T, H]``.
        mask: ``[B, T]``.
        inputs: s_t, which the decoder reads after the path, ``[B, T, I]``; None without any.
        drawn: the last sample with its moments and the decoder's outputs, so that they are not
            computed again. Expanded copies have it in common.
    """

    def __init__(
        self,
        prior: Path,
        decoder: SteppedDecoder,
        guide: Autoregressive,
        drive: Tensor,
        mask: Tensor,
        inputs: Tensor | None = None,
        drawn: dict[str, Any] | None = None,
    ) -> None:
        self.prior, self.decoder, self.guide, self.drive = prior, decoder, guide, drive
        self.inputs = inputs
        self.drawn = {} if drawn is None else drawn
        super().__init__(mask, guide.dim, drive)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> AutoregressivePath:
        drive = self.drive.expand(*batch_shape, *self.drive.shape[-2:])
        mask = self.real.expand(*batch_shape, -1)
        parts = self.prior, self.decoder, self.guide
        return AutoregressivePath(*parts, drive, mask, self.inputs, self.drawn)

    def from_innovations(self, noise: Tensor) -> Tensor:
        memory = self.decoder.memory
        state, steps = memory.initial(*noise.shape[:-2]), []
        for t, (drive, eps) in enumerate(zip(self.drive.unbind(-2), noise.unbind(-2))):
            remembered = memory.output(state)
            mean, spread = self.guide.moments(drive, remembered)
            taken = self._driven(mean + spread * eps, t)
            state = memory.step(taken, state)
            steps.append((remembered, mean, spread, taken, memory.output(state)))
        before, mean, spread, taken, after = (torch.stack(parts, -2) for parts in zip(*steps))
        moments = self._innovations(mean, spread, before)
        path = self.prior.from_innovations(moments[0] + moments[1] * noise)
        self.drawn.update(path=path, moments=moments, trail=(after, taken))
        return path

    def to_innovations(self, path: Tensor) -> tuple[Tensor, Tensor]:
        innovations, scale = self.prior.to_innovations(path)
        if path is self.drawn.get("path"):
            mean, spread = self.drawn["moments"]
        else:
            before, _, _ = self.decoder.follow(self._driven(innovations))
            mean, spread = self._innovations(*self.guide.moments(self.drive, before), before)
        return (innovations - mean) / spread, spread * scale

    def trail(self, path: Tensor) -> tuple[Tensor, Tensor] | None:
        """The memory's outputs after each step and the steps u_t of the last sample, else None."""
        return self.drawn["trail"] if path is self.drawn.get("path") else None

    def propose(self, step: int, before: Tensor, memory: Tensor) -> tuple[Tensor, Tensor]:
        centre, scale = self.prior.propose(step, before, memory)
        remembered = self.decoder.memory.output(memory)
        drive = self.drive[: before.shape[-2], step]
        mean, spread = self._innovations(*self.guide.moments(drive, remembered), remembered)
        return centre + scale * mean, scale * spread

    def _driven(self, steps: Tensor, t: int | None = None) -> Tensor:
        """Steps ``[..., T, K]``, or those at ``t``, with the inputs that the decoder reads."""
        if self.inputs is None:
            return steps
        inputs = self.inputs if t is None else self.inputs[..., t, :]
        return torch.cat((steps, inputs.expand(*steps.shape[:-1], -1)), -1)

    def _innovations(
        self, mean: Tensor, spread: Tensor, remembered: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Moments of the innovation e_t from those of the decoder's step u_t."""
        drift, scale = self.decoder.drift(remembered)
        return (mean - drift) / scale, spread / scale


def positive(raw: Tensor) -> Tensor:
    """Spreads from the output of a net, positive."""
    return functional.softplus(raw) + MIN_SPREAD


def check_guide(guide: PathGuide, dim: int, features_dim: int) -> None:
    """Raises a ValueError where a guide has other latents or features than its model."""
    for name, found, needed in (
        ("latents", size_of(guide, "guide", "dim"), dim),
        ("features", size_of(guide, "guide", "features_dim"), features_dim),
    ):
        if found != needed:
            raise ValueError(f"the guide has {found} {name}, the model {needed}")
