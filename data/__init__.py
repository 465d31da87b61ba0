"""Data sets, batches and masks. Knows nothing of models."""

from . import balls, ppc
from .balls import BouncingBalls
from .batch import Batch, Dataset, Loader, check_sequences, collate, generator
from .ppc import PPC

__all__ = [
    "PPC",
    "Batch",
    "BouncingBalls",
    "Dataset",
    "Loader",
    "balls",
    "check_sequences",
    "collate",
    "generator",
    "ppc",
]
