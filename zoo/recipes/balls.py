"""Table 2 of paper 000: the next frame of bouncing balls, by every model of the table."""

from __future__ import annotations

import torch

from ...data import BouncingBalls
from ...data.track import Motion, measure_balls, track_balls
from ...inference import Average, ContrastiveDivergence, LocalELBO
from ..baselines import MeanFrame, Order0
from ..guides import GaussianGuide
from ..harmonium import REFH, RTRBM, TRBM
from ..likelihoods import Bernoulli
from ..nets import ConvDecoder, ConvEncoder
from ..rvae import RVAE
from ..tvae import TVAE
from .film import next_frame_task
from .part import part
from .recipe import Recipe

SOURCE = "Abdulsalam & Makin (2023), Table 2, rendering not stated"
SIZE, FRAMES = 30, 100
PIXELS = SIZE**2


def task(rendering: str):
    def film(sequences: int = 200, steps: int = FRAMES, **which) -> BouncingBalls:
        return BouncingBalls(sequences, steps, rendering=rendering, **which)

    def motion(film: torch.Tensor) -> Motion:
        return measure_balls(track_balls(film, rendering=rendering, resolution=SIZE))

    return next_frame_task(f"{rendering} rendering", film, motion)


SQUARED, SUTSKEVER = task("squared"), task("sutskever")
TRAINING = part(BouncingBalls, sequences=200, steps=FRAMES, rendering="squared")


def row(name: str, title: str, model, rule=None, **rest) -> Recipe:
    common = {"task": SQUARED, "source": SOURCE, "data": TRAINING if rule else None}
    return Recipe(f"balls/{name}", title, model=model, rule=rule, **{**common, **rest})


def harmonium(cls):
    return part(
        cls, obs_dim=PIXELS, hidden_dim=400, likelihood=part(Bernoulli, dim=PIXELS, grey=True)
    )
