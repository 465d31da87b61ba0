"""Limits of what a net puts out.

An exponential of an unbounded output overflows, and a recursion of one may run away. Clamped
between limits, an output has no gradient outside of them: learning stops there without a word.

A soft limit leaves all values up to it as they are. Above it they grow on as a logarithm, with
slope 1 at the limit, so that their exponential grows as a straight line. A value that is held stays
within its limits, and keeps the part of its gradient that leads back to them.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

from ...inference.tape import nowhere


def none_above(value: Tensor, limit: float) -> bool:
    """Whether no value is above a limit; False on a GPU, which would have to wait for the answer.

    The formula for larger values costs time, and then changes nothing.
    """
    return not value.numel() or nowhere(~(value.amax() <= limit))  # NaN is not below it


def soft_limit(value: Tensor, limit: float) -> Tensor:
    """The value up to ``limit``, and limit + log(1 + value - limit) above it."""
    return torch.where(value > limit, limit + torch.log1p((value - limit).clamp_min(0)), value)


def soft_limits(value: Tensor, low: float, high: float) -> Tensor:
    """``soft_limit`` above ``high`` and, mirrored, below ``low``."""
    return -soft_limit(-soft_limit(value, high), -low)


def undo_soft_limit(value: Tensor, limit: float) -> Tensor:
    """The inverse of ``soft_limit``."""
    return torch.where(value > limit, limit + torch.expm1((value - limit).clamp_min(0)), value)


def undo_soft_limits(value: Tensor, low: float, high: float) -> Tensor:
    """The inverse of ``soft_limits``."""
    return -undo_soft_limit(-undo_soft_limit(value, high), -low)


def exp_soft_limit(value: Tensor, limit: float) -> Tensor:
    """exp of ``soft_limit``: exp(value) up to ``limit``, exp(limit) (1 + value - limit) above."""
    above = math.exp(limit) * (1 + value - limit)
    return torch.where(value > limit, above, value.clamp_max(limit).exp())


def held(value: Tensor, low: float, high: float) -> Tensor:
    """The value clamped between ``low`` and ``high``, whose descent may return from outside."""
    return _Held.apply(value, low, high)  # pyright: ignore[reportReturnType]  # torch's stub


class _Held(torch.autograd.Function):
    """A clamp whose gradient is zero outside of the limits only where descent leads away."""

    generate_vmap_rule = True

    @staticmethod
    def forward(value: Tensor, low: float, high: float) -> Tensor:
        return value.clamp(low, high)

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple[Tensor, float, float], output: Tensor) -> None:
        value, ctx.low, ctx.high = inputs
        ctx.save_for_backward(value)

    @staticmethod
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None, None]:
        (value,), (grad,) = ctx.saved_tensors, grads
        away = ((value > ctx.high) & (grad < 0)) | ((value < ctx.low) & (grad > 0))
        return grad.masked_fill(away, 0.0), None, None
