"""The base of distributions of which samples are easy and moments are not."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NoReturn

from pyro.distributions import TorchDistribution
from torch import Tensor


class SampledDistribution(TorchDistribution):
    """A distribution whose properties say what to do in their place, until a subclass writes them.

    torch's own raise an error without a word.

    Attributes:
        advice: what to use in place of moments, after a colon.
    """

    advice = "average samples, .sample((1000,)).mean(0)"

    @property
    def mean(self) -> Tensor:
        """E[x], where a subclass knows it."""
        self._unknown("mean", self.advice)

    @property
    def variance(self) -> Tensor:
        """Var[x], where a subclass knows it."""
        self._unknown("variance", "take that of samples, .sample((1000,)).var(0)")

    @property
    def mode(self) -> Tensor:
        """The most likely value, where a subclass knows it."""
        self._unknown("mode", self.advice)

    def entropy(self) -> Tensor:
        """-E[log p(x)] in nats, where a subclass knows it."""
        self._unknown("entropy", "average -log_prob(x) over samples x")

    def cdf(self, value: Tensor) -> Tensor:
        """Not defined for these distributions of several values."""
        self._unknown("cdf", "average (x <= value) over samples x, .sample((1000,))")

    def icdf(self, value: Tensor) -> Tensor:
        """Not defined for these distributions of several values."""
        self._unknown("icdf", "take quantiles of samples, .sample((1000,)).quantile(q, 0)")

    def enumerate_support(self, expand: bool = True) -> Tensor:
        """Not defined for these distributions of several values."""
        self._unknown("list of values", "draw samples, .sample((1000,))")

    def rsample(self, sample_shape: Sequence[int] = ()) -> Tensor:
        """Samples with a gradient, where a subclass has them."""
        self._unknown("sample with a gradient", "draw one without, .sample()")

    def _unknown(self, name: str, advice: str) -> NoReturn:
        raise NotImplementedError(f"{type(self).__name__} has no {name} in closed form: {advice}")
