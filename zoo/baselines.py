"""Rows of a table that need no training."""

from __future__ import annotations

import torch
from pyro.nn import PyroModule
from torch import Tensor

from ..data import Batch, ppc
from .lgds import LGDS


class Order0(PyroModule):
    """Takes every frame as it comes: the reconstruction is the data."""

    def reconstruct(self, obs: Tensor, mask: Tensor | None = None) -> Tensor:
        """``obs`` itself, ``[B, T, M]``."""
        return Batch(obs, mask).obs


class SpringFilter(LGDS):
    """The Kalman filter with the true parameters of ``data.PPC``: the limit of the task."""

    def __init__(self):
        super().__init__(state_dim=2, readout="population")
        self.dynamics.copy_(ppc.DYNAMICS)
        self.process.copy_(ppc.PROCESS_COVARIANCE)
        start = torch.tensor([ppc.START_LIMIT**2 / 3, ppc.START_VELOCITY_VARIANCE])
        self.initial_covariance.copy_(torch.diag(start))
