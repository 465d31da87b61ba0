"""Exponential families, for emissions of directed models and for visible units of harmoniums.

Both use one parameterisation: p(y | eta) = exp(eta . T(y) - A(eta) + B(y)), with natural
parameter eta, sufficient statistic T, log-normaliser A and base measure B. In a
directed model a network puts out eta. In a harmonium eta is linear in the hidden units.
"""

from __future__ import annotations

import math
from typing import Any, NoReturn

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn
from torch.nn import functional

from ....inference.checks import check_number, check_real
from ....inference.tape import holds
from ...part import Described
from ..limits import exp_soft_limit, none_above, soft_limit, undo_soft_limit

LINEAR_FROM = 10.0  # log-rate from which a rate grows as a straight line: 22 026 a frame
MOST = 2.0**24  # the largest count up to which float32 holds every whole number
LARGE = 1024.0  # counts whose log-density needs more digits than float32 has


class ExponentialFamily(Described, nn.Module):
    """Independent units, one natural parameter each.

    Arguments:
        dim: number of units ``M``.

    Raises:
        ValueError: for a number below 1.
    """

    event_dim = 1  # axes of a value

    def __init__(self, dim: int) -> None:
        super().__init__()
        check_number("dim", dim)
        self.dim = dim

    @property
    def natural_dim(self) -> int:
        """Natural parameters of one frame, which a decoder puts out."""
        return self.dim

    def distribution(self, natural: Tensor) -> dist.TorchDistribution:
        """p(y | eta), ``[..., M]`` with event shape ``[M]``."""
        raise NotImplementedError(f"{type(self).__name__} must define distribution(natural)")

    def mean(self, natural: Tensor) -> Tensor:
        """E[y | eta], ``[..., M] -> [..., M]``."""
        raise NotImplementedError(f"{type(self).__name__} must define mean(natural)")

    def sample(self, natural: Tensor) -> Tensor:
        """A random frame, ``[..., M] -> [..., M]``."""
        return self.distribution(natural).sample()

    def mode(self, natural: Tensor) -> Tensor:
        """The most likely frame, ``[..., M] -> [..., M]``."""
        return self.mean(natural)

    def log_normaliser(self, natural: Tensor) -> Tensor:
        """A(eta), unit by unit."""
        raise NotImplementedError(f"{type(self).__name__} must define log_normaliser(natural)")

    def statistic(self, value: Tensor) -> Tensor:
        """T(y), unit by unit."""
        return value

    def log_base(self, value: Tensor) -> Tensor:
        """B(y), unit by unit."""
        return torch.zeros_like(value)

    def natural(self, mean: Tensor) -> Tensor:
        """The natural parameter with this mean, unit by unit: how biases are set from data."""
        raise NotImplementedError(f"{type(self).__name__} must define natural(mean)")

    def check(self, value: Tensor) -> None:
        """Raises a ValueError for values outside the support."""
        if value.shape[-1:] != (self.dim,):
            raise ValueError(
                f"{type(self).__name__}({self.dim}) needs {self.dim} values a frame, "
                f"got shape {tuple(value.shape)}"
            )
        if not value.is_floating_point():
            raise ValueError(f"obs must be floating point, got {value.dtype}: use .float()")
        if value.numel() and not torch.stack(value.aminmax()).isfinite().all():
            raise ValueError("obs has NaN or Inf: see observed of data.Batch")

    def extra_repr(self) -> str:
        return str(self.dim)


def sample_bits(mean: Tensor) -> Tensor:
    """Binary units with these means, as ``torch.bernoulli`` in a tenth of its time."""
    return (torch.rand_like(mean, dtype=torch.float32) < mean).to(mean)


class Bernoulli(ExponentialFamily):
    """Binary units, eta = log-odds.

    Arguments:
        dim: number of units.
        grey: accept any value in [0, 1], the mean of a binary unit, such as a grey pixel.
    """

    def __init__(self, dim: int, grey: bool = False) -> None:
        super().__init__(dim)
        self.grey = grey

    def distribution(self, natural: Tensor) -> dist.TorchDistribution:
        return dist.Bernoulli(logits=natural, validate_args=False).to_event(1)

    def mean(self, natural: Tensor) -> Tensor:
        return torch.sigmoid(natural)

    def sample(self, natural: Tensor) -> Tensor:
        return sample_bits(self.mean(natural))

    def mode(self, natural: Tensor) -> Tensor:
        return (natural > 0).to(natural)

    def log_normaliser(self, natural: Tensor) -> Tensor:
        return functional.softplus(natural)

    def natural(self, mean: Tensor) -> Tensor:
        return torch.logit(mean, eps=1e-3)

    def check(self, value: Tensor) -> None:
        super().check(value)
        if self.grey and ((value < 0) | (value > 1)).any():
            raise ValueError("grey Bernoulli data must lie in [0, 1]: rescale them")
        if not self.grey and ((value != 0) & (value != 1)).any():
            raise ValueError(
                "Bernoulli data must be 0 or 1: binarise them, or use Bernoulli(dim, grey=True)"
            )


