"""How things move along their paths, to tell generated film from real film.

A model that has learned where things are and one that has also learned how fast they go may draw
equally good pictures: ``Motion.second_order`` tells them apart. The trackers that find the paths
in film are in ``balls`` and ``digits``.
"""

from __future__ import annotations

import math
from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor

REFLECTED = 0.5  # how far a velocity may be from its mirror image, as a fraction of its length


class Motion(NamedTuple):
    """How things move. A number is NaN where nothing was there to measure, see the counts.

    *Free* is a thing that was found, farther than a margin from every wall and from everything
    else found: nothing acts on it. A *flight* is an unbroken run of frames in which it is free.
    Lengths are tenths of the box (balls) or pixels (digits).

    Attributes:
        found: things found in a frame, mean over frames.
        apart: fraction of the frames with two or more things in which no two are too near: balls
            nearer than ``2 * 1.2 - 0.5``, which real balls, that overlap only while they collide,
            hardly ever are; digits nearer than 20 pixels, which overlap as they pass.
        speed: length of a move, from a frame to the next of a flight, mean over moves.
        variation: how unsteady the speed is: standard deviation of a flight's moves about their
            own mean, pooled over flights, over ``speed``.
        turn: angle between successive moves of a flight in degrees, mean weighted by the product
            of their lengths (the direction of a tiny move is noise).
        second_order: squared error of predicting ``x[t+1]`` by ``2 x[t] - x[t-1]`` over that of
            predicting it by ``x[t]``, each summed over triples of successive frames of a flight. 0
            is constant velocity; 2 a random walk, whose moves are unrelated; 3 unrelated places,
            or a thing that stands still and is seen through noise.
        mirrored: fraction of wall contacts after which the velocity is the mirror image of the one
            before. A contact is the first frame ``t`` whose last move, repeated, would take the
            thing to a wall (a ball's disc, a digit's 28x28 image), if it approaches at a tenth of
            the real speed or more and is found, near nothing else and not near a corner, from
            ``t-1`` to ``t+3``. The moves before ``t`` and after ``t+2`` are compared. Mirrored: the
            component along the normal has changed its sign, and the difference from the mirror
            image is at most half of the velocity.
        frames: frames looked at.
        groups: frames with two or more things found, the basis of ``apart``.
        moves: the number behind ``speed`` and ``variation``.
        triples: the number behind ``turn`` and ``second_order``.
        contacts: the number behind ``mirrored``.
    """

    found: float
    apart: float
    speed: float
    variation: float
    turn: float
    second_order: float
    mirrored: float
    frames: int
    groups: int
    moves: int
    triples: int
    contacts: int


def link(places: Tensor, sure: Tensor, low: float, high: float) -> Tensor:
    """Reorders the things of each frame, so that each follows one path, ``[N, T, K, 2]``.

    A path goes on at constant velocity, turned back at ``low`` and ``high``, through frames whose
    places are not ``sure`` ``[N, T, K]``.
    """
    orders = torch.tensor(list(permutations(range(places.shape[2]))), device=places.device)
    row = torch.arange(places.shape[2], device=places.device)
    far = (10 * high) ** 2  # to a missing thing: an order that misses fewer is better
    paths, place, seen = places.clone(), places[:, 0], sure[:, 0]
    velocity = torch.zeros_like(place)
    for t in range(1, places.shape[1]):
        ahead = place + velocity
        velocity = velocity.abs().where(ahead < low, velocity)
        velocity = (-velocity.abs()).where(ahead > high, velocity)
        ahead = ahead.clamp(low, high)
        cost = (ahead[:, :, None] - places[:, t, None]).square().sum(-1).nan_to_num(far)
        order = orders[cost[:, row, orders].sum(-1).argmin(1)]  # [N, K]
        now = places[:, t].gather(1, order[..., None].expand(-1, -1, 2))
        certain = sure[:, t].gather(1, order)
        velocity = (now - place).where((certain & seen)[..., None], velocity)
        paths[:, t], seen = now, certain
        place = now.where(certain[..., None], ahead)
    return paths


def distance_to_nearest(paths: Tensor) -> Tensor:
    """Distance of each thing from the nearest other, infinite without one, ``[N, T, K]``."""
    distance = (paths[..., :, None, :] - paths[..., None, :, :]).norm(dim=-1)
    distance = distance.nan_to_num(math.inf)
    distance.diagonal(dim1=-2, dim2=-1).fill_(math.inf)
    return distance.amin(-1)


