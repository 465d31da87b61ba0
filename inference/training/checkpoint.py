"""Checkpoints: written whole or not at all, read without pickle."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from ...data.files import write_whole


class CheckpointError(ValueError):
    """A checkpoint that is missing, damaged, or of another run."""


def save_checkpoint(path: str | Path, content: dict[str, Any]) -> None:
    """Saves tensors, numbers, strings, lists and dicts of them."""
    write_whole(path, lambda part: torch.save(content, part))


def load_checkpoint(path: str | Path, device: torch.device | str = "cpu") -> dict[str, Any]:
    """Loads a checkpoint that ``save_checkpoint`` saved.

    Raises:
        CheckpointError: when the file is missing or damaged.
    """
    path = Path(path)
    if not path.is_file():
        raise CheckpointError(f"there is no checkpoint at {path}: train without resume first")
    try:
        return torch.load(path, map_location=device, weights_only=True)
    except Exception as error:
        raise CheckpointError(
            f"the checkpoint {path} is damaged or cut short: delete it and train again"
        ) from error
