"""Models, the parts they swap, trained weights and recipes.

A name is imported when it is first asked for: the command line starts without torch.
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from . import recipes
    from .cards import ModelError
    from .catalogue import card, shipped
    from .fitting import compare, fit_model
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
        PoissonLGDS,
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
    from .store import load, save

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
    "PoissonLGDS",
    "card",
    "compare",
    "decoders",
    "fit_model",
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
#: Names of ``zoo.fitting``, which stands above the others.
FITTING = ("compare", "fit_model")
#: Where the other names are looked for; the first two need no torch.
HOMES = ("cards", "catalogue", "models", "part", "parts", "store")


def __getattr__(name: str) -> ModuleType | Any:
    if name in __all__:
        homes = ["fitting"] if name in FITTING else HOMES
        for home in homes:
            module = importlib.import_module(f"{__name__}.{home}")
            if hasattr(module, name):
                return getattr(module, name)
    try:  # a submodule, such as zoo.recipes or zoo.pictures
        return importlib.import_module(f"{__name__}.{name}")
    except ModuleNotFoundError as error:
        if error.name != f"{__name__}.{name}":
            raise
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
