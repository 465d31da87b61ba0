"""The stochastic units of a recurrent network over a whole sequence, as one distribution."""

from __future__ import annotations

from typing import ClassVar

import torch
from pyro.distributions import TorchDistribution
from torch import Size, Tensor
from torch.distributions import constraints
from torch.nn.functional import binary_cross_entropy


class StochasticUnits(TorchDistribution):
    """P(b_{1:T}) = prod_t prod_s Bernoulli(b_ts; f_s(x_t, h_{t-1})), event shape ``[T, S]``.

    h_{t-1} is made of the units b before and of the deterministic units, which follow from them.

    Arguments:
        net: an ``AnswerModel`` with ``path``, such as ``SRN``.
        drive: input to the units from the frames, ``batch_shape + [T, H]``.
        mask: True where a step is real, ``batch_shape + [T]``; other steps count for nothing.
    """

    has_rsample = False
    arg_constraints: ClassVar[dict] = {}
    support = constraints.independent(constraints.boolean, 2)

    def __init__(self, net, drive: Tensor, mask: Tensor):
        self.net, self.drive, self.real = net, drive, mask
        event = drive.shape[-2], net.num_stochastic
        super().__init__(drive.shape[:-2], event, validate_args=False)

    def expand(self, batch_shape, _instance=None):
        shape = Size(batch_shape)
        drive = self.drive.expand(shape + self.drive.shape[-2:])
        return StochasticUnits(self.net, drive, self.real.expand(shape + self.real.shape[-1:]))

    @torch.no_grad()
    def sample(self, sample_shape=()):
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
