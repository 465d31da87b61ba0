"""A bound on the memory of a network while it is built from a card."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

LEAST = 1 << 24  # values that a network may always take, 64 MB of float32
FACTOR = 8  # further values for each byte of the file of its weights
STEP = 256  # values that each operation counts for at least, so that their number is bounded, too


class Budget(TorchDispatchMode):
    """Refuses operations that make more values than the weights of a network can need.

    Each operation runs on the meta device first, where tensors have sizes and no memory.

    Arguments:
        saved: number of bytes of the weights that the network is to hold.

    Raises:
        ValueError: in the block, before the memory is taken.
    """

    def __init__(self, saved: int) -> None:
        super().__init__()
        self.left = LEAST + FACTOR * saved

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: dict[str, Any] | None = None,
    ) -> Any:
        """Runs one operation of torch where it fits."""
        kwargs = kwargs or {}
        try:
            like = tree_map(_without_memory, kwargs)
            if any(each.name == "device" for each in func._schema.arguments):
                like["device"] = torch.device("meta")
            made = tree_leaves(func(*tree_map(_without_memory, args), **like))
        except Exception:  # an operation that needs values: it gives numbers, or fails by itself
            made = []
        self.left -= max(STEP, sum(each.numel() for each in made if isinstance(each, Tensor)))
        if self.left < 0:
            raise ValueError("it is far larger than its weights: a size on the card is wrong")
        return func(*args, **kwargs)


def _without_memory(value: Any) -> Any:
    return torch.empty_like(value, device="meta") if isinstance(value, Tensor) else value
