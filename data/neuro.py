"""Spikes, traces and trials in the formats of neuroscience: NWB files and pynapple objects."""

from __future__ import annotations

from os import PathLike
from typing import Any

import numpy as np

from .files import DataError


def read_nwb(path: str | PathLike, trials: str | None = "trials") -> dict[str, Any]:
    """The spike times of all units in an NWB file, and its trials.

    Times in an NWB file are seconds after one reference time, whatever the clocks and time zones of
    the devices. A unit's ``obs_intervals`` say when it was recorded.

    Arguments:
        path: the file.
        trials: name of a table of time intervals; None for none.

    Returns:
        Arguments of ``Recording.from_spikes`` but the bin: ``times``, ``trials``, ``observed``,
        ``names`` and ``conditions``, the table's columns with one number or word a trial.

    Raises:
        DataError: when the file cannot be read, or has no units or no such table.
        ImportError: where pynwb is not installed.
    """
    try:
        import pynwb  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            "NWB files need pynwb: pip install 'seqzoo[neuro]', or pip install pynwb"
        ) from error
    try:
        reader: Any = pynwb.NWBHDF5IO
        with reader(str(path), "r", load_namespaces=True) as file:
            return _read(file.read(), str(path), trials)
    except DataError:
        raise
    except FileNotFoundError as error:
        raise DataError(f"there is no file {path}") from error
    except Exception as error:  # h5py, hdmf and pynwb raise many kinds
        raise DataError(f"{path} is no NWB file that pynwb reads: {error}") from error


def _read(file: Any, path: str, trials: str | None) -> dict[str, Any]:
    units = file.units
    if units is None or len(units) == 0 or "spike_times" not in units.colnames:
        raise DataError(f"{path} has no units with spike times: see Recording.from_traces")
    labels = [int(label) for label in units.id[:]]
    found: dict[str, Any] = {
        "times": {label: np.asarray(units["spike_times"][i]) for i, label in enumerate(labels)},
        "observed": None,
    }
    if "obs_intervals" in units.colnames:
        when = {label: np.asarray(units["obs_intervals"][i]) for i, label in enumerate(labels)}
        found["observed"] = {label: each for label, each in when.items() if each.size}
    if trials is None:
        return found
    tables = file.intervals or {}
    table = file.trials if trials == "trials" else tables.get(trials)
    if table is None:
        known = ", ".join(sorted(name for name in tables)) or "none"
        raise DataError(f"{path} has no table of intervals {trials!r}: it has {known}")
    frame = table.to_dataframe()
    real = np.isfinite(frame[["start_time", "stop_time"]].to_numpy(dtype=float)).all(1)
    frame = frame[real]
    if len(frame) == 0:
        raise DataError(f"the table {trials!r} of {path} has no interval with a start and a stop")
    found["trials"] = frame[["start_time", "stop_time"]].to_numpy(dtype=float)
    found["names"] = [int(name) for name in frame.index]
    found["conditions"] = {
        str(name): list(column)
        for name, column in frame.items()
        if name not in ("start_time", "stop_time")
        and all(isinstance(each, str | int | float | bool | np.generic) for each in column)
    }
    return found


def read_pynapple(units: Any, trials: Any = None) -> dict[str, Any]:
    """Spike times of a pynapple ``TsGroup``, or samples of a ``TsdFrame`` or ``Tsd``.

    Arguments:
        units: the object.
        trials: an ``IntervalSet``; the object's time support when left out.

    Returns:
        Arguments of ``Recording.from_spikes`` or ``Recording.from_traces`` but the bin.

    Raises:
        ValueError: for other objects.
    """
    kind, support = type(units).__name__, trials
    if kind not in ("TsGroup", "TsdFrame", "Tsd"):
        raise ValueError(f"a pynapple TsGroup, TsdFrame or Tsd is wanted, got a {kind}")
    support = units.time_support if trials is None else trials
    if type(support).__name__ != "IntervalSet":
        raise ValueError(f"trials must be a pynapple IntervalSet, got a {type(support).__name__}")
    intervals = np.stack((np.asarray(support.start), np.asarray(support.end)), 1)
    if kind == "TsGroup":
        spikes = {key: np.asarray(units[key].t) for key in list(units.keys())}
        return {"times": spikes, "trials": intervals}
    values = np.asarray(units.d)
    channels = list(units.columns) if kind == "TsdFrame" else [0]
    values = values[:, None] if values.ndim == 1 else values
    time = np.asarray(units.t)
    return {"time": time, "values": values, "trials": intervals, "channels": channels}
