"""Private states: what each channel keeps of its own past, beside a memory that all share.

The indicator of a calcium trace decays slowly, in each channel by itself. A shared state of a few
values cannot carry that. Here each channel has a noisy state of order one,

    s_t = a s_{t-1} + noise      y_t = s_t + noise

and p_t, the mean of y_t given the channel's own past, by a Kalman filter with a constant gain k:

    p_{t+1} = a (p_t + k (y_t - p_t))      p_{t+1} = a p_t where y_t is missing

a and k are learned, a pair for each channel.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .likelihoods import Likelihood
from .memory import CausalNet

DECAY, GAIN = 0.9, 0.5  # of a new channel


class PrivateStates(nn.Module):
    """A ``CausalNet`` whose state and output are those of another, then p of each channel.

    Arguments:
        memory: the shared memory, with outputs ``H``.
        channels: number of channels ``M``; the first values that the memory reads.
        sees_missing: whether the next ``M`` values say which were seen; otherwise all were.

    Attributes:
        outputs: ``H + M``.
    """

    def __init__(self, memory: CausalNet, channels: int, sees_missing: bool) -> None:
        super().__init__()
        self.shared, self.channels, self.sees_missing = memory, channels, sees_missing
        self.inputs, self.outputs = memory.inputs, memory.outputs + channels
        self.decay_logit = nn.Parameter(torch.full((channels,), DECAY).logit())
        self.gain_logit = nn.Parameter(torch.full((channels,), GAIN).logit())

    def forward(self, inputs: Tensor) -> Tensor:
        """See ``Memory.forward``."""
        drive, stays = self._terms(inputs)
        p, found = torch.zeros_like(drive[..., 0, :]), []
        for new, stay in zip(drive.unbind(-2), stays.unbind(-2)):
            p = new + stay * p
            found.append(p)
        return torch.cat((self.shared(inputs), torch.stack(found, -2)), -1)

    def initial(self, *rows: int) -> Tensor:
        """See ``Memory.initial``."""
        first = self.shared.initial(*rows)
        return torch.cat((first, first.new_zeros(*rows, self.channels)), -1)

    def step(self, inputs: Tensor, state: Tensor) -> Tensor:
        """See ``Memory.step``."""
        shared, p = self.parted(state)
        drive, stays = self._terms(inputs)
        return torch.cat((self.shared.step(inputs, shared), drive + stays * p), -1)

    def output(self, state: Tensor) -> Tensor:
        """See ``Memory.output``."""
        shared, p = self.parted(state)
        return torch.cat((self.shared.output(shared), p), -1)

    def parted(self, values: Tensor) -> tuple[Tensor, Tensor]:
        """The shared part of a state or an output, and p ``[..., M]``."""
        return values[..., : -self.channels], values[..., -self.channels :]

    def _terms(self, inputs: Tensor) -> tuple[Tensor, Tensor]:
        """a k y and a (1 - k), the terms of the next p, each ``[..., M]``; k is 0 where missing."""
        decay, gain = self.decay_logit.sigmoid(), self.gain_logit.sigmoid()
        if self.sees_missing:
            gain = gain * inputs[..., self.channels : 2 * self.channels]
        values = inputs[..., : self.channels]
        return decay * gain * values, (decay * (1 - gain)).expand_as(values)


def with_private(memory: CausalNet, likelihood: Likelihood, sees_missing: bool) -> PrivateStates:
    """A memory of frames with private states beside it.

    Raises:
        ValueError: for a likelihood whose natural parameters are not values of the frame.
    """
    if not hasattr(likelihood, "standardised"):
        raise ValueError(
            f"private states are of traces, and the likelihood is {type(likelihood).__name__}: "
            "take a LearnedGaussian, or private=False"
        )
    return PrivateStates(memory, likelihood.dim, sees_missing)


def shared_part(memory: CausalNet, output: Tensor) -> Tensor:
    """A memory's output ``[..., H]`` without private states."""
    return memory.parted(output)[0] if isinstance(memory, PrivateStates) else output


def add_private(natural: Tensor, memory: CausalNet, output: Tensor) -> Tensor:
    """Natural parameters plus p, ``[..., M]``; unchanged where there are no private states."""
    return natural + memory.parted(output)[1] if isinstance(memory, PrivateStates) else natural


def drop_shared(dropout: nn.Dropout, memory: CausalNet, output: Tensor) -> Tensor:
    """Dropout of a memory's output, private states left out."""
    if not isinstance(memory, PrivateStates):
        return dropout(output)
    shared, p = memory.parted(output)
    return torch.cat((dropout(shared), p), -1)
