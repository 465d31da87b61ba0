"""Fast dropout: layers that carry the mean and the variance that dropout gives every unit.

A layer samples no masks. It computes the moments of its weighted sum over all masks, approximates
the sum as Gaussian, and passes its moments through the transfer function. Training and evaluation
therefore compute the same numbers.

``keep`` is the probability that a unit is kept, one minus the dropout rate. Means, the recurrent
one too, are multiplied by ``keep``.

Sources: Wang & Manning, "Fast dropout training" (2013); Bayer et al., "On fast dropout and its
applicability to recurrent networks" (2013); Bayer & Osendorfer, "Learning stochastic recurrent
networks" (2014), appendix.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ...inference.checks import check_layers, check_number, check_real, check_sizes
from ..part import Described
from .moments import Moments, transfer
from .nets import scale_to_radius

__all__ = ["FastDropoutLinear", "FastDropoutMLP", "FastDropoutRNN", "Keep"]


class Keep(Described, nn.Module):
    """The probability that a unit is kept: a number, or a parameter through a sigmoid.

    Arguments:
        keep: the probability, or its initial value where it is learned.
        learn: make it a parameter.

    Raises:
        ValueError: for a value outside (0, 1], or 1 where it is learned.
    """

    def __init__(self, keep: float, learn: bool = False) -> None:
        super().__init__()
        check_real("keep", keep, above=0, most=1)
        if learn and keep == 1:
            raise ValueError("keep=1 has no gradient: to learn it, begin below 1, such as at 0.9")
        self.keep = keep
        self.logit = nn.Parameter(torch.tensor(math.log(keep / (1 - keep)))) if learn else None

    def forward(self) -> float | Tensor:
        """The probability, a scalar."""
        return self.keep if self.logit is None else torch.sigmoid(self.logit)

    def extra_repr(self) -> str:
        return f"{self.keep}, learn=True" if self.logit is not None else f"{self.keep}"


class FastDropoutLinear(Described, nn.Module):
    """A linear layer with dropped inputs: the moments of its sums.

    E[a] = d E[x] W + b and V[a] = (d (1 - d) E[x]² + d V[x]) W², for keep probability d.

    Arguments:
        inputs: number of inputs.
        outputs: number of outputs.
        keep: probability that an input is kept.
        learn: learn ``keep``.
    """

    def __init__(self, inputs: int, outputs: int, keep: float = 0.9, learn: bool = False) -> None:
        super().__init__()
        check_sizes(inputs=inputs, outputs=outputs)
        self.keep = Keep(keep, learn)
        self.weight = nn.Parameter(torch.randn(outputs, inputs) / math.sqrt(inputs))
        self.bias = nn.Parameter(torch.zeros(outputs))

    def forward(self, value: Tensor | Moments) -> Moments:
        """``[..., inputs]`` to the moments ``[..., outputs]``, before any transfer function."""
        return _dropped(Moments.of(value), self.keep(), self.weight, self.bias)

    def extra_repr(self) -> str:
        return f"{self.weight.shape[1]}, {self.weight.shape[0]}"


def _dropped(value: Moments, keep: float | Tensor, weight: Tensor, bias: Tensor) -> Moments:
    """Moments of the sums of dropped inputs; ``weight`` is ``[outputs, inputs]``."""
    mean = functional.linear(value.mean, keep * weight, bias)
    spread = value.variance + (1 - keep) * value.mean.square()
    return Moments(mean, functional.linear(spread, keep * weight.square()))


class FastDropoutMLP(Described, nn.Module):
    """Fast dropout layers with a transfer function after each but the last.

    Arguments:
        sizes: width of the input, of every hidden layer, and of the output.
        keep: probability that an input of any layer is kept.
        nonlinearity: a name in ``moments.TRANSFERS``.
        learn: learn ``keep``, one for each layer.

    Example:
        >>> out = FastDropoutMLP([15, 64, 10])(torch.zeros(2, 15))
        >>> bernoulli_logits(out).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        sizes: Sequence[int],
        keep: float = 0.9,
        nonlinearity: str = "tanh",
        learn: bool = False,
    ) -> None:
        super().__init__()
        check_layers("sizes", sizes, 2)
        self.nonlinearity, self.transfer = nonlinearity, transfer(nonlinearity)
        layers = (FastDropoutLinear(*pair, keep, learn) for pair in itertools.pairwise(sizes))
        self.layers = nn.ModuleList(layers)

    def forward(self, value: Tensor | Moments) -> Moments:
        """``[..., inputs]`` to the moments ``[..., outputs]``."""
        out = self.layers[0](value)
        for layer in self.layers[1:]:
            out = layer(self.transfer(*out))
        return out

    def extra_repr(self) -> str:
        return self.nonlinearity


