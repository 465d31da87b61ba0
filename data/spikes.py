"""Counts of spikes, and means of traces, in bins of time."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from torch import Tensor

from .checks import check_real

#: Numbers of any form: nested lists, an array, or a tensor.
Numbers = Sequence[Any] | np.ndarray | Tensor
MOST_BINS = 10_000_000  # of a trial: a bin is far too short, or times are in another unit


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


def bin_edges(start: float, stop: float, bin: float) -> np.ndarray:
    """Edges of all whole bins between two times, ``[T + 1]``; what is left at the end is dropped.

    Arguments:
        start, stop: the times, in seconds.
        bin: width of a bin, in seconds.

    Raises:
        ValueError: when no bin fits, or very many do.
    """
    check_real("bin", bin, above=0)
    bins = int(np.floor((stop - start) / bin + 1e-6))  # 2.0 s are 100 bins of 0.02 s
    if bins < 1:
        raise ValueError(f"from {start:g} to {stop:g} s there is no whole bin of {bin:g} s")
    if bins > MOST_BINS:
        raise ValueError(f"{bins} bins of {bin:g} s in a trial: are its times in seconds?")
    return start + bin * np.arange(bins + 1)


def count_spikes(times: Sequence[np.ndarray], edges: np.ndarray) -> np.ndarray:
    """Number of spikes in each bin, ``[T, M]``, float32.

    A spike at an edge belongs to the later bin.

    Arguments:
        times: spike times of each unit in seconds, sorted; a unit may have none.
        edges: edges of the bins, ``[T + 1]``.
    """
    counts = [np.diff(np.searchsorted(unit, edges - 1e-9)) for unit in times]
    return np.stack(counts, 1).astype(np.float32)


def mean_in_bins(time: np.ndarray, values: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """Mean of the samples in each bin, NaN where there is none, ``[T, M]``, float32.

    Arguments:
        time: times of the samples in seconds, sorted, ``[S]``.
        values: samples, ``[S, M]``; NaN is missing.
        edges: edges of the bins, ``[T + 1]``.
    """
    first = np.searchsorted(time, edges - 1e-9)
    seen = np.isfinite(values)
    zero = np.zeros((1, values.shape[1]))
    total = np.concatenate((zero, np.where(seen, values, 0.0).cumsum(0, dtype=np.float64)))
    number = np.concatenate((zero, seen.cumsum(0)))
    total, number = total[first[1:]] - total[first[:-1]], number[first[1:]] - number[first[:-1]]
    with np.errstate(invalid="ignore", divide="ignore"):
        return np.where(number > 0, total / number, np.nan).astype(np.float32)


def covered(intervals: np.ndarray, edges: np.ndarray) -> np.ndarray:
    """True where a bin lies wholly within one of several intervals ``[N, 2]``; ``[T]``."""
    start, stop = edges[:-1, None], edges[1:, None]
    inside = (start >= intervals[:, 0] - 1e-9) & (stop <= intervals[:, 1] + 1e-9)
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
