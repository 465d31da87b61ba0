"""Data sets, batches and masks. Knows nothing of models."""

from . import balls, fetch, moving_mnist, ppc
from .ball_tracker import measure_balls, track_balls
from .balls import BouncingBalls
from .batch import Batch, Dataset, Loader, check_sequences, collate, generator
from .digit_tracker import measure_digits, track_digits
from .fetch import DataError
from .motion import Motion
from .moving_mnist import MovingMNIST
from .ppc import PPC

__all__ = [
    "PPC",
    "Batch",
    "BouncingBalls",
    "DataError",
    "Dataset",
    "Loader",
    "Motion",
    "MovingMNIST",
    "balls",
    "check_sequences",
    "collate",
    "fetch",
    "generator",
    "measure_balls",
    "measure_digits",
    "moving_mnist",
    "ppc",
    "track_balls",
    "track_digits",
]
