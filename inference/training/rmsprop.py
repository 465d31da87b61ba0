"""Rmsprop with Nesterov's accelerated gradient."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor


class RMSpropNesterov(torch.optim.Optimizer):
    """Steps along the gradient at the point that momentum is about to lead to.

    With parameters θ, velocity v, mean square r, gradient function g, rate α, decay γ, momentum
    μ and floor ε, one step of the textbook is

        y = θ + μ v                      look ahead
        r ← γ r + (1 - γ) g(y)²
        s = α g(y) / sqrt(r + ε)
        v ← μ v - s
        θ ← θ + v

    The parameters that a network holds are y, not θ, so that the gradient that lies in ``.grad``
    is g(y). In terms of y a step is v ← μ v - s, then y ← y + μ v - s. ``torch.optim.RMSprop``
    has no Nesterov momentum, and puts ε outside the root.

    Sources: Tieleman & Hinton, Coursera lecture 6.5 (2012); Sutskever, "Training recurrent neural
    networks" (2013), section 7.2; Bayer & Osendorfer, "Learning stochastic recurrent networks"
    (2014), appendix.

    Arguments:
        params: parameters or groups of them.
        lr: step rate α.
        decay: γ, of the mean square.
        momentum: μ; 0 is plain rmsprop.
        epsilon: ε, added to the mean square.
        start: mean square before the first step. At 0 the first steps are ``1 / sqrt(1 - decay)``
            times as long as ``lr``; 1, as in the authors' own optimizer (climin), starts gently
            where gradients are small.

    Raises:
        ValueError: for arguments out of range.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict],
        lr: float = 1e-3,
        decay: float = 0.9,
        momentum: float = 0.9,
        epsilon: float = 1e-8,
        start: float = 0.0,
    ) -> None:
        if lr < 0:
            raise ValueError(f"lr cannot be negative, got {lr}")
        for name, value in {"decay": decay, "momentum": momentum}.items():
            if not 0 <= value < 1:
                raise ValueError(f"{name} must be in [0, 1), got {value}")
        if epsilon <= 0:
            raise ValueError(f"epsilon must be positive, got {epsilon}")
        if start < 0:
            raise ValueError(f"start is a mean square: it cannot be negative, got {start}")
        defaults = {"lr": lr, "decay": decay, "momentum": momentum}
        super().__init__(params, defaults | {"epsilon": epsilon, "start": start})

    @torch.no_grad()
    def step(self, closure: Callable[[], Tensor] | None = None) -> Tensor | None:
        """One step of every parameter that has a gradient.

        Arguments:
            closure: computes the loss and the gradients anew.

        Returns:
            The loss, where there is a closure.
        """
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            decay, momentum = group["decay"], group["momentum"]
            for parameter in group["params"]:
                if (gradient := parameter.grad) is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["square"] = torch.full_like(parameter, group["start"])
                    state["velocity"] = torch.zeros_like(parameter)
                square, velocity = state["square"], state["velocity"]
                square.mul_(decay).addcmul_(gradient, gradient, value=1 - decay)
                root = square.add(group["epsilon"]).sqrt_()
                velocity.mul_(momentum).addcdiv_(gradient, root, value=-group["lr"])
                parameter.add_(velocity, alpha=momentum)
                parameter.addcdiv_(gradient, root, value=-group["lr"])
        return loss
