"""Film: moving, or as strips of frames."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from ...data.files import write_whole
from .files import FILM, check_file, save_numbers


def plot_film(film: Tensor, path: Path, shown: int = 20, every: int = 1) -> None:
    """Writes film ``[N, T, size²]``: moving (.gif), as strips (.png), or as numbers (.npz).

    Arguments:
        film: grey values in ``[0, 1]``, square frames, flattened.
        path: file to write.
        shown: frames of a strip.
        every: a strip shows every so many frames.

    Raises:
        ValueError: for a file ending that is not a film's, or frames that are not square.
    """
    check_file(path, FILM)
    side = math.isqrt(film.shape[-1])
    if side**2 != film.shape[-1]:
        raise ValueError(f"film needs square frames, got {film.shape[-1]} pixels a frame")
    grey = film.detach().cpu().clamp(0, 1).mul(255).round().byte()
    frames = grey.unflatten(-1, (side, side)).numpy()  # [N, T, side, side]
    if path.suffix == ".npz":
        save_numbers(path, {"film": film.detach().cpu().numpy()})
    elif path.suffix == ".png":
        strips = [_abreast(row[: shown * every : every]) for row in frames]
        picture = _enlarged(np.concatenate(strips), 2)
        write_whole(path, lambda part: picture.save(part, format="PNG", optimize=True))
    else:
        zoom = max(1, 128 // side)
        first, *rest = [_enlarged(_abreast(abreast), zoom) for abreast in frames.swapaxes(0, 1)]
        how = {"save_all": True, "append_images": rest, "duration": 60, "loop": 0}
        write_whole(path, lambda part: first.save(part, format="GIF", **how))


def _abreast(images: np.ndarray) -> np.ndarray:
    """Images ``[N, side, side]`` side by side, each in a grey frame."""
    framed = np.pad(images, ((0, 0), (1, 1), (1, 1)), constant_values=90)
    return np.concatenate(list(framed), 1)


def _enlarged(image: np.ndarray, zoom: int) -> Image.Image:
    return Image.fromarray(np.kron(image, np.ones((zoom, zoom), dtype=np.uint8)))
