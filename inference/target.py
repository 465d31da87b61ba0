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
        obs, mask = batch.obs.transpose(0, 1), batch.mask.T[:, None, :, None]  # [T, 1, B, 1]
        with torch.no_grad():
            drive = net.drive(obs)[:, None]
            states = unroll(net, in_paths(net, drive[:, 0], self.samples))
        top = answering(net, states[1:], batch).detach().requires_grad_()
        error, answers = loss_of(net, top, batch)
        (error / answers).backward()
        push = -self.alpha_i * answers * top.grad
        inverse = self._teach_inverse(drive, states, mask)
        with torch.no_grad():
            steps = self._differences(drive, states, push, batch)
        means = net.mean(net.drive(obs)[:, None], states[:-1])
        if not self.difference:  # the target itself, noise of sampling and all
            steps = torch.where(mask, states[1:] + steps - means.detach(), 0.0)
        means.backward(-steps / answers)
        scale = mask.sum() * states.shape[1] * states.shape[-1]
        return {
            "loss": error.detach() / answers,
            "frames": answers.to(batch.obs.dtype),
            "inverse": 2 * inverse.detach() / states.shape[-1],
            "distance": steps.square().sum() / scale,
        }

    def _teach_inverse(self, drive: Tensor, states: Tensor, mask: Tensor) -> Tensor:
        """Half the squared error of G, a mean over paths and steps; fills its gradient.

        h_0 is no state that a target is ever sent to, so G is not taught to find it.
        """
        net, before, after, drive = self.net, states[1:-1], states[2:], drive[1:]
        if len(before) == 0:
            return states.new_zeros(())
        if self.noise:
            with torch.no_grad():
                before = before + self.noise * torch.randn_like(before)
                after = net.draw(net.mean(drive, before))
        missed = (net.invert(drive, after) - before).masked_fill(~mask[1:], 0.0)
        loss = missed.square().sum() / (2 * mask[1:].sum().clamp_min(1) * states.shape[1])
        loss.backward()
        return loss

    def _differences(self, drive: Tensor, states: Tensor, push: Tensor, batch: Batch) -> Tensor:
        """Targets minus states at steps 1 to T, ``[T, M, B, H]``; zero in padding."""
        net, after = self.net, states[2:]
        plain = net.invert(drive[1:], after) if self.difference else states[1:-1]
        last = batch.mask.sum(1)[:, None] - 1
        step, found = torch.zeros_like(states[0]), []
        for t in range(len(drive) - 1, -1, -1):
            if t < len(drive) - 1:
                step = net.invert(drive[t + 1], after[t] + step) - plain[t]
            if net.every_step:
                step = (step + push[t]).masked_fill(~batch.mask[:, t, None], 0.0)
            else:
                step = torch.where(last == t, push, step).masked_fill(last < t, 0.0)
            found.append(step)
        return torch.stack(found[::-1])
