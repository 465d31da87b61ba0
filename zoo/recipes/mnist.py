"""Film of moving digits, which Abdulsalam & Makin (2023) show and do not measure."""

from __future__ import annotations

from typing import Any

from ...data import MovingMNIST
from ..models.baselines import Order0
from ..models.rvae import RVAE
from ..part import part
from .film_task import film_vae, local, local_spatial, next_frame_task, spatial_vae
from .recipe import Recipe

SOURCE = "Abdulsalam & Makin (2023), pictures only"
SIZE, FRAMES = 64, 20


def film(sequences: int, steps: int = FRAMES, **which: Any) -> MovingMNIST:
    """The film of this table."""
    return MovingMNIST(sequences, steps, size=SIZE, **which)


TASK = next_frame_task("MovingMNIST", film)
TRAINING = part(MovingMNIST, sequences=1000, steps=FRAMES)
NETS = {"size": SIZE, "emission_dim": 40, "latent_dim": 64, "channels": [8, 16, 32, 64]}
PAST_SCALE = [0.05] * 40 + [0.4] * 24 + [1.0] * 64

RECIPES = [
    Recipe("mnist/order0", "order 0", task=TASK, model=part(Order0), source=SOURCE),
    Recipe(
        "mnist/rvae",
        "rVAE",
        task=TASK,
        model=film_vae(RVAE, **NETS, past_scale=PAST_SCALE, past_hidden=256, predictor_hidden=256),
        data=TRAINING,
        source=SOURCE,
        **local(40, 30, {"x": 0.3, "u": 0.2}, batch_size=100),
        note="on the budget of a CPU (twenty minutes of one core): 40 latents keep where digits "
        "are and how they move, and blur which digits they are.",
    ),
    Recipe(
        "mnist/rvae-map",
        "rVAE, a map of latents",
        task=TASK,
        model=spatial_vae(grid=16, channels=24, width=64, strides=[2, 2]),
        data=TRAINING,
        source=SOURCE,
        **local_spatial(warmup=5, epochs=60, batch_size=100),
        ships=False,
        note="for a GPU.",
    ),
]
