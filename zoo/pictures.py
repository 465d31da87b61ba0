"""Figures, plotted without a display."""

from __future__ import annotations

import math
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from ..data import ppc
from ..data.files import write_whole

if TYPE_CHECKING:  # matplotlib takes long to import
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

PICTURES = (".png", ".pdf", ".svg")
FORMATS = (*PICTURES, ".npz")  # numbers, where there are any to keep
FILM = (".gif", ".png", ".npz")
MUSIC = (".mid", ".midi", *FORMATS)


def plot_trajectory(
    obs: Tensor, truth: Tensor, decoded: dict[str, Tensor], path: Path, title: str = ""
) -> None:
    """Spikes above, true and decoded positions below: Abdulsalam & Makin (2023), figure 3.

    Arguments:
        obs: spike counts of one trajectory, ``[T, 15]``.
        truth: its position (rad), ``[T]``.
        decoded: positions (rad) read from it, ``[T]`` each, by name.
        path: file to write.
        title: headline.
    """
    figure, (above, middle, below) = _figure(3, heights=(1.1, 1.6, 1.0))
    seconds = np.arange(len(obs)) * ppc.STEP
    _raster(above, obs.cpu().numpy(), seconds[-1])
    above.set_ylabel("preferred\nposition (rad)")
    above.set_title(title)
    for name, values in decoded.items():
        style = dict(_STYLES.get(name, {"lw": 1.2}))
        middle.plot(seconds, values.cpu().numpy(), label=name, **style)
        error = ppc.wrap(values - truth).abs().cpu()
        if name == "raw decoding":
            continue
        smooth = torch.nn.functional.avg_pool1d(error[None], 21, 1, 10)[0]
        below.plot(seconds, smooth.numpy(), label=name, **style)
    middle.plot(seconds, truth.cpu().numpy(), color="black", lw=1.4, label="truth")
    middle.set_ylabel("position (rad)")
    middle.legend(ncols=3, fontsize=8, frameon=False, loc="upper right")
    below.set_ylabel("|error| (rad)\n1 s average")
    below.set_xlabel("time (s)")
    below.set_ylim(bottom=0)
    save_figure(figure, path)


_STYLES = {"raw decoding": {"color": "#f4a261", "lw": 0.6, "alpha": 0.8, "zorder": 0}}


