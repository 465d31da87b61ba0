"""Target propagation through time: every step has a target of its own, and no gradient crosses it.

    top:      d_T = -alpha dE/dh_T                                               (equation 3)
    back:     d_t = G(x_{t+1}, h_{t+1} + d_{t+1}) - G(x_{t+1}, h_{t+1})          (equation 4)
    inverse:  minimise |G(x_t, h_t) - h_{t-1}|^2 over the parameters of G
    forward:  minimise |f(x_t, h_{t-1}) - (f(x_t, h_{t-1}) + d_t)|^2 over those of f, d_t held fixed

The targets are h_t + d_t. Their difference from h_t is what is sent back, so that neither what G
gets wrong nor the noise of sampled units passes for an error of f (Lee et al.); with
``difference=False`` they are G(x_{t+1}, target_{t+1}), as equation 4 has it. The sweeps forward and
back run without a graph; the local losses of all steps and samples are one folded batch.

Sources: Manchev & Spratling, "Target propagation in recurrent neural networks" (2020) and "Learning
multi-modal recurrent neural networks with target propagation" (2024), "paper 003"; Lee et al.,
"Difference target propagation" (2015).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..data import Batch
from .outputs import answering, check_samples, in_paths, loss_of, unroll
from .rule import LearningRule, Metrics

BLOCK = 1 << 17  # numbers of a folded batch at a time


class TargetPropagation(LearningRule):
    """TPTT; with stochastic units STPTT. Local in time: no gradient reaches a step from another.

    Learning rates of f, of G and of the outputs are parameter groups of ``fit``, such as
    ``lr={"": 0.1, "back.": 1e-3, "readout.": 0.1}``.

    Arguments:
        net: a network of units that offers ``invert``, see ``outputs.Answers``.
        alpha_i: size of the step from h_T to its target, along the gradient of its own loss.
        noise: sd of the noise on h_{t-1} when G is taught to give it back.
        samples: paths ``M`` of the stochastic units; a network without any has one.
        difference: correct the targets by the difference, see above.

    Raises:
        ValueError: for a number out of range, or a network without an inverse.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        alpha_i: float = 0.1,
        noise: float = 0.0,
        samples: int = 20,
        difference: bool = True,
    ):
        super().__init__(net)
        if not hasattr(net, "invert"):
            raise ValueError(f"{type(net).__name__} has no inverse to send targets back by")
        if alpha_i <= 0 or noise < 0:
            raise ValueError(f"alpha_i > 0 and noise >= 0: got {alpha_i}, {noise}")
        check_samples(samples)
        self.alpha_i, self.noise = alpha_i, noise
        self.samples, self.difference = samples, difference

    def gradients(self, batch: Batch) -> Metrics:
        """Sets ``.grad``: of the output parameters by E, of all others by the local losses.

        Returns:
            ``loss``, E in nats per answer; ``frames``, the answers; ``inverse``, the mean squared
            error of G; ``distance``, that between a state and its target, both per unit.
        """
        net = self.net
        batch = net.read(batch)
        net.zero_grad(set_to_none=True)
        drive = net.drive(batch.obs.transpose(0, 1))[:, None]  # [T, 1, B, H]
        heard, padded = drive.detach(), _padded(batch)
        states, top = self._run(heard, batch)
        error, answers = loss_of(net, top, batch)
        (error / answers).backward()
        guessed, missed = self._teach_inverse(heard, states, padded)
        with torch.no_grad():
            push = self._push(-self.alpha_i * answers * top.grad, batch)
            steps = self._differences(heard, states, guessed, push, padded)
        self._teach_forward(drive, states, steps, answers, padded)
        size = batch.mask.sum() * states[0, :, 0].numel()  # units of all paths and real steps
        return {
            "loss": error.detach() / answers,
            "frames": answers.to(batch.obs.dtype),
            "inverse": missed / size,
            "distance": steps.square().sum() / size,
        }

    def targets(self, batch: Batch) -> Tensor:
        """Targets minus states on a batch, ``[M, B, T, H]``; leaves ``.grad`` alone."""
        net = self.net
        batch = net.read(batch)
        with torch.no_grad():
            drive = net.drive(batch.obs.transpose(0, 1))[:, None]
        states, top = self._run(drive, batch)
        (slope,) = torch.autograd.grad(loss_of(net, top, batch)[0], top)
        with torch.no_grad():
            guessed = net.invert(drive[1:], states[2:])
            push = self._push(-self.alpha_i * slope, batch)
            return self._differences(drive, states, guessed, push, _padded(batch)).movedim(0, -2)

    @torch.no_grad()
    def _run(self, drive: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
        """h_0 .. h_T of all paths, ``[T + 1, M, B, H]``, and those that are answered from."""
        states = unroll(self.net, in_paths(self.net, drive[:, 0], self.samples))
        return states, answering(self.net, states[1:], batch).clone().requires_grad_()

    def _teach_inverse(
        self, drive: Tensor, states: Tensor, padded: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        """Fills the gradient of half the squared error of G, a mean over paths and real steps.

        h_0 is no state that a target is ever sent to, so G is not taught to find it.

        Returns:
            G(x_t, h_t) at steps 2 to T, ``[T - 1, M, B, H]``, and the sum of squared errors.
        """
        net, drive, before, after = self.net, drive[1:], states[1:-1], states[2:]
        guessed, total = torch.empty_like(before), states.new_zeros(())
        share = 1 / (before[..., 0].numel() if padded is None else (~padded[1:]).sum() * 1.0)
        for some in _blocks(before):
            target, given = before[some], after[some]
            if self.noise:
                with torch.no_grad():
                    guessed[some] = net.invert(drive[some], given)
                    target = target + self.noise * torch.randn_like(target)
                    given = net.draw(net.mean(drive[some], target))
            guess = net.invert(drive[some], given)
            miss = guess.detach() - target
            if padded is not None:
                miss = miss.masked_fill(padded[1:][some], 0.0)
            guess.backward(miss * share)
            total += miss.square().sum()
            if not self.noise:
                guessed[some] = guess.detach()
        return guessed, total

    def _push(self, push: Tensor, batch: Batch) -> dict[int, Tensor]:
        """Steps towards the targets that the answers set, by time; ``[M, B, H]`` each."""
        last = batch.mask.sum(1) - 1
        if self.net.at_every_step(batch):
            return dict(enumerate(push))
        return {int(t): push.masked_fill((last != t)[:, None], 0.0) for t in last.unique()}

    def _differences(
        self,
        drive: Tensor,
        states: Tensor,
        guessed: Tensor,
        push: dict[int, Tensor],
        padded: Tensor | None,
    ) -> Tensor:
        """Targets minus states at steps 1 to T, ``[T, M, B, H]``; zero in padding."""
        after, compared = states[1:], guessed if self.difference else states[1:-1]
        steps = torch.zeros_like(after)
        for t in range(len(drive) - 1, -1, -1):
            if t < len(drive) - 1:
                target = self.net.invert(drive[t + 1], after[t + 1] + steps[t + 1])
                torch.sub(target, compared[t], out=steps[t])
            if t in push:
                steps[t] += push[t]
            if padded is not None:
                steps[t].masked_fill_(padded[t], 0.0)
        return steps

    def _teach_forward(
        self,
        drive: Tensor,
        states: Tensor,
        steps: Tensor,
        answers: Tensor,
        padded: Tensor | None,
    ) -> None:
        """Fills the gradient of half the squared distance of f to the targets."""
        heard = drive.detach().requires_grad_()
        for some in _blocks(steps):
            means = self.net.mean(heard[some], states[:-1][some])
            towards = steps[some]
            if not self.difference:  # the target itself, with the noise of sampling
                towards = states[1:][some] + towards - means.detach()
                towards = towards if padded is None else towards.masked_fill(padded[some], 0.0)
            means.backward(towards / -answers)
        drive.backward(heard.grad)


def _padded(batch: Batch) -> Tensor | None:
    """True in padding, ``[T, 1, B, 1]``; None where there is none."""
    return None if batch.mask.all() else ~batch.mask.T[:, None, :, None]


def _blocks(rows: Tensor) -> list[slice]:
    """The folded batch ``[T, M, B, H]`` in runs of steps that stay in a processor's cache.

    A block's gradients add up to the whole's; a GPU takes the whole at once.
    """
    size = len(rows) if rows.is_cuda else max(1, BLOCK // max(1, rows[0].numel()))
    return [slice(start, start + size) for start in range(0, len(rows), max(1, size))]
