"""The models, one architecture a file."""

from .baselines import MeanFrame, Order0
from .harmonium import Harmonium
from .lgds import LGDS
from .mdrnn import MDRNN
from .poisson_lgds import PoissonLGDS
from .refh import REFH
from .rnn import RNN
from .rvae import RVAE
from .srn import SRN
from .trbm import RTRBM, TRBM
from .tvae import TVAE
from .vosp import VOSP
from .vrae import VRAE

__all__ = [
    "LGDS",
    "MDRNN",
    "REFH",
    "RNN",
    "RTRBM",
    "RVAE",
    "SRN",
    "TRBM",
    "TVAE",
    "VOSP",
    "VRAE",
    "Harmonium",
    "MeanFrame",
    "Order0",
    "PoissonLGDS",
]
