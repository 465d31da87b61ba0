"""A memory, a reader, a readout and a decoder with fast dropout.

The parts exchange means and variances of units, concatenated: ``[..., 2 H]``.

Sources: Bayer et al., "On fast dropout and its applicability to recurrent networks" (2013); Bayer &
Osendorfer (2014), section 3.1 and appendix.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...inference.checks import check_real, check_sizes
from ..part import Described
from .fast_dropout import FastDropoutLinear, FastDropoutRNN
from .moments import Moments, bernoulli_logits

__all__ = ["FastDropoutDecoder", "FastDropoutMemory", "FastDropoutReader", "FastDropoutReadout"]


class FastDropoutMemory(Described, nn.Module):
    """A ``Memory`` whose state is the mean and the variance of units: the recurrence of the FD-RNN.

    Arguments:
        inputs: values a step.
        units: number of units, ``H``; ``output`` has twice as many values.
        keep_input: probability that an input is kept.
        keep_hidden: probability that a unit of the last state is kept.
        learn_rates: learn both probabilities, which are then initial ones.
        spectral_radius, incoming, input_scale: see ``FastDropoutRNN``.
        skip: keep the last input in the state, after the moments of the units. A
            ``FastDropoutEmission`` reads both.
    """

    def __init__(
        self,
        inputs: int,
        units: int,
        keep_input: float = 0.9,
        keep_hidden: float = 0.9,
        learn_rates: bool = False,
        spectral_radius: float | None = None,
        incoming: int | None = None,
        input_scale: float | None = None,
        skip: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(inputs=inputs, units=units)
        self.inputs, self.units, self.skip = inputs, units, skip
        self.outputs = self.state_dim = 2 * units + (inputs if skip else 0)
        self.net = FastDropoutRNN(
            inputs,
            units,
            keep_input,
            keep_hidden,
            learn_rates=learn_rates,
            spectral_radius=spectral_radius,
            incoming=incoming,
            input_scale=input_scale,
        )

    def forward(self, inputs: Tensor) -> Tensor:
        """See ``Memory.forward``; ``[B, T, I] -> [B, T, 2 H]``, and the inputs where ``skip``."""
        return torch.cat((*self.net(inputs), inputs) if self.skip else self.net(inputs), -1)

    def initial(self, *rows: int) -> Tensor:
        """See ``Memory.initial``: mean 0 and variance 0."""
        return self.net.bias.new_zeros(*rows, self.state_dim)

    def step(self, inputs: Tensor, state: Tensor) -> Tensor:
        """See ``Memory.step``; ``[B, I], [B, U] -> [B, U]``."""
        mean, variance = state[:, : 2 * self.units].chunk(2, -1)
        after = self.net(inputs[:, None], initial=Moments(mean, variance))
        return torch.cat((*after, inputs[:, None]) if self.skip else after, -1)[:, 0]

    def output(self, state: Tensor) -> Tensor:
        """The state itself."""
        return state


class FastDropoutReader(Described, nn.Module):
    """A bidirectional ``Reader`` with fast dropout.

    Arguments:
        inputs: values a frame.
        units: number of units in each direction.
        keep: probability that an input or a unit is kept; initial where ``learn_rates``.
        learn_rates: learn the probabilities, as the recognition models of the source do.
        spectral_radius, incoming, input_scale: see ``FastDropoutRNN``.
    """

    def __init__(
        self,
        inputs: int,
        units: int,
        keep: float = 0.9,
        learn_rates: bool = True,
        spectral_radius: float | None = None,
        incoming: int | None = None,
        input_scale: float | None = None,
    ) -> None:
        super().__init__()
        check_sizes(inputs=inputs, units=units)
        check_real("keep", keep, above=0, most=1)
        self.net = FastDropoutRNN(
            inputs,
            units,
            keep,
            keep,
            bidirectional=True,
            learn_rates=learn_rates,
            spectral_radius=spectral_radius,
            incoming=incoming,
            input_scale=input_scale,
        )
        self.features_dim = 2 * self.net.outputs

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """``[B, T, M]`` with its mask ``[B, T]`` to ``[B, T, F]``."""
        return torch.cat(self.net(inputs, mask), -1)


class FastDropoutReadout(Described, nn.Module):
    """Log-odds of binary units given the moments of hidden units.

    Arguments:
        units: number of hidden units.
        natural_dim: number of binary units.
        keep: probability that an input is kept.
        bias: initial bias of the log-odds, -0.8 as in the source.
    """

    def __init__(self, units: int, natural_dim: int, keep: float = 0.9, bias: float = -0.8) -> None:
        super().__init__()
        check_sizes(units=units, natural_dim=natural_dim)
        check_real("bias", bias)
        self.linear = FastDropoutLinear(units, natural_dim, keep)
        nn.init.constant_(self.linear.bias, bias)

    def forward(self, moments: Tensor) -> Tensor:
        """``[..., 2 H] -> [..., N]``."""
        return bernoulli_logits(self.linear(Moments(*moments.chunk(2, -1))))


class FastDropoutDecoder(Described, nn.Module):
    """A bidirectional decoder with fast dropout.

    Arguments:
        dim: size ``K`` of the latent state.
        natural_dim: number of binary units a frame.
        units: number of units in each direction.
        keep: probability that a unit of any layer is kept.
        bias: see ``FastDropoutReadout``.
        spectral_radius, incoming, input_scale: see ``FastDropoutRNN``.
    """

    causal = False

    def __init__(
        self,
        dim: int,
        natural_dim: int,
        units: int,
        keep: float = 0.9,
        bias: float = -0.8,
        spectral_radius: float | None = None,
        incoming: int | None = None,
        input_scale: float | None = None,
    ) -> None:
        super().__init__()
        check_sizes(dim=dim, natural_dim=natural_dim, units=units)
        check_real("keep", keep, above=0, most=1)
        self.net = FastDropoutRNN(
            dim,
            units,
            keep,
            keep,
            bidirectional=True,
            spectral_radius=spectral_radius,
            incoming=incoming,
            input_scale=input_scale,
        )
        self.readout = FastDropoutReadout(self.net.outputs, natural_dim, keep, bias)

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """The path ``[..., B, T, K]`` to natural parameters ``[..., B, T, N]``; mask ``[B, T]``."""
        rows = inputs.reshape(-1, *inputs.shape[-2:])
        real = mask.expand(inputs.shape[:-1]).reshape(-1, mask.shape[-1])
        natural = self.readout(torch.cat(self.net(rows, real), -1))
        return natural.unflatten(0, inputs.shape[:-2])
