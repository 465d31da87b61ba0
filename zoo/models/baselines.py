"""Baselines of a table: the frame itself, and the average frame."""

from __future__ import annotations

import torch
from pyro.nn import PyroModule
from torch import Tensor

from ...data import BatchLike
from ...inference.checks import check_missing, check_number
from ...inference.contracts import Recurrent
from ...inference.placing import batch_for
from ..part import Described


class Memoryless(Described, Recurrent, PyroModule):
    """A recurrent network whose statistics u are empty."""

    def check(self, obs: Tensor) -> None:
        """Accepts every finite frame."""

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
    """Predicts that the next frame equals the last one, and reconstructs the data as they are.

    It refuses sequences with missing values.
    """

    def reconstruct(self, batch: BatchLike) -> Tensor:
        """The observations themselves, ``[B, T, M]``."""
        batch = batch_for(self, batch)
        check_missing(self, batch)
        return batch.obs

    def sample_next(self, past: Tensor, previous: Tensor, num_samples: int = 1) -> Tensor:
        """The frame before, ``[S, N, M]``."""
        return previous.expand(check_number("num_samples", num_samples), -1, -1)


class MeanFrame(Memoryless):
    """Predicts the average frame; trained by ``inference.Average``.

    Arguments:
        obs_dim: values a frame, ``M``.
    """

    takes_missing = True
    mean: Tensor

    def __init__(self, obs_dim: int) -> None:
        super().__init__()
        check_number("obs_dim", obs_dim)
        self.register_buffer("mean", torch.zeros(obs_dim))

    def reconstruct(self, batch: BatchLike) -> Tensor:
        """The average frame, ``[B, T, M]``."""
        return self.mean.expand_as(batch_for(self, batch).obs)

    def expected_frame(self, past: Tensor) -> Tensor:
        """The average frame, ``[N, M]``."""
        return self.mean.expand(len(past), -1)

    def sample_next(self, past: Tensor, previous: Tensor, num_samples: int = 1) -> Tensor:
        """The average frame, ``[S, N, M]``."""
        return self.mean.expand(check_number("num_samples", num_samples), *previous.shape)
