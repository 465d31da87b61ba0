"""Learning rules, the training loop, filters, bounds and diagnostics. Names no model class."""

from .calibration import calibration_error, coverage, frame_pit, histogram, pit, uniformity
from .checkpoint import CheckpointError
from .closed_form import Average, ClosedForm
from .contrastive import ContrastiveDivergence
from .diagnostics import (
    AlignmentCurve,
    Convergence,
    alignment,
    clamped_gibbs,
    convergence,
    target_alignment,
)
from .evaluate import elbo, frame_bound, importance_bound, log_weights, particle_bound
from .export import save_arviz, to_arviz
from .kalman import EM, Beliefs, LinearGaussian, kalman_filter, kalman_smoother
from .leave_one_out import Loo, loo
from .local import Fold, FoldedRule, LocalELBO, sweep
from .paths import GaussianPath, LinearChain, Path
from .predict import Filtered, Prediction, predict_next, rollout, run_filter
from .psis import good_khat, khat, smoothed_bound
from .restore import Imputation, denoise, impute
from .rmsprop import RMSpropNesterov
from .rule import LearningRule, Recurrent
from .sequence import BPTT, SequenceELBO
from .simulation import SBC, Simulator, linear_gaussian_simulator, sbc, simulator
from .state import Fit
from .streams import RandomStream
from .target import TargetPropagation
from .through_time import OutputBPTT, StraightThrough
from .training import fit

__all__ = [
    "BPTT",
    "EM",
    "SBC",
    "AlignmentCurve",
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
    "Loo",
    "OutputBPTT",
    "Path",
    "Prediction",
    "RMSpropNesterov",
    "RandomStream",
    "Recurrent",
    "SequenceELBO",
    "Simulator",
    "StraightThrough",
    "TargetPropagation",
    "alignment",
    "calibration_error",
    "clamped_gibbs",
    "convergence",
    "coverage",
    "denoise",
    "elbo",
    "fit",
    "frame_bound",
    "frame_pit",
    "good_khat",
    "histogram",
    "importance_bound",
    "impute",
    "kalman_filter",
    "kalman_smoother",
    "khat",
    "linear_gaussian_simulator",
    "log_weights",
    "loo",
    "particle_bound",
    "pit",
    "predict_next",
    "rollout",
    "run_filter",
    "save_arviz",
    "sbc",
    "simulator",
    "smoothed_bound",
    "sweep",
    "target_alignment",
    "to_arviz",
    "uniformity",
]
