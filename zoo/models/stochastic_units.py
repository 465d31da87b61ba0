"""The stochastic units of a recurrent network over a whole sequence, as one distribution."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Protocol

import torch
from torch import Size, Tensor
from torch.distributions import constraints
from torch.nn.functional import binary_cross_entropy

from ...inference.distributions import SampledDistribution


class UnitPaths(Protocol):
    """The members of a network whose units have a distribution."""

    @property
    def num_stochastic(self) -> int:
        """Number of stochastic units, ``S``."""
        ...

    def rest(self) -> Tensor:
        """h_0, ``[H]``."""
        ...

    def mean(self, drive: Tensor, past: Tensor, /) -> Tensor:
        """Means of h_t given h_{t-1}, ``[..., H]``."""
        ...

    def path(self, drive: Tensor, units: Tensor | None = None, /) -> Tensor:
        """States over a sequence, ``[..., T, H]``."""
        ...


class StochasticUnits(SampledDistribution):
    """P(b_{1:T}) = prod_t prod_s Bernoulli(b_ts; f_s(x_t, h_{t-1})), event shape ``[T, S]``.

    h_{t-1} holds the stochastic units b_{t-1} and the deterministic units, which follow from
    b_1 .. b_{t-1}.

    Arguments:
        net: a network such as ``SRN``.
        drive: input to the units from the frames, ``batch_shape + [T, H]``.
        mask: True where a step is real, ``batch_shape + [T]``; other steps have no weight.
    """

    has_rsample = False
    arg_constraints: ClassVar[dict] = {}
    # torch's stub declares a property
    support = constraints.independent(constraints.boolean, 2)  # pyright: ignore[reportAssignmentType]

    def __init__(self, net: UnitPaths, drive: Tensor, mask: Tensor) -> None:
        self.net, self.drive, self.real = net, drive, mask
        event = Size((drive.shape[-2], net.num_stochastic))
        super().__init__(drive.shape[:-2], event, validate_args=False)

    def expand(self, batch_shape: Size, _instance: Any = None) -> StochasticUnits:
        shape = Size(batch_shape)
        drive = self.drive.expand(shape + self.drive.shape[-2:])
        return StochasticUnits(self.net, drive, self.real.expand(shape + self.real.shape[-1:]))

    @torch.no_grad()
    def sample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Random units, ``sample_shape + batch_shape + [T, S]``."""
        drive = self.drive.expand(Size(sample_shape) + self.drive.shape)
        return self.net.path(drive)[..., : self.net.num_stochastic]

    def log_prob(self, value: Tensor) -> Tensor:
        """log P(b) of units ``[..., T, S]``; ``[...]``."""
        states = self.net.path(self.drive, value)
        before = torch.cat((self.net.rest().expand_as(states[..., :1, :]), states[..., :-1, :]), -2)
        means = self.net.mean(self.drive, before)
        chance = means[..., : self.net.num_stochastic]
        each = -binary_cross_entropy(chance, value.expand(chance.shape), reduction="none")
        return each.sum(-1).masked_fill(~self.real, 0.0).sum(-1)
