"""What suites share: shapes, averages over draws, sentences and gradients."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.distributions import Distribution

from ...data import Batch
from ..rules.rule import LearningRule

ERRORS = 4.5  # standard errors that an average over draws may be off by


def tensors(name: str, value) -> dict[str, Tensor]:
    """What a verb has returned, as tensors: a law by its mode, a belief by mean and variance."""
    if isinstance(value, Tensor):
        return {name: value}
    if isinstance(value, Distribution):
        with torch.no_grad():
            return {name: value.mode}
    return {f"{name}.{part}": getattr(value, part) for part in ("mean", "variance")}


def shaped(value: Tensor, shape: tuple[int, ...], what: str) -> None:
    """Fails where a tensor has another shape."""
    found = tuple(value.shape)
    assert found == tuple(shape), f"{what} has the shape {found}, not {tuple(shape)}"


def ragged(batch: Batch) -> Batch:
    """The same sequences cut to unequal lengths, one of them to a single step."""
    mask = lengths_mask(*batch.obs.shape[:2])
    return dataclasses.replace(batch, mask=mask.to(batch.obs.device))


def lengths_mask(rows: int, steps: int) -> Tensor:
    """A mask ``[B, T]`` of lengths from 1 to T."""
    lengths = torch.linspace(steps, 1, rows).round()
    return torch.arange(steps) < lengths[:, None]


def same_average(first: Tensor, second: Tensor, what: str) -> None:
    """Fails where draws ``[k, ...]`` of two kinds differ on average."""
    error = (first.var(0) / len(first) + second.var(0) / len(second)).sqrt()
    off, slack = (first.mean(0) - second.mean(0)).abs(), 1e-5 * (1 + first.mean(0).abs())
    assert (off < ERRORS * error + slack).all(), f"{what}: by {off.max():.4g}"


def refuses(call: Callable, pattern: str, what: str) -> None:
    """Fails unless a call raises a ValueError whose message is a sentence and holds a pattern."""
    try:
        call()
    except ValueError as error:
        said = str(error)
        assert re.search(pattern, said), f"{what}: the message has no {pattern!r}: {said}"
        assert len(said.split()) > 3, f"{what}: the message is no sentence: {said}"
    else:
        raise AssertionError(f"{what}: taken without a complaint")


def check_gradients(
    rule: LearningRule, batch: Batch, frames: int, spared: tuple[str, ...] = ()
) -> None:
    """Fails unless a rule fills the gradients of its network and tells its loss and frames."""
    metrics = rule.gradients(batch)
    for name, value in metrics.items():
        assert value.numel() == 1, f"{name} is no scalar"
        assert not value.requires_grad, f"{name} carries a graph: detach it"
    assert metrics["loss"].isfinite(), "the loss is not finite"
    assert metrics["frames"] == frames, f"{rule}: {metrics['frames']:g} frames, not {frames}"
    check_reached(rule.net, spared)


def check_reached(net: nn.Module, spared: tuple[str, ...] = ()) -> None:
    """Fails where a gradient is missing, infinite or zero, or is there though it is spared."""
    for name, parameter in net.named_parameters():
        if name.startswith(spared) or not parameter.requires_grad:
            assert parameter.grad is None, f"{name} should have no gradient"
            continue
        assert parameter.grad is not None, f"no gradient reaches {name}"
        assert parameter.grad.isfinite().all(), f"the gradient of {name} is not finite"
        assert parameter.grad.any(), f"the gradient of {name} is zero: is it used? are units dead?"


def copied(batch: Batch) -> dict[str, Tensor]:
    """Copies of a batch's tensors, by name."""
    parts = {part.name: getattr(batch, part.name) for part in dataclasses.fields(batch)}
    return {name: value.clone() for name, value in parts.items() if value is not None}
