"""Labelled arrays and tables, xarray and pandas, to and from trials of values in bins."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from .names import instead

if TYPE_CHECKING:
    import pandas
    import xarray
    from torch import Tensor


def read_xarray(array: xarray.DataArray) -> dict[str, Any]:
    """Trials of a labelled array.

    The time axis sets the bin. Coordinates along ``trial`` become conditions, but ``start``, the
    time of a trial's first bin, and ``bins``, their number. Without ``bins``, bins at the end of a
    trial where all channels are NaN are padding. Coordinates along ``time`` become inputs.

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
    bin = float(array.attrs.get("bin", bin)) if array.sizes["time"] == 1 else bin
    values = np.asarray(array.values, dtype=np.float32)
    ends = [np.flatnonzero(~np.isnan(trial).all(1)) for trial in values]
    lengths = [int(end[-1]) + 1 if len(end) else len(trial) for trial, end in zip(values, ends)]
    if "bins" in array.coords:
        lengths = [int(number) for number in array["bins"].values]
    known = "start" in array.coords
    along = {
        str(name): list(found.values)
        for name, found in array.coords.items()
        if found.dims == ("trial",) and name not in ("trial", "start", "bins")
    }
    inputs = {
        str(name): found.broadcast_like(array["trial"]).transpose("trial", "time").values
        for name, found in array.coords.items()
        if "time" in found.dims and set(found.dims) <= {"trial", "time"} and name != "time"
    }
    for name, found in inputs.items():
        if found.dtype.kind not in "biuf":
            raise ValueError(f"the coordinate {name!r} along time holds no numbers: leave it out")
    every = np.stack(list(inputs.values()), -1) if inputs else None
    return {
        "trials": [trial[:length] for trial, length in zip(values, lengths)],
        "bin": bin,
        "starts": array["start"].values if known else np.full(len(values), first),
        "channels": list(array[others[0]].values),
        "names": list(array["trial"].values),
        "conditions": along,
        "inputs": every if every is None else [x[:n] for x, n in zip(every, lengths)],
        "input_names": list(inputs) or None,
    }


def read_pandas(
    frame: pandas.DataFrame, trial: str | None = None, inputs: Sequence[str] = ()
) -> dict[str, Any]:
    """Trials of a table with a row for each bin and a column for each channel.

    Columns of words that do not change within a trial become conditions.

    Arguments:
        frame: the table, indexed by time in seconds, in order within each trial.
        trial: name of the column, or of the level of the index, that says which trial a row belongs
            to; None where the table is one trial.
        inputs: names of the columns that are inputs, and no channels.

    Returns:
        Arguments of ``Recording``.

    Raises:
        ValueError: for a table without such a column, or times whose steps differ.
    """
    for name in inputs:
        if name not in frame.columns:
            near = instead(str(name), [str(each) for each in frame.columns])
            raise ValueError(f"the table has no column {name!r} for an input: {near}")
    if trial is None:
        parts = [(0, frame)]
    elif trial in frame.columns or trial in frame.index.names:
        parts = [(name, part) for name, part in frame.groupby(trial, sort=False)]
    else:
        near = instead(str(trial), [str(each) for each in frame.columns])
        raise ValueError(f"the table has no column or level of the index {trial!r}: {near}")
    words = [name for name, column in frame.items() if _is_word(column) and name != trial]
    kinds = {name: [part[name].unique() for _, part in parts] for name in words}
    for name, values in kinds.items():
        if any(len(each) != 1 for each in values):
            raise ValueError(f"column {name!r} holds words that change within a trial: drop it")
    others = {*inputs, *words, trial}
    trials, known, starts, bins = [], [], [], []
    for _, part in parts:
        levels = [name for name in part.index.names if name != trial or trial is None]
        if len(levels) != 1:
            raise ValueError(f"the index must be time alone, beside the trial: it has {levels}")
        at = part.index if part.index.nlevels == 1 else part.index.get_level_values(levels[0])
        bin, first = _steps(np.asarray(at))
        bins += [bin] if len(part) > 1 else []
        starts.append(first)
        known.append(_numbers(part.loc[:, list(inputs)]))
        trials.append(part[[name for name in part.columns if name not in others]])
    if bins and not np.allclose(bins, bins[0], rtol=1e-3):
        raise ValueError("the bins of the trials differ: bin the data alike")
    return {
        "trials": [_numbers(part) for part in trials],
        "bin": float(np.mean(bins)) if bins else 1.0,
        "starts": starts,
        "channels": list(trials[0].columns),
        "names": [name for name, _ in parts],
        "inputs": known if inputs else None,
        "input_names": list(inputs) or None,
        "conditions": {str(name): [each[0] for each in values] for name, values in kinds.items()},
    }


def write_xarray(
    values: np.ndarray,
    bin: float,
    starts: np.ndarray,
    channels: Mapping[str, Sequence[Any]],
    names: Sequence[Any],
    conditions: Mapping[str, Sequence[Any]],
    lengths: np.ndarray,
    inputs: Mapping[str, Tensor],
) -> xarray.DataArray:
    """A labelled array ``(trial, time, unit)`` that ``read_xarray`` reads back.

    Arguments:
        values: ``[N, T, M]``, NaN where missing.
        bin: seconds.
        starts: time of each trial's first bin, in seconds.
        channels: the axis of channels and their names.
        names, conditions: of trials.
        lengths: bins of each trial, ``[N]``.
        inputs: each ``[N, T]``, by name.

    Raises:
        ValueError: for an input or a condition that has the name of another coordinate.
    """
    import xarray

    ((unit, labels),) = channels.items()
    taken = ["trial", "time", unit, "start", "bins"]
    for name in (*conditions, *inputs):
        if name in taken:
            raise ValueError(f"{name!r} would name two coordinates: rename the input or condition")
        taken.append(name)
    ended = np.arange(values.shape[1]) >= lengths[:, None]
    coords: dict[str, Any] = {
        "trial": list(names),
        "time": bin * np.arange(values.shape[1]),
        unit: list(labels),
        "start": ("trial", starts),
        "bins": ("trial", lengths),
        **{name: ("trial", list(found)) for name, found in conditions.items()},
        **{
            name: (("trial", "time"), np.where(ended, np.nan, found.numpy()))
            for name, found in inputs.items()
        },
    }
    return xarray.DataArray(values, coords, ("trial", "time", unit), attrs={"bin": bin})


def _is_word(column: pandas.Series) -> bool:
    return getattr(column.dtype, "kind", "O") not in "biuf" and column.notna().all()


def _numbers(part: pandas.DataFrame) -> np.ndarray:
    """Columns of a table as float32.

    Raises:
        ValueError: for a column that holds something else, by its name.
    """
    for name, kind in part.dtypes.items():
        if getattr(kind, "kind", "O") not in "biuf":
            raise ValueError(f"column {name!r} holds no numbers but {kind}: leave it out")
    return part.to_numpy(dtype=np.float32, na_value=np.nan)


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
