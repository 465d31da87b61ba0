"""Checkpoints: written whole or not at all, read without pickle, and only as they were written.

A file is a line that names the format, the SHA-256 of all that follows, and a ``torch.save`` of
tensors and plain values.
"""

from __future__ import annotations

import hashlib
import io
import numbers
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ...data.files import write_whole
from .errors import CheckpointError

FORMAT = b"seqzoo checkpoint 1\n"
PLAIN: dict[type, Callable[[Any], Any]] = {numbers.Integral: int, numbers.Real: float, str: str}
AS_IT_IS = (float, int, str, bool, type(None))  # a long history is mostly of these
SUM = hashlib.sha256().digest_size


def save_checkpoint(path: str | Path, content: dict[str, Any]) -> None:
    """Saves tensors, numbers, text, and lists and dicts of these; numbers become plain ones.

    Raises:
        CheckpointError: for anything else, which could not be read again.
        OSError: when the disk is full; the file that was there before is kept.
    """
    file = io.BytesIO()
    torch.save(_plain(content, ""), file)
    sealed = seal(file.getvalue())
    write_whole(path, lambda part: part.write_bytes(sealed))


def seal(body: bytes) -> bytes:
    """The content of a checkpoint file: the format, the checksum, and the body."""
    return FORMAT + hashlib.sha256(body).digest() + body


def load_checkpoint(path: str | Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Loads a checkpoint that ``save_checkpoint`` saved.

    Raises:
        CheckpointError: when the file is missing, no checkpoint, or not as it was written.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint at {path}", "train")
    sealed = path.read_bytes()
    body = sealed[len(FORMAT) + SUM :]
    if not sealed.startswith(FORMAT):
        raise CheckpointError(f"{path} does not begin as a checkpoint of fit", "anew")
    if sealed != seal(body):
        raise CheckpointError(
            f"{path} was changed or cut short after it was written, as its checksum says", "anew"
        )
    try:
        return torch.load(io.BytesIO(body), map_location=device, weights_only=True)
    except Exception as error:
        reason = str(error).partition("\n")[0]
        raise CheckpointError(
            f"{path} is as it was written, but torch {torch.__version__} does not read it: "
            f"{reason}",
            "anew",
        ) from error


def _plain(value: Any, name: str) -> Any:
    """A value as tensors and plain Python values, which ``torch.load`` takes without pickle."""
    if type(value) in AS_IT_IS:
        return value
    if isinstance(value, Mapping):
        pairs = {_plain(key, name): _plain(each, f"{name}[{key!r}]") for key, each in value.items()}
        if not isinstance(value, OrderedDict):
            return pairs
        ordered = OrderedDict(pairs)
        vars(ordered).update(vars(value))  # the versions of modules, in a state_dict
        return ordered
    if isinstance(value, (list, tuple)):
        items = [_plain(each, f"{name}[{index}]") for index, each in enumerate(value)]
        return items if isinstance(value, list) else tuple(items)
    if isinstance(value, np.generic):
        value = value.item()
    if isinstance(value, (Tensor, torch.dtype, torch.device)):
        return value
    for kind, plain in PLAIN.items():
        if isinstance(value, kind):
            return plain(value)
    raise CheckpointError(
        f"a checkpoint holds tensors, numbers, text, lists and dicts, and {name} is a "
        f"{type(value).__name__}: train without checkpoint, or keep plain values there"
    )
