"""How the recurrent weights of an ``SRN`` begin: what it can remember before it has learned."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..part import Described

__all__ = ["Latch", "Orthogonal"]

SLOPES = {"sigmoid": 0.25, "tanh": 1.0}  # of units in the middle of their range
# Where G puts out a given value, and its slope there.
INVERSES = {
    "sigmoid": (torch.logit, lambda value: value * (1 - value)),
    "tanh": (torch.atanh, lambda value: 1 - value.square()),
    "linear": (torch.clone, torch.ones_like),
}


class Orthogonal(Described):
    """W_hh is an orthogonal matrix times ``gain``, V_hh another; units start in mid-range.

    Of units with slope 1, as tanh has, a gain of 1 neither loses nor amplifies anything; sigmoids
    have slope 1/4, and need 4 for that.

    Arguments:
        gain: factor on W_hh.
        input_gain: factor on W_xh, which is uniform on (-1, 1) / sqrt(I).
    """

    def __init__(self, gain: float = 1.0, input_gain: float = 1.0):
        _check(gain, input_gain)
        self.gain, self.input_gain = gain, input_gain

    @torch.no_grad()
    def __call__(self, net: nn.Module) -> None:
        """Sets the weights of a network in place."""
        nn.init.orthogonal_(net.from_state.weight, self.gain)
        nn.init.orthogonal_(net.back.weight)
        net.from_input.weight.mul_(self.input_gain)
        _centre(net, torch.zeros(()))

    def __repr__(self) -> str:
        return f"{type(self).__name__}(gain={self.gain}, input_gain={self.input_gain})"


class Latch(Orthogonal):
    """Every deterministic unit excites itself, so much that it stays on the side it first fell to.

    Each compares the first input with a threshold of its own, drawn from the unit cube of inputs,
    and holds the answer: later inputs are weaker than its hold on itself. Stochastic units listen,
    and send nothing to begin with. G begins as the identity: with ``inverse="linear"`` targets come
    back through held states unchanged, where gradients vanish.

    A hard latch (a gain of 20) holds without learning, and its units are so saturated that W_hh has
    no gradient; a soft one (5) leaves something to learn.

    Arguments:
        gain: slope of a unit's effect on itself from step to step, more than 1.
        input_gain: slope of an input's effect. The hold lasts while the sum over inputs stays below
            half of ``gain`` (sigmoid units), or all of it (tanh).

    Source of the idea: Le et al., "A simple way to initialize recurrent networks of rectified
    linear units" (2015), who begin with the identity.
    """

    def __init__(self, gain: float = 5.0, input_gain: float = 2.0):
        super().__init__(gain, input_gain)
        if gain <= 1:
            raise ValueError(f"a latch needs a gain above 1, got {gain}")

    @torch.no_grad()
    def __call__(self, net: nn.Module) -> None:
        """Sets the weights of a network in place.

        Raises:
            ValueError: for units that do not saturate on both sides.
        """
        name, sampled = net.units.nonlinearity, net.num_stochastic
        if name not in SLOPES or net.inverse not in INVERSES:
            raise ValueError(
                f"a latch is made of sigmoid or tanh units, not {name}, and its inverse of these "
                f"or linear ones, not {net.inverse}"
            )
        slope, held = SLOPES[name], slice(sampled, None)
        own = torch.eye(net.units.dim - sampled)
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
def _centre(net: nn.Module, threshold: Tensor) -> None:
    """Biases by which units at rest stay there while inputs are at the threshold, ``[H, I]``."""
    rest, inputs = net.rest(), net.from_input.weight
    net.from_state.bias.copy_(-net.from_state.weight @ rest - (inputs * threshold).sum(-1))
    middle = 0.5 * inputs.sum(-1) if threshold.dim() else 0.0
    aim = INVERSES[net.inverse][0](rest) if net.inverse in INVERSES else torch.zeros_like(rest)
    net.back.bias.copy_(aim - net.back.weight @ rest - middle)


def _check(gain: float, input_gain: float) -> None:
    if gain <= 0 or input_gain <= 0:
        raise ValueError(f"gains must be positive, got {gain} and {input_gain}")
