"""Backpropagation through time of the loss at a network's answers, and through sampled units."""

from __future__ import annotations

from torch import Tensor

from ...data import Batch
from ..checks import check_missing, check_samples
from ..contracts import AnswerModel
from ..unrolling import answering, in_paths, loss_of, unroll
from .rule import LearningRule, Metrics


class OutputBPTT(LearningRule):
    """Plain backpropagation through time; of deterministic units, for sampling has no derivative.

    Arguments:
        net: the network.

    Raises:
        ValueError: for a network with stochastic units, or of another kind.
    """

    trains = AnswerModel
    net: AnswerModel

    def __init__(self, net: AnswerModel) -> None:
        super().__init__(net)
        if net.num_stochastic and type(self) is OutputBPTT:
            raise ValueError("sampled units have no derivative: use StraightThrough")

    num_samples = 1

    def _choose(self, mean: Tensor) -> Tensor:
        return mean

    def gradients(self, batch: Batch) -> Metrics:
        """Sets ``.grad`` to that of the loss; a parameter that it does not depend on has none.

        Returns:
            ``loss``, nats per answer, and ``frames``, the answers.
        """
        net = self.net
        check_missing(net, batch)
        batch = net.prepare(batch)
        net.zero_grad(set_to_none=True)
        drive = in_paths(net, net.drive(batch.obs.transpose(0, 1)), self.num_samples)
        states = unroll(net, drive, self._choose)
        error, answers = loss_of(net, answering(net, states[1:], batch), batch)
        (error / answers).backward()
        return {"loss": error.detach() / answers, "frames": answers.to(batch.obs.dtype)}


class StraightThrough(OutputBPTT):
    """BPTT that takes the derivative of sampling for 1 (Manchev & Spratling, 2024, appendix A).

    Without stochastic units it is ``OutputBPTT``, "STE(D)" there.

    Arguments:
        net: the network.
        num_samples: paths ``M`` of the stochastic units, whose probabilities are averaged.

    Raises:
        ValueError: for less than one sample, or a network of another kind.

    Source: Hinton (2012); Bengio et al., "Estimating or propagating gradients through stochastic
    neurons for conditional computation" (2013).
    """

    def __init__(self, net: AnswerModel, *, num_samples: int = 20) -> None:
        super().__init__(net)
        check_samples(num_samples)
        self.num_samples = num_samples

    def _choose(self, mean: Tensor) -> Tensor:
        return self.net.straight_through(mean)
