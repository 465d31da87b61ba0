"""Random generators of their own, whose streams follow from a key."""

from __future__ import annotations

import hashlib
import numbers

import torch

from .checks import shown


def generator(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A random generator whose stream is a hash of ``key``: unequal keys, unrelated streams.

    Raises:
        ValueError: for a part of the key that is neither a whole number nor text.
    """
    for part in key:
        if isinstance(part, bool) or not isinstance(part, numbers.Integral | str):
            raise ValueError(f"a stream's key is made of whole numbers and text, got {shown(part)}")
    plain = [part if isinstance(part, str) else int(part) for part in key]
    digest = hashlib.sha256(repr(plain).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)
