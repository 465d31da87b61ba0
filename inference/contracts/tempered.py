"""The path from independent units to an energy model, which annealing follows."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Generic, TypeVar

from torch import Tensor

Chains = TypeVar("Chains")


class Tempered(ABC, Generic[Chains]):
    """Distributions of y_t given u_{t-1} at inverse temperatures from 0 to 1.

    At 0 the units are independent, and the normaliser is known. At 1 it is the model. There is one
    chain a row, ``N`` in all, each with a u_{t-1} of its own. ``Chains`` holds the frames where the
    chains are, and whatever else the methods need of them.
    """

    #: Logarithm of the normaliser at 0, ``[N]`` or ``[]``.
    log_normaliser: Tensor

    @abstractmethod
    def start(self) -> Chains:
        """Chains at frames drawn at 0."""

    @abstractmethod
    def at(self, obs: Tensor) -> Chains:
        """Chains at given frames ``[N, M]``."""

    @abstractmethod
    def log_density(self, chains: Chains, *betas: float) -> Tensor:
        """Logarithms of the unnormalised densities of the frames, ``[len(betas), N]``."""

    @abstractmethod
    def move(self, chains: Chains, beta: float) -> Chains:
        """A step of a Markov chain that is reversible in the distribution at ``beta``."""
