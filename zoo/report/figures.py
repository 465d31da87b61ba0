"""Figures that several looks share."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

from ...inference import coverage
from ...inference.diagnostics.calibration import LEVELS
from ..pictures import save_figure
from .context import Context

BLUE, RED, GREEN, GREY = "#1d3557", "#d1495b", "#00798c", "#8d99ae"


def figure(panels: int, width: float = 3.9):
    """A figure of panels side by side, each so many inches wide, and their axes."""
    from matplotlib.figure import Figure

    canvas = Figure(figsize=(0.8 + width * panels, 3.4), layout="constrained")
    return canvas, canvas.subplots(1, panels, squeeze=False)[0]


def save(canvas, context: Context, name: str) -> None:
    """Writes it beside the report."""
    save_figure(canvas, context.out / name)


def legend_above(axis) -> None:
    """A legend in the upper left corner, and room above the data for it."""
    low, high = axis.get_ylim()
    axis.set_ylim(low, high + 0.18 * (high - low))
    axis.legend(frameon=False, fontsize=8, loc="upper left")


def plot_histogram(axis, pits: Tensor, bins: int, number: int | None) -> None:
    """A histogram of PITs over that of uniform ones; ``number`` independent values make a band."""
    pits = pits[~pits.isnan()].numpy()
    counts = np.histogram(pits, bins, (0, 1))[0] / len(pits)
    axis.bar((np.arange(bins) + 0.5) / bins, counts, 0.9 / bins, color=BLUE)
    axis.axhline(1 / bins, color="black", lw=1)
    if number is not None:
        from scipy.stats import binom

        low, high = binom.ppf((0.005, 0.995), number, 1 / bins) / number
        label = "where 99 % of uniform ones are"
        axis.axhspan(low, high, color=GREY, alpha=0.35, lw=0, zorder=0, label=label)
        axis.legend(frameon=False, fontsize=8, loc="upper center")
    axis.set(xlim=(0, 1), ylim=(0, max(2.2 / bins, 1.2 * counts.max())))


def plot_reliability(axis, across, up, xlabel: str, ylabel: str) -> None:
    """What was found against what was claimed, with the line where the two are equal."""
    axis.plot((0, 1), (0, 1), color="black", lw=0.8)
    axis.plot(across, up, "o-", color=BLUE, ms=4)
    axis.set(xlabel=xlabel, ylabel=ylabel, xlim=(0, 1), ylim=(0, 1), aspect="equal")


def plot_coverage(axis, pits: Tensor) -> None:
    """Coverage of central intervals and of one-sided ones, which alone see a bias."""
    plot_reliability(axis, LEVELS, coverage(pits), "nominal level", "share covered")
    axis.lines[-1].set_label("central")
    sided = coverage(pits, central=False)
    axis.plot(LEVELS, sided, "s--", color=RED, ms=3, lw=1, label="one-sided")
    axis.legend(frameon=False, fontsize=8, loc="upper left")


def plot_sorted_khat(axis, khat: Tensor, limit: float, label: str | None) -> None:
    """k-hat of sequences in order, those that are too large in red."""
    ranked = finite(khat).sort().values.numpy()
    colours = [RED if value > limit else BLUE for value in ranked]
    axis.scatter(range(1, len(ranked) + 1), ranked, s=14, c=colours)
    axis.axhline(limit, color=RED, ls="--", lw=1, label=f"{limit:.2f}, the most to trust")
    axis.xaxis.get_major_locator().set_params(integer=True)
    axis.set(xlabel="sequences, in order", ylabel=f"k-hat, {label or 'whole sequences'}")
    legend_above(axis)


def plot_khat_band(axis, across, khat: Tensor, limit: float, style: str) -> None:
    """Median of k-hat ``[N, L]`` at each of ``L`` places, and its 10 % to 90 %."""
    low, middle, high = np.nanquantile(finite(khat), (0.1, 0.5, 0.9), axis=0)
    axis.fill_between(across, low, high, color=BLUE, alpha=0.2, lw=0)
    axis.plot(across, middle, style, color=BLUE, label="median, 10 % to 90 %", ms=4)
    axis.axhline(limit, color=RED, ls="--", lw=1)


def finite(values: Tensor) -> Tensor:
    """The values, NaN in place of infinite ones."""
    return values.masked_fill(values.isinf(), math.nan)
