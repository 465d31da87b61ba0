"""Trackers: from film alone, does what it shows move like the real thing?

``track_balls`` and ``track_digits`` find the things in every frame and link them in time;
``measure_balls`` and ``measure_digits`` turn their paths into numbers, see ``Motion``. A model that
has learned where things are and one that has also learned how fast they go may draw equally good
pictures: ``second_order`` tells them apart. Film is grey values, rows (y) of a frame one after the
other, ``[N, T, size²]``, as data sets give it or as a model generates it.
"""

from __future__ import annotations

import math
from itertools import permutations
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from .balls import BOX, CHUNK, MOST_BALLS, RADIUS, SPEED, _check_rendering
from .moving_mnist import DIGIT

# Balls, in tenths of the box. The two thresholds stand between film and noise: at 30 pixels a side
# they find all balls of real film, also under a blur of 2 pixels or noise of sd 0.2, and less than
# one in fifty frames of pure noise. At 15 pixels noise often looks like a small ball.
LIKENESS = 0.7  # least correlation of the picture around a ball with a ball
CONTRAST = 0.25  # least brightness above the frame's median
NEWTON = 6  # steps of a fit; most frames need three
MARGIN = 0.4  # a real ball, seen at no frame nearer to a wall or a ball than this, has not bounced

# Digits, in pixels.
HAZE = 0.2  # grey values above the frame's median that are not yet ink
INK = 8.0  # least sum of the grey values of a digit; MNIST's faintest has 16
SPREAD = DIGIT / math.sqrt(6)  # most rms distance of ink from its centroid: that of a 28x28 square
APART = 20.0  # centroids nearer than this may be those of digits that overlap
STARTS, LLOYD = 4, 8  # of the clustering, and its steps

REFLECTED = 0.5  # what a velocity may differ from its mirror image, as a share of its length


