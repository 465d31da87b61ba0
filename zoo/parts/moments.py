"""Mean and variance of units, and what transfer functions make of them.

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
        """Moments as they are; a tensor is known exactly, with variance 0."""
        return value if isinstance(value, Moments) else cls(value, torch.zeros_like(value))


def linear(mean: Tensor, variance: Tensor) -> Moments:
    """The moments themselves."""
    return Moments(mean, variance)


def tanh(mean: Tensor, variance: Tensor) -> Moments:
    """Moments of tanh(a) for a Gaussian a.

    The mean is Wang & Manning's, from the likeness of sigmoid and probit: tanh(m / sqrt(1 +
    pi v / 2)). The variance is (1 - mean²) (1 - 1 / sqrt(1 + 2 (1 - mean²) v)), which is right
    to first order in v and as v grows. (Theirs is off by up to 0.06 even where v = 0, which a
    recurrent net would feed on.) The largest errors over all m, found by integration:

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

    As accurate as ``tanh`` at a quarter of the variance: half its error in the mean, a quarter of
    it in the variance.
    """
    half = tanh(mean / 2, variance / 4)
    return Moments((1 + half.mean) / 2, half.variance / 4)


def relu(mean: Tensor, variance: Tensor) -> Moments:
    """Moments of max(a, 0) for a Gaussian a: exact, but for rounding."""
    # The root has no derivative at 0: a unit that varies by less than 1e-6 does not vary.
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
    """Log-odds of E[sigmoid(a)]: m / sqrt(1 + pi v / 8), which never saturates.

    Feed them to ``likelihoods.Bernoulli``. The probability is within 0.017 of the integral.
    """
    return moments.mean * (1 + math.pi / 8 * moments.variance).rsqrt()
