"""Models of whole sequences."""

from __future__ import annotations

from abc import abstractmethod
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from ...data import Batch, BatchLike
from ..linear.kalman import Beliefs, kalman_smoother
from ..linear.system import LinearGaussian, Readings
from ..particles import ParticleSteps
from ..paths import Path
from .network import Network
from .unwritten import unwritten


class SequenceModel(Network):
    """p(x_{1:T}, z) and q(z | x_{1:T}): a Pyro pair over whole sequences.

    You write
        the Pyro pair, with one plate of sequences at dim -1
            ``model(data)``, ``guide(data)``; a guide without latent state does nothing
        to check data, or to encode them once for both
            ``prepare(batch)``
        for tighter bounds, if it can
            ``framewise`` and ``frame_weights(data, num_samples)``
            ``causal`` and ``particle_steps(data)``

    You inherit
        ``prepare``, which gives the batch as it is

    Then works
        rules: ``SequenceELBO``
        bounds: ``elbo``, ``importance_bound``, ``smoothed_bound``; ``frame_bound`` if framewise,
        ``particle_bound`` if causal
        diagnostics: ``khat``, ``loo``, ``sbc``, ``to_arviz``
    """

    #: Whether the latent noise of one frame is independent of that of others, given the data.
    framewise: bool = False
    #: Whether frames depend on the latent path up to them alone, so that particles can be stepped.
    causal: bool = False

    def prepare(self, batch: Batch) -> Any:
        """The argument of ``model`` and ``guide``: the batch itself, or an encoding of it.

        Raises:
            ValueError: where the batch is not what the network takes.
        """
        return batch

    @abstractmethod
    def model(self, data: Any) -> None:
        """Runs p(x_{1:T}, z) with the data observed."""
        unwritten(self, "model(data)")

    @abstractmethod
    def guide(self, data: Any) -> None:
        """Draws z from q(z | x_{1:T})."""
        unwritten(self, "guide(data)")

    def frame_weights(self, data: Any, num_samples: int) -> Tensor:
        """log p(x_t, z_t | past) - log q(z_t | past, x), zero in padding; ``[k, B, T]``.

        Raises:
            ValueError: for a model whose frames share latent noise, or have none.
        """
        raise ValueError(
            f"the frames of this {type(self).__name__} share latent noise, or have none: bound "
            "whole sequences, with importance_bound or particle_bound"
        )

    def particle_steps(self, data: Any) -> ParticleSteps:
        """A pass of particles along the data, the longest sequence first.

        Raises:
            ValueError: for a model whose frames do not depend causally on its latent path.
        """
        raise ValueError(f"{type(self).__name__} cannot be stepped through by particles")


class Encoding(NamedTuple):
    """A batch and the belief about its latent paths: the argument of a path model's Pyro pair.

    Arguments:
        obs: ``[B, T, M]``.
        mask: ``[B, T]``.
        features: ``[B, T, F]``.
        belief: q(z | x), batch shape ``[B]``.
        observed: True where a value of ``obs`` was seen, ``[B, T, M]``; None where all were.
            Missing values of ``obs`` are zero.
        inputs: s_t, the inputs of each frame, ``[B, T, I]``; None where the model reads none.
    """

    obs: Tensor
    mask: Tensor
    features: Tensor
    belief: Path
    observed: Tensor | None = None
    inputs: Tensor | None = None

    @property
    def rows(self) -> int:
        """``B`` (``len`` of a named tuple counts its fields)."""
        return len(self.obs)


class LatentPathModel(SequenceModel):
    """p(z_{1:T}) p(x_{1:T} | z_{1:T}): a sequence model whose latent state is a path.

    You write
        the Pyro pair over an ``Encoding``
            see ``SequenceModel``; ``prepare(batch) -> Encoding``
        its parts
            ``likelihood``, ``prior``, ``latent_dim``
        frames given a path
            ``natural(path, encoding)``, ``reconstruct(batch, method)``

    Then works
        all of ``SequenceModel``; ``denoise`` and ``impute``
    """

    latent_dim: int
    likelihood: nn.Module
    prior: nn.Module

    @abstractmethod
    def prepare(self, batch: Batch) -> Encoding:
        """A batch, checked, and q(z | x)."""
        unwritten(self, "prepare(batch)")

    @abstractmethod
    def natural(self, path: Tensor, encoding: Encoding) -> Tensor:
        """Natural parameters of the frames, ``[..., B, T, N]``, of a path ``[..., B, T, K]``."""
        unwritten(self, "natural(path, encoding)")

    @abstractmethod
    def reconstruct(self, batch: BatchLike, method: str = "mean") -> Tensor:
        """Frames at the most likely path, ``[B, T, M]``; ``method`` is ``"mean"`` or ``"mode"``."""
        unwritten(self, "reconstruct(batch, method)")


class LinearSystem(SequenceModel):
    """x_t = A x_{t-1} + B s_t + noise, and frames that depend on C x_t + d + D s_t.

    You write
        the Pyro pair
            see ``SequenceModel``
        beliefs about states
            ``measure(batch)``
        for expectation-maximisation
            ``guess(data, restart)``, ``m_step(system, beliefs, data)``, ``assign(system)``

    You inherit
        ``e_step``, the Kalman smoother: overwrite it where noise is not Gaussian
        ``log_prior``, 0: overwrite it where ``m_step`` counts a prior on the parameters

    Then works
        rules: ``EM``
        all of ``SequenceModel`` but ``SequenceELBO``, where it has no trainable parameter
    """

    @abstractmethod
    def measure(self, batch: BatchLike) -> tuple[Tensor, Tensor]:
        """Values read from frames and their variances, infinite where missing, ``[B, T, D]``."""
        unwritten(self, "measure(batch)")

    @abstractmethod
    def guess(self, data: Readings, restart: int) -> LinearGaussian:
        """A system to start from: a random one, or one that the data suggest for restart 0."""
        unwritten(self, "guess(data, restart)")

    def e_step(
        self, system: LinearGaussian, data: Readings, before: Beliefs | None = None
    ) -> Beliefs:
        """E step: smoothed beliefs under each of the systems, ``[R, B, T, K]``.

        Arguments:
            system: parameters with a leading axis of restarts.
            data: what was read.
            before: the beliefs of the E step before, to start from; None in the first.
        """
        return kalman_smoother(system, data.value, data.variance, data.mask, data.inputs)

    @abstractmethod
    def m_step(self, system: LinearGaussian, beliefs: Beliefs, data: Readings) -> LinearGaussian:
        """M step: parameters that raise the expected log-density of path and data."""
        unwritten(self, "m_step(system, beliefs, data)")

    def log_prior(self, system: LinearGaussian, data: Readings) -> Tensor:
        """log p(parameters) up to a constant, ``[R]``."""
        return torch.zeros_like(system.dynamics[..., 0, 0])

    @abstractmethod
    def assign(self, system: LinearGaussian) -> None:
        """Copies the parameters of a system in."""
        unwritten(self, "assign(system)")
