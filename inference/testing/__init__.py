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

| yours is | inherit | ``build()`` gives |
|---|---|---|
| a network that carries u_t along | ``FilteringConformance`` | the network |
| a Pyro pair over whole sequences | ``SequenceConformance`` | the network |
| a network that answers a sequence | ``AnsweringConformance`` | the network |
| a law of latent paths, as a prior | ``PriorConformance`` | the module called with a mask |
| a law of latent paths, as a guide | ``GuideConformance`` | the module called with features |
| the law of a frame or an output | ``LikelihoodConformance`` | the module |
| a learning rule | ``RuleConformance`` | the rule, holding its network |

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
