"""Standard output and standard error that never fail: no run ends for the sake of a line."""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from io import TextIOWrapper
from typing import Any, TextIO


class Output:
    """A stream that goes on where its file cannot be written.

    Characters that the encoding lacks become question marks. After a failure everything is
    dropped.

    Arguments:
        stream: the stream.

    Attributes:
        lost: the error that stopped it; a reader that left, as ``head`` does, is none.
    """

    def __init__(self, stream: TextIO) -> None:
        self.stream = stream
        self.lost: OSError | None = None

    def write(self, text: str) -> int:
        self._try(self.stream.write, text)
        return len(text)

    def writelines(self, lines: list[str]) -> None:
        self._try(self.stream.writelines, lines)

    def flush(self) -> None:
        self._try(self.stream.flush)

    def _try(self, call: Callable[..., Any], *arguments: Any) -> None:
        try:
            call(*arguments)
        except OSError as error:
            self.lost = None if error.errno == errno.EPIPE else error
            self._drop()

    def _drop(self) -> None:
        """Sends the stream to nowhere, with all that it still holds."""
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, self.stream.fileno())
        os.close(nowhere)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


@contextmanager
def unfailing() -> Iterator[Output]:
    """Replaces standard output and standard error; gives the former."""
    _fill_descriptors()
    before = sys.stdout, sys.stderr
    wrapped = [Output(_replacing(stream or _nowhere())) for stream in before]
    sys.stdout, sys.stderr = wrapped
    try:
        yield wrapped[0]
    finally:
        for stream in wrapped:
            stream.flush()
        sys.stdout, sys.stderr = before


def _replacing(stream: TextIO) -> TextIO:
    if isinstance(stream, TextIOWrapper):
        stream.reconfigure(errors="replace")
    return stream


def _nowhere() -> TextIO:
    return open(os.devnull, "w", encoding="utf-8")


def _fill_descriptors() -> None:
    """Opens the standard descriptors that are closed, or files of the program would take them."""
    number = os.open(os.devnull, os.O_RDWR)
    while number <= 2:
        os.set_inheritable(number, True)
        number = os.open(os.devnull, os.O_RDWR)
    os.close(number)
