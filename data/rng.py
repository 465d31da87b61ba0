"""Random generators of their own, whose streams follow from a key."""

from __future__ import annotations

import hashlib

import torch


def generator(*key: int | str, device: torch.device | str = "cpu") -> torch.Generator:
    """A random generator whose stream is a hash of ``key``: unequal keys, unrelated streams."""
    plain = [part if isinstance(part, str) else int(part) for part in key]
    digest = hashlib.sha256(repr(plain).encode()).digest()
    return torch.Generator(device).manual_seed(int.from_bytes(digest[:8], "big") >> 1)
