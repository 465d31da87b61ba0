"""Distributions of one frame or one answer given natural parameters that a net puts out."""

from .categorical import Categorical
from .exponential_family import (
    MAX_LOG_RATE,
    Bernoulli,
    ExponentialFamily,
    Gaussian,
    LogPoisson,
    Poisson,
    draw_bits,
)
from .mixture import GaussianMixture
from .nade import NADE, NADEDistribution

__all__ = [
    "MAX_LOG_RATE",
    "NADE",
    "Bernoulli",
    "Categorical",
    "ExponentialFamily",
    "Gaussian",
    "GaussianMixture",
    "LogPoisson",
    "NADEDistribution",
    "Poisson",
    "draw_bits",
]
