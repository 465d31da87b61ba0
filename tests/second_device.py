"""A second device for tests of code that must run where its data are: a stand-in, or a GPU.

    with second_device("stand-in") as there:  # or "cuda"
        net.to(there)
        net(obs.to(there))

The tensors of the stand-in report the device ``meta``, hold values on the CPU all the same, and
refuse to be mixed with a CPU tensor of one dimension or more, as those of a GPU do. Not caught:
indices on the CPU, which a GPU takes in most places.

On either device random numbers are drawn on the CPU, so that results can be compared with those of
the CPU number by number. A recording (a CUDA graph) could not draw them: nothing is recorded.
"""

import contextlib
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import numpy as np
import torch
from seqzoo.inference import capture
from seqzoo.inference.training import loop
from torch.optim import optimizer
from torch.utils._python_dispatch import TorchDispatchMode

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

    def data_ptr(self):
        return self.held.data_ptr()

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
    @classmethod
    def _should_skip_dynamo(cls):
        return False  # nothing is compiled: dynamo need not be imported to skip it

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        return _run(function, args, kwargs or {})


def _indices(index):
    """torch makes tensors of lists without dispatching: as tensors they keep their values."""
    if isinstance(index, tuple):
        return tuple(_indices(each) for each in index)
    return torch.tensor(index) if isinstance(index, list | np.ndarray) else index


def _run(function, args, kwargs):
    """One operation, on the held tensors."""
    name = function.__name__
    tensors = [*_tensors(args), *_tensors(kwargs.values())]
    plain = [each for each in tensors if type(each) is not There]
    there = len(plain) < len(tensors)
    if any(each.is_meta for each in plain):
        raise RuntimeError(f"the stand-in made a tensor without values: {function}")
    copies = name.startswith(("_to_copy", "copy_"))
    if there and not copies and "index" not in name and any(each.dim() for each in plain):
        raise RuntimeError(f"Expected all tensors to be on the same device: {function}")
    if there and name.startswith(("index_put", "index.")) and not isinstance(args[0], There):
        raise RuntimeError(f"indices should be on the CPU or on the indexed tensor's: {function}")
    device = kwargs.get("device")
    asked = None if device is None else torch.device(device).type
    if not there and asked != THERE:
        return function(*args, **kwargs)
    held, options = _map(_held, args), _map(_held, kwargs)
    if asked == THERE:
        options["device"] = torch.device("cpu")
    out = function(*held, **options)
    in_place = (copies and name.startswith("copy_")) or name.endswith("_.default") or "_." in name
    if in_place and out is not None and torch.is_tensor(args[0]):
        return args[0]
    if "out" in kwargs:
        return kwargs["out"]
    return _map(_there, out) if (asked == THERE if asked else there) else out


def _tensors(values):
    """The tensors among values and in their lists: torch's own pytrees take most of the time."""
    for value in values:
        if isinstance(value, torch.Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors(value)


def _map(function, value):
    """A function of every value in lists, tuples and dictionaries."""
    if isinstance(value, list | tuple):
        return type(value)([_map(function, each) for each in value])
    if isinstance(value, dict):
        return {key: _map(function, each) for key, each in value.items()}
    return function(value)


def _held(value):
    return value.held if isinstance(value, There) else value


def _there(value):
    return There(value) if torch.is_tensor(value) and not isinstance(value, There) else value


class CPUDraws(TorchDispatchMode):
    """Random operations of a device run on the CPU, and their results are moved.

    Arguments:
        kind: the kind of the device.
    """

    def __init__(self, kind):
        super().__init__()
        self.kind, self.calls = kind, 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = dict(kwargs or {})
        draws = torch.Tag.nondeterministic_seeded in function.tags
        flat = [*_tensors(args), *_tensors(kwargs.values())]
        devices = [each.device for each in flat] + [torch.device(kwargs.get("device") or "cpu")]
        where = next((device for device in devices if device.type == self.kind), None)
        if not draws or "rnn" in function.__name__ or where is None:
            return function(*args, **kwargs)
        self.calls += 1
        if "device" in kwargs:
            kwargs["device"] = torch.device("cpu")
        here, rest = _map(_here, args), _map(_here, kwargs)
        out = function(*here, **rest)
        if function._schema.is_mutable:  # in place, such as normal_
            return args[0].copy_(here[0])
        return _map(lambda each: each.to(where) if torch.is_tensor(each) else each, out)


class _Generator(torch.Generator):
    """A generator of any device, which draws on the CPU."""

    def __new__(cls, device="cpu"):
        made = super().__new__(cls)
        made.place = torch.device(device)
        return made

    @property
    def device(self):
        return self.place


def _here(value):
    return value.cpu() if torch.is_tensor(value) else value


DEVICES = {"stand-in": THERE, "cuda": "cuda"}


@contextmanager
def second_device(kind: str = "stand-in") -> Iterator[str]:
    """Within it there is a second device of this kind; gives the device's name."""
    with contextlib.ExitStack() as stack:
        enter = stack.enter_context
        enter(mock.patch.object(torch, "Generator", _Generator))
        enter(mock.patch.object(capture, "MOST", 0))
        if kind == "cuda":  # cuDNN multiplies with ten bits of mantissa otherwise
            enter(torch.backends.cudnn.flags(enabled=True, allow_tf32=False))
            enter(CPUDraws("cuda"))
        else:
            enter(_stand_in())
        yield DEVICES[kind]


@contextmanager
def _stand_in():
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
        yield
