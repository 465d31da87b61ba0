"""Target propagation through time: every step has a target of its own, and no gradient crosses it.

    top:      d_T = -alpha dE/dh_T                                               (equation 3)
    back:     d_t = G(x_{t+1}, h_{t+1} + d_{t+1}) - G(x_{t+1}, h_{t+1})          (equation 4)
    inverse:  minimise |G(x_t, h_t) - h_{t-1}|^2 over the parameters of G
    forward:  minimise |f(x_t, h_{t-1}) - (f(x_t, h_{t-1}) + d_t)|^2 over those of f, d_t held fixed

The targets are h_t + d_t. The rule sends back their difference from h_t, so that neither the error
of G nor the noise of sampled units passes for an error of f (Lee et al.). With
``difference=False`` the targets are G(x_{t+1}, target_{t+1}), as in equation 4. The sweeps forward
and back run without a graph; the local losses of all steps and samples are one folded batch.

Sources: Manchev & Spratling, "Target propagation in recurrent neural networks" (2020) and "Learning
multi-modal recurrent neural networks with target propagation" (2024); Lee et al., "Difference
target propagation" (2015).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from ...data import Batch
from ..checks import check_missing, check_real, check_samples
from ..contracts import AnswerModel
from ..layers import Layer
from ..unrolling import answering, blocks, by_time, loss_of
from .answers import AnswerRule
from .rule import Metrics


class Sweep(NamedTuple):
    """The result of the sweep forwards, for the sweep back.

    Arguments:
        drive: input to the units from each frame, ``[T, 1, B, H]``.
        states: h_0 .. h_T of all paths, ``[T + 1, M, B, H]``.
        means: f(x_t, h_{t-1}) for h_1 .. h_T, ``[T, M, B, H]``.
        padded: True in padding, ``[T, 1, B, 1]``; None where there is none.
    """

    drive: Tensor
    states: Tensor
    means: Tensor
    padded: Tensor | None


class TargetPropagation(AnswerRule):
    """TPTT; with stochastic units STPTT. Local in time: no gradient reaches a step from another.

    Learning rates of f, of G and of the outputs are parameter groups of ``fit``, such as
    ``lr={"": 0.1, "back.": 1e-3, "readout.": 0.1}``.

    Arguments:
        net: a network with ``invert``.
        alpha_i: size of the step from h_T to its target, along the gradient of its own loss.
        noise: sd of the noise on h_{t-1} when G is taught to give it back.
        num_samples: paths ``M`` of the stochastic units; a network without any has one.
        difference: correct the targets by the difference, see above.
        propagate: send targets back. False is the control: only the steps that are answered have
            a target.
        captured: see ``AnswerRule``.

    Raises:
        ValueError: for a number out of range, or a network without an inverse.
    """

    def __init__(
        self,
        net: AnswerModel,
        *,
        alpha_i: float = 0.1,
        noise: float = 0.0,
        num_samples: int = 20,
        difference: bool = True,
        propagate: bool = True,
        captured: bool | None = None,
    ) -> None:
        super().__init__(net, captured=captured)
        if type(net).invert is AnswerModel.invert:
            self.refuse(net, "networks with an inverse to send targets back by", "has no invert")
        check_real("alpha_i", alpha_i, above=0)
        check_real("noise", noise, least=0)
        check_samples(num_samples)
        self.alpha_i, self.noise = alpha_i, noise
        self.num_samples, self.difference, self.propagate = num_samples, difference, propagate

    def _layers(self) -> Sequence[Layer]:
        return self.net.mean_layer(), self.net.inverse_layer()

    def gradients(self, batch: Batch) -> Metrics:
        """Sets ``.grad``: of the output parameters by E, of all others by the local losses.

        Returns:
            ``loss``, E in nats per answer; ``frames``, the answers; ``inverse``, the mean squared
            error of G; ``distance``, that between a state and its target, both per unit.
        """
        net = self.net
        check_missing(net, batch)
        batch = net.prepare(batch)
        net.zero_grad(set_to_none=True)
        drive = net.drive(batch.obs.transpose(0, 1))[:, None]  # [T, 1, B, H]
        sweep, top = self._run(drive.detach(), batch)
        error, answers = loss_of(net, top, batch)
        (error / answers).backward()
        assert top.grad is not None  # the error has just been sent back
        push = self._push(answers * top.grad, batch)
        paths, units = sweep.states.shape[1], drive.shape[-1]
        inverted = (batch.mask[:, 1:].sum() * paths).clamp_min(1)  # steps of all paths
        given = sweep.drive, *sweep[1:], inverted, answers, *push.values()
        by_drive, missed, distance = self._sweep(self._backwards, tuple(push), *given)
        if drive.requires_grad:
            drive.backward(by_drive)
        return {
            "loss": error.detach() / answers,
            "frames": answers.to(batch.obs.dtype),
            "inverse": missed / (inverted * units),
            "distance": distance / (batch.mask.sum() * paths * units),
        }

    def targets(self, batch: Batch) -> Tensor:
        """Targets minus states on a batch, ``[M, B, T, H]``; leaves ``.grad`` alone."""
        net = self.net
        check_missing(net, batch)
        batch = net.prepare(batch)
        with torch.no_grad():
            drive = net.drive(batch.obs.transpose(0, 1))[:, None]
        sweep, top = self._run(drive, batch)
        (slope,) = torch.autograd.grad(loss_of(net, top, batch)[0], top)
        push, every = self._push(slope, batch), slice(0, len(drive))
        with torch.no_grad():
            guessed = self._taught[1](drive[1:], sweep.states[2:])
            steps = self._back(sweep, every, push, guessed, None)
        return steps.movedim(0, -2)

    def _run(self, drive: Tensor, batch: Batch) -> tuple[Sweep, Tensor]:
        """The sweep forwards, and the states that are answered from, which ask for a gradient."""
        states, means = self._visit(drive)
        top = answering(self.net, states[1:], batch).clone().requires_grad_()
        return Sweep(drive, states, means, _padded(batch)), top

    def _push(self, slope: Tensor, batch: Batch) -> dict[int, Tensor]:
        """Steps towards the targets that the answers set, by time; ``[M, B, H]`` each."""
        return by_time(self.net, -self.alpha_i * slope, batch)

    def _backwards(self, times: Sequence[int], *given: Tensor) -> Sequence[Tensor]:
        """The sweep back; fills the gradients of f and G.

        Arguments:
            times: those at which answers set targets.
            given: the parts of a ``Sweep``; steps behind the errors of G, and answers, which are
                numbers; steps towards the targets, ``[M, B, H]`` each.

        Returns:
            The gradient by the drive, ``[T, 1, B, H]``, and the squared errors of G and of f.
        """
        sweep, (inverted, answers, *steps) = Sweep(*given[:4]), given[4:]
        push = dict(zip(times, steps))
        by_drive, missed, distance = torch.empty_like(sweep.drive), [], []
        later = None  # targets minus states of the step after the block
        for block in reversed(blocks(sweep.means)):
            guessed, miss = self._teach_inverse(sweep, block, inverted)
            steps = self._back(sweep, block, push, guessed, later)
            by_drive[block] = self._teach_forward(sweep, block, steps, answers)
            later = steps[0]
            missed.append(miss)
            distance.append(_squared(steps))
        return by_drive, torch.stack(missed).sum(), torch.stack(distance).sum()

    def _teach_inverse(self, sweep: Sweep, block: slice, count: Tensor) -> tuple[Tensor, Tensor]:
        """Fills the gradient of half the squared error of G, over ``count``.

        Returns:
            G(x_{t+1}, h_{t+1}) for each step t of the block but T, and the squared error.
        """
        forward, inverse = self._taught
        some = slice(block.start + 1, min(block.stop, len(sweep.drive) - 1) + 1)
        drive, before = sweep.drive[some], sweep.states[some]
        after = sweep.states[some.start + 1 : some.stop + 1]
        clean = None
        if self.noise:
            clean = inverse(drive, after)
            before = before + self.noise * torch.randn_like(before)
            after = self.net.sample_units(forward(drive, before))
        guess, pull = inverse.teach(drive, after)
        miss = guess - before
        if sweep.padded is not None:
            miss.masked_fill_(sweep.padded[some], 0.0)
        squared = _squared(miss)
        if len(miss):
            pull(miss.div_(count))
        return guess if clean is None else clean, squared

    def _back(
        self,
        sweep: Sweep,
        block: slice,
        push: dict[int, Tensor],
        guessed: Tensor,
        later: Tensor | None,
    ) -> Tensor:
        """Targets minus states at the steps of a block, ``[t, M, B, H]``; zero in padding.

        Arguments:
            sweep: the sweep forwards.
            block: the steps.
            push: steps towards the targets that answers set, by time, ``[M, B, H]`` each.
            guessed: G(x_{t+1}, h_{t+1}) for each step t of the block but T.
            later: the result for the step after the block; None where there is no such step.
        """
        padded, inverse = sweep.padded, self._taught[1]
        drive = sweep.drive[block.start + 1 : block.stop + 1].unbind()
        states = sweep.states[block.start + 1 : block.stop + 2].unbind()  # from h_t on
        compared = guessed.unbind() if self.difference else states
        steps = torch.empty_like(sweep.means[block])
        for n, step in reversed(list(enumerate(steps.unbind()))):
            t = block.start + n
            if self.propagate and later is not None:
                inverse(drive[n], states[n + 1] + later, out=step)
                step.sub_(compared[n])
                if padded is not None:  # nothing comes back from a step that is none
                    step.masked_fill_(padded[t + 1], 0.0)
            else:
                step.zero_()
            if t in push:
                step.add_(push[t])
            if padded is not None:
                step.masked_fill_(padded[t], 0.0)
            later = step
        return steps

    def _teach_forward(self, sweep: Sweep, block: slice, steps: Tensor, answers: Tensor) -> Tensor:
        """Fills the gradient of half the squared distance of f to its targets, over ``answers``.

        Returns:
            The gradient by the drive, ``[t, 1, B, H]``.
        """
        known = sweep.drive[block], sweep.states[block], sweep.means[block]
        means, pull = self._taught[0].teach(*known)
        if not self.difference:  # the target itself, with the noise of sampling
            steps = sweep.states[1:][block] + steps - means
            if sweep.padded is not None:
                steps.masked_fill_(sweep.padded[block], 0.0)
        return pull(steps / -answers)


def _squared(values: Tensor) -> Tensor:
    """The sum of squares, in one pass."""
    values = values.flatten()
    return torch.dot(values, values)


def _padded(batch: Batch) -> Tensor | None:
    """True in padding, ``[T, 1, B, 1]``; None where there is none."""
    return None if batch.whole else ~batch.mask.T[:, None, :, None]
