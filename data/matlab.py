"""Arrays of numbers, and cell arrays of them, in a MATLAB 5 file.

The format is that of *MAT-File Format* (The MathWorks, level 5), of which this reads full numeric
or logical arrays, and cell arrays of these. Every size that a file states is compared
with the bytes that are there before anything of that size is made.
"""

from __future__ import annotations

import math
import zlib
from collections.abc import Iterator
from os import PathLike

import numpy as np

from .files import read_file

LARGEST = 2**28  # bytes of a file, and of a variable when unpacked
LONGEST = 2**16  # entries of a list
SEARCHED = 512  # bytes of a compressed variable in which its name must stand
NUMBERS = {
    1: "i1",
    2: "u1",
    3: "i2",
    4: "u2",
    5: "i4",
    6: "u4",
    7: "f4",
    9: "f8",
    12: "i8",
    13: "u8",
}
MATRIX, COMPRESSED = 14, 15  # types of elements
CELL, FIRST_FULL, LAST_FULL = 1, 6, 15  # classes of arrays; between the last two are numbers
COMPLEX = 0x0800


class Malformed(ValueError):
    """The bytes are no MATLAB 5 file, or what was asked for is no list of matrices."""


def names(path: str | PathLike) -> list[str]:
    """The variables of a file that are arrays of numbers or cell arrays; see ``read``."""
    content, order = _content(path)
    found = []
    for kind, data in _elements(content, order):
        matrix, size = (data, 0) if kind == MATRIX else (None, 0)
        if kind == COMPRESSED:
            matrix, size = _beginning(data, order)
        if matrix is not None:
            word, _, name = _header(_elements(matrix, order, size), order)
            if word & 0xFF == CELL or (_is_full(word) and not word & COMPLEX):
                found.append(name)
    return found


def read(path: str | PathLike, name: str) -> np.ndarray | list[np.ndarray] | None:
    """An array of numbers, or the matrices of a cell array.

    Arguments:
        path: a MATLAB file, at most 256 MiB, compressed or not.
        name: the variable.

    Returns:
        Arrays of the shapes and in the order of the file; None where the file has no variable of
        that name.

    Raises:
        DataError: when the file cannot be read.
        Malformed: when it is no MATLAB 5 file, is cut short, states sizes that do not fit its
            bytes, or unpacks to more than 256 MiB or 65536 entries.
    """
    content, order = _content(path)
    for kind, data in _elements(content, order):
        matrix = data if kind == MATRIX else None
        if kind == COMPRESSED:
            matrix = _unpacked(data, order, name)
        if matrix is None:
            continue
        word, _, found = _header(_elements(matrix, order), order)
        if found == name:
            is_list = word & 0xFF == CELL
            return _cells(matrix, order) if is_list else _matrix(MATRIX, matrix, order)
    return None


def _content(path: str | PathLike) -> tuple[memoryview, str]:
    """What follows the header of a file, and its order of bytes."""
    content = read_file(path, LARGEST)
    if content[:10] == b"MATLAB 7.3":
        raise Malformed("it is of version 7.3: save it with the option -v7")
    if len(content) < 128 or content[126:128] not in (b"IM", b"MI"):
        raise Malformed("no header of a MATLAB 5 file")
    return memoryview(content)[128:], "<" if content[126:128] == b"IM" else ">"


def _elements(data: memoryview, order: str, whole: int = 0) -> Iterator[tuple[int, memoryview]]:
    """The elements in a stretch of bytes, as their types and contents.

    With ``whole`` the stretch is the beginning of one of so many bytes.
    """
    at, whole = 0, whole or len(data)
    while at < whole:
        if len(data) < at + 8:
            raise Malformed("an element is cut short")
        kind, size = (int(x) for x in np.frombuffer(data[at : at + 8], f"{order}u4"))
        if kind >> 16:  # a small element: its size, type and at most four bytes in eight
            kind, size, start, end = kind & 0xFFFF, kind >> 16, at + 4, at + 8
        else:
            start = at + 8
            end = start + size
            end += 0 if kind == COMPRESSED else -size % 8
        if size > end - start or start + size > len(data):
            raise Malformed("an element is larger than its place")
        yield kind, data[start : start + size]
        at = end


