"""Networks that answer a sequence."""

from __future__ import annotations

from abc import abstractmethod

from torch import Tensor, nn

from ...data import Batch
from ..layers import Layer
from .unwritten import unwritten


class AnswerModel(nn.Module):
    """p(y | x_{1:T}) from units h_t ~ p(h_t | x_t, h_{t-1}): a network that answers a sequence.

    You write
        the units
            ``rest()``, ``drive(obs)``, ``mean(drive, past)``,
            ``sample_units(mean)``
        the answer
            ``at_every_step(batch)``, ``log_score(states, target)``
        to check data
            ``prepare(batch)``
        for ``TargetPropagation``
            ``invert(drive, after)``
        for speed
            ``mean_layer()``, ``inverse_layer()``: ``layers.DenseLayer`` of ``mean`` and ``invert``,
            where they are f(drive + W h + b)

    You inherit
        ``num_stochastic`` (0): the first so many units are binary and sampled
        ``takes_missing`` (False): set it to True once missing values count for nothing
        ``prepare``, which gives the batch as it is
        ``straight_through``, made of ``sample_units``

    Then works
        rules: ``OutputBPTT`` (no stochastic units), ``StraightThrough``, ``TargetPropagation``
        diagnostics: ``target_alignment``; bounds and the rest if it is a ``SequenceModel``, too
    """

    num_stochastic: int = 0
    #: Whether it leaves values out that a batch says were not seen. Otherwise it refuses them.
    takes_missing: bool = False

    def prepare(self, batch: Batch) -> Batch:
        """A batch with its target, checked.

        Raises:
            ValueError: where the batch is not what the network takes.
        """
        return batch

    @abstractmethod
    def at_every_step(self, batch: Batch) -> bool:
        """Whether a batch asks for an answer at every step, or at the last one alone."""
        unwritten(self, "at_every_step(batch)")

    @abstractmethod
    def rest(self) -> Tensor:
        """h_0, ``[H]``."""
        unwritten(self, "rest()")

    @abstractmethod
    def drive(self, obs: Tensor) -> Tensor:
        """Input to the units from each frame alone, ``[..., I] -> [..., H]``."""
        unwritten(self, "drive(obs)")

    @abstractmethod
    def mean(self, drive: Tensor, past: Tensor) -> Tensor:
        """Means of h_t given h_{t-1}, ``[..., H]``."""
        unwritten(self, "mean(drive, past)")

    def mean_layer(self) -> Layer:
        """``mean`` as rules teach it."""
        return Layer(self.mean)

    def inverse_layer(self) -> Layer:
        """``invert`` as rules teach it."""
        return Layer(self.invert)

    @abstractmethod
    def sample_units(self, mean: Tensor) -> Tensor:
        """h_t given its means, the stochastic units sampled without a gradient; ``[..., H]``."""
        unwritten(self, "sample_units(mean)")

    @abstractmethod
    def log_score(self, states: Tensor, target: Tensor) -> Tensor:
        """log of the mean over M states of p(target | h), ``[..., B]``, in nats.

        Arguments:
            states: ``[..., M, B, H]``.
            target: ``[..., B]``, or ``[..., B, D]`` for answers of several values.
        """
        unwritten(self, "log_score(states, target)")

    def straight_through(self, mean: Tensor) -> Tensor:
        """h_t given its means, ``[..., H]``; its gradient takes sampling for the identity."""
        return mean + (self.sample_units(mean) - mean).detach() if self.num_stochastic else mean

    def invert(self, drive: Tensor, after: Tensor) -> Tensor:
        """A learned estimate of h_{t-1} from x_t and h_t, ``[..., H]``.

        Raises:
            ValueError: for a network that does not write it.
        """
        raise ValueError(f"{type(self).__name__} has no inverse: that takes invert(drive, after)")
