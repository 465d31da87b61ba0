"""Learning rules, the training loop, bounds, filters, prediction, restoration and diagnostics.

Nothing here names a model class. A network inherits the class of its kind, and the functions below
work on it. They take sequences as a ``data.Batch``, or as anything that ``data.as_batch`` takes.
Every ``seed`` is that of a private random stream; the caller's random state is left alone. Calls
in several threads run one after the other where they draw random numbers, see ``RandomStream``.

The same verbs for every network, see ``Network`` for what it writes
    ``latents``, ``rates``, ``predict_next``, ``score``, ``predictive_bound``; ``States``
Kinds of network, see ``inference.contracts``
    ``Recurrent``, ``FrameModel``, ``GibbsModel``, ``EnergyModel``, ``SequenceModel``,
    ``LatentPathModel``, ``LinearSystem``, ``AnswerModel``; ``Fold`` and ``Encoding`` are what the
    Pyro pairs of frame and path models take, ``Tempered`` is the path of ``annealed_likelihood``
Training
    ``fit`` runs a rule over data; ``CheckpointError``
Learning rules
    of frames: ``LocalELBO``, ``BPTT``, ``ContrastiveDivergence``
    of sequences: ``SequenceELBO``
    of answers: ``TargetPropagation``, ``StraightThrough``, ``OutputBPTT``
    in closed form: ``EM`` of a linear system, ``Average`` of a constant
    to write your own: ``LearningRule``, ``FoldedRule``, ``ClosedForm``, ``sweep``
Bounds on log p(x), nats per sequence
    ``elbo``, ``importance_bound``, ``frame_bound``, ``particle_bound``, ``smoothed_bound``
Estimates of log p(x) of a harmonium, which are no bounds
    ``annealed_likelihood``
Filtering and prediction
    ``run_filter``, ``predict_next``, ``rollout``; ``Filtered``
    ``kalman_filter`` and ``kalman_smoother`` of a ``LinearGaussian`` system
Restoration
    ``denoise``, ``impute``
Distributions of latent paths, which priors and guides return
    ``Path``, ``LinearChain``, ``GaussianPath``
Diagnostics
    of a guide: ``khat``, ``good_khat``, ``sbc`` with ``simulator`` or
    ``linear_gaussian_simulator``, ``Simulator``
    of predictions: ``frame_pit``, ``pit``, ``coverage``, ``calibration_error``, ``uniformity``,
    ``loo``
    of firing rates: ``bits_per_spike``, ``bits_per_neuron``; ``psth`` with ``psth_r_squared``
    and ``psth_correlation``; ``gaussian_smooth``; ``forward_prediction`` of the bins ahead
    of states, behaviour or rates after a linear map: ``fit_decoder``, ``r_squared``; ``RIDGES``
    of chains: ``clamped_gibbs``, ``convergence``
    of rules: ``alignment``, ``AlignmentCurve``, ``target_alignment``
    for ArviZ: ``to_arviz``, ``save_arviz``
Random numbers
    ``RandomStream``
Tests of your own classes
    ``inference.testing``
"""

from .annealed import annealed_likelihood
from .contracts import (
    AnswerModel,
    Encoding,
    EnergyModel,
    Fold,
    FrameModel,
    GibbsModel,
    LatentPathModel,
    LinearSystem,
    Network,
    Recurrent,
    SequenceModel,
    States,
    Tempered,
)
from .diagnostics.alignment import AlignmentCurve, alignment, target_alignment
from .diagnostics.calibration import (
    calibration_error,
    coverage,
    frame_pit,
    pit,
    uniformity,
)
from .diagnostics.chains import clamped_gibbs, convergence
from .diagnostics.decoding import RIDGES, fit_decoder, r_squared
from .diagnostics.export import save_arviz, to_arviz
from .diagnostics.forward import ForwardPrediction, forward_prediction
from .diagnostics.loo import loo
from .diagnostics.neural import bits_per_neuron, bits_per_spike
from .diagnostics.psis import good_khat, khat, smoothed_bound
from .diagnostics.psth import gaussian_smooth, psth, psth_correlation, psth_r_squared
from .diagnostics.sbc import Simulator, linear_gaussian_simulator, sbc, simulator
from .diagnostics.score import predictive_bound, score
from .evaluate import elbo, frame_bound, importance_bound, particle_bound
from .latents import latents, rates
from .linear.kalman import LinearGaussian, kalman_filter, kalman_smoother
from .paths import GaussianPath, LinearChain, Path
from .predict import Filtered, predict_next, rollout, run_filter
from .restore import denoise, impute
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
from .training.errors import CheckpointError
from .training.loop import fit

__all__ = [
    "BPTT",
    "EM",
    "RIDGES",
    "AlignmentCurve",
    "AnswerModel",
    "Average",
    "CheckpointError",
    "ClosedForm",
    "ContrastiveDivergence",
    "Encoding",
    "EnergyModel",
    "Filtered",
    "Fold",
    "FoldedRule",
    "ForwardPrediction",
    "FrameModel",
    "GaussianPath",
    "GibbsModel",
    "LatentPathModel",
    "LearningRule",
    "LinearChain",
    "LinearGaussian",
    "LinearSystem",
    "LocalELBO",
    "Network",
    "OutputBPTT",
    "Path",
    "RandomStream",
    "Recurrent",
    "SequenceELBO",
    "SequenceModel",
    "Simulator",
    "States",
    "StraightThrough",
    "TargetPropagation",
    "Tempered",
    "alignment",
    "annealed_likelihood",
    "bits_per_neuron",
    "bits_per_spike",
    "calibration_error",
    "clamped_gibbs",
    "convergence",
    "coverage",
    "denoise",
    "elbo",
    "fit",
    "fit_decoder",
    "forward_prediction",
    "frame_bound",
    "frame_pit",
    "gaussian_smooth",
    "good_khat",
    "importance_bound",
    "impute",
    "kalman_filter",
    "kalman_smoother",
    "khat",
    "latents",
    "linear_gaussian_simulator",
    "loo",
    "particle_bound",
    "pit",
    "predict_next",
    "predictive_bound",
    "psth",
    "psth_correlation",
    "psth_r_squared",
    "r_squared",
    "rates",
    "rollout",
    "run_filter",
    "save_arviz",
    "sbc",
    "score",
    "simulator",
    "smoothed_bound",
    "sweep",
    "target_alignment",
    "to_arviz",
    "uniformity",
]
