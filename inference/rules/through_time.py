"""Backpropagation through time of the loss at a network's answers, and through sampled units."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from ...data import Batch
from ..checks import check_missing, check_samples
from ..contracts import AnswerModel
from ..kernels import overrides
from ..layers import DenseLayer
from ..unrolling import answering, blocks, by_time, in_paths, loss_of, unroll
from .answers import AnswerRule
from .rule import Metrics


class OutputBPTT(AnswerRule):
    """Plain backpropagation through time; of deterministic units, for sampling has no derivative.

    Arguments:
        net: the network.
        captured: see ``AnswerRule``.

    Raises:
        ValueError: for a network with stochastic units, or of another kind.
    """

    def __init__(self, net: AnswerModel, *, captured: bool | None = None) -> None:
        super().__init__(net, captured=captured)
        if net.num_stochastic and type(self) is OutputBPTT:
            raise ValueError("sampled units have no derivative: use StraightThrough")

    def _choose(self, mean: Tensor) -> Tensor:
        """h_t from its means, with a gradient."""
        return mean

    def _draw(self, mean: Tensor) -> Tensor:
        """The same without one."""
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
        layer = net.mean_layer()
        straight = not overrides(net, AnswerModel, "straight_through")
        if isinstance(layer, DenseLayer) and straight and not net.rest().requires_grad:
            error, answers = self._by_hand(batch)
        else:
            error, answers = self._by_graph(batch)
        return {"loss": error.detach() / answers, "frames": answers.to(batch.obs.dtype)}

    def _by_graph(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Fills the gradient; returns the loss of all answers, and how many there are."""
        net = self.net
        drive = in_paths(net, net.drive(batch.obs.transpose(0, 1)), self.num_samples)
        states = unroll(net, drive, self._choose)
        error, answers = loss_of(net, answering(net, states[1:], batch), batch)
        (error / answers).backward()
        return error, answers

    def _by_hand(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """The same without a graph of the recursion, whose gradient is written out."""
        net = self.net
        drive = net.drive(batch.obs.transpose(0, 1))[:, None]  # [T, 1, B, H]
        states, means = self._visit(drive.detach())
        top = answering(net, states[1:], batch).clone().requires_grad_()
        error, answers = loss_of(net, top, batch)
        (error / answers).backward()
        assert top.grad is not None  # the error has just been sent back
        slopes = by_time(net, top.grad, batch)
        given = drive.detach(), states, means, *slopes.values()
        (by_drive,) = self._sweep(self._backwards, tuple(slopes), *given)
        if drive.requires_grad:
            drive.backward(by_drive)
        return error, answers

    def _backwards(self, times: Sequence[int], *given: Tensor) -> Sequence[Tensor]:
        """The gradient by the drive, ``[T, 1, B, H]``; adds those of a layer's parameters.

        Arguments:
            times: those of the answers.
            given: the drive; states and means, see ``Visited``; gradients by the states that are
                answered from, ``[M, B, H]`` each.
        """
        (layer,), (drive, states, means, *found) = self._taught, given
        assert isinstance(layer, DenseLayer)
        slopes, by_drive = dict(zip(times, found)), torch.empty_like(drive)
        later = None  # the gradient by x + W h + b of the step after
        for block in reversed(blocks(means)):
            inward = torch.empty_like(means[block])
            each = enumerate(zip(inward.unbind(), means[block].unbind()), block.start)
            for t, (now, mean) in reversed(list(each)):
                if later is None:
                    now.zero_()
                else:
                    layer.back(later, out=now)
                if t in slopes:
                    now.add_(slopes[t])
                later = layer.inward(now, mean)
            by_drive[block] = layer.add(inward, states[block])
        return (by_drive,)


class StraightThrough(OutputBPTT):
    """BPTT that takes the derivative of sampling for 1 (Manchev & Spratling, 2024, appendix A).

    Without stochastic units it is ``OutputBPTT``, "STE(D)" there.

    Arguments:
        net: the network.
        num_samples: paths ``M`` of the stochastic units, whose probabilities are averaged.
        captured: see ``AnswerRule``.

    Raises:
        ValueError: for less than one sample, or a network of another kind.

    Source: Hinton (2012); Bengio et al., "Estimating or propagating gradients through stochastic
    neurons for conditional computation" (2013).
    """

    def __init__(
        self, net: AnswerModel, *, num_samples: int = 20, captured: bool | None = None
    ) -> None:
        super().__init__(net, captured=captured)
        check_samples(num_samples)
        self.num_samples = num_samples

    def _choose(self, mean: Tensor) -> Tensor:
        return self.net.straight_through(mean)

    def _draw(self, mean: Tensor) -> Tensor:
        return self.net.sample_units(mean) if self.net.num_stochastic else mean
