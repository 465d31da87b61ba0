"""What two runs must have in common for one to go on from the other's checkpoint.

A fingerprint is a flat dictionary of texts, ``{"rule.kl_weight": "0.1", ...}``, so that a
difference has a name, an old value and a new one. It covers

* rules, networks and data sets: their class, the arguments of their constructors, as attributes of
  the same name or as their method ``built_with()`` gives them, and their public numbers, texts,
  tensors, dicts and functions;
* networks: every module, the shapes of all parameters, the values of buffers and of frozen
  parameters;
* data: synthetic sets by their description, other data by hashes of their values;
* functions: their name, their constants, and the plain values that they close over.

Weights are left out, and so are devices.
"""

from __future__ import annotations

import functools
import hashlib
import inspect
import numbers
from collections.abc import Callable, Iterator, Mapping
from enum import Enum
from types import CodeType, FunctionType, MethodType
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...data import Dataset, Loader
from ...data.synthetic import Synthetic
from ..rng import RandomStream
from ..rules.rule import LearningRule

WHOLE = 1 << 24  # values of a tensor that is hashed whole; of a larger one so many are
DEPTH = 12  # objects within objects
LONG = 8, 200  # values of a list, and characters of a text, that are told in full
#: Attributes that say where a run is, not what it is.
LEFT_OUT = ("net", "reference", "done", "training", "device")

Fingerprint = dict[str, str]


def of_rule(rule: LearningRule) -> Fingerprint:
    """The fingerprint of a rule, and of its network."""
    found: Fingerprint = {}
    _object(found, "rule", rule, DEPTH)
    _network(found, rule.net)
    return found


