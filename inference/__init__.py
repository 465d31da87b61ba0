"""Learning rules, the training loop, filters, bounds and diagnostics. Names no model class."""

from .checkpoint import CheckpointError
from .closed_form import Average, ClosedForm
from .contrastive import ContrastiveDivergence
from .diagnostics import Convergence, alignment, clamped_gibbs, convergence
from .evaluate import log_weights
from .kalman import EM, Beliefs, LinearGaussian, kalman_filter, kalman_smoother
from .local import Fold, FoldedRule, LocalELBO, sweep
from .predict import Filtered, Prediction, predict_next, rollout, run_filter
from .rule import LearningRule, Recurrent
from .sequence import BPTT
from .state import Fit
from .streams import RandomStream
from .training import fit

__all__ = [
    "BPTT",
    "EM",
    "Average",
    "Beliefs",
    "CheckpointError",
    "ClosedForm",
    "ContrastiveDivergence",
    "Convergence",
    "Filtered",
    "Fit",
    "Fold",
    "FoldedRule",
    "LearningRule",
    "LinearGaussian",
    "LocalELBO",
    "Prediction",
    "RandomStream",
    "Recurrent",
    "alignment",
    "clamped_gibbs",
    "convergence",
    "fit",
    "kalman_filter",
    "kalman_smoother",
    "log_weights",
    "predict_next",
    "rollout",
    "run_filter",
    "sweep",
]
