"""Spikes of a trial with the rates that a model expects, and the missing values of a recording."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

from ...data import BatchLike
from ...inference.diagnostics.values import Values
from .axes import COLOURS, INK, PALE, beside, channels_of, make_axes, recording_of, runs, trial_of

if TYPE_CHECKING:  # matplotlib takes long to import
    from matplotlib.axes import Axes

HEIGHT = 0.8  # of a channel's row
LABELS = 24  # most labels of an axis that can be read


def plot_raster(
    spikes: BatchLike,
    rates: Values | None = None,
    trial: int = 0,
    channels: Sequence[int] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """The spikes of a trial, a row for each channel, and predicted rates over them.

    A bin with several spikes has a tick for each, at equal distances within the bin. Bins that are
    missing are hatched, those of a dead channel in all of its row. Each rate has the height of its
    row; the highest of it is written at the right, in spikes a second.

    Arguments:
        spikes: counts: a ``data.Recording``; an ``xarray.DataArray (trial, time, channel)``; or
            anything that ``data.as_batch`` takes.
        rates: expected counts of the same trials and channels, ``[N, T, M]``, such as those of
            ``inference.rates``; none are drawn when left out.
        trial: number of the trial.
        channels: numbers of the channels, from the bottom up; all when left out.
        ax: where to plot; None makes a figure.

    Returns:
        The axes.

    Raises:
        ValueError: for values that are no counts, rates of another shape, or numbers out of range.
    """
    recording, unit = recording_of(spikes)
    trial, shown = trial_of(recording, trial), channels_of(recording, channels)
    counts = recording.trials[trial].numpy()[:, shown]
    seen = counts[np.isfinite(counts)]
    if (seen < 0).any() or (seen != seen.round()).any():
        raise ValueError("plot_raster draws counts of spikes: see plot_over_time for traces")
    bins, bin = len(counts), recording.bin
    expected = None if rates is None else beside(recording, rates, "rates")[trial, :bins, shown].T
    ax = make_axes(ax, (7.0, 1.2 + 0.16 * max(len(shown), 8)), frame=False)
    dead = [bool(np.isnan(column).all()) for column in counts.T]
    when, rows = [], []
    for row, column in enumerate(counts.T):
        patches = [(bin * start, bin * length) for start, length in runs(np.isnan(column))]
        label = "missing" if patches and not ax.get_legend_handles_labels()[1] else None
        if patches:
            style = {"facecolor": PALE, "edgecolor": "#a0a0a0", "hatch": "////", "lw": 0}
            ax.broken_barh(patches, (row - HEIGHT / 2, HEIGHT), label=label, **style)
        for place in np.flatnonzero(np.nan_to_num(column)):
            number = int(column[place])
            when += [bin * (place + (each + 0.5) / number) for each in range(number)]
            rows += [row] * number
    low, high = np.array(rows) - HEIGHT / 2, np.array(rows) + HEIGHT / 2
    ax.vlines(when, low, high, color=INK, lw=0.8, label="spikes")
    if expected is not None:
        _plot_rates(ax, expected, bin, unit)
    every = -(-len(shown) // LABELS)
    ticks = [row for row in range(len(shown)) if row % every == 0 or dead[row]]
    names = [f"{recording.channels[shown[row]]}" + " (missing)" * dead[row] for row in ticks]
    ax.set_yticks(ticks, names)
    ax.set(xlim=(0, bins * bin), ylim=(-0.7, len(shown) - 0.3))
    ax.set(xlabel=f"time in the trial ({unit})", ylabel=recording.unit)
    ax.set_title(f"trial {recording.names[trial]}", fontsize=10, loc="left")
    above = {"loc": "lower right", "bbox_to_anchor": (1, 1), "ncols": 3, "borderaxespad": 0.2}
    ax.legend(frameon=False, fontsize=8, **above)
    return ax


def _plot_rates(ax: Axes, expected: np.ndarray, bin: float, unit: str) -> None:
    """Curves of expected counts ``[T, M]``, each in its row, with its highest rate at the right."""
    if (expected < 0).any():
        raise ValueError("rates cannot be negative: they are expected counts, not their logarithms")
    times = bin * (np.arange(len(expected)) + 0.5)
    every, per = -(-expected.shape[1] // LABELS), "s" if unit == "s" else "bin"
    for row, curve in enumerate(expected.T):
        most = float(np.nanmax(curve, initial=0.0))
        label = f"predicted rate (highest at the right, per {per})" if row == 0 else None
        height = row - HEIGHT / 2 + HEIGHT * curve / (most or 1.0)
        ax.plot(times, height, color=COLOURS[1], lw=1.1, label=label)
        if row % every == 0:
            how = {"color": COLOURS[1], "fontsize": 8, "va": "center"}
            place = {"xycoords": ("axes fraction", "data"), "annotation_clip": False}
            ax.annotate(f"{most / bin:.3g}", (1.01, row), **place, **how)


def plot_missing(recording: BatchLike, ax: Axes | None = None) -> Axes:
    """How much of each channel is missing in each trial, in per cent of the trial's bins.

    A dead channel is a dark row.

    Arguments:
        recording: a ``data.Recording``; an ``xarray.DataArray (trial, time, channel)``; or anything
            that ``data.as_batch`` takes.
        ax: where to plot; None makes a figure.

    Returns:
        The axes.
    """
    found, _ = recording_of(recording)
    share = np.stack([100 * np.isnan(trial.numpy()).mean(0) for trial in found.trials], 1)
    ax = make_axes(ax, (6.0, 3.6))
    how = {"cmap": "cividis_r", "vmin": 0, "vmax": 100, "interpolation": "nearest"}
    image = ax.imshow(share, aspect="auto", origin="lower", **how)
    ax.figure.colorbar(image, ax=ax, label="missing (% of bins)")
    for axis, names in ((ax.xaxis, found.names), (ax.yaxis, found.channels)):
        ticks = np.arange(0, len(names), -(-len(names) // LABELS))
        axis.set_ticks(ticks, [str(names[tick]) for tick in ticks])
    ax.tick_params(axis="x", labelrotation=90 if len(found.names) > 12 else 0, labelsize=8)
    ax.set(xlabel="trial", ylabel=found.unit)
    return ax
