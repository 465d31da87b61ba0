"""Learning rules, the training loop, filters, bounds and diagnostics. Names no model class."""

from .contracts import (
    AnswerModel,
    Encoding,
    EnergyModel,
    Fold,
    FrameModel,
    GibbsModel,
    LatentPathModel,
    LinearSystem,
    Recurrent,
    SequenceModel,
)
from .diagnostics.alignment import AlignmentCurve, alignment, target_alignment
from .diagnostics.calibration import (
    calibration_error,
    coverage,
    frame_pit,
    histogram,
    pit,
    uniformity,
)
from .diagnostics.chains import Convergence, clamped_gibbs, convergence
from .diagnostics.export import save_arviz, to_arviz
from .diagnostics.loo import Loo, loo
from .diagnostics.psis import good_khat, khat, smoothed_bound
from .diagnostics.sbc import SBC, Simulator, linear_gaussian_simulator, sbc, simulator
from .evaluate import elbo, frame_bound, importance_bound, log_weights, particle_bound
from .kalman import Beliefs, LinearGaussian, kalman_filter, kalman_smoother
from .paths import GaussianPath, LinearChain, Path
from .predict import Filtered, Prediction, predict_next, rollout, run_filter
from .restore import Imputation, denoise, impute
from .rng import RandomStream
from .rules.closed_form import Average, ClosedForm
from .rules.contrastive import ContrastiveDivergence
from .rules.em import EM
from .rules.folded import FoldedRule
from .rules.local import BPTT, LocalELBO
from .rules.rule import LearningRule
from .rules.sequence import SequenceELBO
from .rules.target import TargetPropagation
from .rules.through_time import OutputBPTT, StraightThrough
from .sweep import sweep
from .training.checkpoint import CheckpointError
from .training.loop import fit
from .training.state import Fit

__all__ = [
    "BPTT",
    "EM",
    "SBC",
    "AlignmentCurve",
    "AnswerModel",
    "Average",
    "Beliefs",
    "CheckpointError",
    "ClosedForm",
    "ContrastiveDivergence",
    "Convergence",
    "Encoding",
    "EnergyModel",
    "Filtered",
    "Fit",
    "Fold",
    "FoldedRule",
    "FrameModel",
    "GaussianPath",
    "GibbsModel",
    "Imputation",
    "LatentPathModel",
    "LearningRule",
    "LinearChain",
    "LinearGaussian",
    "LinearSystem",
    "LocalELBO",
    "Loo",
    "OutputBPTT",
    "Path",
    "Prediction",
    "RandomStream",
    "Recurrent",
    "SequenceELBO",
    "SequenceModel",
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
