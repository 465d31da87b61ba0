"""Learning rules, the training loop, filters, bounds and diagnostics. Names no model class."""

from .checkpoint import CheckpointError
from .closed_form import Average, ClosedForm
from .contrastive import ContrastiveDivergence
from .diagnostics import Convergence, alignment, clamped_gibbs, convergence, target_alignment
from .evaluate import elbo, frame_bound, importance_bound, log_weights, particle_bound
from .kalman import EM, Beliefs, LinearGaussian, kalman_filter, kalman_smoother
from .local import Fold, FoldedRule, LocalELBO, sweep
from .paths import GaussianPath, LinearChain, Path
from .predict import Filtered, Prediction, predict_next, rollout, run_filter
from .restore import Imputation, denoise, impute
from .rmsprop import RMSpropNesterov
from .rule import LearningRule, Recurrent
from .sequence import BPTT, SequenceELBO
from .state import Fit
from .streams import RandomStream
from .target import TargetPropagation
from .through_time import OutputBPTT, StraightThrough
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
    "GaussianPath",
    "Imputation",
    "LearningRule",
    "LinearChain",
    "LinearGaussian",
    "LocalELBO",
    "OutputBPTT",
    "Path",
    "Prediction",
    "RMSpropNesterov",
    "RandomStream",
    "Recurrent",
    "SequenceELBO",
    "StraightThrough",
    "TargetPropagation",
    "alignment",
    "clamped_gibbs",
    "convergence",
    "denoise",
    "elbo",
    "fit",
    "frame_bound",
    "importance_bound",
    "impute",
    "kalman_filter",
    "kalman_smoother",
    "log_weights",
    "particle_bound",
    "predict_next",
    "rollout",
    "run_filter",
    "sweep",
    "target_alignment",
]
