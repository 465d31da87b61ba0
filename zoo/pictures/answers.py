"""Answers of networks beside the true ones."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from .files import check_file, save_figure, save_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
        save_numbers(path, arrays)
    return path.suffix == ".npz"
