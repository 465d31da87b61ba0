"""Conformance tests for models, parts and learning rules: those of the zoo, and your own.

Inherit the suite of its kind, define ``build()`` and, for models and rules, ``batch()``. pytest
then finds the tests:

    import torch
    from seqzoo.data import Batch
    from seqzoo.inference import testing

    class TestMine(testing.FilteringConformance):
        def build(self):
            return Mine(15)

        def batch(self):
            return Batch(torch.poisson(4 * torch.rand(3, 8, 15)))

Without pytest, ``failures(TestMine())`` runs the same tests and returns the errors by name.

| your class | inherit ``...Conformance`` | ``build()`` returns an object with |
|---|---|---|
| a network that carries u_t along | ``Filtering`` | ``reconstruct filter sample`` |
| a model of whole sequences | ``Sequence`` | the base class ``SequenceModel``; ``sample``, \
one of ``posterior log_prob`` |
| a network that answers a sequence | ``Answering`` | the base classes ``AnswerModel`` and \
``SequenceModel``; ``log_prob predict sample_answers`` |
| a prior over latent paths | ``Prior`` | ``dim``; it is called with a mask |
| a guide over latent paths | ``Guide`` | ``dim features_dim``; it is called with features |
| a likelihood of a frame or an output | ``Likelihood`` | ``distribution mean mode sample \
check natural_dim event_dim`` |
| a learning rule | ``Rule`` | ``gradients``, and its network as ``net`` |

A network must also be of the kind that its ``rules`` train. They are ``()`` where there is nothing
to train. The defaults are ``LocalELBO`` for ``Filtering``, which trains a ``FrameModel``;
``SequenceELBO`` for ``Sequence``; and ``StraightThrough`` and ``TargetPropagation``, which needs
``invert``, for ``Answering``. Where anything is missing, one test names it, and the tests that need
it are skipped.

Build small models without dropout: outputs must not depend on the training mode.
"""

from .answering import AnsweringConformance
from .checks import check_gradients, ragged, refuses, same_average, shaped, tensors
from .filtering import FilteringConformance
from .likelihoods import LikelihoodConformance
from .models import GeneratingConformance, ModelConformance
from .paths import GuideConformance, PathConformance, PriorConformance
from .rules import RuleConformance
from .sequences import SequenceConformance
from .suite import Conformance, failures

__all__ = [
    "AnsweringConformance",
    "Conformance",
    "FilteringConformance",
    "GeneratingConformance",
    "GuideConformance",
    "LikelihoodConformance",
    "ModelConformance",
    "PathConformance",
    "PriorConformance",
    "RuleConformance",
    "SequenceConformance",
    "check_gradients",
    "failures",
    "ragged",
    "refuses",
    "same_average",
    "shaped",
    "tensors",
]