class FastDropoutRNN(Described, nn.Module):
    """A recurrent layer with fast dropout of its inputs and of its last state.

    The first state has mean 0 and variance 0. Units are dropped independently of one another and
    of other steps, as in the source. Both directions have the same two rates, one for the inputs
    and one for the state.

    Arguments:
        inputs: values a frame, ``M``.
        hidden: units, ``H`` in each direction.
        keep_input: probability that an input is kept.
        keep_hidden: probability that a unit of the last state is kept.
        bidirectional: run a second set of units backwards; outputs are concatenated.
        nonlinearity: a name in ``moments.TRANSFERS``.
        learn_rates: learn both probabilities.
        spectral_radius: of the initial recurrent weights. With None they are Gaussian with standard
            deviation ``1 / sqrt(H)``, for a radius near 1.
        incoming: initial recurrent connections of each unit; needs ``spectral_radius``.
        input_scale: standard deviation of the initial input weights; None is ``1 / sqrt(M)``.

    Raises:
        ValueError: for arguments out of range.
    """

    def __init__(
        self,
        inputs: int,
        hidden: int,
        keep_input: float = 0.9,
        keep_hidden: float = 0.9,
        bidirectional: bool = False,
        nonlinearity: str = "tanh",
        learn_rates: bool = False,
        spectral_radius: float | None = None,
        incoming: int | None = None,
        input_scale: float | None = None,
    ) -> None:
        super().__init__()
        check_sizes(inputs=inputs, hidden=hidden)
        check_real("keep_input", keep_input, above=0, most=1)
        check_real("keep_hidden", keep_hidden, above=0, most=1)
        if spectral_radius is not None:
            check_real("spectral_radius", spectral_radius, above=0)
        if incoming is not None:
            check_number("incoming", incoming, most=hidden)
        if incoming is not None and spectral_radius is None:
            raise ValueError("incoming needs spectral_radius: give both")
        if input_scale is not None:
            check_real("input_scale", input_scale, above=0)
        self.inputs, self.hidden, self.bidirectional = inputs, hidden, bidirectional
        self.nonlinearity, self.transfer = nonlinearity, transfer(nonlinearity)
        self.keep_input = Keep(keep_input, learn_rates)
        self.keep_hidden = Keep(keep_hidden, learn_rates)
        ways = 2 if bidirectional else 1
        scale = 1 / math.sqrt(inputs) if input_scale is None else input_scale
        self.input_weight = nn.Parameter(scale * torch.randn(ways, hidden, inputs))
        self.hidden_weight = nn.Parameter(torch.randn(ways, hidden, hidden) / math.sqrt(hidden))
        self.bias = nn.Parameter(torch.zeros(ways, hidden))
        if spectral_radius is not None:
            for weight in self.hidden_weight.detach():
                scale_to_radius(weight, spectral_radius, incoming)

    @property
    def outputs(self) -> int:
        """Units of the output: ``H``, or ``2H`` where it is bidirectional."""
        return self.bias.numel()

    def forward(
        self,
        value: Tensor,
        mask: Tensor | None = None,
        variance: Tensor | None = None,
        initial: Moments | None = None,
    ) -> Moments:
        """Moments of the units at every frame.

        Arguments:
            value: inputs, or their means, ``[B, T, M]``.
            mask: True where a frame is real, ``[B, T]``. A padded frame does not change the state,
                so backward units begin at the last real frame of a sequence.
            variance: of the inputs, ``[B, T, M]``; None is 0.
            initial: moments of the state before the first frame, ``[B, H]`` each, such as those of
                an earlier call's last frame; not where bidirectional.

        Returns:
            Moments ``[B, T, H]``, or ``[B, T, 2H]``: forward units, then backward ones.

        Raises:
            ValueError: for shapes that do not match.
        """
        self._check(value, mask, variance, initial)
        given = Moments(value, torch.zeros_like(value) if variance is None else variance)
        real = None
        if mask is not None and not bool(mask.all()):
            # Values in the padding, NaN among them, must not reach a gradient.
            given = Moments(*(part.masked_fill(~mask[..., None], 0) for part in given))
            real = self._in_order(mask[..., None].transpose(0, 1))
        means, variances = zip(*self._run(self._drive(given), real, initial))
        return Moments(self._side_by_side(means), self._side_by_side(variances))

    def _run(
        self, drive: Moments, real: Tensor | None, initial: Moments | None
    ) -> list[tuple[Tensor, Tensor]]:
        """The serial part, for ``D`` directions at once: every state is ``[D, B, H]``."""
        if initial is None:
            mean = variance = torch.zeros_like(drive.mean[0])
        else:
            mean, variance = (part.unsqueeze(0) for part in initial)
        # Products of weights alone are computed once: d (1 - d) m² + d v is d ((1 - d) m² + v),
        # and the outer d goes into the weights.
        keep = self.keep_hidden()
        weight = (keep * self.hidden_weight).transpose(1, 2).contiguous()
        square = (keep * self.hidden_weight.square()).transpose(1, 2).contiguous()
        drop = 1 - keep
        states = []
        for t, (push, noise) in enumerate(zip(drive.mean.unbind(0), drive.variance.unbind(0))):
            spread = torch.addcmul(variance, mean, drop * mean)
            new = self.transfer(
                torch.baddbmm(push, mean, weight), torch.baddbmm(noise, spread, square)
            )
            if real is None:
                mean, variance = new
            else:
                mean = torch.where(real[t], new.mean, mean)
                variance = torch.where(real[t], new.variance, variance)
            states.append((mean, variance))
        return states

    def _drive(self, given: Moments) -> Moments:
        """Moments of the drive by the inputs, all steps at once: ``[T, D, B, H]`` each."""
        by_time = Moments(*(part.transpose(0, 1) for part in given))
        ways = [
            _dropped(by_time, self.keep_input(), weight, bias)
            for weight, bias in zip(self.input_weight, self.bias)
        ]
        return Moments(*(self._in_order(*parts) for parts in zip(*ways)))

    def _in_order(self, forward: Tensor, backward: Tensor | None = None) -> Tensor:
        """Stacks ``[T, B, ...]`` for each direction, in the order of its steps."""
        if not self.bidirectional:
            return forward.unsqueeze(1)
        return torch.stack([forward, (forward if backward is None else backward).flip(0)], 1)

    def _side_by_side(self, states: tuple[Tensor, ...]) -> Tensor:
        """``T`` states ``[D, B, H]`` to ``[B, T, D * H]``, in the order of time."""
        stacked = torch.stack(states, 2)
        if not self.bidirectional:
            return stacked[0]
        return torch.cat([stacked[0], stacked[1].flip(1)], -1)

    def _check(
        self,
        value: Tensor,
        mask: Tensor | None,
        variance: Tensor | None,
        initial: Moments | None,
    ) -> None:
        if value.dim() != 3 or value.shape[2] != self.inputs:
            raise ValueError(f"inputs must be [B, T, {self.inputs}], got {tuple(value.shape)}")
        if value.shape[1] == 0:
            raise ValueError("a sequence needs at least one frame")
        if variance is not None and variance.shape != value.shape:
            raise ValueError(
                f"variance must have the shape of the inputs, {tuple(value.shape)}, "
                f"got {tuple(variance.shape)}"
            )
        if mask is not None and (mask.shape != value.shape[:2] or mask.dtype != torch.bool):
            raise ValueError(
                f"mask must be boolean and {tuple(value.shape[:2])}, "
                f"got {mask.dtype} and {tuple(mask.shape)}"
            )
        if initial is not None and self.bidirectional:
            raise ValueError("initial is not for a bidirectional net: leave it out")
        state = (len(value), self.hidden)
        if initial is not None and not initial.mean.shape == initial.variance.shape == state:
            raise ValueError(f"initial must be moments {state}, got {tuple(initial.mean.shape)}")

    def extra_repr(self) -> str:
        both = ", bidirectional" if self.bidirectional else ""
        return f"{self.inputs}, {self.hidden}, {self.nonlinearity}{both}"
