"""Models, the parts they swap, trained weights and recipes."""

from . import recipes
from .models.harmonium import REFH, RTRBM, TRBM, Harmonium
from .models.lgds import LGDS
from .models.mdrnn import MDRNN
from .models.rnn import RNN
from .models.rvae import RVAE
from .models.srn import SRN
from .models.tvae import TVAE
from .models.vosp import VOSP
from .models.vrae import VRAE
from .parts import (
    decoders,
    guides,
    initialisers,
    likelihoods,
    memory,
    nets,
    path_guides,
    priors,
    spatial,
)
from .store import ModelError, card, load, shipped

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
    "initialisers",
    "likelihoods",
    "load",
    "memory",
    "nets",
    "path_guides",
    "priors",
    "recipes",
    "shipped",
    "spatial",
]
