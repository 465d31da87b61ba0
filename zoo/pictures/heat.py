"""Sequences of values as shades."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor

from .files import save_figure, save_numbers


def plot_heat(obs: Tensor, bin: float, path: Path, unit: str = "neuron") -> None:
    """Values of sequences ``[N, T, M]``, time to the right; .npz keeps the numbers.

    Arguments:
        obs: the sequences.
        bin: width of a bin in seconds.
        path: file to write.
        unit: the name of a channel.

    Raises:
        ValueError: for a file ending that is not a picture's.
    """
    values = obs.cpu().numpy()
    if path.suffix == ".npz":
        save_numbers(path, {"obs": values})
        return
    from matplotlib.figure import Figure

    number, steps, width = values.shape
    figure = Figure(figsize=(9, 1 + 1.6 * number), layout="constrained")
    low, high = min(0.0, float(values.min())), float(np.quantile(values, 0.999))
    for axis, one in zip(figure.subplots(number, 1, sharex=True, squeeze=False)[:, 0], values):
        axis.imshow(
            one.T,
            extent=(0, steps * bin, -0.5, width - 0.5),
            origin="lower",
            cmap="Greys",
            interpolation="nearest",
            aspect="auto",
            vmin=low,
            vmax=max(high, low + 1e-9),
        )
        axis.set_ylabel(unit)
    figure.axes[-1].set_xlabel("time (s)")
    save_figure(figure, path)
