"""Fast dropout within a frame: the encoder and the emission of a ``VOSP`` as published.

Each reads the moments of the recurrent units, ``[..., 2 U]``, and plain values beside them.

Source: Bayer & Osendorfer, "Variational inference of latent state sequences using recurrent
networks" (2014), section 3.2 and appendix.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...inference.checks import check_sizes
from ..part import Described
from .fast_dropout import FastDropoutLinear
from .fast_memory import FastDropoutReadout
from .moments import Moments, tanh

__all__ = ["FastDropoutEmission", "FastDropoutEncoder"]


class FastDropoutEncoder(Described, nn.Module):
    """One layer of tanh units over the moments of recurrent units and the values of a frame.

    Arguments:
        units: number of recurrent units, ``U``.
        inputs: number of values beside them, ``I``.
        width: units of the layer, ``W``; there are ``2 W`` features, means and then variances.
        keep: probability that a recurrent unit or a value is kept; initial where ``learn_rates``.
        learn_rates: learn the probability, as the recognition models of the source do.
    """

    def __init__(
        self, units: int, inputs: int, width: int, keep: float = 0.9, learn_rates: bool = True
    ) -> None:
        super().__init__()
        check_sizes(units=units, inputs=inputs, width=width)
        self.units = units
        self.linear = FastDropoutLinear(units + inputs, width, keep, learn_rates)

    def forward(self, values: Tensor) -> Tensor:
        """``[..., 2 U + I] -> [..., 2 W]``."""
        mean, variance, plain = values.tensor_split((self.units, 2 * self.units), -1)
        read = Moments(
            torch.cat((mean, plain), -1), torch.cat((variance, torch.zeros_like(plain)), -1)
        )
        return torch.cat(tanh(*self.linear(read)), -1)


class FastDropoutEmission(Described, nn.Module):
    """A multilayer perceptron from recurrent units and a latent state to log-odds of binary units.

    Arguments:
        units: number of recurrent units, ``U``.
        latent_dim: size of the latent state, ``K``.
        natural_dim: number of binary units, ``N``.
        width: number of hidden units.
        keep: probability that an input of either layer is kept.
        bias: see ``FastDropoutReadout``.
    """

    def __init__(
        self,
        units: int,
        latent_dim: int,
        natural_dim: int,
        width: int,
        keep: float = 0.9,
        bias: float = -0.8,
    ) -> None:
        super().__init__()
        check_sizes(latent_dim=latent_dim)
        self.hidden = FastDropoutEncoder(units, latent_dim, width, keep, learn_rates=False)
        self.readout = FastDropoutReadout(width, natural_dim, keep, bias)

    def forward(self, values: Tensor) -> Tensor:
        """``[..., 2 U + K] -> [..., N]``."""
        return self.readout(self.hidden(values))
