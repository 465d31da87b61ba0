"""Hidden units of which some are binary and stochastic, and the others deterministic."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..part import Described
from .nets import ACTIVATIONS, activation

__all__ = ["HybridUnits"]


class HybridUnits(Described, nn.Module):
    """``dim`` units; the first of them fire with probability sigma(a), the others put out f(a).

    Arguments:
        dim: number of units, ``H``.
        stochastic: share of the *units* that are stochastic, in [0, 1].
        nonlinearity: f, a name in ``nets.ACTIVATIONS``.

    Attributes:
        num_stochastic: how many are stochastic, ``S``.

    Raises:
        ValueError: when there is no unit, or the share is no share.

    Source: Tang & Salakhutdinov, "Learning stochastic feedforward neural networks" (2013);
    Manchev & Spratling (2024), section 3.
    """

    def __init__(self, dim: int, stochastic: float = 0.0, nonlinearity: str = "sigmoid"):
        super().__init__()
        if dim < 1:
            raise ValueError(f"a network needs at least one hidden unit, got {dim}")
        if not 0 <= stochastic <= 1:
            raise ValueError(f"stochastic is a share of the units, in [0, 1]: got {stochastic}")
        self.dim, self.num_stochastic = dim, round(stochastic * dim)
        self.nonlinearity = nonlinearity
        self.function = activation(nonlinearity)
        self.alike = ACTIVATIONS[nonlinearity] is nn.Sigmoid or self.num_stochastic == 0

    def mean(self, drive: Tensor) -> Tensor:
        """Firing probabilities and outputs of the units, given a; ``[..., H] -> [..., H]``."""
        if self.alike:
            return self.function(drive)
        fires, puts_out = drive.split((self.num_stochastic, self.dim - self.num_stochastic), -1)
        return torch.cat((torch.sigmoid(fires), self.function(puts_out)), -1)

    def sample(self, mean: Tensor) -> Tensor:
        """The units' states: some are sampled, without a gradient; ``[..., H] -> [..., H]``."""
        if not self.num_stochastic:
            return mean
        chance = mean[..., : self.num_stochastic]
        fired = (torch.rand_like(chance) < chance).to(mean)
        return torch.cat((fired, mean[..., self.num_stochastic :]), -1)

    def extra_repr(self) -> str:
        return (
            f"{self.dim}, num_stochastic={self.num_stochastic}, nonlinearity={self.nonlinearity!r}"
        )
