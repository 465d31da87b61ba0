"""MovingMNIST: film of handwritten digits that cross a square at constant speed.

After *Unsupervised learning of video representations using LSTMs* (Srivastava, Mansimov &
Salakhutdinov, ICML 2015), with the official MNIST files: digits move in straight lines, a tenth of
their free path a frame, bounce off the walls and pass through one another. Two things are more
exact here than there: digits stand between pixels, not at whole ones, and a digit that would cross
a wall is mirrored at it, where it used to be stopped there until the next frame. Positions are in
pixels, times in frames.
"""

from __future__ import annotations

import gzip
import math
import struct
import zlib
from os import PathLike

import torch
from torch import Tensor

from .batch import Index
from .checks import check_number
from .fetch import fetch
from .files import DataError, check_file
from .synthetic import Synthetic

DIGIT = 28  # pixels along one side of an MNIST image
TRAIN_IMAGES = 50_000  # of the 60,000; the other 10,000 are for validation
CHUNK = 2**22  # pixel values rendered at once
LARGEST = 2**28  # values of an idx file; MNIST has 47 million


class MovingMNIST(Synthetic):
    """Film of moving handwritten digits.

    A frame is the pixelwise maximum of its digits. The first use downloads the MNIST files, see
    ``fetch``.

    Train and validation use disjoint parts of the 60,000 training images, test from the
    10,000 test images: no digit image is ever seen in two splits.

    Arguments:
        sequences: number of films ``N``.
        steps: frames ``T`` of each.
        seed: seed; the same arguments give the same digits and motion on every device.
        digits: digits in a film.
        size: pixels along one side of a frame, at least 29.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        device: where the data live.

    Attributes:
        obs: grey values in ``[0, 1]``, frames flattened, ``[N, T, size²]``.
        state: x and y of the centre of each digit's 28x28 image in pixels, and velocity along x and
            y in pixels a frame, ``[N, T, digits, 4]``. A frame's rows are y, its columns
            x, and pixel i spans i to i + 1.
        images: the digit images of the split, ``[images, 28, 28]``, uint8.
        digit: which of ``images`` each digit is, ``[N, digits]``.
        mask: all True, ``[N, T]``.

    Raises:
        ValueError: when a number is out of its range, or the split is unknown.
        DataError: when the MNIST files are missing or damaged.

    Example:
        >>> MovingMNIST(sequences=2, steps=20, seed=0).obs.shape
        torch.Size([2, 20, 4096])
    """

    unit = "pixel"

    def __init__(
        self,
        sequences: int,
        steps: int,
        seed: int = 0,
        digits: int = 2,
        size: int = 64,
        split: str = "train",
        device: torch.device | str = "cpu",
        epoch: int = 0,
    ) -> None:
        self.digits = check_number("digits", digits)
        self.size = check_number("size", size, DIGIT + 1)
        self._pools: dict[str, Tensor] = {}
        super().__init__(sequences, steps, seed, split, device, epoch)

    @property
    def images(self) -> Tensor:
        if self.split not in self._pools:  # shared with sets made from this one
            self._pools[self.split] = _pool(self.split).to(self.device)
        return self._pools[self.split]

    def _draw(self, random: torch.Generator) -> None:
        shape = (self.sequences, self.digits)
        self.digit = torch.randint(len(self.images), shape, generator=random).to(self.device)
        state = _trajectories(self.sequences, self.steps, self.digits, self.size, random)
        self.state = state.to(self.device, torch.get_default_dtype())

    def _observe(self, index: Index) -> Tensor:
        return render(self.images[self.digit[index]], self.state[index][..., :2], self.size)


