"""Folders that the program writes to, and how it tells its own from those of others.

A folder is the program's own if it is missing or empty, has the mark, or holds what the program is
known to have completed there. The mark lies in a folder for as long as its files are not complete.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MARK = ".seqzoo"
NONE = re.compile(r"(?!)")  # no name
# Left by a program that was killed: see data/files.py, zoo/cards.py and zoo/report/markdown.py.
_LEFT = re.compile(r"\..+\.(part|new)|\.report-.+")


def check(folder: Path, names: re.Pattern[str], recognised: Callable[[Path], bool]) -> None:
    """Raises a ValueError for a file, or for a folder that holds files of someone else.

    Arguments:
        folder: where the program is to write.
        names: files that it writes or removes there besides those that it recognises.
        recognised: whether the complete files in a folder are the program's.
    """
    there = nearest(folder)
    if not there.is_dir():
        raise ValueError(f"{there} is a file: give a folder")
    if there != folder.absolute() or (folder / MARK).is_file():
        return
    inside = sorted(path.name for path in folder.iterdir() if not _LEFT.fullmatch(path.name))
    if recognised(folder):
        inside = [name for name in inside if names.fullmatch(name)]
    if inside:
        raise ValueError(
            f"the folder {folder} holds something else, such as {inside[0]}: give a new or an "
            "empty folder"
        )


@contextmanager
def claimed(
    folder: Path, names: re.Pattern[str], recognised: Callable[[Path], bool]
) -> Iterator[None]:
    """A folder of the program's own, made if missing, and marked while ``names`` lie in it.

    Arguments:
        folder, names, recognised: see ``check``. The program removes ``names`` when all is
            complete. Other files stay as they are.

    Raises:
        ValueError: for a file, or for a folder that holds files of someone else.
    """
    check(folder, names, recognised)
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / MARK).touch()
    try:
        yield
    finally:
        if not files(folder, names):
            (folder / MARK).unlink(missing_ok=True)
            with suppress(OSError):  # one that is not empty, and those around it
                for path in made:
                    path.rmdir()


def files(folder: Path, names: re.Pattern[str]) -> list[Path]:
    """The files in a folder whose names fit a pattern."""
    return [path for path in folder.iterdir() if names.fullmatch(path.name)]


def nearest(folder: Path) -> Path:
    """The folder itself, or the nearest parent that exists.

    Raises:
        ValueError: for a path that no folder can have.
    """
    folder = folder.absolute()
    try:
        return next(path for path in (folder, *folder.parents) if path.exists())
    except OSError as error:  # a name that is too long, or not to be looked at
        raise ValueError(f"{folder} is no place for a folder: {error.strerror}") from error
