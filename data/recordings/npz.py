"""The file format of ``Recording.save``, ``.npz``: all values, coordinates and inputs."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Mapping
from os import PathLike
from pathlib import Path
from typing import Any

import numpy as np

from ..files import DataError, check_file, write_whole

FORMAT = "seqzoo recording 1"
FACTS = ("bin", "channels", "names", "conditions", "unit", "input_names")


def write_npz(path: str | PathLike, arguments: Mapping[str, Any]) -> None:
    """Writes the arguments of a ``Recording``, whole or not at all.

    Equal recordings make equal files, byte by byte.

    Raises:
        ValueError: for another ending, or names that are neither words nor numbers.
        OSError: where the file cannot be written.
    """
    path = Path(path)
    if path.suffix != ".npz":
        raise ValueError(f"a recording is saved as .npz: got {path.name}")
    facts = {name: arguments[name] for name in FACTS}
    try:
        about = json.dumps({"format": FORMAT, **facts}, default=_plain)
    except TypeError as error:
        raise ValueError(f"names and conditions must be words or numbers: {error}") from error
    arrays = {
        "about": np.array(about),
        "starts": np.asarray(arguments["starts"]),
        "lengths": np.array([len(trial) for trial in arguments["trials"]]),
        "values": np.concatenate([np.asarray(trial) for trial in arguments["trials"]]),
    }
    if arguments["inputs"]:
        arrays["inputs"] = np.concatenate([np.asarray(each) for each in arguments["inputs"]])

    def write(part: Path) -> None:
        with open(part, "wb") as file:  # numpy would add its own ending to a name
            np.savez_compressed(file, allow_pickle=False, **arrays)

    write_whole(path, write)


def read_arrays(path: str | PathLike) -> dict[str, np.ndarray]:
    """All arrays of an ``.npz`` file.

    Raises:
        DataError: when it cannot be read, is damaged, or holds objects of Python.
    """
    check_file(path)
    try:
        with np.load(path, allow_pickle=False) as file:
            if not isinstance(file, np.lib.npyio.NpzFile):
                raise DataError(f"{path} is no .npz file: is it an .npy file?")
            return {name: file[name] for name in file.files}
    except DataError:
        raise
    except (OSError, ValueError, EOFError, KeyError, zipfile.BadZipFile, zlib.error) as error:
        raise DataError(f"{path} is no .npz file that numpy reads: {_first(error)}") from error


def is_recording(arrays: Mapping[str, np.ndarray]) -> bool:
    """Whether arrays are those of ``write_npz``."""
    return "about" in arrays and "format" in str(arrays["about"])


def read_npz(path: str | PathLike) -> dict[str, Any]:
    """Arguments of the ``Recording`` that a file holds.

    Raises:
        DataError: when the file cannot be read, or holds no recording of this form.
    """
    return arguments_of(path, read_arrays(path))


def arguments_of(path: str | PathLike, arrays: Mapping[str, np.ndarray]) -> dict[str, Any]:
    """Arguments of a ``Recording`` from the arrays of its file."""
    if not is_recording(arrays):
        raise DataError(f"{path} was not written by Recording.save: see data.read_recording")
    try:
        about = json.loads(str(arrays["about"]))
        if about.pop("format") != FORMAT:
            raise DataError(f"{path} is of a newer version of seqzoo than this one")
        ends = np.cumsum(arrays["lengths"])[:-1]
        inputs = np.split(arrays["inputs"], ends) if "inputs" in arrays else None
        return {
            **{name: about[name] for name in FACTS},
            "input_names": about["input_names"] or None,
            "trials": np.split(arrays["values"], ends),
            "starts": arrays["starts"],
            "inputs": inputs,
        }
    except (KeyError, TypeError, AttributeError, json.JSONDecodeError) as error:
        raise DataError(f"{path} is a damaged recording: {_first(error)}") from error


def _plain(value: Any) -> Any:
    """A number or a word of numpy as Python has it."""
    if isinstance(value, np.generic) and not isinstance(value.item(), np.generic | bytes):
        item = value.item()
        if isinstance(item, bool | int | float | str):
            return item
    raise TypeError(f"{value!r} is neither")


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