class Motion(NamedTuple):
    """How things move. A number is NaN where nothing was there to measure, see the counts.

    *Free* is a thing that was found, farther than a margin from every wall and from everything
    else found: nothing acts on it. A *flight* is an unbroken run of frames in which it is free.
    Lengths are tenths of the box (balls) or pixels (digits).

    Attributes:
        found: things found in a frame, mean over frames.
        apart: share of the frames with two or more things in which no two are too near: balls
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
        mirrored: share of wall contacts after which the velocity is the mirror image of the one
            before. A contact is the first frame ``t`` whose last move, repeated, would take the
            thing to a wall (a ball's disc, a digit's 28x28 image), if it approaches at a tenth of
            the real speed or more and is found, near nothing else and not near a corner, from
            ``t-1`` to ``t+3``. The moves before ``t`` and after ``t+2`` are compared. Mirrored: the
            component along the normal has changed its sign, and the difference from the mirror
            image is at most half of the velocity.
        frames: frames looked at.
        groups: frames with two or more things found: what ``apart`` is based on.
        moves: what ``speed`` and ``variation`` are based on.
        triples: what ``turn`` and ``second_order`` are based on.
        contacts: what ``mirrored`` is based on.
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


# Balls ----------------------------------------------------------------------------------------


def track_balls(
    film: Tensor, balls: int = 3, rendering: str = "sutskever", resolution: int = 30
) -> Tensor:
    """Paths of the balls in film of bouncing balls.

    In each frame alone, less its median, balls are placed one after the other where the picture
    matches one best; then positions and brightnesses are fitted together to
    ``min(1, sum of rendered balls)`` by least squares (Gauss-Newton). What then is too faint, too
    unlike a ball, or a second ball within 1.2 of a brighter one is taken out and the rest fitted
    again. Balls that touch or overlap down to that distance are told apart.

    Frames are linked by the assignment with the least squared distance from where constant velocity
    would take each ball; a ball out of sight goes on at its last velocity.

    Arguments:
        film: grey values, nominally in ``[0, 1]``, ``[N, T, resolution²]``.
        balls: the most balls to look for in a frame, 1 to 6.
        rendering: which balls, see ``balls.render``.
        resolution: pixels along one side of a frame.

    Returns:
        x and y of each ball, NaN where it is not found, ``[N, T, balls, 2]``, float32.

    Raises:
        ValueError: when the film's shape or type is wrong or it is not finite, ``balls`` is out of
            its range, or the rendering is unknown.

    Example:
        >>> track_balls(BouncingBalls(2, 100, seed=0).obs).shape
        torch.Size([2, 100, 3, 2])
    """
    _check_rendering(resolution, rendering)
    if not 1 <= balls <= MOST_BALLS:
        raise ValueError(f"balls must be 1 to {MOST_BALLS}, got {balls}")
    film = _check_film(film, resolution)
    scale = 1 / RADIUS if rendering == "sutskever" else RADIUS
    frames = film.reshape(-1, resolution, resolution)
    size = max(1, CHUNK // (16 * balls * resolution**2))
    places = torch.cat([_find_balls(part, balls, scale) for part in frames.split(size)])
    places = places.reshape(*film.shape[:2], balls, 2)
    return _link(places, ~places.isnan().any(-1), RADIUS, BOX - RADIUS)


def measure_balls(paths: Tensor) -> Motion:
    """How balls move that ``track_balls`` found.

    Arguments:
        paths: x and y of each ball in tenths of the box, NaN where it is not found,
            ``[N, T, balls, 2]``.

    Returns:
        The measures; 0.4 is the margin of a free ball.

    Raises:
        ValueError: when ``paths`` is not floating point or of another shape.
    """
    touch = 2 * RADIUS
    return _motion(paths, RADIUS, BOX - RADIUS, MARGIN, touch + MARGIN, touch - SPEED, SPEED / 10)


def _find_balls(frames: Tensor, balls: int, scale: float) -> Tensor:
    """Positions of the balls in frames ``[F, R, R]``, in no order, NaN if none, ``[F, balls, 2]``.

    Balls are ``exp(-(d² scale²)^4)``.
    """
    side = frames.shape[-1]
    grid = (torch.arange(side, device=frames.device) + 0.5) / side * BOX
    frames = frames - frames.flatten(1).median(1).values[:, None, None]
    place, bright = _match(frames, grid, balls, scale)
    found = torch.ones_like(bright, dtype=torch.bool)
    for _ in range(2):
        place, bright = _fit(frames, place, bright * found, grid, scale)
        found &= (bright >= CONTRAST) & (_likeness(frames, place, bright, grid, scale) >= LIKENESS)
        near = (place[:, :, None] - place[:, None]).norm(dim=-1) < RADIUS
        brighter = bright[:, None, :] > bright[:, :, None]
        found &= ~(near & brighter & found[:, None, :]).any(-1)
    return place.where(found[..., None], torch.nan)


def _shapes(place: Tensor, grid: Tensor, scale: float) -> tuple[Tensor, Tensor, Tensor]:
    """Balls ``[F, balls, R, R]`` and their derivatives along x and along y."""
    offset = (grid - place[..., None]) * scale  # [F, balls, 2, R]
    x, y = offset[:, :, 0, None, :], offset[:, :, 1, :, None]
    square = (x.square() + y.square()).clamp_(max=2.25)  # exp is slow where it underflows
    cube = square * square * square
    shapes = (cube * square).neg_().exp_()
    slope = cube.mul_(shapes).mul_(8 * scale)
    return shapes, slope * x, slope * y


def _match(frames: Tensor, grid: Tensor, balls: int, scale: float) -> tuple[Tensor, Tensor]:
    """First guess, on pixel centres: places ``[F, balls, 2]`` and brightnesses ``[F, balls]``."""
    side = len(grid)
    step = BOX / side * scale
    reach = math.ceil(1.3 / step)
    along = (torch.arange(2 * reach + 1, device=frames.device) - reach) * step
    kernel = (along.square() + along.square()[:, None]).pow(4).neg().exp()[None, None]
    power = conv2d(torch.ones_like(frames[:1, None]), kernel.square(), padding=reach)[:, 0]
    free, places, brights = torch.ones_like(frames, dtype=torch.bool), [], []
    for _ in range(balls):
        match = conv2d(frames[:, None], kernel, padding=reach)[:, 0]
        best = (match / power.sqrt()).where(free, -math.inf).flatten(1).argmax(1, keepdim=True)
        bright = (match / power).flatten(1).gather(1, best).clamp(0, 1)
        place = torch.stack((grid[best % side], grid[best // side]), -1)  # [F, 1, 2]
        frames = frames - bright[..., None] * _shapes(place, grid, scale)[0][:, 0]
        x, y = (grid[:, None] - place).square().unbind(-1)  # [F, R]
        free = free & (x[:, None, :] + y[:, :, None] >= RADIUS**2)
        places.append(place)
        brights.append(bright)
    return torch.cat(places, 1), torch.cat(brights, 1)


def _fit(frames, place, bright, grid, scale) -> tuple[Tensor, Tensor]:
    """Least squares from a guess; a ball of brightness 0 stays out."""
    place, bright = place.clone(), bright.clone()
    part = torch.arange(len(frames), device=frames.device)  # frames still on the move
    for _ in range(NEWTON):
        was, light = place[part], bright[part]
        shapes, along_x, along_y = _shapes(was, grid, scale)
        level = light[..., None, None]
        model = (level * shapes).sum(1, keepdim=True)
        slopes = torch.cat((level * along_x, level * along_y, (level > 0) * shapes), 1)
        slopes = (slopes * (model <= 1)).flatten(2)  # [F, 3 balls, R²]
        error = (frames[part] - model[:, 0].clamp_(max=1)).flatten(1)
        normal = slopes @ slopes.mT
        normal.diagonal(dim1=1, dim2=2).add_(0.01)  # a step of 0 for whatever changes no pixel
        step = torch.linalg.solve(normal, slopes @ error[..., None])[..., 0]
        x, y, more = step.chunk(3, 1)
        move = torch.stack((x, y), -1)
        move = move * (0.3 / move.norm(dim=-1, keepdim=True).clamp_min(0.3))
        place[part] = (was + move).clamp(0, BOX)
        bright[part] = (light + more).clamp(0, 1)
        part = part[(step.abs() > 1e-3).any(1)]
        if not len(part):
            break
    return place, bright


def _likeness(frames, place, bright, grid, scale) -> Tensor:
    """Correlation, around each ball, of what the others leave of the frame with its picture."""
    parts = bright[..., None, None] * _shapes(place, grid, scale)[0]
    whole = parts.sum(1, keepdim=True)
    others = (whole - parts).clamp_(max=1)
    x, y = ((grid - place[..., None]) * scale).square().unbind(2)
    near = (x[:, :, None, :] + y[..., None] < 1.5**2).float()
    first, second = frames[:, None] - others, whole.clamp(max=1) - others
    total = near.sum((2, 3), keepdim=True).clamp_min(1)
    first = (first - (first * near).sum((2, 3), keepdim=True) / total) * near
    second = (second - (second * near).sum((2, 3), keepdim=True) / total) * near
    powers = first.square().sum((2, 3)) * second.square().sum((2, 3))
    return (first * second).sum((2, 3)) / powers.sqrt().clamp_min(1e-6)


# Digits ---------------------------------------------------------------------------------------


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
    film = _check_film(film, size)
    part = max(1, CHUNK // (STARTS * digits * size**2))
    places = [_find_digits(frames, digits, size) for frames in film.flatten(0, 1).split(part)]
    places = torch.cat(places).reshape(*film.shape[:2], digits, 2)
    sure = ~places.isnan().any(-1) & (_nearest(places) >= APART)
    return _link(places, sure, DIGIT / 2, size - DIGIT / 2)


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
    return _motion(paths, low, high, speed / 2 + 1, APART, APART, speed / 10)


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
        share = (away <= least[:, :, None]) * ink[:, None, None]  # [F, starts, digits, pixels]
        x, y, square, mass = (share.flatten(1, 2) @ sums).unflatten(1, (STARTS, digits)).unbind(-1)
        centroid = torch.stack((x, y), -1) / mass[..., None].clamp_min(1e-6)
        place = centroid.where(mass[..., None] > 0, place)
    spread = square - mass * centroid.square().sum(-1)
    best = spread.sum(2).argmin(1)
    frame = torch.arange(len(ink), device=ink.device)
    place, spread, mass = place[frame, best], spread[frame, best], mass[frame, best]
    found = (mass >= INK) & (spread <= SPREAD**2 * mass)
    return (place + size / 2).where(found[..., None], torch.nan)


# Paths ----------------------------------------------------------------------------------------


def _link(places: Tensor, sure: Tensor, low: float, high: float) -> Tensor:
    """Reorders the things of each frame, so that each follows one path, ``[N, T, K, 2]``.

    A path goes on at constant velocity, turned back at ``low`` and ``high``, through frames whose
    places are not ``sure`` ``[N, T, K]``.
    """
    orders = torch.tensor(list(permutations(range(places.shape[2]))), device=places.device)
    row = torch.arange(places.shape[2], device=places.device)
    far = (10 * high) ** 2  # to what is not there: any order that misses fewer is better
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


def _nearest(paths: Tensor) -> Tensor:
    """Distance of each thing from the nearest other, infinite without one, ``[N, T, K]``."""
    distance = (paths[..., :, None, :] - paths[..., None, :, :]).norm(dim=-1)
    distance = distance.nan_to_num(math.inf)
    distance.diagonal(dim1=-2, dim2=-1).fill_(math.inf)
    return distance.amin(-1)


def _motion(
    paths: Tensor, low: float, high: float, margin: float, alone: float, apart: float, slow: float
) -> Motion:
    """The measures; ``alone`` is how far a free thing is from others, ``slow`` barely moves."""
    paths = _check_paths(paths).double()
    found = ~paths.isnan().any(-1)
    nearest = _nearest(paths)
    groups = found.sum(-1) >= 2
    together = groups & (nearest < apart).any(-1)
    clear = found & (nearest >= alone)
    free = clear & ((paths >= low + margin) & (paths <= high - margin)).all(-1)
    moves = paths[:, 1:] - paths[:, :-1]
    flying = free[:, 1:] & free[:, :-1]
    speed = moves.norm(dim=-1)
    mean = _ratio(speed[flying].sum(), flying.sum())

    on = flying[:, 1:] & flying[:, :-1]
    before, after = moves[:, :-1][on], moves[:, 1:][on]
    cross = before[:, 0] * after[:, 1] - before[:, 1] * after[:, 0]
    weight = before.norm(dim=-1) * after.norm(dim=-1)
    turn = torch.atan2(cross.abs(), (before * after).sum(-1)).rad2deg()
    contacts, mirrored = _contacts(paths, clear, low, high, margin, slow)
    return Motion(
        found=_ratio(found.sum(), found[..., 0].numel()),
        apart=1 - _ratio(together.sum(), groups.sum()),
        speed=mean,
        variation=_ratio(_steadiness(speed, flying), mean),
        turn=_ratio((weight * turn).sum(), weight.sum()),
        second_order=_ratio((after - before).square().sum(), after.square().sum()),
        mirrored=_ratio(mirrored, contacts),
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
    return math.sqrt(_ratio((speed - mean[flight]).square().sum(), (count - 1).clamp_min(0).sum()))


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


def _ratio(total, count) -> float:
    """Their quotient, NaN where there is nothing to divide by."""
    return float(total) / float(count) if float(count) != 0 else math.nan


def _check_film(film: Tensor, size: int) -> Tensor:
    film = torch.as_tensor(film)
    if film.dim() != 3 or film.shape[2] != size**2 or not film.is_floating_point():
        raise ValueError(
            f"film must be floating point and [N, T, {size**2}], "
            f"got {film.dtype} {tuple(film.shape)}"
        )
    if not film.numel() or not film.isfinite().all():
        raise ValueError("film must hold a frame or more, and no NaN or infinity")
    return film.float()


def _check_paths(paths: Tensor) -> Tensor:
    paths = torch.as_tensor(paths)
    if paths.dim() != 4 or paths.shape[3] != 2 or not paths.is_floating_point():
        raise ValueError(
            "paths must be floating point and [N, T, things, 2], "
            f"got {paths.dtype} {tuple(paths.shape)}"
        )
    return paths


def _check_size(size: int) -> None:
    if size <= DIGIT:
        raise ValueError(f"size must be at least {DIGIT + 1} pixels, got {size}")
