"""Models, the parts they swap, trained weights and recipes."""

from . import decoders, guides, likelihoods, memory, nets, path_guides, priors, recipes
from .harmonium import REFH, RTRBM, TRBM, Harmonium
from .lgds import LGDS
from .rvae import RVAE
from .store import ModelError, card, load, shipped
from .tvae import TVAE

__all__ = [
    "LGDS",
    "REFH",
    "RTRBM",
    "RVAE",
    "TRBM",
    "TVAE",
    "Harmonium",
    "ModelError",
    "card",
    "guides",
    "likelihoods",
    "load",
    "nets",
    "recipes",
    "shipped",
]
