"""Labelled arrays and tables, xarray and pandas, to and from trials of values in bins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    import pandas
    import xarray


def read_xarray(array: xarray.DataArray) -> dict[str, Any]:
    """Trials of a labelled array.

    The time axis sets the bin. Bins at the end of a trial where all channels are NaN are padding.
    Coordinates along ``trial`` become conditions; ``start`` is the time of a trial's first bin.

    Arguments:
        array: axes ``trial`` (which may lack), ``time`` in seconds, and one of channels.

    Returns:
        Arguments of ``Recording``.

    Raises:
        ValueError: for other axes, or a time axis whose steps differ.
    """
    if "time" not in array.dims or not 2 <= array.ndim <= 3:
        raise ValueError(f"the axes must be trial, time and channels, got {array.dims}")
    if "trial" not in array.dims:
        array = array.expand_dims("trial")
    others = [name for name in array.dims if name not in ("trial", "time")]
    if len(others) != 1:
        raise ValueError(f"the axes must be trial, time and channels, got {array.dims}")
    array = array.transpose("trial", "time", others[0])
    bin, first = _steps(array["time"].values)
    values = np.asarray(array.values, dtype=np.float32)
    ends = [np.flatnonzero(~np.isnan(trial).all(1)) for trial in values]
    known = "start" in array.coords
    along = {
        str(name): list(found.values)
        for name, found in array.coords.items()
        if found.dims == ("trial",) and name not in ("trial", "start")
    }
    return {
        "trials": [trial[: end[-1] + 1] if len(end) else trial for trial, end in zip(values, ends)],
        "bin": bin,
        "starts": array["start"].values if known else np.full(len(values), first),
        "channels": list(array[others[0]].values),
        "names": list(array["trial"].values),
        "conditions": along,
    }


def read_pandas(frame: pandas.DataFrame, trial: str | None = None) -> dict[str, Any]:
    """Trials of a table with a row for each bin and a column for each channel.

    Arguments:
        frame: the table, indexed by time in seconds, in order within each trial.
        trial: name of the column, or of the level of the index, that says which trial a row belongs
            to; None where the table is one trial.

    Returns:
        Arguments of ``Recording``.

    Raises:
        ValueError: for a table without such a column, or times whose steps differ.
    """
    if trial is None:
        parts = [(0, frame)]
    elif trial in frame.columns or trial in frame.index.names:
        parts = [(name, part) for name, part in frame.groupby(trial, sort=False)]
    else:
        raise ValueError(f"the table has no column or level of the index called {trial!r}")
    trials, starts, bins = [], [], []
    for _, part in parts:
        levels = [name for name in part.index.names if name != trial or trial is None]
        if len(levels) != 1:
            raise ValueError(f"the index must be time alone, beside the trial: it has {levels}")
        at = part.index if part.index.nlevels == 1 else part.index.get_level_values(levels[0])
        bin, first = _steps(np.asarray(at))
        bins += [bin] if len(part) > 1 else []
        starts.append(first)
        trials.append(part.drop(columns=trial, errors="ignore") if trial else part)
    if bins and not np.allclose(bins, bins[0], rtol=1e-3):
        raise ValueError("the bins of the trials differ: bin the data alike")
    return {
        "trials": [part.to_numpy(dtype=np.float32) for part in trials],
        "bin": float(np.mean(bins)) if bins else 1.0,
        "starts": starts,
        "channels": list(trials[0].columns),
        "names": [name for name, _ in parts],
    }


def write_xarray(
    values: np.ndarray,
    bin: float,
    starts: np.ndarray,
    channels: Mapping[str, Sequence[Any]],
    names: Sequence[Any],
    conditions: Mapping[str, Sequence[Any]],
) -> xarray.DataArray:
    """A labelled array ``(trial, time, unit)`` that ``read_xarray`` reads back.

    Arguments:
        values: ``[N, T, M]``, NaN where missing.
        bin: seconds.
        starts: time of each trial's first bin, in seconds.
        channels: the axis of channels and their names.
        names, conditions: of trials.
    """
    import xarray

    ((unit, labels),) = channels.items()
    coords: dict[str, Any] = {
        "trial": list(names),
        "time": bin * np.arange(values.shape[1]),
        unit: list(labels),
        "start": ("trial", starts),
        **{name: ("trial", list(found)) for name, found in conditions.items()},
    }
    return xarray.DataArray(values, coords, ("trial", "time", unit))


def _steps(time: Any) -> tuple[float, float]:
    """The step of a time axis and its first time, in seconds.

    Raises:
        ValueError: when the steps differ, or the axis is no time.
    """
    try:
        at = np.asarray(time)
        seconds = at / np.timedelta64(1, "s") if at.dtype.kind == "m" else at.astype(np.float64)
    except (TypeError, ValueError) as error:
        raise ValueError("the time axis must be seconds") from error
    steps = np.diff(seconds)
    if len(steps) and not (np.allclose(steps, steps[0], rtol=1e-3) and steps[0] > 0):
        raise ValueError("the steps of the time axis differ: bin the data, see from_traces")
    return (float(steps.mean()) if len(steps) else 1.0), float(seconds[0])
