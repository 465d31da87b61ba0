"""Training on data of one's own in Python: one model, comparisons, scores, advice.

The command ``seqzoo fit`` does it in folders, see ``zoo.runs``.
"""

from .compare import Comparison, compare
from .model import FittedModel, fit_model

__all__ = ["Comparison", "FittedModel", "compare", "fit_model"]
