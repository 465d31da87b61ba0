"""Linear layers that read few values.

On a CPU the gradient of such a layer takes up to five times as long as it must: libraries multiply
slowly where the result of a product has few columns. Here that result has few rows instead.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

NARROW = 32  # values read, from which on torch's own gradient is as quick


class Linear(nn.Linear):
    """``torch.nn.Linear`` with the same arguments, weights and results to rounding."""

    def forward(self, input: Tensor) -> Tensor:
        """``[..., I] -> [..., O]``."""
        if self.in_features < min(NARROW, self.out_features) and _plain(input):
            return _Narrow.apply(input, self.weight, self.bias)  # pyright: ignore[reportReturnType]
        return super().forward(input)


def _plain(input: Tensor) -> bool:
    """Whether a gradient of one's own may stand in for that of torch."""
    return (
        input.device.type == "cpu"
        and torch.is_grad_enabled()
        and not torch.is_autocast_enabled("cpu")
        and not torch._C._are_functorch_transforms_active()
    )


class _Narrow(torch.autograd.Function):
    """x W' + b, whose gradient has the columns of x as rows."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        ctx.save_for_backward(x, weight)
        return functional.linear(x, weight, bias)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        (x, weight), (grad,) = ctx.saved_tensors, grads
        by_x, by_weight, by_bias = ctx.needs_input_grad
        rows = grad.reshape(-1, grad.shape[-1])
        flat = x.reshape(-1, x.shape[-1])
        return (
            (weight.t() @ rows.t()).t().reshape(x.shape) if by_x else None,
            (flat.t() @ rows).t().contiguous() if by_weight else None,
            rows.sum(0) if by_bias else None,
        )
