"""Hidden units, of which a fraction is binary and stochastic."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...inference.checks import check_number, check_real
from ...inference.kernels import overrides
from ..part import Described
from .nets import ACTIVATIONS, activation

__all__ = ["HybridUnits"]


class HybridUnits(Described, nn.Module):
    """``dim`` units: the first ones fire with probability sigma(a), the others have output f(a).

    Arguments:
        dim: number of units, ``H``.
        stochastic: fraction of the units that are stochastic, in [0, 1].
        nonlinearity: f, a name in ``nets.ACTIVATIONS``.

    Attributes:
        num_stochastic: number of stochastic units, ``S``.

    Raises:
        ValueError: for fewer than one unit, or a fraction outside [0, 1].

    Source: Tang & Salakhutdinov, "Learning stochastic feedforward neural networks" (2013);
    Manchev & Spratling, "Learning multi-modal recurrent neural networks with target propagation"
    (2024), section 3.
    """

    def __init__(self, dim: int, stochastic: float = 0.0, nonlinearity: str = "sigmoid") -> None:
        super().__init__()
        check_number("dim", dim)
        check_real("stochastic", stochastic, least=0, most=1)
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

    def functions(self) -> list[tuple[int, nn.Module]]:
        """How many consecutive units have which function, see ``inference.layers.DenseLayer``."""
        if overrides(self, HybridUnits, "mean"):
            return [(self.dim, self)]
        stochastic = [(self.num_stochastic, nn.Sigmoid())] if self.num_stochastic else []
        return [*stochastic, (self.dim - self.num_stochastic, self.function)]

    def sample(self, mean: Tensor) -> Tensor:
        """The units' states: some are sampled, without a gradient; ``[..., H] -> [..., H]``."""
        if not self.num_stochastic:
            return mean
        chance = mean[..., : self.num_stochastic]
        fired = torch.rand_like(chance).lt_(chance)
        return torch.cat((fired, mean[..., self.num_stochastic :]), -1)

    def extra_repr(self) -> str:
        return (
            f"{self.dim}, num_stochastic={self.num_stochastic}, nonlinearity={self.nonlinearity!r}"
        )
