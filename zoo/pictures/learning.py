"""Learning curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .axes import make_axes, palette

if TYPE_CHECKING:  # matplotlib takes long to import
    from matplotlib.axes import Axes

#: What a history may hold, the most telling first, and its sign where less is better.
FIGURES = {"validation": 1, "loss": 1, "log_likelihood": -1}


def plot_learning(
    fits: Mapping[str, Any],
    figure: str | None = None,
    scaled: bool = False,
    ax: Axes | None = None,
) -> Axes:
    """Learning curves of several fits, with the lowest validation marked.

    Arguments:
        fits: results of ``inference.fit`` by name, or those of ``zoo.compare``.
        figure: which entry of their histories: ``"validation"``, ``"loss"``, or what else a rule
            reports, such as ``"log_likelihood"``. None is ``"validation"`` where every fit has it,
            otherwise ``"loss"``.
        scaled: draw each curve from 1 at its start to 0 at its best, over its own run: for fits
            whose losses have different units. Where ``figure`` is None, each has the first of
            validation, loss and log-likelihood that it has.
        ax: where to plot; None makes a figure.

    Returns:
        The axes.

    Raises:
        ValueError: when there is no fit, or one lacks that entry.

    Example:
        >>> plot_learning({"local": local, "through time": bptt}, "loss")
    """
    histories = {name: list(fit.history) for name, fit in fits.items()}
    if not histories:
        raise ValueError("there is no fit to plot")
    entries = {name: {key for each in found for key in each} for name, found in histories.items()}
    shared = "validation" if all("validation" in keys for keys in entries.values()) else "loss"
    chosen = {}
    for name, keys in entries.items():
        own = next((key for key in FIGURES if key in keys), "loss")
        chosen[name] = figure or (own if scaled else shared)
        if chosen[name] not in keys:
            known = ", ".join(sorted(keys - {"epoch", "lr"})) or "nothing"
            raise ValueError(f"fit {name!r} has no {chosen[name]!r} in its history: it has {known}")
    ax = make_axes(ax, (6.0, 3.4), frame=False)
    for (name, entry), colour in zip(chosen.items(), palette(len(chosen))):
        records = [record for record in histories[name] if entry in record]
        epochs = np.array([record["epoch"] for record in records])
        values = np.array([record[entry] for record in records])
        lowest = int((FIGURES.get(entry, 1) * values).argmin())
        label = f"{name}: {entry.replace('_', ' ')}" if scaled else name
        if entry == "validation":
            label = f"{name}: best {values[lowest]:.4g}, epoch {int(epochs[lowest])}"
        if scaled:
            epochs = 100 * (epochs + 1) / (histories[name][-1]["epoch"] + 1)
            values = (values - values[lowest]) / ((values[0] - values[lowest]) or 1.0)
        ax.plot(epochs, values, color=colour, marker="." if len(values) < 20 else "", label=label)
        if entry == "validation":
            star = {"marker": "*", "ms": 11, "color": colour, "mec": "white", "zorder": 3}
            ax.plot(epochs[lowest], values[lowest], **star)
    ax.set_xlabel("part of the run (%)" if scaled else "epoch")
    shown = next(iter(chosen.values())).replace("_", " ")
    ax.set_ylabel("loss: 1 at the start, 0 at its best" if scaled else shown)
    ax.legend(frameon=False, fontsize=8)
    return ax
