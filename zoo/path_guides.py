"""Recognition models over whole latent paths: modules that turn features of the data into a law.

Each is called as ``guide(features [B, T, F], mask [B, T], prior, memory)``, where ``prior`` is the
law of paths under the model and ``memory`` the decoder's own recurrent net (None where it has
none), and returns an ``inference.Path``. A user's own guide is any module that does so and has the
attributes ``features_dim`` and ``dim``.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from ..inference.paths import LinearChain, Path
from .memory import Memory

MIN_SPREAD = 1e-3  # of a step, in units of the prior's: a belief is never a point


class PathGuide(nn.Module):
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

    def forward(self, features: Tensor, mask: Tensor, prior: Path, memory=None) -> LinearChain:
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

    def forward(self, features, mask, prior, memory=None):
        gate, mean, spread = self.heads(features).chunk(3, -1)
        return LinearChain(mask, torch.sigmoid(gate + 2), mean, positive(spread))


class Autoregressive(nn.Module):
    """q(e_t | z_{1:t-1}, x), Gaussian, for the prior's innovations e_t: where the decoder stands.

    Whatever the decoder remembers of the path so far is what the next step should be judged by, so
    the guide reads the decoder's memory g_{t-1} beside the features of the data:

        mean_t, spread_t = V f(W features_t + U g_{t-1})

    There is no exact KL term. Paths are drawn step by step, and their density is computed at once.

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

    def forward(self, features: Tensor, mask: Tensor, prior: Path, memory: Memory) -> Path:
        """q(z | x), batch shape ``[B]``, event shape ``[T, K]``.

        Raises:
            ValueError: where the decoder has no memory of the innovations.
        """
        if memory is None:
            raise ValueError(
                "an Autoregressive guide reads a causal decoder's memory of innovations: give the "
                "model a CausalDecoder and sees='innovations', or take a MarkovChain guide"
            )
        return AutoregressivePath(prior, memory, self, self.from_features(features), mask)

    def moments(self, drive: Tensor, remembered: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and spread of innovations, each ``[..., K]``."""
        joint = functional.relu(drive + self.from_memory(remembered))
        mean, spread = self.heads(joint).chunk(2, -1)
        return mean, positive(spread)


class AutoregressivePath(Path):
    """What an ``Autoregressive`` guide returns.

    Arguments:
        prior: whose innovations are drawn.
        memory: the decoder's.
        guide: gives ``moments``.
        drive: what the data say of each step, ``[B, T, H]``.
        mask: ``[B, T]``.
    """

    def __init__(self, prior: Path, memory: Memory, guide: Autoregressive, drive, mask):
        self.prior, self.memory, self.guide, self.drive = prior, memory, guide, drive
        self._drawn: tuple = (None, None)
        super().__init__(mask, guide.dim)

    def expand(self, batch_shape, _instance=None):
        drive = self.drive.expand(*batch_shape, *self.drive.shape[-2:])
        mask = self.real.expand(*batch_shape, -1)
        return AutoregressivePath(self.prior, self.memory, self.guide, drive, mask)

    def colour(self, noise):
        state, steps = self.memory.initial(*noise.shape[:-2]), []
        for drive, eps in zip(self.drive.unbind(-2), noise.unbind(-2)):
            mean, spread = self.guide.moments(drive, self.memory.output(state))
            innovation = mean + spread * eps
            state = self.memory.step(innovation, state)
            steps.append((innovation, mean, spread))
        innovations, *moments = (torch.stack(parts, -2) for parts in zip(*steps))
        path = self.prior.colour(innovations)
        self._drawn = path, moments  # so that the density of a draw costs nothing
        return path

    def standardise(self, path):
        innovations, scale = self.prior.standardise(path)
        drawn, moments = self._drawn
        if path is not drawn:
            after = self.memory(innovations)[..., :-1, :]
            first = self.memory.output(self.memory.initial(*after.shape[:-2], 1))
            moments = self.guide.moments(self.drive, torch.cat((first, after), -2))
        mean, spread = moments
        return (innovations - mean) / spread, spread * scale

    def propose(self, step, before, memory):
        centre, scale = self.prior.propose(step, before, memory)
        drive = self.drive[: before.shape[-2], step]
        mean, spread = self.guide.moments(drive, self.memory.output(memory))
        return centre + scale * mean, scale * spread


def positive(raw: Tensor) -> Tensor:
    """Spreads from what a net puts out."""
    return functional.softplus(raw) + MIN_SPREAD
