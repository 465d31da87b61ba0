"""Piano rolls."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
from torch import Tensor

from .files import save_figure, save_numbers


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
        save_numbers(path, arrays)
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
