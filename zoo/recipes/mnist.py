"""Film of moving digits, which paper 000 shows and does not measure."""

from __future__ import annotations

import torch

from ...data import MovingMNIST
from ...data.track import Motion, measure_digits, track_digits
from .film import next_frame_task

SOURCE = "Abdulsalam & Makin (2023), pictures only"
SIZE, FRAMES = 64, 20


def film(sequences: int = 200, steps: int = FRAMES, **which) -> MovingMNIST:
    """The film of this table."""
    return MovingMNIST(sequences, steps, size=SIZE, **which)


def motion(film: torch.Tensor) -> Motion:
    """How the digits of film move."""
    return measure_digits(track_digits(film, size=SIZE), size=SIZE)


TASK = next_frame_task("MovingMNIST", film, motion)
