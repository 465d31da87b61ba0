"""A second device made of CPU tensors, for tests of code that must run where its data are.

Its tensors report the device ``meta``, hold values all the same, and refuse to be mixed with a CPU
tensor of one dimension or more, as those of a GPU do:

    with second_device():
        net.to("meta")
        net(obs.to("meta"))

Random numbers are the CPU's, so results can be compared with those of the CPU number by number.
Not caught: indices on the CPU, which a GPU takes in most places.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch
from seqzoo.inference.training import loop
from torch.optim import optimizer
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_map

THERE = "meta"


class There(torch.Tensor):
    """A tensor on the second device, which holds one of the CPU."""

    @staticmethod
    def __new__(cls, held):
        return torch.Tensor._make_wrapper_subclass(
            cls,
            held.shape,
            strides=held.stride(),
            storage_offset=held.storage_offset(),
            dtype=held.dtype,
            layout=held.layout,
            device=THERE,
            requires_grad=False,
            dispatch_sizes_strides_policy="sizes",
        )

    def __init__(self, held):
        self.held = held

    def __repr__(self):
        return f"There({self.held!r})"

    def __format__(self, spec):
        return format(self.held, spec)

    def tolist(self):
        return self.held.tolist()

    def new_tensor(self, data, dtype=None):
        return torch.tensor(data, dtype=dtype or self.dtype).to(THERE)

    def __getitem__(self, index):
        return super().__getitem__(_indices(index))

    def __setitem__(self, index, value):
        super().__setitem__(_indices(index), value)

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


def _indices(index):
    """torch makes tensors of lists without dispatching: as tensors they keep their values."""
    if isinstance(index, tuple):
        return tuple(_indices(each) for each in index)
    return torch.tensor(index) if isinstance(index, list | np.ndarray) else index


def _run(function, args, kwargs):
    """One operation, on the held tensors."""
    name, flat = function.__name__, tree_flatten((args, kwargs))[0]
    if any(type(each) is not There and torch.is_tensor(each) and each.is_meta for each in flat):
        raise RuntimeError(f"the stand-in made a tensor without values: {function}")
    there = any(isinstance(each, There) for each in flat)
    here = any(type(each) is not There and torch.is_tensor(each) and each.dim() for each in flat)
    copies = name.startswith(("_to_copy", "copy_"))
    if there and here and not copies and "index" not in name:
        raise RuntimeError(f"Expected all tensors to be on the same device: {function}")
    if there and name.startswith(("index_put", "index.")) and not isinstance(args[0], There):
        raise RuntimeError(f"indices should be on the CPU or on the indexed tensor's: {function}")
    device = kwargs.get("device")
    asked = None if device is None else torch.device(device).type
    held, options = tree_map(_held, args), tree_map(_held, kwargs)
    if asked == THERE:
        options["device"] = torch.device("cpu")
    out = function(*held, **options)
    in_place = (copies and name.startswith("copy_")) or name.endswith("_.default") or "_." in name
    if in_place and out is not None and torch.is_tensor(args[0]):
        return args[0]
    if "out" in kwargs:
        return kwargs["out"]
    return tree_map(_there, out) if (asked == THERE if asked else there) else out


def _held(value):
    return value.held if isinstance(value, There) else value


def _there(value):
    return There(value) if torch.is_tensor(value) and not isinstance(value, There) else value


@contextmanager
def second_device() -> Iterator[str]:
    """Within it ``"meta"`` is a second device; gives this name."""
    tensor, as_tensor = torch.tensor, torch.as_tensor

    def made(make, data, device, kwargs):
        """torch makes tensors of data without dispatching: they go there in a second step."""
        if device is not None and torch.device(device).type == THERE:
            return (data if isinstance(data, There) else make(data, **kwargs)).to(THERE)
        return make(data, device=device, **kwargs)

    with (
        mock.patch.object(torch, "tensor", lambda d, device=None, **k: made(tensor, d, device, k)),
        mock.patch.object(
            torch, "as_tensor", lambda d, device=None, **k: made(as_tensor, d, device, k)
        ),
        mock.patch.object(loop, "check_device"),
        mock.patch.object(
            optimizer, "_get_fused_kernels_supported_devices", return_value=["cpu", THERE]
        ),
        _Mode(),
    ):
        yield THERE
