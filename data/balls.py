"""Bouncing balls: film of hard balls in a square box, with their positions and velocities.

The data of Table 2 in *Learning recurrent models with temporally local rules*. The motion and the
rendering ``"sutskever"`` are those of the program published with *The recurrent temporal
restricted Boltzmann machine* (Sutskever, Hinton & Taylor, NIPS 2008); the rendering ``"squared"``,
with smaller balls, is that of the MATLAB programs of the rEFH (Makin, Dichter & Sabes 2015). Errors
on the two differ, so a table must name its rendering. Lengths are in units of a tenth of the box,
times in frames.
"""

from __future__ import annotations

import torch
from torch import Tensor

from .batch import Index
from .checks import check_number
from .synthetic import Synthetic

BOX = 10.0  # the box is [0, BOX] x [0, BOX]
RADIUS = 1.2
SPEED = 0.5  # norm of the velocities of all balls together
SUBSTEPS = 2  # a frame is SUBSTEPS moves of 1 / SUBSTEPS
RENDERINGS = {"sutskever": 1 / RADIUS, "squared": RADIUS}  # factors of distances
MOST_BALLS = 6  # more are next to never placed without overlap
CHUNK = 2**22  # pixel values rendered at once


class BouncingBalls(Synthetic):
    """Film of balls of one mass that bounce off one another and off the walls of a box.

    Arguments:
        sequences: number of films ``N``.
        steps: frames ``T`` of each.
        seed: seed; the same arguments give the same motion on every device.
        size: pixels along one side of a frame.
        balls: number of balls, 1 to 6.
        rendering: ``"sutskever"`` or ``"squared"``, see ``render``.
        split: ``"train"``, ``"validation"`` or ``"test"``: unrelated streams for one seed.
        device: where the data live.

    Attributes:
        obs: pixels in ``[0, 1]``, frames flattened, ``[N, T, size²]``.
        state: x, y, and velocity along x and y, of each ball before the frame's move,
            ``[N, T, balls, 4]``. A frame's rows are y, its columns x.
        mask: all True, ``[N, T]``.

    Raises:
        ValueError: when a number is out of its range, or split or rendering are unknown.

    Example:
        >>> BouncingBalls(sequences=2, steps=100, seed=0).obs.shape
        torch.Size([2, 100, 900])
    """

    unit = "pixel"

    def __init__(
        self,
        sequences: int,
        steps: int,
        seed: int = 0,
        size: int = 30,
        balls: int = 3,
        rendering: str = "sutskever",
        split: str = "train",
        device: torch.device | str = "cpu",
        epoch: int = 0,
    ) -> None:
        check_rendering(size, rendering)
        self.size, self.rendering = int(size), rendering
        self.balls = check_number("balls", balls, most=MOST_BALLS)
        super().__init__(sequences, steps, seed, split, device, epoch)

    def _draw(self, random: torch.Generator) -> None:
        # Collisions amplify rounding, so the motion is always computed on the CPU.
        state = _trajectories(self.sequences, self.steps, self.balls, random)
        self.state = state.to(self.device, torch.get_default_dtype())

    def _observe(self, index: Index) -> Tensor:
        return render(self.state[index][..., :2], self.size, self.rendering)


