"""Learning curves."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from .axes import make_axes, palette

if TYPE_CHECKING:  # matplotlib takes long to import
    from matplotlib.axes import Axes

STYLES = ("-", "--", ":")


def plot_learning(
    fits: Mapping[str, Any], figure: str | None = None, ax: Axes | None = None
) -> Axes:
    """Learning curves of several fits, with the epoch of the best validation marked.

    Arguments:
        fits: results of ``inference.fit``, by name.
        figure: which entry of their histories: ``"validation"``, ``"loss"``, or what else a rule
            reports, such as ``"log_likelihood"``. None is ``"validation"`` where every fit has it,
            otherwise ``"loss"``.
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
    entries = [{key for record in records for key in record} for records in histories.values()]
    if figure is None:
        figure = "validation" if all("validation" in keys for keys in entries) else "loss"
    for name, keys in zip(histories, entries):
        if figure not in keys:
            known = ", ".join(sorted(keys - {"epoch", "lr"})) or "nothing"
            raise ValueError(f"fit {name!r} has no {figure!r} in its history: it has {known}")
    ax = make_axes(ax, (6.0, 3.4), frame=False)
    for number, (name, colour) in enumerate(zip(histories, palette(len(histories)))):
        records = [record for record in histories[name] if figure in record]
        epochs = np.array([record["epoch"] for record in records])
        values = np.array([record[figure] for record in records])
        best, label = getattr(fits[name], "best", None) if figure == "validation" else None, name
        style: dict[str, Any] = {"color": colour, "ls": STYLES[number // len(STYLES) % len(STYLES)]}
        if best is not None:
            place = epochs == best["epoch"]
            label = f"{name}: best {float(values[place][0]):.4g}, epoch {int(best['epoch'])}"
            ax.plot(epochs[place], values[place], marker="*", ms=11, color=colour, mec="white")
        ax.plot(epochs, values, marker="." if len(values) < 20 else "", label=label, **style)
    ax.set(xlabel="epoch", ylabel=figure.replace("_", " "))
    ax.legend(frameon=False, fontsize=8)
    return ax