def render(images: Tensor, centre: Tensor, size: int = 64) -> Tensor:
    """Frames that show digits with their centres at given points.

    A digit between pixels is shared among its neighbours in proportion (bilinear interpolation),
    which keeps its total brightness and puts its centre of mass where it belongs; where digits
    overlap, the brighter wins.

    Arguments:
        images: grey values, 0 to 255, ``[N, digits, 28, 28]``.
        centre: x and y of the centre of each image in pixels, between 14 and ``size - 14``,
            ``[N, T, digits, 2]``.
        size: pixels along one side of a frame, at least 29.

    Returns:
        Grey values in ``[0, 1]``, rows (y) of a frame one after the other, ``[N, T, size²]``.

    Raises:
        ValueError: when a shape is wrong, or a digit is not wholly inside its frame.
    """
    check_number("size", size, DIGIT + 1)
    sequences, digits = images.shape[:2]
    if images.shape[2:] != (DIGIT, DIGIT) or centre.dim() != 4 or centre.shape[2:] != (digits, 2):
        raise ValueError(
            "images must be [N, digits, 28, 28] and centre [N, T, digits, 2], "
            f"got {tuple(images.shape)} and {tuple(centre.shape)}"
        )
    corner = centre.to(torch.get_default_dtype()) - DIGIT / 2
    if not ((corner >= 0) & (corner <= size - DIGIT)).all():
        raise ValueError(f"centres must lie between {DIGIT / 2} and {size - DIGIT / 2} pixels")
    whole = corner.floor().clamp(max=size - DIGIT - 1)  # at the far wall the rest is a whole pixel
    within = torch.arange(DIGIT + 1, device=images.device)
    within = within[:, None] * size + within  # [29, 29]: pixels of a digit in a flattened frame
    frames = torch.zeros(sequences, centre.shape[1], size * size, device=images.device)
    chunk = max(1, CHUNK // (centre.shape[1] * (DIGIT + 1) ** 2))
    for start in range(0, sequences, chunk):
        rows = slice(start, start + chunk)
        for k in range(digits):
            padded = torch.nn.functional.pad(images[rows, k, None].to(corner) / 255, (1, 1, 1, 1))
            column, row = whole[rows, :, k].unbind(-1)
            x, y = (corner - whole)[rows, :, k, :, None, None].unbind(2)  # [rows, T, 1, 1]
            across = torch.lerp(padded[..., 1:], padded[..., :-1], x)
            digit = torch.lerp(across[..., 1:, :], across[..., :-1, :], y).flatten(2)
            index = ((row * size + column).long()[..., None, None] + within).flatten(2)
            brighter = torch.maximum(frames[rows].gather(2, index), digit)
            frames[rows].scatter_(2, index, brighter)
    return frames


def read_idx(path: str | PathLike) -> Tensor:
    """The array of bytes in a gzipped idx file, the format of MNIST.

    Arguments:
        path: a file such as ``train-images-idx3-ubyte.gz``.

    Returns:
        uint8, of the shape that the file states, such as ``[60000, 28, 28]``.

    Raises:
        DataError: when the file cannot be read, is corrupt, cut short or not gzipped, is not an idx
            file of bytes, states more than 2^28 values (256 MiB), or holds more or less than it
            states.
    """
    check_file(path)
    try:
        with gzip.open(path, "rb") as file:
            head = file.read(4)
            if len(head) < 4 or head[:3] != b"\0\0\x08":
                raise DataError(
                    f"{path} is not an idx file of bytes: get the MNIST files as published"
                )
            sizes = file.read(4 * head[3])
            if len(sizes) < 4 * head[3]:
                raise DataError(f"{path} is cut short within its header: get it anew")
            shape = struct.unpack(f">{head[3]}I", sizes)
            size = math.prod(shape)
            if size > LARGEST:
                raise DataError(
                    f"{path} states {size} values, more than the {LARGEST} that are read: check "
                    "that it is the right file"
                )
            content = file.read(size + 1)
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise DataError(f"{path} is corrupt, cut short or not gzipped: get it anew") from error
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check its name") from error
    if len(content) != size:
        held = len(content) if len(content) < size else "more"
        raise DataError(f"{path} states {size} values and holds {held}: get it anew")
    if size == 0:
        raise DataError(f"{path} holds no value: get it anew")
    return torch.frombuffer(bytearray(content), dtype=torch.uint8).reshape(shape)


def _pool(split: str) -> Tensor:
    """The digit images of a split, ``[images, 28, 28]``, uint8."""
    part = "t10k" if split == "test" else "train"
    images = read_idx(fetch(f"mnist/{part}-images-idx3-ubyte.gz"))
    if split == "train":
        return images[:TRAIN_IMAGES]
    return images[TRAIN_IMAGES:] if split == "validation" else images


def _trajectories(
    sequences: int, steps: int, digits: int, size: int, random: torch.Generator
) -> Tensor:
    """Centres and velocities, ``[N, T, digits, 4]``, float64: straight lines, folded at the walls.

    Starts are uniform, directions uniform on the circle, and the speed is a tenth of the free path
    a frame.
    """
    path = size - DIGIT
    start = path * torch.rand(sequences, 1, digits, 2, generator=random, dtype=torch.float64)
    angle = torch.rand(sequences, 1, digits, generator=random, dtype=torch.float64)
    angle = 2 * math.pi * angle
    velocity = path / 10 * torch.stack((angle.cos(), angle.sin()), -1)
    time = torch.arange(steps, dtype=torch.float64)[:, None, None]
    unfolded = (start + velocity * time).remainder(2 * path)  # there and back is 2 path
    back = unfolded > path
    corner = torch.where(back, 2 * path - unfolded, unfolded)
    return torch.cat((corner + DIGIT / 2, torch.where(back, -velocity, velocity)), -1)
