"""The path from independent units to an energy model, which annealing follows."""

from __future__ import annotations

from abc import ABC, abstractmethod

from torch import Tensor


class Tempered(ABC):
    """Distributions of y_t given u_{t-1} at inverse temperatures from 0 to 1.

    At 0 the units are independent, and the normaliser is known. At 1 it is the model. There is one
    chain a row, ``N`` in all, each with a u_{t-1} of its own.
    """

    #: Logarithm of the normaliser at 0, ``[N]`` or ``[]``.
    log_normaliser: Tensor

    @abstractmethod
    def start(self) -> Tensor:
        """Frames drawn at 0, ``[N, M]``."""

    @abstractmethod
    def log_density(self, obs: Tensor, *betas: float) -> Tensor:
        """Logarithms of the unnormalised densities of ``obs [N, M]``, ``[len(betas), N]``."""

    @abstractmethod
    def move(self, obs: Tensor, beta: float) -> Tensor:
        """A step of a Markov chain that is reversible in the distribution at ``beta``."""
