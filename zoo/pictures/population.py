"""Population codes: spikes, and the positions decoded from them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ...data import ppc
from .files import save_figure, save_numbers

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure


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
        save_numbers(path, arrays)
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


def _raster(axis: Axes, counts: np.ndarray, seconds: float, **scale: Any) -> None:
    """Spike counts ``[T, 15]`` as shades, time to the right, preferred position upwards."""
    edge = ppc.LIMIT + ppc.SPACING / 2
    how = {"origin": "lower", "cmap": "Greys", "interpolation": "nearest", "aspect": "auto"}
    axis.imshow(counts.T, extent=(0, seconds, -edge, edge), **how, **scale)


def _figure(rows: int, heights: Sequence[float]) -> tuple[Figure, Any]:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 1.1 + 1.6 * sum(heights)), layout="constrained")
    return figure, figure.subplots(rows, 1, sharex=True, height_ratios=heights)
