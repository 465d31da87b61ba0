"""Initialisers of the recurrent weights of an ``SRN``."""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from ...inference.checks import check_real
from ..part import Described
from .units import HybridUnits

__all__ = ["Latch", "Orthogonal"]

SLOPES = {"sigmoid": 0.25, "tanh": 1.0}  # of units in the middle of their range
# The drive at which G gives a value, and the slope of G there.
INVERSES = {
    "sigmoid": (torch.logit, lambda value: value * (1 - value)),
    "tanh": (torch.atanh, lambda value: 1 - value.square()),
    "linear": (torch.clone, torch.ones_like),
}


class RecurrentNet(Protocol):
    """The members of a network that an initialiser sets or reads."""

    from_input: nn.Linear  # W_xh
    from_state: nn.Linear  # W_hh, b_h
    back: nn.Linear  # V_hh, c_h
    units: HybridUnits
    inverse: str

    def rest(self) -> Tensor:
        """h_0, ``[H]``."""
        ...


class Initialiser(Protocol):
    """Sets the recurrent weights of a network in place: ``initialiser(net)``."""

    def __call__(self, net: RecurrentNet, /) -> None: ...


class Orthogonal(Described):
    """W_hh is an orthogonal matrix times ``gain``, and V_hh is another. Units begin in mid-range.

    A gain of 1 keeps the scale of a state where units have slope 1, as tanh has. Sigmoid units have
    slope 1/4, and a gain of 4 keeps the scale.

    Arguments:
        gain: factor on W_hh.
        input_gain: factor on W_xh, which is uniform on (-1, 1) / sqrt(I).

    Raises:
        ValueError: for a gain that is not positive.
    """

    def __init__(self, gain: float = 1.0, input_gain: float = 1.0) -> None:
        _check(gain, input_gain)
        self.gain, self.input_gain = gain, input_gain

    @torch.no_grad()
    def __call__(self, net: RecurrentNet) -> None:
        """Sets the weights of a network in place."""
        nn.init.orthogonal_(net.from_state.weight, self.gain)
        nn.init.orthogonal_(net.back.weight)
        net.from_input.weight.mul_(self.input_gain)
        _centre(net, torch.zeros(()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(gain={self.gain}, input_gain={self.input_gain})"


class Latch(Orthogonal):
    """Every deterministic unit excites itself and holds its first state.

    Each unit compares the first input with a threshold of its own, drawn from the unit cube of
    inputs, and keeps the result: later inputs are weaker than its self-excitation. Stochastic units
    receive from the others and at first send nothing. G begins as the identity. With
    ``inverse="linear"`` targets pass back through held states unchanged, where gradients vanish.

    With a large gain, such as 20, units hold their state without learning, but are so saturated
    that W_hh has no gradient. A smaller gain, such as 5, lets W_hh learn.

    Arguments:
        gain: slope of a unit's effect on itself from step to step, more than 1.
        input_gain: slope of an input's effect. A unit holds its state while the sum over inputs
            stays below half of ``gain`` (sigmoid units) or below ``gain`` (tanh units).

    Raises:
        ValueError: for an ``input_gain`` that is not positive, or a ``gain`` of 1 or less.

    Source: Le et al., "A simple way to initialize recurrent networks of rectified linear units"
    (2015), whose recurrent weights begin as the identity.
    """

    def __init__(self, gain: float = 5.0, input_gain: float = 2.0) -> None:
        super().__init__(gain, input_gain)
        if gain <= 1:
            raise ValueError(f"the gain of a latch must be above 1, got {gain}")

    @torch.no_grad()
    def __call__(self, net: RecurrentNet) -> None:
        """Sets the weights of a network in place.

        Raises:
            ValueError: for units that do not saturate on both sides, or an unsuitable inverse.
        """
        name, sampled = net.units.nonlinearity, net.units.num_stochastic
        if name not in SLOPES or net.inverse not in INVERSES:
            raise ValueError(
                f"a latch needs sigmoid or tanh units, got {name}, and an inverse that is sigmoid, "
                f"tanh or linear, got {net.inverse}"
            )
        slope, held = SLOPES[name], slice(sampled, None)
        own = torch.eye(net.units.dim - sampled, device=net.from_state.weight.device)
        net.from_state.weight.zero_()
        net.from_state.weight[held, held] = self.gain / slope * own
        net.from_state.weight[:sampled, held].normal_(std=0.1)
        net.back.weight.zero_()
        net.back.weight[held, held] = own / INVERSES[net.inverse][1](net.rest())[held]
        drawn = net.from_input.weight
        side = torch.randint_like(drawn, 2) * 2 - 1
        drawn.uniform_(0.5, 1.0).mul_(side * self.input_gain / slope)
        _centre(net, torch.rand_like(drawn))


@torch.no_grad()
def _centre(net: RecurrentNet, threshold: Tensor) -> None:
    """Sets biases that keep units at rest while inputs are at the threshold ``[H, I]``."""
    rest, inputs = net.rest(), net.from_input.weight
    net.from_state.bias.copy_(-net.from_state.weight @ rest - (inputs * threshold).sum(-1))
    middle = 0.5 * inputs.sum(-1) if threshold.dim() else 0.0
    aim = INVERSES[net.inverse][0](rest) if net.inverse in INVERSES else torch.zeros_like(rest)
    net.back.bias.copy_(aim - net.back.weight @ rest - middle)


def _check(gain: float, input_gain: float) -> None:
    check_real("gain", gain, above=0)
    check_real("input_gain", input_gain, above=0)
