"""Figures that several diagnostics share."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from ...inference import coverage
from ...inference.diagnostics.calibration import LEVELS
from ..pictures import save_figure
from .context import Context

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

BLUE, RED, GREEN, GREY = "#1d3557", "#d1495b", "#00798c", "#8d99ae"


def figure(panels: int, width: float = 3.9) -> tuple[Figure, Sequence[Axes]]:
    """Makes a figure of panels side by side.

    Arguments:
        panels: their number.
        width: inches of each panel.

    Returns:
        The figure and the axes of its panels.
    """
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(0.8 + width * panels, 3.4), layout="constrained")
    return canvas, canvas.subplots(1, panels, squeeze=False)[0]


def save(canvas: Figure, context: Context, name: str) -> None:
    """Writes a figure into the folder of the report."""
    save_figure(canvas, context.out / name)


def legend_above(axis: Axes) -> None:
    """Adds a legend in the upper left corner, and room for it above the data."""
    low, high = axis.get_ylim()
    axis.set_ylim(low, high + 0.18 * (high - low))
    axis.legend(frameon=False, fontsize=8, loc="upper left")


def plot_histogram(axis: Axes, pits: Tensor, bins: int, number: int | None) -> None:
    """Plots a histogram of PITs over that of uniform ones.

    Arguments:
        axis: where to plot.
        pits: PITs of any shape; NaN does not count.
        bins: number of bins.
        number: number of independent values, for a band of the histograms of uniform ones; None
            plots no band.
    """
    found = pits[~pits.isnan()].numpy()
    counts = np.histogram(found, bins, (0, 1))[0] / len(found)
    axis.bar((np.arange(bins) + 0.5) / bins, counts, 0.9 / bins, color=BLUE)
    axis.axhline(1 / bins, color="black", lw=1)
    if number is not None:
        from scipy.stats import binom

        low, high = binom.ppf((0.005, 0.995), number, 1 / bins) / number
        label = "99 % of uniform ones"
        axis.axhspan(low, high, color=GREY, alpha=0.35, lw=0, zorder=0, label=label)
        axis.legend(frameon=False, fontsize=8, loc="upper center")
    axis.set(xlim=(0, 1), ylim=(0, max(2.2 / bins, 1.2 * counts.max())))


def plot_reliability(
    axis: Axes, claimed: Sequence[float] | Tensor, found: Tensor, xlabel: str, ylabel: str
) -> None:
    """Plots found values against claimed ones, with the line on which the two are equal."""
    axis.plot((0, 1), (0, 1), color="black", lw=0.8)
    axis.plot(claimed, found, "o-", color=BLUE, ms=4)
    axis.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, 1), ylim=(0, 1), aspect="equal")


def plot_coverage(axis: Axes, pits: Tensor) -> None:
    """Plots the coverage of central intervals, and of one-sided ones, which alone show a bias."""
    plot_reliability(axis, LEVELS, coverage(pits), "nominal level", "fraction covered")
    axis.lines[-1].set_label("central")
    sided = coverage(pits, central=False)
    axis.plot(LEVELS, sided, "s--", color=RED, ms=3, lw=1, label="one-sided")
    axis.legend(frameon=False, fontsize=8, loc="upper left")


def plot_sorted_khat(axis: Axes, khat: Tensor, limit: float, label: str | None) -> None:
    """Plots k-hat of sequences in increasing order, in red above the limit."""
    ranked = finite(khat).sort().values.numpy()
    colours = [RED if value > limit else BLUE for value in ranked]
    axis.scatter(range(1, len(ranked) + 1), ranked, s=14, c=colours)
    axis.axhline(limit, color=RED, ls="--", lw=1, label=f"{limit:.2f}, the most to trust")
    axis.locator_params("x", integer=True)
    axis.set(xlabel="sequences, in order", ylabel=f"k-hat, {label or 'whole sequences'}")
    legend_above(axis)


def plot_khat_band(
    axis: Axes, across: Sequence[float], khat: Tensor, limit: float, style: str
) -> None:
    """Plots the median of k-hat ``[N, L]`` at each of ``L`` places, and its 10 % to 90 %."""
    low, middle, high = np.nanquantile(finite(khat), (0.1, 0.5, 0.9), axis=0)
    axis.fill_between(across, low, high, color=BLUE, alpha=0.2, lw=0)
    axis.plot(across, middle, style, color=BLUE, label="median, 10 % to 90 %", ms=4)
    axis.axhline(limit, color=RED, ls="--", lw=1)


def finite(values: Tensor) -> Tensor:
    """The values, with NaN in place of infinite ones."""
    return values.masked_fill(values.isinf(), math.nan)