def _beginning(data: memoryview, order: str) -> tuple[memoryview | None, int]:
    """The first bytes of the matrix in a compressed element, or None, and their number in all."""
    try:
        start = memoryview(zlib.decompressobj().decompress(data, SEARCHED))
    except zlib.error as error:
        raise Malformed("a compressed element is damaged") from error
    if len(start) < 8:
        raise Malformed("a compressed element is cut short")
    kind, size = (int(x) for x in np.frombuffer(start[:8], f"{order}u4"))
    return (start[8 : 8 + size] if kind == MATRIX else None), size


def _unpacked(data: memoryview, order: str, name: str) -> memoryview | None:
    """The matrix in a compressed element; None where it is not the variable asked for."""
    start, size = _beginning(data, order)
    if start is None or _header(_elements(start, order, size), order)[2] != name:
        return None
    if size > LARGEST:
        raise Malformed(f"a variable unpacks to {size} bytes, more than {LARGEST}")
    try:
        content = memoryview(zlib.decompressobj().decompress(data, 8 + size))[8:]
    except zlib.error as error:
        raise Malformed("a compressed element is damaged") from error
    if len(content) != size:
        raise Malformed("a compressed element is cut short")
    return content


def _header(parts: Iterator[tuple[int, memoryview]], order: str) -> tuple[int, list[int], str]:
    """The class and flags, the dimensions and the name of a matrix."""
    try:
        flags, shape, name = next(parts), next(parts), next(parts)
    except StopIteration:
        raise Malformed("a matrix is cut short") from None
    if flags[0] != 6 or len(flags[1]) != 8 or shape[0] != 5 or len(shape[1]) % 4 or name[0] != 1:
        raise Malformed("a matrix without flags, dimensions and name")
    sizes = [int(x) for x in np.frombuffer(shape[1], f"{order}i4")]
    if len(sizes) < 2 or min(sizes) < 0:
        raise Malformed("a matrix of no valid size")
    word = int(np.frombuffer(flags[1][:4], f"{order}u4")[0])
    return word, sizes, bytes(name[1]).decode("latin-1")


def _is_full(word: int) -> bool:
    """Whether the flags of an array are those of a full array of numbers."""
    return FIRST_FULL <= word & 0xFF <= LAST_FULL


def _cells(data: memoryview, order: str) -> list[np.ndarray]:
    """The matrices of a cell array."""
    parts = _elements(data, order)
    _, shape, _ = _header(parts, order)
    number, matrices = math.prod(shape), []
    if number > LONGEST:
        raise Malformed(f"a list states {number} entries, more than {LONGEST}")
    for kind, content in parts:
        if len(matrices) == number:
            raise Malformed(f"a list states {number} entries and has more")
        matrices.append(_matrix(kind, content, order))
    if len(matrices) != number:
        raise Malformed(f"a list states {number} entries and has {len(matrices)}")
    return matrices


def _matrix(kind: int, data: memoryview, order: str) -> np.ndarray:
    """A full array of real numbers."""
    if kind != MATRIX:
        raise Malformed("an entry of a list is no matrix")
    parts = _elements(data, order)
    word, shape, _ = _header(parts, order)
    if not _is_full(word) or word & COMPLEX:
        raise Malformed("a variable, or an entry of a list, is no array of real numbers")
    kind, values = next(parts, (0, memoryview(b"")))
    if kind not in NUMBERS:
        raise Malformed("an array without numbers")
    dtype = np.dtype(order + NUMBERS[kind])
    if len(values) != math.prod(shape) * dtype.itemsize:
        raise Malformed(f"an array states {math.prod(shape)} numbers and has {len(values)} bytes")
    return np.frombuffer(values, dtype).reshape(shape, order="F")
