"""Bounds and scores of a trained model."""

from __future__ import annotations

import torch
from pyro import plate, poutine
from torch import Tensor


def log_weights(model, guide, data, particles: int) -> Tensor:
    """log p(x, y) - log q(x | y), for each member of the model's outermost plate.

    Arguments:
        model, guide: a Pyro pair with one plate, at dim -1.
        data: their single argument.
        particles: number of independent draws ``k`` from the guide.

    Returns:
        ``[k, N]``, with a graph: ``logsumexp(0) - log k`` is the importance-weighted bound.
    """

    def vectorised(function):
        def run(data):
            with plate("particles", particles, dim=-2):
                return function(data)

        return run

    drawn = poutine.trace(vectorised(guide)).get_trace(data)
    joint = poutine.trace(poutine.replay(vectorised(model), trace=drawn)).get_trace(data)
    drawn.compute_log_prob()
    joint.compute_log_prob()
    total = sum(_log_probs(joint)) - sum(_log_probs(drawn))
    return total.expand(particles, -1)


def _log_probs(trace) -> list[Tensor]:
    sites = [site for site in trace.nodes.values() if site["type"] == "sample"]
    return [site["log_prob"] for site in sites if isinstance(site["log_prob"], torch.Tensor)]
