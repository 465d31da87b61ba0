"""Data where a network is: verbs bring sequences to the device of the network's weights."""

from __future__ import annotations

import itertools

import torch
from torch import Tensor, nn

from ..data import Batch, BatchLike, as_batch


def batch_for(net: nn.Module, value: BatchLike) -> Batch:
    """Sequences of any form as a batch on the network's device, where the results will be.

    Arguments:
        net: any network. ``fit`` leaves one on the device where it was trained.
        value: a ``Batch``, or anything that ``data.as_batch`` takes.
    """
    batch, device = as_batch(value), device_of(net)
    return batch if device is None or batch.obs.device == device else batch.to(device)


def device_of(net: nn.Module) -> torch.device | None:
    """The device of a network's first parameter or buffer; None where there is none."""
    if not isinstance(net, nn.Module):
        return None  # a check that follows says so
    first = next(itertools.chain(net.parameters(), net.buffers()), None)
    return None if first is None else first.device


def check_placed(net: nn.Module, obs: Tensor) -> None:
    """Raises a ValueError where ``obs`` are on a device where the network has nothing."""
    devices = [value.device for value in itertools.chain(net.parameters(), net.buffers())]
    if devices and obs.device not in devices:
        raise ValueError(
            f"obs are on {obs.device}, the network's weights on {devices[0]}: use "
            f"obs.to('{devices[0]}') or batch.to('{devices[0]}'), or net.to('{obs.device}')"
        )
