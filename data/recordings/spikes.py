"""Counts of spikes, and means of traces, in bins of time."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from ..checks import check_real

#: Numbers of any form: nested lists, an array, or a tensor.
Numbers = Sequence[Any] | np.ndarray | Tensor
MOST_VALUES = 2**30  # of a recording, 4 GiB: a bin is far too short, or times are in another unit


def check_intervals(name: str, intervals: Numbers) -> np.ndarray:
    """Start and stop of intervals in seconds, ``[N, 2]``, float64, checked.

    Raises:
        ValueError: when they are not ``[N, 2]`` finite numbers, or one does not stop after it
            starts.
    """
    try:
        found = np.asarray(intervals, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name} must be numbers [N, 2], start and stop in seconds") from error
    if found.ndim != 2 or found.shape[1:] != (2,) or len(found) == 0:
        raise ValueError(
            f"{name} must be [N, 2], start and stop of each in seconds, got shape {found.shape}"
        )
    for row in np.flatnonzero(~(np.isfinite(found).all(1) & (found[:, 1] > found[:, 0]))):
        start, stop = found[row]
        raise ValueError(f"{name}: number {row} starts at {start:g} s and stops at {stop:g} s")
    return found


def trial_edges(
    trials: Numbers, bin: float, channels: int, names: Sequence[Any]
) -> tuple[list[int], list[np.ndarray]]:
    """Edges of all whole bins of every trial; the rest at the end of a trial is dropped.

    Arguments:
        trials: start and stop of each trial in seconds, ``[N, 2]``.
        bin: width of a bin in seconds.
        channels: number of channels ``M``, for a bound on memory.
        names: of trials, for warnings.

    Returns:
        The numbers of the trials that have a bin, and the edges ``[T_i + 1]`` of each.

    Raises:
        ValueError: when no trial has a whole bin, or all trials have too many.

    Warns:
        UserWarning: when trials overlap, or some are shorter than a bin.
    """
    intervals = check_intervals("trials", trials)
    check_real("bin", bin, above=0)
    length, rounding = intervals[:, 1] - intervals[:, 0], _rounding(intervals)
    bins = np.floor((length + 2 * rounding) / bin + 1e-6)  # 2.0 s are 100 bins of 0.02 s
    rows, short = np.flatnonzero(bins >= 1).tolist(), np.flatnonzero(bins < 1).tolist()
    if len(rows) == 0:
        raise ValueError(f"no trial has a whole bin of {bin:g} s: the longest has {length.max():g}")
    if bins.sum() * channels > MOST_VALUES:
        raise ValueError(
            f"{bins.sum():.0f} bins of {bin:g} s and {channels} channels are too many for memory: "
            "take a longer bin, and see that times are in seconds"
        )
    if len(short):
        warn_of("shorter than a bin, and left out", [names[row] for row in short])
    order = intervals[:, 0].argsort(kind="stable")
    overlap = np.flatnonzero(intervals[order[1:], 0] < intervals[order[:-1], 1] - rounding)
    if len(overlap):
        first, second = (names[int(order[overlap[0] + i])] for i in (0, 1))
        warnings.warn(
            f"trials {first} and {second} overlap, and {len(overlap)} pairs in all: their spikes "
            "count in both, so that a split by trials shares data between its parts",
            stacklevel=4,
        )
    return rows, [intervals[row, 0] + bin * np.arange(bins[row] + 1) for row in rows]


def warn_of(problem: str, names: Sequence[Any]) -> None:
    """Warns of some trials, of which it names the first five."""
    more = f" and {len(names) - 5} more" if len(names) > 5 else ""
    listed = ", ".join(str(name) for name in names[:5])
    warnings.warn(f"trials {problem}: {listed}{more}", stacklevel=5)


def count_spikes(times: Sequence[np.ndarray], edges: np.ndarray) -> np.ndarray:
    """Number of spikes in each bin, ``[T, M]``, float32.

    A spike at an edge belongs to the later bin.

    Arguments:
        times: spike times of each unit in seconds, sorted; a unit may have none.
        edges: edges of the bins, ``[T + 1]``.
    """
    at = edges - _rounding(edges)
    counts = [np.diff(np.searchsorted(unit, at)) for unit in times]
    return np.stack(counts, 1).astype(np.float32)


def mean_in_bins(time: np.ndarray, values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Mean of the samples in each bin, NaN where there is none, ``[T, M]``, float32.

    Arguments:
        time: times of the samples in seconds, sorted, ``[S]``.
        values: samples, ``[S, M]``; NaN is missing.
        edges: edges of the bins, ``[T + 1]``.
    """
    first = np.searchsorted(time, edges - _rounding(edges))
    values, first = values[first[0] : first[-1]], first - first[0]
    seen = np.isfinite(values)
    zero = np.zeros((1, values.shape[1]))
    total = np.concatenate((zero, np.where(seen, values, 0.0).cumsum(0)))
    number = np.concatenate((zero, seen.cumsum(0)))
    total, number = total[first[1:]] - total[first[:-1]], number[first[1:]] - number[first[:-1]]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(number > 0, total / number, np.nan).astype(np.float32)


def covered(intervals: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """True where a bin lies wholly within one of several intervals ``[N, 2]``; ``[T]``."""
    start, stop = edges[:-1, None], edges[1:, None]
    within = _rounding(edges)
    inside = (start >= intervals[:, 0] - within) & (stop <= intervals[:, 1] + within)
    return np.asarray(inside.any(1))


def sorted_times(name: str, times: Numbers) -> np.ndarray:
    """Spike times in seconds as a sorted float64 array, checked.

    Raises:
        ValueError: when they are not one-dimensional numbers, or one is NaN or infinite.
    """
    try:
        found = np.asarray(times, dtype=np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError(f"spike times of {name} are no list of numbers") from error
    if found.ndim != 1:
        raise ValueError(f"spike times of {name} must be a list, got shape {found.shape}")
    if not np.isfinite(found).all():
        raise ValueError(f"spike times of {name} hold NaN or infinity: leave these out")
    return np.sort(found)


def _rounding(times: np.ndarray) -> float:
    """How far times that are equal may differ in float64: more for times since 1970."""
    return max(1e-9, 2 * float(np.spacing(np.abs(times).max())))
