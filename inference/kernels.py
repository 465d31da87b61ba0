"""Loops over time that numba compiles, for tensors on the CPU.

Python and torch spend far longer on a step of a small network than its arithmetic takes. A part
with a kernel runs all steps in one call (see ``Recurrent.scan``). A kernel is compiled at its first
call and kept on disk. Without numba, and on other devices, the loop over steps in torch runs.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from importlib import import_module
from types import ModuleType

import torch
from torch import Tensor, nn

from .tape import recording


@cache
def load(name: str) -> ModuleType | None:
    """A module of kernels by its full name; None where numba is not installed."""
    try:
        return import_module(name)  # numba takes half a second to import
    except ImportError:
        return None


def compiled(function: Callable[..., None]) -> Callable[..., None]:
    """The function compiled, and kept on disk where numba finds a folder that it may write to."""
    from numba import njit

    options = {"error_model": "numpy", "fastmath": {"contract"}, "nogil": True}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # an installation that cannot be written to, and a home that cannot either
        return njit(**options)(function)


def scan(
    loop: Callable[..., None],
    features: Tensor,
    past: Tensor,
    passes: Tensor,
    *others: Tensor | float,
) -> Tensor:
    """Statistics of whole sequences by a kernel, ``[B, T + 1, U]``; see ``Recurrent.scan``.

    Arguments:
        loop: the kernel; it is given the statistics, of which it writes all but the first, then
            ``features``, ``passes`` and ``others``.
        features, past, passes: see ``Recurrent.scan``.
        others: weights, then numbers.
    """
    found = past.new_empty(len(past), features.shape[1] + 1, past.shape[1])
    found[:, 0] = past
    tensors = (part for part in (found, features, passes, *others) if isinstance(part, Tensor))
    numbers = (part for part in others if not isinstance(part, Tensor))
    loop(*(part.detach().contiguous().numpy() for part in tensors), *numbers)
    return found


def suits(first: Tensor, *others: Tensor) -> bool:
    """Whether a kernel may take these tensors: on the CPU, of one precision, without a graph."""
    tensors = first, *others
    graph = torch.is_grad_enabled() and any(each.requires_grad for each in tensors)
    return not graph and readable(*tensors)


def readable(first: Tensor, *others: Tensor) -> bool:
    """Whether a kernel that has a gradient of its own may take these tensors."""
    tensors = first, *others
    follows = recording() or torch.compiler.is_compiling()  # the operations of torch alone
    return (
        not (follows or torch._C._are_functorch_transforms_active())
        and not torch.is_autocast_enabled("cpu")
        and first.dtype in (torch.float32, torch.float64)
        and all(type(each) in (Tensor, nn.Parameter) for each in tensors)
        and all(each.device.type == "cpu" and each.dtype == first.dtype for each in tensors)
    )


def overrides(part: object, base: type, *methods: str) -> bool:
    """Whether a part has other methods than its base class, whose kernel would not know them."""
    return any(
        method in vars(part) or getattr(type(part), method) is not getattr(base, method)
        for method in methods
    )
