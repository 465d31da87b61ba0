"""Distributions of one frame or one answer, given natural parameters that a net puts out.

``Likelihood`` lists the members that a model of frames uses, ``Output`` those that a network of
answers uses. A user's own likelihood is any ``nn.Module`` with these members.
"""

from .categorical import Categorical
from .exponential_family import Bernoulli, ExponentialFamily, Gaussian, Poisson
from .likelihood import Likelihood, Output, seen_part
from .mixture import GaussianMixture
from .nade import NADE
from .traces import LearnedGaussian

__all__ = [
    "NADE",
    "Bernoulli",
    "Categorical",
    "ExponentialFamily",
    "Gaussian",
    "GaussianMixture",
    "LearnedGaussian",
    "Likelihood",
    "Output",
    "Poisson",
    "seen_part",
]
