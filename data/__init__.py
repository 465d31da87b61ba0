"""Data sets, batches and masks. Knows nothing of models."""

from . import balls, fetch, moving_mnist, ppc
from .balls import BouncingBalls
from .batch import Batch, Dataset, Loader, check_sequences, collate, generator
from .fetch import DataError
from .moving_mnist import MovingMNIST
from .ppc import PPC

__all__ = [
    "PPC",
    "Batch",
    "BouncingBalls",
    "DataError",
    "Dataset",
    "Loader",
    "MovingMNIST",
    "balls",
    "check_sequences",
    "collate",
    "fetch",
    "generator",
    "moving_mnist",
    "ppc",
]
