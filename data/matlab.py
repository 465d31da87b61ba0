"""Cell arrays of numbers in a MATLAB 5 file.

The format is that of *MAT-File Format* (The MathWorks, level 5), of which this reads lists of
matrices: a cell array of full numeric or logical arrays. Every size that a file states is compared
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


def read_cells(path: str | PathLike, name: str) -> list[np.ndarray] | None:
    """The matrices of a cell array.

    Arguments:
        path: a MATLAB file, at most 256 MiB, compressed or not.
        name: the variable.

    Returns:
        Arrays of the shapes and in the order of the file; None where the file has no cell array of
        that name.

    Raises:
        DataError: when the file cannot be read.
        Malformed: when it is no MATLAB 5 file, is cut short, states sizes that do not fit its
            bytes, or unpacks to more than 256 MiB or 65536 entries.
    """
    content = read_file(path, LARGEST)
    if len(content) < 128 or content[126:128] not in (b"IM", b"MI"):
        raise Malformed("no header of a MATLAB 5 file")
    order = "<" if content[126:128] == b"IM" else ">"
    for kind, data in _elements(memoryview(content)[128:], order):
        matrix = data if kind == MATRIX else None
        if kind == COMPRESSED:
            matrix = _unpacked(data, order, name)
        if matrix is not None and _header(_elements(matrix, order), order)[2] == name:
            return _cells(matrix, order)
    return None


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


def _unpacked(data: memoryview, order: str, name: str) -> memoryview | None:
    """The matrix in a compressed element; None where it is not the variable asked for."""
    try:
        start = memoryview(zlib.decompressobj().decompress(data, SEARCHED))
        if len(start) < 8:
            raise Malformed("a compressed element is cut short")
        kind, size = (int(x) for x in np.frombuffer(start[:8], f"{order}u4"))
        start = start[8 : 8 + size]
        if kind != MATRIX or _header(_elements(start, order, size), order)[2] != name:
            return None
        if size > LARGEST:
            raise Malformed(f"a variable unpacks to {size} bytes, more than {LARGEST}")
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


def _cells(data: memoryview, order: str) -> list[np.ndarray] | None:
    """The matrices of a cell array; None for another kind of array."""
    parts = _elements(data, order)
    word, shape, _ = _header(parts, order)
    if word & 0xFF != CELL:
        return None
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
    if not FIRST_FULL <= word & 0xFF <= LAST_FULL or word & COMPLEX:
        raise Malformed("an entry of a list is no array of real numbers")
    kind, values = next(parts, (0, memoryview(b"")))
    if kind not in NUMBERS:
        raise Malformed("an array without numbers")
    dtype = np.dtype(order + NUMBERS[kind])
    if len(values) != math.prod(shape) * dtype.itemsize:
        raise Malformed(f"an array states {math.prod(shape)} numbers and has {len(values)} bytes")
    return np.frombuffer(values, dtype).reshape(shape, order="F")