def render(position: Tensor, size: int = 30, rendering: str = "sutskever") -> Tensor:
    """Frames that show balls at given positions.

    With ``d`` the distance from a ball's centre to the centre of a pixel and ``r`` the radius 1.2,
    a pixel is ``min(1, sum over balls exp(-(d²/r²)^4))`` when the rendering is ``"sutskever"``, and
    ``min(1, sum over balls exp(-(d²·r²)^4))`` when it is ``"squared"``: balls of radius about 1.2
    and 0.83. The centre of pixel i is at ``(i + 0.5) / size * 10``.

    Arguments:
        position: x and y of each ball, ``[..., balls, 2]``.
        size: pixels along one side of a frame.
        rendering: ``"sutskever"`` or ``"squared"``.

    Returns:
        Pixels, rows (y) of a frame one after the other, ``[..., size²]``.

    Raises:
        ValueError: when the size is below 1, the rendering is unknown, or ``position`` is
            not floating point or does not end with x and y.
    """
    check_rendering(size, rendering)
    if position.shape[-1:] != (2,) or position.dim() < 2 or not position.is_floating_point():
        raise ValueError(
            "position must be floating point and [..., balls, 2], "
            f"got {position.dtype} {tuple(position.shape)}"
        )
    scale = RENDERINGS[rendering]
    like = {"dtype": position.dtype, "device": position.device}
    centres = (torch.arange(size, **like) + 0.5) / size * BOX
    flat = position.reshape(-1, *position.shape[-2:])
    frames = torch.zeros(len(flat), size, size, **like)
    chunk = max(1, CHUNK // size**2)
    for part, shown in zip(flat.split(chunk), frames.split(chunk)):
        square = ((part[..., None] - centres) * scale).square()  # [frames, balls, 2, size]
        for ball in square.unbind(1):
            x, y = ball.unbind(1)
            shown.add_((y[:, :, None] + x[:, None, :]).square_().square_().neg_().exp_())
    return frames.clamp_(max=1).reshape(*position.shape[:-2], size**2)


def _trajectories(sequences: int, steps: int, balls: int, random: torch.Generator) -> Tensor:
    """Positions and velocities, ``[N, T, balls, 4]``, float64."""
    position = _starts(sequences, balls, random)
    velocity = torch.randn(sequences, balls, 2, generator=random, dtype=torch.float64)
    velocity *= SPEED / velocity.flatten(1).norm(dim=1)[:, None, None]
    states = torch.empty(sequences, steps, balls, 4, dtype=torch.float64)
    for t in range(steps):
        states[:, t, :, :2], states[:, t, :, 2:] = position, velocity
        for _ in range(SUBSTEPS):
            position = position + velocity / SUBSTEPS
            velocity = _collide(position, _reflect(position, velocity))
    return states


def _starts(sequences: int, balls: int, random: torch.Generator) -> Tensor:
    """Uniform positions within the walls, rejected until no two balls overlap, ``[N, balls, 2]``.

    Positions uniform in the whole box, rejected until they lie within the walls, are uniform
    between the walls.
    """
    position = torch.empty(sequences, balls, 2, dtype=torch.float64)
    first, second = torch.triu_indices(balls, balls, offset=1)
    waiting = torch.arange(sequences)
    while len(waiting):
        drawn = torch.rand(len(waiting), balls, 2, generator=random, dtype=torch.float64)
        drawn = RADIUS + (BOX - 2 * RADIUS) * drawn
        position[waiting] = drawn
        distance = (drawn[:, first] - drawn[:, second]).norm(dim=-1)
        waiting = waiting[(distance < 2 * RADIUS).any(1)]
    return position


def _reflect(position: Tensor, velocity: Tensor) -> Tensor:
    """Velocities after reflection: a ball at a wall moves away from it, ``[N, balls, 2]``."""
    velocity = torch.where(position < RADIUS, velocity.abs(), velocity)
    return torch.where(position > BOX - RADIUS, -velocity.abs(), velocity)


def _collide(position: Tensor, velocity: Tensor) -> Tensor:
    """Velocities after elastic collisions of overlapping balls, ``[N, balls, 2]``.

    Balls of one mass exchange their velocities along the line of centres. Pairs come in the order
    (1, 0), (2, 0), (2, 1), ..., each with the velocities that the pair before it left. As in the
    original program, an overlapping pair collides whether or not it is already separating. A pair
    that a third ball or a wall pushes into a deep overlap then hangs together for a while, for ten
    frames or more in 2 % of films of 100 frames.
    """
    velocity = velocity.clone()
    for i in range(1, velocity.shape[1]):
        for j in range(i):
            line = position[:, i] - position[:, j]
            distance = line.norm(dim=-1, keepdim=True)
            line = line / distance.clamp_min(1e-12)
            exchange = ((velocity[:, i] - velocity[:, j]) * line).sum(-1, keepdim=True) * line
            exchange = torch.where(distance < 2 * RADIUS, exchange, 0.0)
            velocity[:, i] -= exchange
            velocity[:, j] += exchange
    return velocity


def check_rendering(size: int, rendering: str) -> None:
    """Raises a ValueError for a size below 1 or an unknown rendering."""
    check_number("size", size)
    if rendering not in RENDERINGS:
        raise ValueError(f"rendering must be one of {', '.join(RENDERINGS)}, got {rendering!r}")
