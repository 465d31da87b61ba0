"""Files of pictures, written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ...data.files import write_whole

if TYPE_CHECKING:  # matplotlib takes long to import
    from matplotlib.figure import Figure

PICTURES = (".png", ".pdf", ".svg")
FORMATS = (*PICTURES, ".npz")  # numbers, where there are any to keep
FILM = (".gif", ".png", ".npz")
MUSIC = (".mid", ".midi", *FORMATS)


def save_figure(figure: Figure, path: Path) -> None:
    """Writes a matplotlib figure, whole or not at all.

    Raises:
        ValueError: for a file ending that is not a picture's.
    """
    check_file(path, PICTURES)
    write_whole(path, lambda part: figure.savefig(part, dpi=130, format=path.suffix[1:]))


def check_file(path: Path, formats: tuple[str, ...] = FORMATS) -> None:
    """Raises a ValueError for a file that cannot be written; to be called before any work.

    Arguments:
        path: the file.
        formats: the endings that it may have.
    """
    if path.suffix not in formats:
        raise ValueError(f"cannot write {path.name!r}: end it with one of {', '.join(formats)}")
    if path.is_dir():
        raise ValueError(f"cannot write {path}: it is a folder")
    nearest = next(folder for folder in path.absolute().parents if folder.exists())
    if not nearest.is_dir():
        raise ValueError(f"cannot write {path}: {nearest} is a file, not a folder")
    if not os.access(nearest, os.W_OK):
        raise ValueError(f"cannot write {path}: the folder {nearest} cannot be written to")


def save_numbers(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Writes arrays as a compressed .npz file."""
    write_whole(path, lambda part: _savez(part, arrays))


def _savez(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        # numpy has any name here but allow_pickle; its stubs take each for that one
        np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