def measure(
    paths: Tensor, low: float, high: float, margin: float, alone: float, apart: float, slow: float
) -> Motion:
    """The measures; ``alone`` is how far a free thing is from others, ``slow`` barely moves."""
    paths = check_paths(paths).double()
    found = ~paths.isnan().any(-1)
    nearest = distance_to_nearest(paths)
    groups = found.sum(-1) >= 2
    together = groups & (nearest < apart).any(-1)
    clear = found & (nearest >= alone)
    free = clear & ((paths >= low + margin) & (paths <= high - margin)).all(-1)
    moves = paths[:, 1:] - paths[:, :-1]
    flying = free[:, 1:] & free[:, :-1]
    speed = moves.norm(dim=-1)
    mean = ratio(speed[flying].sum(), flying.sum())

    on = flying[:, 1:] & flying[:, :-1]
    before, after = moves[:, :-1][on], moves[:, 1:][on]
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    weight = before.norm(dim=-1) * after.norm(dim=-1)
    turn = torch.atan2(cross.abs(), (before * after).sum(-1)).rad2deg()
    contacts, mirrored = _contacts(paths, clear, low, high, margin, slow)
    return Motion(
        found=ratio(found.sum(), found[..., 0].numel()),
        apart=1 - ratio(together.sum(), groups.sum()),
        speed=mean,
        variation=ratio(_steadiness(speed, flying), mean),
        turn=ratio((weight * turn).sum(), weight.sum()),
        second_order=ratio((after - before).square().sum(), after.square().sum()),
        mirrored=ratio(mirrored, contacts),
        frames=found[..., 0].numel(),
        groups=int(groups.sum()),
        moves=int(flying.sum()),
        triples=len(before),
        contacts=contacts,
    )


def _steadiness(speed: Tensor, flying: Tensor) -> float:
    """Standard deviation of speeds about the mean of their flight; both ``[N, T-1, K]``."""
    things = torch.arange(len(speed) * speed.shape[2], device=speed.device)
    things = things.reshape(-1, 1, speed.shape[2])
    flight = (~flying).cumsum(1) + things * (speed.shape[1] + 1)  # a number for each unbroken run
    flight, speed = flight[flying], speed[flying]
    count = flight.bincount().double()
    mean = flight.bincount(speed) / count
    return math.sqrt(ratio((speed - mean[flight]).square().sum(), (count - 1).clamp_min(0).sum()))


def _contacts(
    paths: Tensor, clear: Tensor, low: float, high: float, margin: float, slow: float
) -> tuple[int, int]:
    """Wall contacts, and how many of them mirrored the velocity. See ``Motion``."""
    frames = paths.shape[1] - 4  # each from t - 1 to t + 3
    if frames < 1:
        return 0, 0
    moves = paths[:, 1:] - paths[:, :-1]
    before, after = moves[:, :frames], moves[:, 3:]
    contacts = mirrored = 0
    for axis in range(2):
        calm = clear & (paths[..., 1 - axis] >= low + margin)
        calm &= paths[..., 1 - axis] <= high - margin
        calm = calm.unfold(1, 5, 1).all(-1)
        mirror = before.clone()
        mirror[..., axis] *= -1
        like = (after - mirror).norm(dim=-1) <= REFLECTED * before.norm(dim=-1)
        like &= before[..., axis] * after[..., axis] < 0
        for room in (paths[..., axis] - low, high - paths[..., axis]):
            pace = room[:, :-1] - room[:, 1:]
            meets = (pace >= slow) & (room[:, 1:] < pace)
            meets[:, 1:] &= ~meets[:, :-1].clone()
            meets = meets[:, :frames] & calm
            contacts += int(meets.sum())
            mirrored += int((meets & like).sum())
    return contacts, mirrored


def ratio(total: Tensor | float, count: Tensor | float) -> float:
    """Their quotient, NaN where there is nothing to divide by."""
    return float(total) / float(count) if float(count) != 0 else math.nan


def check_film(film: Tensor, size: int) -> Tensor:
    """Film ``[N, T, size²]`` as float32; raises a ValueError for anything else."""
    film = torch.as_tensor(film)
    if film.dim() != 3 or film.shape[2] != size**2 or not film.is_floating_point():
        raise ValueError(
            f"film must be floating point and [N, T, {size**2}], "
            f"got {film.dtype} {tuple(film.shape)}"
        )
    if not film.numel() or not film.isfinite().all():
        raise ValueError("film must hold a frame or more, and no NaN or infinity")
    return film.float()


def check_paths(paths: Tensor) -> Tensor:
    """Paths ``[N, T, things, 2]``; raises a ValueError for anything else."""
    paths = torch.as_tensor(paths)
    if paths.dim() != 4 or paths.shape[3] != 2 or not paths.is_floating_point():
        raise ValueError(
            "paths must be floating point and [N, T, things, 2], "
            f"got {paths.dtype} {tuple(paths.shape)}"
        )
    return paths
