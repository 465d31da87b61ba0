"""Training on data of one's own: defaults that follow from the data, comparisons, advice."""

from .compare import Comparison, compare
from .model import FittedModel, fit_model

__all__ = ["Comparison", "FittedModel", "compare", "fit_model"]
