"""Checks that suites share: shapes, averages over samples, errors and gradients."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ...data import Batch
from ..rules.rule import LearningRule

ERRORS = 4.5  # standard errors by which an average over samples may differ


def tensors(name: str, value: Any) -> dict[str, Tensor]:
    """An output as tensors: a distribution's mode, or the mean and variance of a ``Filtered``."""
    if isinstance(value, Tensor):
        return {name: value}
    if isinstance(value, Distribution):
        with torch.no_grad():
            return {name: value.mode}
    return {f"{name}.{part}": getattr(value, part) for part in ("mean", "variance")}


def shaped(value: Tensor, shape: tuple[int, ...], what: str) -> None:
    """Fails where a tensor does not have the shape."""
    found = tuple(value.shape)
    assert found == tuple(shape), f"{what} has the shape {found}, not {tuple(shape)}"


def ragged(batch: Batch) -> Batch:
    """The sequences of a batch cut to unequal lengths, one of them to a single step."""
    mask = lengths_mask(*batch.obs.shape[:2])
    return dataclasses.replace(batch, mask=mask.to(batch.obs.device))


def lengths_mask(rows: int, steps: int) -> Tensor:
    """A mask ``[B, T]`` of lengths from 1 to T."""
    lengths = torch.linspace(steps, 1, rows).round()
    return torch.arange(steps) < lengths[:, None]


def lacking(batch: Batch, whole_frames: bool = False) -> Batch:
    """The sequences without some of their values: a gap of two frames and single values."""
    seen = torch.ones(batch.obs.shape, dtype=torch.bool)
    seen[:, 2:4] = False
    if not whole_frames:
        numbers = torch.arange(seen[:, 4:].numel()).view(seen[:, 4:].shape)
        seen[:, 4:] = numbers % 3 != 0
    return dataclasses.replace(batch, observed=seen.to(batch.obs.device))


def same_average(first: Tensor, second: Tensor, what: str) -> None:
    """Fails where two sets of samples ``[k, ...]`` differ on average."""
    error = (first.var(0) / len(first) + second.var(0) / len(second)).sqrt()
    off, slack = (first.mean(0) - second.mean(0)).abs(), 1e-5 * (1 + first.mean(0).abs())
    assert (off < ERRORS * error + slack).all(), f"{what}: by {off.max():.4g}"


def refuses(call: Callable[[], Any], pattern: str, what: str) -> None:
    """Fails unless a call raises a ValueError whose message is a sentence with the pattern."""
    try:
        call()
    except ValueError as error:
        text = str(error)
        assert re.search(pattern, text), f"{what}: the message has no {pattern!r}: {text}"
        assert len(text.split()) > 3, f"{what}: the message is not a sentence: {text}"
    else:
        raise AssertionError(f"{what}: no ValueError was raised")


def check_gradients(
    rule: LearningRule, batch: Batch, frames: int, untrained: tuple[str, ...] = ()
) -> None:
    """Fails unless a rule sets its network's gradients and reports its loss and frames."""
    metrics = rule.gradients(batch)
    for name, value in metrics.items():
        assert value.numel() == 1, f"{name} is not a scalar"
        assert not value.requires_grad, f"{name} carries a graph: detach it"
    assert metrics["loss"].isfinite(), "the loss is not finite"
    assert metrics["frames"] == frames, f"{rule} reports {metrics['frames']:g} frames, not {frames}"
    check_reached(rule.net, untrained)


def check_reached(net: nn.Module, untrained: tuple[str, ...] = ()) -> None:
    """Fails where a gradient is missing, infinite or zero, or where an untrained one exists."""
    for name, parameter in net.named_parameters():
        if name.startswith(untrained) or not parameter.requires_grad:
            assert parameter.grad is None, f"{name} should have no gradient"
            continue
        assert parameter.grad is not None, f"no gradient reaches {name}"
        assert parameter.grad.isfinite().all(), f"the gradient of {name} is not finite"
        assert parameter.grad.any(), f"the gradient of {name} is zero: is it used? are units dead?"


def copied(batch: Batch) -> dict[str, Tensor]:
    """Copies of a batch's tensors, by name."""
    parts = {part.name: getattr(batch, part.name) for part in dataclasses.fields(batch)}
    return {name: value.clone() for name, value in parts.items() if value is not None}
