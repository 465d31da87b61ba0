"""Models, the parts they swap, trained weights and recipes."""

from . import (
    decoders,
    guides,
    likelihoods,
    memory,
    nets,
    outputs,
    path_guides,
    priors,
    recipes,
    starts,
)
from .harmonium import REFH, RTRBM, TRBM, Harmonium
from .lgds import LGDS
from .mdrnn import MDRNN
from .rnn import RNN
from .rvae import RVAE
from .srn import SRN
from .store import ModelError, card, load, shipped
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
    "ModelError",
    "card",
    "decoders",
    "guides",
    "likelihoods",
    "load",
    "memory",
    "nets",
    "outputs",
    "path_guides",
    "priors",
    "recipes",
    "shipped",
    "starts",
]
