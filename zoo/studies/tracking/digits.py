"""A tracker of moving digits: the paths of their centroids in film, and how they move."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ....data.balls import CHUNK, MOST_BALLS
from ....data.moving_mnist import DIGIT
from .motion import Motion, check_film, distance_to_nearest, link, measure

# Digits, in pixels.
HAZE = 0.2  # grey values above the frame's median that are not yet ink
INK = 8.0  # least sum of the grey values of a digit; MNIST's faintest has 16
SPREAD = DIGIT / math.sqrt(6)  # most rms distance of ink from its centroid: that of a 28x28 square
APART = 20.0  # centroids nearer than this may be those of digits that overlap
STARTS, LLOYD = 4, 8  # of the clustering, and its steps


def track_digits(film: Tensor, digits: int = 2, size: int = 64) -> Tensor:
    """Paths of the centroids of the ink of digits in film like MovingMNIST.

    Each frame's grey values, less its median and less 0.2, are parted into ``digits`` clusters by
    weighted k-means, started from points around their centre of mass. Frames are linked as in
    ``track_balls``. A cluster with less ink than a digit, or spread wider than one, is not a digit.

    While digits overlap, their clusters are not the digits, and nothing in the frame says so but
    that centroids are near one another: those nearer than 20 pixels are returned, but neither
    linking nor ``measure_digits`` builds on them. A digit alone in its frame is cut in two.

    Arguments:
        film: grey values, nominally in ``[0, 1]``, ``[N, T, size²]``.
        digits: digits in a frame, 1 to 6.
        size: pixels along one side of a frame, at least 29.

    Returns:
        x and y in pixels (pixel i spans i to i + 1), NaN where there is no digit,
        ``[N, T, digits, 2]``, float32.

    Raises:
        ValueError: when the film's shape or type is wrong or it is not finite, or a number is out
            of its range.

    Example:
        >>> track_digits(MovingMNIST(2, 20, seed=0).obs).shape
        torch.Size([2, 20, 2, 2])
    """
    _check_size(size)
    if not 1 <= digits <= MOST_BALLS:
        raise ValueError(f"digits must be 1 to {MOST_BALLS}, got {digits}")
    film = check_film(film, size)
    part = max(1, CHUNK // (STARTS * digits * size**2))
    places = [_find_digits(frames, digits, size) for frames in film.flatten(0, 1).split(part)]
    places = torch.cat(places).reshape(*film.shape[:2], digits, 2)
    sure = ~places.isnan().any(-1) & (distance_to_nearest(places) >= APART)
    return link(places, sure, DIGIT / 2, size - DIGIT / 2)


def measure_digits(paths: Tensor, size: int = 64) -> Motion:
    """How digits move that ``track_digits`` found.

    Arguments:
        paths: x and y of each digit in pixels, NaN where it is not found, ``[N, T, digits, 2]``.
        size: pixels along one side of a frame, at least 29.

    Returns:
        The measures. A free digit is 20 pixels from others, and its centroid half a real move and
        a pixel from where a 28x28 image around it would touch a wall; a real digit's centroid is
        within a pixel of its image's centre.

    Raises:
        ValueError: when ``paths`` is not floating point or of another shape, or the size too small.
    """
    _check_size(size)
    speed = (size - DIGIT) / 10
    low, high = DIGIT / 2, size - DIGIT / 2
    return measure(paths, low, high, speed / 2 + 1, APART, APART, speed / 10)


def _find_digits(frames: Tensor, digits: int, size: int) -> Tensor:
    """Centroids of the clusters of frames ``[F, size²]``, in no order, ``[F, digits, 2]``."""
    ink = (frames - frames.median(1, keepdim=True).values - HAZE).clamp_(min=0)
    # Most pixels have no ink: only as many of the brightest as the fullest frame needs are kept.
    ink, pixel = ink.topk(max(1, int((ink > 0).sum(1).max())), dim=1)
    x, y = pixel % size + (0.5 - size / 2), pixel // size + (0.5 - size / 2)  # from the middle
    sums = torch.stack((x, y, x.square() + y.square(), torch.ones_like(x)), -1)  # [F, pixels, 4]
    mean = (ink[:, None] @ sums)[:, 0] / ink.sum(1, keepdim=True).clamp_min(1e-6)
    mean_x, mean_y, square, _ = mean.T
    scatter = (square - mean_x.square() - mean_y.square()).clamp_min(0).sqrt()
    angle = (
        torch.arange(digits, device=ink.device)
        + torch.arange(STARTS, device=ink.device)[:, None] / STARTS
    )
    angle = 2 * math.pi / digits * angle
    ring = torch.stack((angle.cos(), angle.sin()), -1)  # [starts, digits, 2]
    place = torch.stack((mean_x, mean_y), -1)[:, None, None] + scatter[:, None, None, None] * ring
    for _ in range(LLOYD):
        away = place.square().sum(-1)[..., None] - 2 * place @ sums[:, None, :, :2].mT
        least = away[:, :, 0]
        for other in away.unbind(2)[1:]:
            least = torch.minimum(least, other)
        mine = (away <= least[:, :, None]) * ink[:, None, None]  # [F, starts, digits, pixels]
        x, y, square, mass = (mine.flatten(1, 2) @ sums).unflatten(1, (STARTS, digits)).unbind(-1)
        centroid = torch.stack((x, y), -1) / mass[..., None].clamp_min(1e-6)
        place = centroid.where(mass[..., None] > 0, place)
    spread = square - mass * centroid.square().sum(-1)
    best = spread.sum(2).argmin(1)
    frame = torch.arange(len(ink), device=ink.device)
    place, spread, mass = place[frame, best], spread[frame, best], mass[frame, best]
    found = (mass >= INK) & (spread <= SPREAD**2 * mass)
    return (place + size / 2).where(found[..., None], torch.nan)


def _check_size(size: int) -> None:
    if size <= DIGIT:
        raise ValueError(f"size must be at least {DIGIT + 1} pixels, got {size}")
