"""Spikes, traces and trials in the formats of neuroscience: NWB files and pynapple objects."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..files import DataError, check_file
from .names import instead


def read_nwb(
    path: str | PathLike,
    trials: str | None = "trials",
    units: Mapping[str, Any] | None = None,
    inputs: Sequence[str] = (),
    unit_table: str = "units",
) -> dict[str, Any]:
    """The spike times of the units in an NWB file, its trials, and time series beside them.

    Times in an NWB file are seconds after one reference time, whatever the clocks and time zones of
    the devices. A unit's ``obs_intervals`` say when it was recorded. Trials without a start or a
    stop are left out with a warning.

    Arguments:
        path: the file.
        trials: name of a table of time intervals; None for none.
        units: which units, by columns of their table or of the table of electrodes: one value or a
            list of values that are wanted; all when left out.
        inputs: names of time series in acquisition, stimuli or processing modules. The end of a
            path such as ``processing/behavior/Position/hand`` will do where it names one series.
        unit_table: name of the table of units, in the file or in one of its processing modules.

    Returns:
        Arguments of ``Recording.from_spikes`` but the bin: ``times``, ``trials``, ``observed``,
        ``inputs``, ``names`` and ``conditions``, the table's columns with one number or word a
        trial.

    Raises:
        DataError: when the file cannot be read, or has no units, table or series of that name.
        ImportError: where pynwb is not installed.
    """
    try:
        import pynwb  # pyright: ignore[reportMissingImports]
    except ImportError as error:
        raise ImportError(
            "NWB files need pynwb: pip install 'seqzoo[neuro]', or pip install pynwb"
        ) from error
    if isinstance(inputs, str):
        raise ValueError(f"inputs must be a list of names, such as [{inputs!r}]")
    if Path(path).is_dir() and any(Path(path).glob(".z*")) | Path(path, "zarr.json").exists():
        raise DataError(f"{path} is a Zarr store: export it as an NWB file of HDF5")
    check_file(path)
    try:
        reader: Any = pynwb.NWBHDF5IO
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of versions of cached specifications
            file = reader(str(path), "r", load_namespaces=True)
    except Exception as error:  # h5py, hdmf and pynwb raise many kinds
        raise _unreadable(path, error) from error
    with file:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                content = file.read()
            found = _units(content, str(path), unit_table, units or {})
            found |= _trials(content, str(path), trials)
            found["inputs"] = _inputs(content, str(path), inputs) or None
        except DataError:
            raise
        except Exception as error:
            raise _unreadable(path, error) from error
    return found


def _unreadable(path: str | PathLike, error: Exception) -> DataError:
    reason = str(error).strip().splitlines() or [type(error).__name__]
    return DataError(f"{path} is no NWB file that pynwb reads: {reason[0]}")


def _units(file: Any, path: str, name: str, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Spike times of units, and the intervals in which each was recorded."""
    tables = {
        each.name: each
        for each in (file.units, *(x for m in file.processing.values() for x in _inside(m)))
        if hasattr(each, "colnames") and "spike_times" in each.colnames
    }
    table = tables.get(name)
    if table is None and tables:
        raise DataError(f"{path} has no table of units {name!r}: {instead(name, tables)}")
    if table is None or len(table) == 0:
        raise DataError(f"{path} has no units with spike times: see Recording.from_traces")
    rows = np.arange(len(table))
    for column, values in wanted.items():
        known = _of_units(file, path, table, column)
        accepted = values if isinstance(values, list | tuple | set) else [values]
        rows = rows[[known[row] in accepted for row in rows]]
        if len(rows) == 0:
            there = ", ".join(sorted({str(each) for each in known})[:8])
            raise DataError(f"no unit of {path} has {column} {values!r}: there are {there}")
    ids = [int(each) for each in table.id[:]]
    labels = ids if len(set(ids)) == len(ids) else list(range(len(ids)))
    times = {labels[row]: np.asarray(table["spike_times"][row]) for row in rows.tolist()}
    strange = sum(int((~np.isfinite(each)).sum()) for each in times.values())
    if strange:
        warnings.warn(f"{strange} spikes have no time and are left out", stacklevel=4)
    found: dict[str, Any] = {"times": {x: each[np.isfinite(each)] for x, each in times.items()}}
    if "obs_intervals" in table.colnames:
        when = {labels[row]: np.asarray(table["obs_intervals"][row]) for row in rows.tolist()}
        found["observed"] = {
            x: each[each[:, 1] > each[:, 0]] for x, each in when.items() if each.size
        }
    return found


def _of_units(file: Any, path: str, table: Any, column: str) -> list[Any]:
    """The value of a column for each unit: its own, or that which its electrodes share."""
    electrodes = getattr(file, "electrodes", None)
    further = (
        () if electrodes is None or "electrodes" not in table.colnames else electrodes.colnames
    )
    if column in table.colnames and _one_a_row(table[column], len(table)):
        return [_plain(each) for each in table[column].data[:]]
    if column in table.colnames or column not in further:
        known = [*table.colnames, *further]
        problem = "has no single number or word for a unit"
        if column not in table.colnames:
            problem = f"is not there: {instead(column, known)}"
        raise DataError(f"column {column!r} of the units of {path} {problem}")
    found = []
    for row in range(len(table)):
        shared = {_plain(each) for each in table["electrodes"][row][column]}
        found.append(shared.pop() if len(shared) == 1 else None)
    return found


