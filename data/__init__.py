"""Data sets, batches and masks. Knows nothing of models."""

from . import ppc
from .batch import Batch, Dataset, Loader, check_sequences, collate, generator
from .ppc import PPC

__all__ = ["PPC", "Batch", "Dataset", "Loader", "check_sequences", "collate", "generator", "ppc"]
