"""The kinds of network that rules train and verbs use, written down once.

A network inherits the class of its kind and writes the methods listed there under "You write". The
class alone decides the kind: a method or an attribute of the same name on another class does not.

    Recurrent               u_t = f(y_t, u_{t-1})                       the statistics of a sweep
        FrameModel          p(x_t, y_t, u_{t-1}), q(x_t | y_t, u_{t-1}) RVAE, TVAE
        GibbsModel          chains of y_t given u_{t-1}
            EnergyModel     F(y_t, u_{t-1})                             REFH, TRBM, RTRBM
    SequenceModel           p(x_{1:T}, z), q(z | x_{1:T})               VRAE, VOSP, RNN
        LatentPathModel     p(z_{1:T}) p(x_{1:T} | z_{1:T})             VRAE, VOSP
        LinearSystem        x_t = A x_{t-1} + noise                     LGDS, PoissonLGDS
    AnswerModel             p(y | x_{1:T}), units h_t                   SRN, MDRNN

A network may be of several kinds: a VOSP is a ``LatentPathModel`` that is ``Recurrent``, and an SRN
is an ``AnswerModel`` that is a ``SequenceModel``. All but an ``AnswerModel`` alone are a
``Network``, which says what to write for ``latents``, ``rates`` and ``score``. All are
``nn.Module``; those with Pyro parameters also inherit ``PyroModule``. List a kind after the
classes that implement its methods, and write them as methods: a submodule of the same name would
be hidden.
"""

from .answers import AnswerModel
from .fold import Fold
from .frames import EnergyModel, FrameModel, GibbsModel, Recurrent
from .network import GIVENS, Network, States, evaluating
from .sequences import Encoding, LatentPathModel, LinearSystem, SequenceModel
from .tempered import Tempered
from .unwritten import missing

__all__ = [
    "GIVENS",
    "AnswerModel",
    "Encoding",
    "EnergyModel",
    "Fold",
    "FrameModel",
    "GibbsModel",
    "LatentPathModel",
    "LinearSystem",
    "Network",
    "Recurrent",
    "SequenceModel",
    "States",
    "Tempered",
    "evaluating",
    "missing",
]
