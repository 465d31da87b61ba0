"""Files that are read within a bound, and written whole or not at all."""

from __future__ import annotations

import errno
import math
import os
import re
import stat
from collections.abc import Callable
from pathlib import Path

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
#: The words of libraries that write a file themselves, of a disk that is full.
FULL_TEXT = re.compile(r"No space left|Disk quota exceeded|File too large|inline_container\.cc")


class DataError(ValueError):
    """A data file is missing, cannot be had, or is not what was published."""


def check_file(path: str | os.PathLike, most: float = math.inf) -> None:
    """Raises a DataError unless a path is an ordinary file of at most ``most`` bytes.

    Pipes, sockets, devices and folders are refused before they are opened: some never end.
    """
    try:
        found = os.stat(path)
    except (OSError, ValueError) as error:  # a ValueError where a name holds a zero byte
        reason = getattr(error, "strerror", None) or error
        raise DataError(f"{path} cannot be read ({reason}): check its name") from error
    if not stat.S_ISREG(found.st_mode):
        kind = "a folder" if stat.S_ISDIR(found.st_mode) else "a pipe, a socket or a device"
        raise DataError(f"{path} cannot be read (it is {kind}): give the name of a file")
    if found.st_size > most:
        raise DataError(
            f"{path} has {found.st_size} bytes, more than the {most} that are read: "
            "check that it is the right file"
        )


def read_file(path: str | os.PathLike, most: int) -> bytes:
    """The bytes of an ordinary file of at most ``most`` bytes.

    Raises:
        DataError: when it cannot be read, is no ordinary file or is larger.
    """
    check_file(path, most)
    try:
        with open(path, "rb") as file:
            return file.read(most)
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check its name") from error


def write_whole(path: str | Path, write: Callable[[Path], object]) -> None:
    """Writes a file beside its place and moves it there in one step.

    A run killed half-way leaves the file that was there before. The next call for the same file
    removes what the killed run had written.

    Raises:
        OSError: in one sentence where the disk is full, or where a folder, a device or a pipe has
            the name; otherwise as ``write`` raises it.
    """
    path = Path(path)
    if path.exists() and not path.is_file():
        raise OSError(f"{path} is a folder, a device or a pipe, not a file: give another name")
    part = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        remove_stale(path)
        write(part)
        os.replace(part, path)
    except Exception as error:
        if getattr(error, "errno", None) not in FULL and not FULL_TEXT.search(str(error)):
            raise
        kept = "; the file that was there before is kept" if path.exists() else ""
        full = OSError(
            f"{path} could not be written: its disk is full, or a quota is used up{kept}"
        )
        full.errno = errno.ENOSPC
        raise full from error
    finally:
        part.unlink(missing_ok=True)


def remove_stale(path: Path) -> None:
    """Removes the half-written copies of a file that processes which have ended left beside it."""
    written = re.compile(re.escape(f".{path.name}.") + r"(\d+)\.part")
    for part in path.parent.iterdir():
        found = written.fullmatch(part.name)
        if found and not _runs(int(found[1])):
            part.unlink(missing_ok=True)


def _runs(process: int) -> bool:
    """Whether a process of this number runs on this computer; True where that cannot be told."""
    if os.name == "nt":  # signal 0 is none there
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (OSError, OverflowError):  # it is another user's, or no process number
        return True
    return True
