"""The simple recurrent network, with deterministic and stochastic units in any mix.

    h_t = f(W_xh x_t + W_hh h_{t-1} + b_h),   h_0 = f(0)        y ~ p(y | W_hy h + b_y)

Some units of h may be binary and stochastic: P(h_t = 1) = f. The network then is a mixture over all
paths of those units, p(y | x) = E_h[p(y | h)], estimated from M of them. A learned inverse,
h_{t-1} ~ G(x_t, h_t), lets ``inference.TargetPropagation`` send targets back.

Sources: Elman, "Finding structure in time" (1990); Manchev & Spratling, "Learning multi-modal
recurrent neural networks with target propagation" (2024), equations 1 to 7.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...inference.checks import check_sizes
from ...inference.kernels import overrides
from ...inference.layers import DenseLayer, Layer
from ..parts.checks import check_mean
from ..parts.initialisers import Initialiser, Orthogonal
from ..parts.likelihoods import Likelihood, Output
from ..parts.missing import reads
from ..parts.nets import activation, set_output_mean
from ..parts.units import HybridUnits
from .answer_network import AnswerNetwork


class SRN(AnswerNetwork):
    """p(y | x_{1:T}), trained by ``TargetPropagation``, ``StraightThrough`` or ``OutputBPTT``.

    Arguments:
        inputs: values of an input frame, ``I``.
        output: the distribution of an answer: ``likelihoods.Categorical``, ``GaussianMixture``, or
            a likelihood such as ``likelihoods.Bernoulli(88)``.
        hidden: units, ``H``.
        stochastic: fraction of the units that are binary and stochastic.
        nonlinearity: f of the other units, a name in ``nets.ACTIVATIONS``.
        inverse: activation of G, a name in ``nets.ACTIVATIONS``; None is f, as in the source.
        every_step: answer at every step instead of the last one, where no target says which.
        initialiser: of W_xh, W_hh and G; None is ``initialisers.Orthogonal()``.
        output_mean: initial mean of an answer's values, which sets the biases of the readout; for
            likelihoods only.
        sees_missing: the units read ``2 I`` values a frame: the frame with zeros in place of
            missing values, then 1.0 for each value that was seen. Without it inputs with missing
            values are refused.

    Raises:
        ValueError: for a number out of range, or an unknown activation.

    Example:
        >>> SRN(1, Categorical(10), hidden=100, stochastic=0.5)
    """

    def __init__(
        self,
        inputs: int,
        output: Output,
        hidden: int = 100,
        stochastic: float = 0.0,
        nonlinearity: str = "sigmoid",
        inverse: str | None = None,
        every_step: bool = False,
        initialiser: Initialiser | None = None,
        output_mean: float | None = None,
        sees_missing: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(inputs=inputs, hidden=hidden)
        check_mean("output_mean", output_mean)
        self.inputs, self.every_step = inputs, every_step
        self.sees_missing = self.takes_missing = sees_missing
        self.units = HybridUnits(hidden, stochastic, nonlinearity)
        self.from_input = nn.Linear(reads(inputs, sees_missing), hidden, bias=False)  # W_xh
        self.from_state = nn.Linear(hidden, hidden)  # W_hh, b_h
        self.back = nn.Linear(hidden, hidden)  # V_hh, c_h
        self.inverse = inverse or nonlinearity
        self.back_function = activation(self.inverse)
        self.readout = nn.Linear(hidden, output.natural_dim)  # W_hy, b_y
        self.output = output
        (initialiser or Orthogonal())(self)
        if output_mean is not None:
            if not isinstance(output, Likelihood):
                raise ValueError(f"output_mean is not for {type(output).__name__}: leave it out")
            set_output_mean(self.readout, output, output_mean)

    def extra_repr(self) -> str:
        when = "y[t] | x[1:t]" if self.every_step else "y | x[1:T]"
        return f"E[p({when}, h)] over p(h[t] | h[t-1], x[t])"

    @property
    def num_stochastic(self) -> int:
        """Number of stochastic units, ``S``: the first ones."""
        return self.units.num_stochastic

    def rest(self) -> Tensor:
        """h_0, the means of the units without any drive, ``[H]``."""
        return self.units.mean(torch.zeros_like(self.from_state.bias))

    def drive(self, obs: Tensor) -> Tensor:
        """The input to the units, W_xh x, of frames as ``prepare`` gives them; ``[..., H]``."""
        return self.from_input(obs)

    def mean(self, drive: Tensor, past: Tensor) -> Tensor:
        """Means of h_t given h_{t-1}, ``[..., H]`` (equations 1 and 5)."""
        return self.units.mean(drive + self.from_state(past))

    def mean_layer(self) -> Layer:
        if overrides(self, SRN, "mean"):
            return super().mean_layer()
        return DenseLayer.of(self.from_state, self.units.functions()) or super().mean_layer()

    def inverse_layer(self) -> Layer:
        if overrides(self, SRN, "invert"):
            return super().inverse_layer()
        whole = [(self.units.dim, self.back_function)]
        return DenseLayer.of(self.back, whole) or super().inverse_layer()

    def sample_units(self, mean: Tensor) -> Tensor:
        """h_t given its means, the stochastic units sampled without a gradient; ``[..., H]``."""
        return self.units.sample(mean)

    def invert(self, drive: Tensor, after: Tensor) -> Tensor:
        """G(x_t, h_t), an estimate of h_{t-1}; ``[..., H]`` (equation 4)."""
        return self.back_function(drive + self.back(after))
