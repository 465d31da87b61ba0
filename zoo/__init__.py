"""Models, the parts they swap, trained weights and recipes."""

from . import recipes
from .models import (
    LGDS,
    MDRNN,
    REFH,
    RNN,
    RTRBM,
    RVAE,
    SRN,
    TRBM,
    TVAE,
    VOSP,
    VRAE,
    Harmonium,
)
from .part import Described
from .parts import (
    decoders,
    guides,
    initialisers,
    likelihoods,
    memory,
    nets,
    path_guides,
    priors,
    readouts,
    spatial,
)
from .store import ModelError, card, load, save, shipped

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
    "Described",
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
    "readouts",
    "recipes",
    "save",
    "shipped",
    "spatial",
]
