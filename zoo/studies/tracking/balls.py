"""A tracker of bouncing balls: their paths in real or generated film, and how they move."""

from __future__ import annotations

import math

import torch
from torch import Tensor
from torch.nn.functional import conv2d

from ....data.balls import BOX, CHUNK, MOST_BALLS, RADIUS, RENDERINGS, SPEED, check_rendering
from .motion import Motion, check_film, link, measure

# Balls, in tenths of the box. The two thresholds stand between film and noise: at 30 pixels a side
# they find all balls of real film, also under a blur of 2 pixels or noise of sd 0.2, and less than
# one in fifty frames of pure noise. At 15 pixels noise often looks like a small ball.
LIKENESS = 0.7  # least correlation of the picture around a ball with a ball
CONTRAST = 0.25  # least brightness above the frame's median
NEWTON = 6  # steps of a fit; most frames need three
MARGIN = 0.4  # a real ball, seen at no frame nearer to a wall or a ball than this, has not bounced


def track_balls(
    film: Tensor, balls: int = 3, rendering: str = "sutskever", size: int = 30
) -> Tensor:
    """Paths of the balls in film of bouncing balls.

    In each frame alone, less its median, balls are placed one after the other where the picture
    matches one best; then positions and brightnesses are fitted together to
    ``min(1, sum of rendered balls)`` by least squares (Gauss-Newton). Then balls
    that are too faint, too unlike a ball, or within 1.2 of a brighter one are removed, and the
    rest are fitted again. Balls that touch or overlap down to that distance are told apart.

    Frames are linked by the assignment with the least squared distance from where constant velocity
    would take each ball; a ball out of sight goes on at its last velocity.

    Arguments:
        film: grey values, nominally in ``[0, 1]``, ``[N, T, size²]``.
        balls: the most balls to look for in a frame, 1 to 6.
        rendering: which balls, see ``balls.render``.
        size: pixels along one side of a frame.

    Returns:
        x and y of each ball, NaN where it is not found, ``[N, T, balls, 2]``, float32.

    Raises:
        ValueError: when the film's shape or type is wrong or it is not finite, ``balls`` is out of
            its range, or the rendering is unknown.

    Example:
        >>> track_balls(BouncingBalls(2, 100, seed=0).obs).shape
        torch.Size([2, 100, 3, 2])
    """
    check_rendering(size, rendering)
    if not 1 <= balls <= MOST_BALLS:
        raise ValueError(f"balls must be 1 to {MOST_BALLS}, got {balls}")
    film = check_film(film, size)
    scale = RENDERINGS[rendering]
    frames = film.reshape(-1, size, size)
    chunk = max(1, CHUNK // (16 * balls * size**2))
    places = torch.cat([_find_balls(part, balls, scale) for part in frames.split(chunk)])
    places = places.reshape(*film.shape[:2], balls, 2)
    return link(places, ~places.isnan().any(-1), RADIUS, BOX - RADIUS)


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
    return measure(paths, RADIUS, BOX - RADIUS, MARGIN, touch + MARGIN, touch - SPEED, SPEED / 10)


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


def _fit(
    frames: Tensor, place: Tensor, bright: Tensor, grid: Tensor, scale: float
) -> tuple[Tensor, Tensor]:
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
        normal.diagonal(dim1=1, dim2=2).add_(0.01)  # a step of 0 where no pixel changes
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


def _likeness(frames: Tensor, place: Tensor, bright: Tensor, grid: Tensor, scale: float) -> Tensor:
    """Correlation, around each ball, of the frame less the other balls with the ball's picture."""
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
