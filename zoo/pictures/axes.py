"""Axes, colours and data that the pictures of recordings have in common."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data import BatchLike, Recording, as_batch
from ...data.checks import check_number
from ...inference.diagnostics.values import Values, as_tensor

if TYPE_CHECKING:  # matplotlib and xarray take long to import
    from matplotlib.axes import Axes

#: Colours that the colour-blind tell apart too: Okabe and Ito, "Color universal design" (2008).
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
BRIGHTEST = 0.9  # of a colour scale: lighter lines are lost on white
INK, PALE = "#333333", "#d9d9d9"  # spikes; missing values


def make_axes(
    ax: Axes | None, size: tuple[float, float], dims: int = 2, frame: bool = True
) -> Axes:
    """The axes to plot on: those given, or those of a new figure.

    Arguments:
        ax: the axes; None makes a figure.
        size: inches of a new figure.
        dims: 3 for axes in three dimensions.
        frame: whether new axes keep the lines at their top and right.

    Raises:
        ValueError: for axes of other dimensions.
    """
    if ax is None:
        from matplotlib import pyplot

        how: dict[str, Any] = {"projection": "3d"} if dims == 3 else {}
        made: Any  # its stubs know axes of two dimensions alone
        _, made = pyplot.subplots(figsize=size, layout="constrained", subplot_kw=how)
        if dims == 3:
            made.set_box_aspect(None, zoom=0.85)  # else a label is cut off
        elif not frame:
            made.spines[["top", "right"]].set_visible(False)
        return made
    if (3 if hasattr(ax, "get_zlim") else 2) != dims:
        raise ValueError(
            f"a picture in {dims} dimensions takes other axes: make them with "
            + ("plt.subplot(projection='3d')" if dims == 3 else "plt.subplots()")
        )
    return ax


def palette(number: int) -> list[Any]:
    """Colours that can be told apart: named ones, or a scale where they are many."""
    if number <= len(COLOURS):
        return list(COLOURS[:number])
    from matplotlib import colormaps

    return [colormaps["cividis"](share) for share in np.linspace(0, BRIGHTEST, number)]


def recording_of(data: BatchLike) -> tuple[Recording, str]:
    """Data of any form as a recording, and the unit of its times.

    Times are seconds, or bins where the data have none.
    """
    if isinstance(data, Recording):
        return data, "s"
    if hasattr(data, "dims"):  # an xarray.DataArray
        return Recording.from_xarray(data), "s"  # pyright: ignore[reportArgumentType]
    return Recording.from_batch(as_batch(data), unit="channel"), "bins"


def trial_of(recording: Recording, trial: int) -> int:
    """The number of a trial, checked.

    Raises:
        ValueError: for a number that is none of the trials'.
    """
    return check_number("trial", trial, 0, len(recording) - 1)


def channels_of(recording: Recording, channels: Sequence[int] | None) -> list[int]:
    """The numbers of the channels that are plotted, checked.

    Raises:
        ValueError: for a number that is none of the channels', or an empty list.
    """
    width = len(recording.channels)
    chosen = list(range(width)) if channels is None else list(channels)
    if not chosen:
        raise ValueError("channels: name one or more to plot")
    return [check_number("channels", each, 0, width - 1) for each in chosen]


def beside(recording: Recording, values: Values, name: str) -> np.ndarray:
    """Values of the same trials and channels as a recording's, ``[N, T, M]``.

    Raises:
        ValueError: for other shapes, or labels that are not the recording's.
    """
    found = as_tensor(values, name).cpu().numpy()
    bins, width = int(recording.lengths.max()), len(recording.channels)
    if found.ndim != 3 or (len(found), found.shape[2]) != (len(recording), width):
        raise ValueError(
            f"{name} must be [{len(recording)}, T, {width}] as the recording, got {found.shape}"
        )
    if found.shape[1] < bins:
        raise ValueError(f"{name} have {found.shape[1]} bins, the longest trial has {bins}")
    dims, coords = getattr(values, "dims", ()), getattr(values, "coords", {})
    for axis, labels in ((0, recording.names), (2, recording.channels)):
        if dims and dims[axis] in coords:
            others = np.asarray(coords[dims[axis]]).tolist()
            if others != list(range(len(labels))) and others != np.asarray(labels).tolist():
                raise ValueError(f"{name} are of other {dims[axis]}s than the recording's")
    return found


def runs(missing: np.ndarray) -> list[tuple[int, int]]:
    """First bin and number of bins of each run of True, of ``[T]``."""
    edges = np.flatnonzero(np.diff(np.concatenate(([0], missing.astype(int), [0]))))
    return [(int(start), int(stop - start)) for start, stop in edges.reshape(-1, 2)]
