"""Checks of numbers and of data that rules, bounds, predictions and diagnostics share."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

from torch import Tensor, nn

from ..data import Batch
from ..data.checks import check_layers, check_number, check_real, check_seed, check_sizes
from .inputs import inputs_of
from .placing import check_placed

__all__ = [
    "check_frames",
    "check_layers",
    "check_missing",
    "check_number",
    "check_real",
    "check_samples",
    "check_seed",
    "check_sizes",
    "portions",
]


def check_missing(net: nn.Module, batch: Batch) -> None:
    """Raises a ValueError for missing values that a network does not leave out, or lacking inputs.

    Arguments:
        net: a network of a kind in ``inference.contracts``.
        batch: what it is given.
    """
    if batch.observed is not None and not getattr(net, "takes_missing", False):
        if getattr(net, "sees_missing", None) is False:
            how = "build it with sees_missing=True, so that it reads which values were seen"
        else:
            how = (
                "leave `observed` out of its log-density and set takes_missing = True in its class"
            )
        raise ValueError(
            f"{type(net).__name__} takes no missing values, and this batch has some: fill them in "
            f"first (see inference.impute), or {how}"
        )
    inputs_of(net, batch)


def check_frames(net: nn.Module, batch: Batch, portion: int = 1000) -> None:
    """Raises a ValueError where real frames of a batch are not what a network takes.

    They are checked on the CPU, if the batch came from there, so that no one waits for a GPU.

    Arguments:
        net: a network with ``check``.
        batch: what it is given.
        portion: steps at a time; a check makes copies of them, and not of the whole batch.
    """
    check_placed(net, batch.obs)
    check = cast("Callable[[Tensor], None]", net.check)
    for start in range(0, batch.obs.shape[1], portion):
        part = batch.host.window(start, start + portion)
        if part.mask.any():
            check(part.obs if part.whole else part.obs[part.mask])


def check_samples(num_samples: int, at_once: int = 1, seed: int = 0) -> None:
    """Raises a ValueError for less than one sample in all or at a time, or a seed that is none.

    Arguments:
        num_samples: the number of samples.
        at_once: the number held in memory at a time.
        seed: the seed of their random stream.
    """
    check_sizes(num_samples=num_samples, at_once=at_once)
    check_seed(seed)


def portions(num_samples: int, at_once: int) -> list[int]:
    """Splits a number of samples into portions of at most ``at_once``."""
    return [min(at_once, num_samples - start) for start in range(0, num_samples, at_once)]
