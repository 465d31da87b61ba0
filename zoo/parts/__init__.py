"""Exchangeable parts of models: likelihoods, priors, guides, decoders, memories and nets."""

from . import (
    decoders,
    fast_dropout,
    fast_frames,
    fast_memory,
    guides,
    initialisers,
    likelihoods,
    memory,
    nets,
    path_guides,
    priors,
    readouts,
    spatial,
    units,
)

__all__ = [
    "decoders",
    "fast_dropout",
    "fast_frames",
    "fast_memory",
    "guides",
    "initialisers",
    "likelihoods",
    "memory",
    "nets",
    "path_guides",
    "priors",
    "readouts",
    "spatial",
    "units",
]