def of_data(loader: Loader) -> Fingerprint:
    """The fingerprint of the data that a loader serves, and of how it serves them."""
    source, found = loader.dataset, {}
    if isinstance(source, Dataset):
        _object(found, "data", source, DEPTH)
        if not isinstance(source, Synthetic):
            some = sorted({0, len(source) // 2, len(source) - 1})
            with RandomStream("cpu", "fingerprint"):  # whatever a data set of a user's does
                _values(found, "data.rows", source.rows(some), DEPTH)
    else:
        _values(found, "data", source, DEPTH)
    found["data.length"] = str(len(source))
    for name in ("batch_size", "shuffle", "fresh", "seed"):
        found[f"loader.{name}"] = repr(getattr(loader, name))
    return found


def of_value(name: str, value: Any) -> Fingerprint:
    """The fingerprint of a setting: a plain value, a function, or lists and dicts of these."""
    found: Fingerprint = {}
    _values(found, name, value, DEPTH)
    return found


def digest(values: Tensor) -> str:
    """The kind, the shape and a hash of the values of a tensor, wherever it is."""
    flat = values.detach().to_dense().contiguous().reshape(-1)
    if flat.numel() > WHOLE:
        places = torch.linspace(0, flat.numel() - 1, WHOLE, dtype=torch.float64).long()
        flat = flat[places.to(flat.device)]
    content = flat.cpu().view(torch.uint8).numpy().tobytes()
    kind = str(values.dtype).removeprefix("torch.")
    return f"{kind} {list(values.shape)} #{hashlib.sha256(content).hexdigest()[:12]}"


def _network(found: Fingerprint, net: nn.Module) -> None:
    found["network"] = _shown(net)
    for name, module in net.named_modules():
        _object(found, f"network.{name}" if name else "network", module, DEPTH)
    for name, values in net.named_parameters():
        shape = f"{str(values.dtype).removeprefix('torch.')} {list(values.shape)}"
        found[f"network.{name}"] = shape if values.requires_grad else digest(values)
    for name, values in net.named_buffers():
        found[f"network.{name}"] = digest(values)


def _values(found: Fingerprint, name: str, value: Any, depth: int) -> None:
    """Adds a value of any kind."""
    if not depth:
        return
    if _is_plain(value):
        found[name] = _text(value)
    elif isinstance(value, (Tensor, np.ndarray)):
        found[name] = digest(torch.as_tensor(value))
    elif isinstance(value, functools.partial):
        _values(found, name, value.func, depth - 1)
        _values(found, f"{name}.args", [*value.args, value.keywords], depth - 1)
    elif isinstance(value, type) or inspect.isroutine(value):
        found[name] = _function(value)
    elif isinstance(value, Mapping):
        found[name] = f"{{{', '.join(map(repr, value))}}}"
        for key, each in value.items():
            _values(found, f"{name}.{key}", each, depth - 1)
    elif isinstance(value, (list, tuple)):
        inner: Fingerprint = {}
        for index, each in enumerate(value):
            _values(inner, f"{name}.{index}", each, depth - 1)
        if len(inner) > LONG[0]:  # such as the songs of a data set
            whole = hashlib.sha256(repr(inner).encode()).hexdigest()[:12]
            inner = {name: f"{len(value)} values #{whole}"}
        found.update(inner)
    elif not isinstance(value, torch.device):
        _object(found, name, value, depth - 1)


def _object(found: Fingerprint, name: str, value: Any, depth: int) -> None:
    """Adds an object: its class, its arguments, and its public attributes of a plain kind."""
    found[name] = _shown(value)
    if isinstance(value, nn.Module) and _is_torchs(type(value)):
        return  # its sizes are shown
    told: Callable[[], dict[str, Any]] | None = getattr(value, "built_with", None)
    options = _arguments(value) if told is None else told()
    if isinstance(value, (nn.Module, LearningRule, Dataset)):
        options = {**options, **_public(value)}
    for option, each in options.items():
        if option in LEFT_OUT or isinstance(each, nn.Module | nn.Parameter):
            continue  # modules of a network are visited by name
        _values(found, f"{name}.{option}", each, depth)


def _public(value: Any) -> dict[str, Any]:
    """Public attributes, of the object or of its class; lists are left out, for they may grow."""
    found: dict[str, Any] = {}
    for cls in reversed(type(value).__mro__):
        if not _is_torchs(cls):
            found |= {key: each for key, each in vars(cls).items() if _is_plain(each)}
    drawn = isinstance(value, Synthetic)
    for key, each in vars(value).items():
        plain = _is_plain(each) or inspect.isroutine(each) or isinstance(each, type)
        mapping = isinstance(each, Mapping) and all(map(_is_plain, each.values()))
        if plain or mapping or (isinstance(each, (Tensor, np.ndarray)) and not drawn):
            found[key] = each
    grow = (list, set)
    return {k: v for k, v in found.items() if not k.startswith("_") and not isinstance(v, grow)}


def _arguments(value: Any) -> dict[str, Any]:
    """Arguments of an object's constructors that it keeps under their names, or with a _ before."""
    own, found = getattr(value, "__dict__", {}), {}
    for cls in type(value).__mro__:
        if "__init__" not in vars(cls) or _is_torchs(cls):
            continue
        try:
            names = inspect.signature(vars(cls)["__init__"]).parameters
        except (TypeError, ValueError):  # it is written in C
            continue
        for name in names:
            for attribute in (f"_{name}", name):
                if attribute in own:
                    found[name] = own[attribute]
    return found


def _is_torchs(cls: type) -> bool:
    """Whether a class comes with torch, Pyro or Python, and not with seqzoo or a user."""
    return cls.__module__.partition(".")[0] in ("torch", "pyro", "builtins", "abc")


def _is_plain(value: Any) -> bool:
    if isinstance(value, (list, tuple, set, frozenset)):
        return all(_is_plain(each) for each in value)
    return value is None or isinstance(
        value, (bool, str, bytes, numbers.Number, np.generic, torch.dtype, torch.Size, Enum)
    )


def _text(value: Any) -> str:
    """A plain value; numbers of numpy are those of Python."""
    if isinstance(value, np.generic):
        return repr(value.item())
    if isinstance(value, (set, frozenset)):
        return f"{{{', '.join(sorted(map(_text, value)))}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(map(_text, value))}]"
    text = repr(value)
    cut = len(text) > LONG[1]
    return f"{text[:40]}... #{hashlib.sha256(text.encode()).hexdigest()[:12]}" if cut else text


def _shown(value: Any) -> str:
    """The class of an object; a module of torch also tells its sizes."""
    cls = type(value)
    if isinstance(value, nn.Module) and _is_torchs(cls):
        return f"{cls.__name__}({value.extra_repr()})"
    return cls.__qualname__


def _function(value: Any) -> str:
    """The name of a function or class; of one written in Python also its constants."""
    name = getattr(value, "__qualname__", type(value).__name__)
    function = value.__func__ if isinstance(value, MethodType) else value
    if not isinstance(function, FunctionType):
        return name
    known = [*_constants(function.__code__), *(function.__defaults__ or ())]
    known += [*(function.__kwdefaults__ or {}).values()]
    for cell in function.__closure__ or ():
        try:
            known.append(cell.cell_contents)
        except ValueError:  # a name that has no value yet
            continue
    text = _text([each for each in known if _is_plain(each) and not isinstance(each, (list, set))])
    return f"{name} #{hashlib.sha256(text.encode()).hexdigest()[:12]}"


def _constants(code: CodeType) -> Iterator[Any]:
    """Constants and names in a function and in those within it, its text of help left out."""
    constants = code.co_consts
    if constants and isinstance(constants[0], str):
        constants = constants[1:]
    yield code.co_names
    for each in constants:
        if isinstance(each, CodeType):
            yield from _constants(each)
        else:
            yield each
