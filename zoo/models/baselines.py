"""Rows of a table that have next to nothing to learn."""

from __future__ import annotations

import torch
from pyro.nn import PyroModule
from torch import Tensor

from ...data import Batch
from ...inference.contracts import Recurrent
from ..part import Described


class Memoryless(Described, Recurrent, PyroModule):
    """A network whose u is empty: the least that prediction asks of one."""

    def check(self, obs: Tensor) -> None:
        """Every finite frame will do."""

    def encode(self, obs: Tensor) -> Tensor:
        """The frame itself, ``[..., M]``."""
        return obs

    def initial(self, rows: int) -> Tensor:
        """An empty u, ``[B, 0]``."""
        return torch.zeros(rows, 0)

    def step(self, features: Tensor, past: Tensor) -> Tensor:
        """An empty u, ``[B, 0]``."""
        return features[:, :0]


class Order0(Memoryless):
    """Takes every frame as it comes: the reconstruction is the data, and so is the next frame."""

    def reconstruct(self, obs: Tensor, mask: Tensor | None = None) -> Tensor:
        """``obs`` itself, ``[B, T, M]``."""
        return Batch(obs, mask).obs

    def predict(self, past: Tensor, previous: Tensor, chains: int = 1) -> Tensor:
        """The frame before, ``[C, N, M]``."""
        return previous.expand(chains, -1, -1)


class MeanFrame(Memoryless):
    """Expects the average frame, always; learned by ``inference.Average``.

    Arguments:
        obs_dim: values a frame, ``M``.
    """

    def __init__(self, obs_dim: int):
        super().__init__()
        self.register_buffer("mean", torch.zeros(obs_dim))

    def reconstruct(self, obs: Tensor, mask: Tensor | None = None) -> Tensor:
        """The average frame, ``[B, T, M]``."""
        return self.mean.expand_as(Batch(obs, mask).obs)

    def predict(self, past: Tensor, previous: Tensor, chains: int = 1) -> Tensor:
        """The average frame, ``[C, N, M]``."""
        return self.mean.expand(chains, *previous.shape)