def _trials(file: Any, path: str, name: str | None) -> dict[str, Any]:
    """Start and stop of trials, their names and conditions."""
    if name is None:
        return {}
    tables = {str(key): table for key, table in (file.intervals or {}).items()}
    tables |= {"trials": file.trials} if file.trials is not None else {}
    if name not in tables:
        has = f"it has {', '.join(sorted(tables)) or 'none'}"
        raise DataError(
            f"{path} has no table of intervals {name!r}: {has}, and trials=None takes the whole "
            "recording as one trial"
        )
    table = tables[name]
    times = np.stack([np.asarray(table[key][:], float) for key in ("start_time", "stop_time")], 1)
    real = np.isfinite(times).all(1)
    if not real.any():
        raise DataError(f"the table {name!r} of {path} has no interval with a start and a stop")
    if not real.all():
        warnings.warn(
            f"{(~real).sum()} of {len(times)} trials have no start or no stop and are left out",
            stacklevel=4,
        )
    rows = np.flatnonzero(real)
    conditions = {}
    for key in table.colnames:
        if key not in ("start_time", "stop_time") and _one_a_row(table[key], len(table)):
            values = table[key].data[:]
            conditions[str(key)] = [_plain(values[row]) for row in rows]
    return {
        "trials": times[real],
        "names": [int(table.id[int(row)]) for row in rows],
        "conditions": conditions,
    }


def _one_a_row(column: Any, rows: int) -> bool:
    """Whether a column of a table has a number or a word for each row."""
    data = column.data
    if hasattr(column, "target") or hasattr(column, "table") or len(data) != rows:  # ragged, links
        return False
    return all(isinstance(_plain(each), str | int | float | bool) for each in data[:])


def _plain(value: Any) -> Any:
    """A number or a word of Python, from numpy or h5py; anything else as it is."""
    value = value.item() if isinstance(value, np.generic) else value
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _inside(container: Any) -> Iterator[Any]:
    """All objects of a module or an interface such as ``Position``, and theirs."""
    for child in getattr(container, "children", ()):
        yield child
        if not hasattr(child, "colnames"):
            yield from _inside(child)


def _every_series(file: Any) -> Iterator[tuple[str, Any]]:
    """All time series in acquisition, stimuli and processing modules, with their paths."""
    for group in ("acquisition", "stimulus", "processing"):
        for top in getattr(file, group).values():
            for each in (top, *_inside(top)):
                if hasattr(each, "timestamps") and hasattr(each, "conversion"):
                    names, at = [each.name], each.parent
                    while at is not None and at is not file:
                        names, at = [at.name, *names], at.parent
                    yield "/".join([group, *names]), each


def _inputs(file: Any, path: str, names: Sequence[str]) -> dict[str, Any]:
    """Times and samples of series, by the last parts of their names where these differ."""
    short = [name.rpartition("/")[2] for name in names]
    return {
        last if short.count(last) == 1 else name: _series(file, path, name)
        for name, last in zip(names, short)
    }


def _series(file: Any, path: str, name: str) -> tuple[np.ndarray, np.ndarray]:
    """Times and samples, in the unit that the file states, of a series by its name or path."""
    known = dict(_every_series(file))
    found = [key for key in known if f"/{key}".endswith(f"/{name}")]
    if not found:  # a name of what is around a series, such as Position
        found = [key for key in known if f"/{name}/" in f"/{key}"]
    if len(found) != 1:
        short = [key.rpartition("/")[2] for key in known]
        near = instead(name, [*short, *known])
        problem = f"several time series called {name!r}: give one of {', '.join(found)}"
        raise DataError(
            f"{path} has {problem}" if found else f"{path} has no time series {name!r}: {near}"
        )
    series = known[found[0]]
    values = np.asarray(series.data[:])
    if values.dtype.kind not in "biuf" or values.ndim > 2 or values.size == 0:
        raise DataError(f"{found[0]} of {path} is no series of numbers: shape {values.shape}")
    values = values * series.conversion + (getattr(series, "offset", 0.0) or 0.0)
    if series.timestamps is not None:
        return np.asarray(series.timestamps[:], dtype=float), values
    return series.starting_time + np.arange(len(values)) / series.rate, values


def read_pynapple(
    units: Any, trials: Any = None, inputs: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """Spike times of a pynapple ``TsGroup``, or samples of a ``TsdFrame`` or ``Tsd``.

    Arguments:
        units: the object.
        trials: an ``IntervalSet``; the object's time support when left out.
        inputs: by name, each a ``Tsd`` or a ``TsdFrame``.

    Returns:
        Arguments of ``Recording.from_spikes`` or ``Recording.from_traces`` but the bin.

    Raises:
        ValueError: for other objects.
    """
    kind, support = type(units).__name__, trials
    if kind not in ("TsGroup", "TsdFrame", "Tsd"):
        raise ValueError(f"a pynapple TsGroup, TsdFrame or Tsd is wanted, got a {kind}")
    for name, each in (inputs or {}).items():
        if type(each).__name__ not in ("TsdFrame", "Tsd"):
            raise ValueError(
                f"input {name!r} must be a pynapple Tsd or TsdFrame, got a {type(each).__name__}"
            )
    support = units.time_support if trials is None else trials
    if type(support).__name__ != "IntervalSet":
        raise ValueError(f"trials must be a pynapple IntervalSet, got a {type(support).__name__}")
    found = {
        "trials": np.stack((np.asarray(support.start), np.asarray(support.end)), 1),
        "inputs": {name: (np.asarray(x.t), np.asarray(x.d)) for name, x in (inputs or {}).items()},
    }
    if kind == "TsGroup":
        return found | {"times": {key: np.asarray(units[key].t) for key in list(units.keys())}}
    values = np.asarray(units.d)
    channels = list(units.columns) if kind == "TsdFrame" else [0]
    values = values[:, None] if values.ndim == 1 else values
    return found | {"time": np.asarray(units.t), "values": values, "channels": channels}
