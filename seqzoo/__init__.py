"""A model zoo of recurrent generative models in Pyro, and of the rules that train them.

A model, a learning rule and a data set are three separate things:

* ``seqzoo.data``: batches, masks and data sets;
* ``seqzoo.inference``: learning rules, ``fit``, filters, bounds and diagnostics;
* ``seqzoo.zoo``: models, the parts they swap, recipes and trained weights.

Example:
    >>> from seqzoo import data, inference, zoo
    >>> net = zoo.RVAE(obs_dim=15, latent_dim=2, likelihood=zoo.likelihoods.Poisson(15))
    >>> fit = inference.fit(inference.LocalELBO(net), data.PPC(40, 1000), epochs=10)
"""

from __future__ import annotations

import importlib
from types import ModuleType
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from . import data, inference, zoo

__version__ = "0.1.0"
__all__ = ["__version__", "data", "inference", "zoo"]


def __getattr__(name: str) -> ModuleType:
    """Imports a subpackage when it is first asked for: torch takes seconds to import."""
    if name in ("data", "inference", "zoo"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