def plot_population(obs: Tensor, path: Path) -> None:
    """Generated spike counts ``[N, T, 15]`` with their decoded positions; .npz keeps the numbers.

    Raises:
        ValueError: for a file ending that is not a picture's.
    """
    decoded = ppc.decode(obs)
    if path.suffix == ".npz":
        arrays = {"obs": obs.cpu().numpy(), "position": decoded.cpu().numpy()}
        write_whole(path, lambda part: _savez(part, arrays))
        return
    figure, axes = _figure(len(obs), heights=[1.0] * len(obs))
    seconds = obs.shape[1] * ppc.STEP
    for axis, counts, positions in zip(
        np.atleast_1d(axes), obs.cpu().numpy(), decoded.cpu().numpy()
    ):
        loud = max(1.0, float(np.quantile(counts, 0.999)))  # one wild frame must not hide the rest
        _raster(axis, counts, seconds, vmin=0, vmax=loud)
        times = (np.arange(len(positions)) + 0.5) * ppc.STEP
        axis.plot(times, positions, ".", ms=1.5, color="#d1495b")
        axis.set_ylabel("position (rad)")
    np.atleast_1d(axes)[-1].set_xlabel("time (s); dots: decoded from each frame")
    save_figure(figure, path)


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
        write_whole(path, lambda part: _savez(part, {"film": film.detach().cpu().numpy()}))
    elif path.suffix == ".png":
        strips = [_abreast(row[: shown * every : every]) for row in frames]
        picture = _enlarged(np.concatenate(strips), 2)
        write_whole(path, lambda part: picture.save(part, format="PNG", optimize=True))
    else:
        zoom = max(1, 128 // side)
        first, *rest = [_enlarged(_abreast(abreast), zoom) for abreast in frames.swapaxes(0, 1)]
        how = {"save_all": True, "append_images": rest, "duration": 60, "loop": 0}
        write_whole(path, lambda part: first.save(part, format="GIF", **how))


def plot_rolls(
    rolls: dict[str, Tensor], path: Path, columns: int = 1, hidden: Tensor | None = None
) -> None:
    """Piano rolls under one another, keys upwards and time to the right; .npz keeps the numbers.

    Arguments:
        rolls: ``[T, 88]`` each, by title, in reading order.
        path: file to write.
        columns: rolls side by side.
        hidden: steps to shade, ``[T]``.

    Raises:
        ValueError: when there is no roll, or for a file ending that is not a picture's.
    """
    if not rolls:
        raise ValueError("there is no roll to plot")
    arrays = {title: roll.detach().cpu().numpy() for title, roll in rolls.items()}
    if path.suffix == ".npz":
        write_whole(path, lambda part: _savez(part, arrays))
        return
    from matplotlib.figure import Figure

    used = np.flatnonzero(np.concatenate(list(arrays.values())).any(0))
    low, high = (used.min(), used.max()) if len(used) else (0, 87)
    rows = math.ceil(len(arrays) / columns)
    figure = Figure(figsize=(4.5 + 4.5 * columns / 2, 0.6 + 1.7 * rows), layout="constrained")
    axes = figure.subplots(rows, columns, sharey=True, squeeze=False)
    for axis, (title, roll) in zip(axes.flat, arrays.items()):
        edges = (-0.5, len(roll) - 0.5, low - 0.5, high + 0.5)
        shades = {"cmap": "Greys", "vmin": 0, "vmax": 1, "interpolation": "nearest"}
        shown = roll.T[low : high + 1]
        axis.imshow(shown, origin="lower", extent=edges, aspect="auto", **shades)
        for step in [] if hidden is None else hidden.nonzero()[:, 0].tolist():
            axis.axvspan(step - 0.5, step + 0.5, color="#f4a261", alpha=0.35, lw=0)
        axis.set_title(title, fontsize=9)
    for axis in axes.flat[len(arrays) :]:
        axis.set_visible(False)
    for axis in axes[:, 0]:
        axis.set_ylabel("key")
    for axis in axes[-1]:
        axis.set_xlabel("frame")
    save_figure(figure, path)


def plot_classes(inputs: Tensor, truth: Tensor, answers: Tensor, path: Path) -> None:
    """True and sampled classes by the number read: Manchev & Spratling (2024), figure 5.

    Bars stand at the mean number of each class; .npz keeps the numbers.

    Arguments:
        inputs: x, ``[N]``.
        truth, answers: the classes, and what a network answered, ``[N]`` each.
        path: file to write.

    Raises:
        ValueError: for a file ending that is not a picture's.
    """
    x, shown = inputs.cpu(), {"data": truth.cpu(), "samples": answers.cpu()}
    if _numbers(path, x, shown):
        return
    figure, axis = _square()
    jitter = torch.rand(len(x), generator=torch.Generator().manual_seed(0)) * 0.3 + 0.05
    for (name, classes), colour, side in zip(shown.items(), COLOURS, (1, -1)):
        axis.plot(x, classes + side * jitter, ".", ms=3, color=colour, alpha=0.6, label=name)
        for one in classes.unique():
            mean = float(x[classes == one].mean())
            bar = (float(one), float(one) + side * 0.42)
            label = f"mean of {name}" if one == classes.min() else None
            axis.plot((mean, mean), bar, color=_dark(colour), lw=2.5, label=label)
    axis.set(xlabel="x, read in the first step", ylabel="class", yticks=range(10))
    axis.legend(fontsize=8, loc="upper left")
    save_figure(figure, path)


def plot_curve(inputs: Tensor, truth: Tensor, answers: Tensor, path: Path) -> None:
    """True and sampled answers by the number read: Manchev & Spratling (2024), figure 7.

    Arguments as for ``plot_classes``, with numbers in place of classes.
    """
    y, shown = inputs.cpu(), {"data": truth.cpu(), "samples": answers.cpu()}
    if _numbers(path, y, shown):
        return
    figure, axis = _square()
    for (name, values), colour in zip(shown.items(), COLOURS):
        axis.plot(values, y, ".", ms=3, color=colour, alpha=0.6, label=name)
    axis.set(xlabel="x, asked for", ylabel="y, read in the first step")
    axis.set(xlim=(-0.3, 1.3), ylim=(-0.2, 1.2))
    axis.legend(fontsize=8, loc="upper left")
    save_figure(figure, path)


COLOURS = ("#4a90c2", "#d1495b")  # data, samples


def _dark(colour: str) -> tuple[float, ...]:
    from matplotlib.colors import to_rgb

    return tuple(0.55 * part for part in to_rgb(colour))


def _square() -> tuple[Figure, Axes]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 4.2), layout="constrained")
    return figure, figure.subplots()


def _numbers(path: Path, inputs: Tensor, shown: dict[str, Tensor]) -> bool:
    """Writes numbers in place of a picture where the file's name ends with .npz."""
    check_file(path)
    if path.suffix == ".npz":
        arrays = {"inputs": inputs.numpy()} | {k: v.numpy() for k, v in shown.items()}
        write_whole(path, lambda part: _savez(part, arrays))
    return path.suffix == ".npz"


def _abreast(images: np.ndarray) -> np.ndarray:
    """Images ``[N, side, side]`` side by side, each in a grey frame."""
    framed = np.pad(images, ((0, 0), (1, 1), (1, 1)), constant_values=90)
    return np.concatenate(list(framed), 1)


def _enlarged(image: np.ndarray, zoom: int) -> Image.Image:
    return Image.fromarray(np.kron(image, np.ones((zoom, zoom), dtype=np.uint8)))


def _raster(axis: Axes, counts: np.ndarray, seconds: float, **scale: Any) -> None:
    """Spike counts ``[T, 15]`` as shades, time to the right, preferred position upwards."""
    edge = ppc.LIMIT + ppc.SPACING / 2
    how = {"origin": "lower", "cmap": "Greys", "interpolation": "nearest", "aspect": "auto"}
    axis.imshow(counts.T, extent=(0, seconds, -edge, edge), **how, **scale)


def _figure(rows: int, heights: Sequence[float]) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.1 + 1.6 * sum(heights)), layout="constrained")
    return figure, figure.subplots(rows, 1, sharex=True, height_ratios=heights)


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


def _savez(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with path.open("wb") as file:
        # numpy has any name here but allow_pickle; its stubs take each for that one
        np.savez_compressed(file, **arrays)  # pyright: ignore[reportArgumentType]
