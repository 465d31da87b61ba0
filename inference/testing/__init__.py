"""Conformance tests: what a model, a part or a learning rule must do, the zoo's and yours alike.

Inherit the class for its kind, say how it is built and on what, and pytest finds the tests:

    import torch
    from seqzoo.data import Batch
    from seqzoo.inference import testing

    class TestMine(testing.FilteringConformance):
        def build(self):
            return Mine(15)

        def batch(self):
            return Batch(torch.poisson(4 * torch.rand(3, 8, 15)))

Without pytest, ``failures(TestMine())`` runs the same tests and says which fail, and why.

| yours is | inherit ``...Conformance`` | what ``build()`` gives must have |
|---|---|---|
| a network that carries u_t along | ``Filtering`` | ``reconstruct filter sample`` |
| a Pyro pair over whole sequences | ``Sequence`` | the base class ``SequenceModel``; ``sample``, \
one of ``posterior log_prob`` |
| a network that answers a sequence | ``Answering`` | the base classes ``AnswerModel`` and \
``SequenceModel``; ``log_prob predict sample_answers`` |
| a law of latent paths, as a prior | ``Prior`` | ``dim``; it is called with a mask |
| a law of latent paths, as a guide | ``Guide`` | ``dim features_dim``; it is called with features |
| the law of a frame or an output | ``Likelihood`` | ``distribution mean mode sample check``, \
``natural_dim event_dim`` |
| a learning rule | ``Rule`` | ``gradients``, and its network as ``net`` |

A network must also be of the kind that its ``rules`` train; they are ``()`` where there is nothing
to train. By default they are ``LocalELBO`` for ``Filtering``, which trains a ``FrameModel``;
``SequenceELBO`` for ``Sequence``; for ``Answering`` ``StraightThrough`` and ``TargetPropagation``,
which asks for ``invert``. Where anything is missing, one test says what, and those that need it are
skipped.

What is built should be small, and without dropout: in training it must say what it says in use.
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
