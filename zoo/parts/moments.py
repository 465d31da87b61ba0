"""Mean and variance of units, and their moments after transfer functions.

Sources: Wang & Manning, "Fast dropout training" (2013); Bayer et al., "On fast dropout and its
applicability to recurrent networks" (2013).
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class Moments(NamedTuple):
    """Mean and variance of independent units.

    Arguments:
        mean: ``[..., M]``.
        variance: ``[..., M]``, not negative.
    """

    mean: Tensor
    variance: Tensor

    @classmethod
    def of(cls, value: Tensor | Moments) -> Moments:
        """The moments of a value: itself, or a tensor with variance 0."""
        return value if isinstance(value, Moments) else cls(value, torch.zeros_like(value))


def linear(mean: Tensor, variance: Tensor) -> Moments:
    """The moments themselves."""
    return Moments(mean, variance)


def tanh(mean: Tensor, variance: Tensor) -> Moments:
    """Moments of tanh(a) for a Gaussian a.

    The mean is Wang & Manning's, tanh(m / sqrt(1 + pi v / 2)), from the similarity of sigmoid and
    probit. The variance is (1 - mean²) (1 - 1 / sqrt(1 + 2 (1 - mean²) v)), which is correct to
    first order in v and in the limit of large v. (Their variance has an error of up to 0.06 even at
    v = 0, which grows in a recurrent net.) The largest errors over all m, by integration:

        v up to    0.01      0.1      1        25
        mean       0.0006    0.0045   0.021    0.034
        variance   0.0001    0.003    0.029    0.033
    """
    one = mean.new_ones(())
    out = torch.tanh(mean * torch.add(one, variance, alpha=math.pi / 2).rsqrt())
    slack = torch.addcmul(one, out, out, value=-1)
    shrunk = torch.add(one, slack * variance, alpha=2).rsqrt()
    return Moments(out, torch.addcmul(slack, slack, shrunk, value=-1))


def sigmoid(mean: Tensor, variance: Tensor) -> Moments:
    """Moments of sigmoid(a) = (1 + tanh(a / 2)) / 2 for a Gaussian a.

    The error of the mean is half that of ``tanh`` at a quarter of the variance, and the error of
    the variance is a quarter.
    """
    half = tanh(mean / 2, variance / 4)
    return Moments((1 + half.mean) / 2, half.variance / 4)


def relu(mean: Tensor, variance: Tensor) -> Moments:
    """Moments of max(a, 0) for a Gaussian a: exact up to rounding."""
    # The root has no derivative at 0: a standard deviation below 1e-6 counts as 1e-6.
    scale = variance.clamp_min(1e-12).sqrt()
    ratio = mean / scale
    above = torch.special.ndtr(ratio)
    density = torch.exp(-ratio.square() / 2) / math.sqrt(2 * math.pi)
    out = mean * above + scale * density
    # E[max(a, 0)²] - out², with E[max(a, 0)²] = v Phi(m / s) + m out.
    spread = variance * above + out * (mean - out)
    return Moments(out, spread.clamp_min(0))


TRANSFERS: dict[str, Callable[[Tensor, Tensor], Moments]] = {
    "tanh": tanh,
    "sigmoid": sigmoid,
    "relu": relu,
    "linear": linear,
}


def transfer(name: str) -> Callable[[Tensor, Tensor], Moments]:
    """A transfer function by name.

    Raises:
        ValueError: for a name not in ``TRANSFERS``.
    """
    if name not in TRANSFERS:
        raise ValueError(f"nonlinearity must be one of {', '.join(TRANSFERS)}, got {name!r}")
    return TRANSFERS[name]


def bernoulli_logits(moments: Moments) -> Tensor:
    """Log-odds of E[sigmoid(a)]: m / sqrt(1 + pi v / 8), which does not saturate.

    These are natural parameters of ``likelihoods.Bernoulli``. The probability has an error below
    0.017.
    """
    return moments.mean * (1 + math.pi / 8 * moments.variance).rsqrt()
