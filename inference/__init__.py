"""Learning rules, the training loop, filters, bounds and diagnostics. Names no model class."""

from .checkpoint import CheckpointError
from .contrastive import ContrastiveDivergence
from .diagnostics import alignment
from .evaluate import log_weights
from .kalman import EM, Beliefs, LinearGaussian, kalman_filter, kalman_smoother
from .local import Fold, FoldedRule, LocalELBO, sweep
from .predict import Filtered, run_filter
from .rule import LearningRule, Recurrent
from .sequence import BPTT
from .state import Fit
from .streams import RandomStream
from .training import fit

__all__ = [
    "BPTT",
    "EM",
    "Beliefs",
    "CheckpointError",
    "ContrastiveDivergence",
    "Filtered",
    "Fit",
    "Fold",
    "FoldedRule",
    "LearningRule",
    "LinearGaussian",
    "LocalELBO",
    "RandomStream",
    "Recurrent",
    "alignment",
    "fit",
    "kalman_filter",
    "kalman_smoother",
    "log_weights",
    "run_filter",
    "sweep",
]