class Poisson(ExponentialFamily):
    """Counts, eta = log-rate up to ``LINEAR_FROM``.

    Above it the rate is exp(10) (1 + eta - 10), a straight line with the same slope, so that eta
    neither overflows nor loses its gradient. The log-normaliser is the integral of the rate.
    ``distribution`` is a Poisson distribution with that rate throughout; the exponential form
    holds below ``LINEAR_FROM``. A rate of 10^6 is eta = 54: for counts above some thousands begin
    a model with ``obs_mean``, where it has one, or count in larger units.

    Arguments:
        dim: number of units.
    """

    def distribution(self, natural: Tensor) -> dist.TorchDistribution:
        if none_above(natural, LINEAR_FROM):
            return LogPoisson(natural, natural.exp()).to_event(1)
        rate = exp_soft_limit(natural, LINEAR_FROM)
        return LogPoisson(soft_limit(natural, LINEAR_FROM), rate).to_event(1)

    def mean(self, natural: Tensor) -> Tensor:
        return exp_soft_limit(natural, LINEAR_FROM)

    def mode(self, natural: Tensor) -> Tensor:
        return self.mean(natural).floor()

    def log_normaliser(self, natural: Tensor) -> Tensor:
        above = (natural - LINEAR_FROM).clamp_min(0)
        return self.mean(natural) + math.exp(LINEAR_FROM) * above.square() / 2

    def log_base(self, value: Tensor) -> Tensor:
        return -log_factorial(value)

    def natural(self, mean: Tensor) -> Tensor:
        return undo_soft_limit(mean.clamp_min(1e-3).log(), LINEAR_FROM)

    def check(self, value: Tensor) -> None:
        super().check(value)
        if not value.numel():
            return
        least, largest = value.aminmax()
        if least < 0:
            raise ValueError("Poisson data are counts: they cannot be negative")
        if not torch.equal(value, value.round()):
            raise ValueError("Poisson data are counts: they must be whole numbers")
        if largest > MOST:
            raise ValueError(
                f"Poisson data are counts of at most {MOST:.0f}, got {largest:.4g}: count in "
                "larger units, such as thousands"
            )


class LogPoisson(torch.distributions.Poisson, TorchDistributionMixin):
    """A Poisson distribution given its log-rate, whose log-density takes no second logarithm.

    Arguments:
        log_rate, rate: both, ``[...]``.
    """

    def __init__(self, log_rate: Tensor, rate: Tensor) -> None:
        self.log_rate = log_rate
        super().__init__(rate, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> LogPoisson:
        return LogPoisson(self.log_rate.expand(batch_shape), self.rate.expand(batch_shape))

    def log_prob(self, value: Tensor) -> Tensor:
        """log p(y), of large counts near the rate by Stirling's formula.

        There the three terms of the density, each in the millions, leave a few nats.
        """
        plain = value * self.log_rate - self.rate - log_factorial(value)
        if none_above(value, LARGE):
            return plain
        away = self.rate - value
        near = (value > LARGE) & (away.abs() < value / 2)
        some = value.clamp_min(1)
        ratio = torch.where(near, away / some, 0.0)
        kernel = some * (torch.log1p(ratio) - ratio)
        return torch.where(near, kernel - (2 * math.pi * some).log() / 2 - 1 / (12 * some), plain)

    def entropy(self) -> NoReturn:
        """It has no closed form, which torch's own error does not say."""
        raise NotImplementedError(
            "Poisson has no entropy in closed form: average -log_prob(x) over samples x"
        )


def log_factorial(count: Tensor) -> Tensor:
    """log y!, ``[...]``, of any y as the gamma function has it; from a table, of many counts."""
    if count.numel() < 4 * LARGE or count.device.type != "cpu":
        return torch.lgamma(count + 1)
    least, most = count.aminmax()
    fits = (least >= 0) & (most <= LARGE) & (count.frac().amax() == 0)
    if not holds(fits):
        return torch.lgamma(count + 1)
    table = torch.arange(1, LARGE + 2, dtype=count.dtype, device=count.device).lgamma()
    return table.index_select(0, count.flatten().long()).view(count.shape)


class Gaussian(ExponentialFamily):
    """Real values with a fixed standard deviation, eta = mean / sd, T(y) = y / sd.

    Arguments:
        dim: number of units.
        scale: standard deviation, in the units of the data.

    Raises:
        ValueError: when ``scale`` is not positive.
    """

    def __init__(self, dim: int, scale: float = 1.0) -> None:
        super().__init__(dim)
        check_real("scale", scale, above=0)
        self.scale = scale

    def distribution(self, natural: Tensor) -> dist.TorchDistribution:
        mean = self.mean(natural)
        return dist.Normal(mean, self.scale, validate_args=False).to_event(1)

    def mean(self, natural: Tensor) -> Tensor:
        return natural * self.scale

    def log_normaliser(self, natural: Tensor) -> Tensor:
        return natural.square() / 2

    def statistic(self, value: Tensor) -> Tensor:
        return value / self.scale

    def log_base(self, value: Tensor) -> Tensor:
        constant = math.log(self.scale) + math.log(2 * math.pi) / 2
        return -(value / self.scale).square() / 2 - constant

    def natural(self, mean: Tensor) -> Tensor:
        return mean / self.scale
