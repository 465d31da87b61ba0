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

from typing import NamedTuple

import torch
from torch import Tensor

from ...data import Batch
from ..checks import check_missing, check_real, check_samples
from ..contracts import AnswerModel
from ..unrolling import answering, in_paths, loss_of, unroll
from .rule import LearningRule, Metrics

BLOCK = 1 << 18  # numbers of a folded batch at a time


class Sweep(NamedTuple):
    """The result of the sweep forwards, for the sweep back.

    Arguments:
        drive: input to the units from each frame, ``[T, 1, B, H]``.
        states: h_0 .. h_T of all paths, ``[T + 1, M, B, H]``.
        push: steps towards the targets that answers set, by time, ``[M, B, H]`` each.
        padded: True in padding, ``[T, 1, B, 1]``; None where there is none.
    """

    drive: Tensor
    states: Tensor
    push: dict[int, Tensor]
    padded: Tensor | None


class TargetPropagation(LearningRule):
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

    Raises:
        ValueError: for a number out of range, or a network without an inverse.
    """

    trains = AnswerModel
    net: AnswerModel

    def __init__(
        self,
        net: AnswerModel,
        *,
        alpha_i: float = 0.1,
        noise: float = 0.0,
        num_samples: int = 20,
        difference: bool = True,
        propagate: bool = True,
    ) -> None:
        super().__init__(net)
        if type(net).invert is AnswerModel.invert:
            self.refuse(net, "networks with an inverse to send targets back by", "has no invert")
        check_real("alpha_i", alpha_i, above=0)
        check_real("noise", noise, least=0)
        check_samples(num_samples)
        self.alpha_i, self.noise = alpha_i, noise
        self.num_samples, self.difference, self.propagate = num_samples, difference, propagate

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
        heard = drive.detach().requires_grad_()
        states, top = self._run(heard, batch)
        error, answers = loss_of(net, top, batch)
        (error / answers).backward()
        assert top.grad is not None  # the error has just been sent back
        push = self._push(-self.alpha_i * answers * top.grad, batch)
        sweep = Sweep(heard, states, push, _padded(batch))
        missed, distance = torch.zeros(2, device=states.device)
        real = batch.mask.sum() * states.shape[1]  # steps of all paths
        inverted = (batch.mask[:, 1:].sum() * states.shape[1]).clamp_min(1)
        later = None  # targets minus states of the step after the block
        for block in reversed(_blocks(states[1:])):
            guessed, miss = self._teach_inverse(sweep, block, inverted)
            steps = self._differences(sweep, block, guessed, later)
            self._teach_forward(sweep, block, steps, answers)
            missed, distance, later = missed + miss, distance + _squared(steps), steps[0]
        drive.backward(heard.grad)
        units = states.shape[-1]
        return {
            "loss": error.detach() / answers,
            "frames": answers.to(batch.obs.dtype),
            "inverse": missed / (inverted * units),
            "distance": distance / (real * units),
        }

    def targets(self, batch: Batch) -> Tensor:
        """Targets minus states on a batch, ``[M, B, T, H]``; leaves ``.grad`` alone."""
        net = self.net
        check_missing(net, batch)
        batch = net.prepare(batch)
        with torch.no_grad():
            drive = net.drive(batch.obs.transpose(0, 1))[:, None]
        states, top = self._run(drive, batch)
        (slope,) = torch.autograd.grad(loss_of(net, top, batch)[0], top)
        sweep = Sweep(drive, states, self._push(-self.alpha_i * slope, batch), _padded(batch))
        with torch.no_grad():
            guessed = net.invert(drive[1:], states[2:])
        return self._differences(sweep, slice(0, len(drive)), guessed, None).movedim(0, -2)

    @torch.no_grad()
    def _run(self, drive: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """h_0 .. h_T of all paths, ``[T + 1, M, B, H]``, and those that are answered from."""
        states = unroll(self.net, in_paths(self.net, drive[:, 0], self.num_samples))
        return states, answering(self.net, states[1:], batch).clone().requires_grad_()

    def _push(self, push: Tensor, batch: Batch) -> dict[int, Tensor]:
        """Steps towards the targets that the answers set, by time; ``[M, B, H]`` each."""
        if self.net.at_every_step(batch):
            return dict(enumerate(push))
        last, ends = batch.mask.sum(1) - 1, (batch.host.mask.sum(1) - 1).unique().tolist()
        return {t: push.masked_fill((last != t)[:, None], 0.0) for t in ends}

    def _teach_inverse(self, sweep: Sweep, block: slice, count: Tensor) -> tuple[Tensor, Tensor]:
        """Fills the gradient of half the squared error of G, over ``count``.

        Returns:
            G(x_{t+1}, h_{t+1}) for each step t of the block but T, and the squared error.
        """
        net, (drive, states, _, padded) = self.net, sweep
        some = slice(block.start + 1, min(block.stop, len(drive) - 1) + 1)
        heard, before, after = drive[some].detach(), states[some], states[1:][some]
        clean = None
        if self.noise:
            with torch.no_grad():
                clean = net.invert(heard, after)
                before = before + self.noise * torch.randn_like(before)
                after = net.sample_units(net.mean(heard, before))
        guess = net.invert(heard, after)
        miss = guess.detach() - before
        if padded is not None:
            miss = miss.masked_fill(padded[some], 0.0)
        squared = _squared(miss)
        if len(miss):
            guess.backward(miss.div_(count))
        return guess.detach() if clean is None else clean, squared

    @torch.no_grad()
    def _differences(
        self, sweep: Sweep, block: slice, guessed: Tensor, later: Tensor | None
    ) -> Tensor:
        """Targets minus states at the steps of a block, ``[t, M, B, H]``; zero in padding.

        Arguments:
            guessed: G(x_{t+1}, h_{t+1}) for each step t of the block but T.
            later: the result for the step after the block; None where there is no such step.
        """
        drive, states, push, padded = sweep
        compared = guessed if self.difference else states[1:][block]
        steps = torch.zeros_like(states[1:][block])
        for t in range(block.stop - 1, block.start - 1, -1):
            step = steps[t - block.start]
            if self.propagate and later is not None:
                target = self.net.invert(drive[t + 1], states[t + 2] + later)
                torch.sub(target, compared[t - block.start], out=step)
                if padded is not None:  # nothing comes back from a step that is none
                    step.masked_fill_(padded[t + 1], 0.0)
            if t in push:
                step += push[t]
            if padded is not None:
                step.masked_fill_(padded[t], 0.0)
            later = step
        return steps

    def _teach_forward(self, sweep: Sweep, block: slice, steps: Tensor, answers: Tensor) -> None:
        """Fills the gradient of half the squared distance of f to its targets, over ``answers``."""
        drive, states, _, padded = sweep
        means = self.net.mean(drive[block], states[block])
        if not self.difference:  # the target itself, with the noise of sampling
            steps = states[1:][block] + steps - means.detach()
            steps = steps if padded is None else steps.masked_fill(padded[block], 0.0)
        means.backward(steps / -answers)


def _squared(values: Tensor) -> Tensor:
    """The sum of squares, in one pass."""
    return torch.dot(values.flatten(), values.flatten())


def _padded(batch: Batch) -> Tensor | None:
    """True in padding, ``[T, 1, B, 1]``; None where there is none."""
    return None if batch.whole else ~batch.mask.T[:, None, :, None]


def _blocks(rows: Tensor) -> list[slice]:
    """The folded batch ``[T, M, B, H]`` in runs of steps that stay in a processor's cache.

    A block's gradients add up to the whole's; a GPU takes the whole at once.
    """
    size = len(rows) if rows.is_cuda else max(1, BLOCK // max(1, rows[0].numel()))
    starts = range(0, len(rows), size)
    return [slice(start, min(start + size, len(rows))) for start in starts]
