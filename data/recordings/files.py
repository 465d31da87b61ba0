"""``read_recording``: a recording from a file of any kind, by its ending."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from .. import matlab
from ..checks import check_real
from ..files import DataError, check_file
from . import npz
from .names import instead
from .recording import Recording

SUFFIXES = (".nwb", ".npz", ".npy", ".mat", ".nc", ".csv")


def read_recording(
    path: str | PathLike,
    bin: float | None = None,
    trials: str | None = "trials",
    *,
    inputs: Sequence[str] = (),
    units: Mapping[str, Any] | None = None,
    variable: str | None = None,
) -> Recording:
    """The recording in a file, which its ending says how to read.

    - ``.nwb``: see ``Recording.from_nwb``;
    - ``.npz``: written by ``Recording.save``, or one array ``[N, T, M]``, or one ``[T_i, M]`` a
      trial;
    - ``.npy``: one array ``[N, T, M]``, or ``[T, M]``, which is one trial;
    - ``.mat``: the same, or a cell array of ``[T_i, M]``;
    - ``.nc``: an array of xarray, see ``Recording.from_xarray``;
    - ``.csv``: a row for each bin with a column ``time`` in seconds, and a column for each channel,
      see ``Recording.from_pandas``.

    Arguments:
        path: the file.
        bin: width of a bin in seconds, of ``.nwb`` and of arrays, which do not say it.
        trials: the table of intervals in ``.nwb``, or the column of ``.csv``, that says which are
            the trials; None takes all as one trial.
        inputs: names of what are inputs: time series, arrays or columns.
        units: which units of ``.nwb``, see ``Recording.from_nwb``.
        variable: the array of ``.npz``, ``.mat`` or ``.nc`` that holds the values, or the table of
            units in ``.nwb``; the only one when left out.

    Raises:
        DataError: when the file cannot be read, or lacks what was asked for.
        ValueError: for another ending, an argument that its kind of file does not take, or values
            that are no recording.
        ImportError: for ``.nwb`` where pynwb is not installed.
    """
    if bin is not None:
        check_real("bin", bin, above=0)
    path = Path(path)
    if path.suffix.lower() not in SUFFIXES:
        raise ValueError(f"{path.name} has none of the endings {', '.join(SUFFIXES)}")
    if isinstance(inputs, str):
        raise ValueError(f"inputs must be a list of names, such as [{inputs!r}]")
    suffix = path.suffix.lower()
    tables = suffix in (".nwb", ".csv")
    for name, given, fits in (
        ("trials", trials not in ("trials", None), tables),
        ("units", bool(units), suffix == ".nwb"),
        ("variable", variable is not None, suffix not in (".npy", ".csv")),
        ("inputs", bool(inputs), suffix != ".npy"),
    ):
        if given and not fits:
            raise ValueError(f"{suffix} files take no {name}: leave it out")
    if suffix == ".nwb":
        table = "units" if variable is None else variable
        about = {"units": units, "inputs": inputs, "unit_table": table}
        return Recording.from_nwb(path, _needed(path, bin), trials, **about)
    if suffix in (".csv", ".nc"):
        labelled = _csv(path, trials, inputs) if tables else _netcdf(path, variable, inputs)
        return _same_bin(path, bin, labelled)
    return _arrays(path, suffix, bin, inputs, variable)


def _needed(path: Path, bin: float | None) -> float:
    if bin is None:
        raise ValueError(f"{path.name} does not say the width of a bin: give bin in seconds")
    return bin


def _same_bin(path: Path, bin: float | None, found: Recording) -> Recording:
    """A recording whose file states the bin; another one that was asked for is refused."""
    if bin is not None and not math.isclose(bin, found.bin, rel_tol=1e-3):
        raise ValueError(f"{path.name} has bins of {found.bin:g} s, not {bin:g}: leave bin out")
    return found


def _arrays(
    path: Path, suffix: str, bin: float | None, inputs: Sequence[str], variable: str | None
) -> Recording:
    """A recording of arrays in ``.npy``, ``.npz`` or ``.mat``."""
    if suffix == ".npy":
        check_file(path)
        try:
            found = {"array": np.load(path, allow_pickle=False)}
        except (OSError, ValueError, EOFError) as error:
            raise DataError(f"{path} is no .npy file that numpy reads: {error}") from error
        return _of_arrays(path, bin, ["array"], found.get, (), None)
    if suffix == ".npz":
        arrays = npz.read_arrays(path)
        if npz.is_recording(arrays):
            return _same_bin(path, bin, Recording(**npz.arguments_of(path, arrays)))
        values = [name for name in arrays if name not in inputs]
        if variable is None and len(values) > 1 and not inputs:  # an array a trial
            return Recording([arrays[name] for name in values], _needed(path, bin))
        return _of_arrays(path, bin, values, arrays.get, inputs, variable)
    try:
        values = [name for name in matlab.names(path) if name not in inputs]
        return _of_arrays(path, bin, values, lambda n: matlab.read(path, n), inputs, variable)
    except matlab.Malformed as error:
        raise DataError(f"{path} is no MATLAB file that can be read: {error}") from error


def _of_arrays(
    path: Path,
    bin: float | None,
    names: Sequence[str],
    read: Callable[[str], Any],
    inputs: Sequence[str],
    variable: str | None,
) -> Recording:
    """A recording of one array or list of arrays in a file, with others as inputs."""
    if variable is None and len(names) != 1:
        asked = f"several arrays: give variable, one of {', '.join(names)}" if names else "no array"
        raise DataError(f"{path} has {asked}")
    found = {}
    for name in (variable or names[0], *inputs):
        value = read(name)
        if value is None:
            raise DataError(f"{path} has no array {name!r}: {instead(name, names)}")
        found[name] = _as_trials(path, repr(name), value)
    values = found.pop(variable or names[0])
    known, labels = None, []
    for name, each in found.items():
        if [len(one) for one in each] != [len(one) for one in values]:
            raise DataError(f"input {name!r} of {path} has other trials or bins than the values")
        width = each[0].shape[1]
        labels += [name] if width == 1 else [f"{name}_{column}" for column in range(width)]
        known = each if known is None else [np.hstack(pair) for pair in zip(known, each)]
    return Recording(values, _needed(path, bin), inputs=known, input_names=labels or None)


def _as_trials(path: Path, name: str, value: Any) -> list[np.ndarray]:
    """Trials ``[T_i, M]`` of a list, of an array ``[N, T, M]`` or of one trial ``[T, M]``."""
    if isinstance(value, list):
        return value
    if value.dtype.kind not in "biuf" or value.ndim not in (2, 3):
        raise DataError(
            f"{name} of {path} must be numbers [N, T, M] or [T, M], got {value.dtype} {value.shape}"
        )
    return list(value if value.ndim == 3 else value[None])


def _csv(path: Path, trials: str | None, inputs: Sequence[str]) -> Recording:
    import pandas

    check_file(path)
    try:
        table = pandas.read_csv(path)
    except (OSError, ValueError, pandas.errors.ParserError) as error:
        raise DataError(f"{path} is no table that pandas reads: {error}") from error
    if "time" not in table.columns:
        near = instead("time", [str(name) for name in table.columns])
        raise DataError(f"{path} has no column 'time' in seconds: {near}")
    if trials is not None and trials not in table.columns:
        near = instead(trials, [str(name) for name in table.columns])
        raise DataError(
            f"{path} has no column {trials!r} that says the trial, and trials=None takes the whole "
            f"table as one: {near}"
        )
    try:
        return Recording.from_pandas(table.set_index("time"), trials, inputs=inputs)
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error


def _netcdf(path: Path, variable: str | None, inputs: Sequence[str]) -> Recording:
    import xarray

    check_file(path)
    try:
        content = xarray.load_dataset(path)
    except Exception as error:  # backends raise many kinds
        reason = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise DataError(f"{path} is no netCDF file that xarray reads: {reason}") from error
    known = [str(name) for name in content.variables]
    for name in inputs:
        if name not in known:
            raise DataError(f"{path} has no variable {name!r}: {instead(name, known)}")
    content = content.set_coords(list(inputs))
    names = [str(name) for name in content.data_vars]
    if variable is None and len(names) == 1:
        variable = names[0]
    if variable not in names:
        asked = "gives several arrays" if variable is None else f"has no array {variable!r}"
        raise DataError(f"{path} {asked}: variable must be one of {', '.join(names) or 'none'}")
    try:
        return Recording.from_xarray(content[variable])
    except ValueError as error:
        raise DataError(f"{path}: {error}") from error
