"""Comparing learning rules and checking what they learned."""

from __future__ import annotations

import torch
from torch.nn.functional import cosine_similarity

from ..data import Batch
from .rule import LearningRule
from .streams import RandomStream


def alignment(
    rule_a: LearningRule, rule_b: LearningRule, batch: Batch, seed: int = 0
) -> dict[str, float]:
    """Cosine between two rules' gradients, parameter by parameter, on one network and batch.

    Both rules draw the same random numbers, so that two rules whose gradients are equal give 1.
    The network's ``.grad`` is left empty.

    Arguments:
        rule_a, rule_b: two rules on the same network.
        batch: the batch.
        seed: seed of the shared random stream.

    Returns:
        The cosine for every parameter's name, and for ``"all"`` parameters joined; NaN where
        either gradient is zero.

    Raises:
        ValueError: when the rules hold different networks.
    """
    if rule_a.net is not rule_b.net:
        raise ValueError("alignment compares two rules on one network: these hold two networks")
    net = rule_a.net
    gradients = []
    for rule in (rule_a, rule_b):
        with RandomStream(batch.obs.device, "alignment", seed):
            rule.gradients(batch)
        gradients.append(
            {
                name: torch.zeros_like(p).flatten() if p.grad is None else p.grad.flatten().clone()
                for name, p in net.named_parameters()
            }
        )
    net.zero_grad(set_to_none=True)
    pairs = {name: (gradients[0][name], gradients[1][name]) for name in gradients[0]}
    pairs["all"] = tuple(torch.cat(list(part.values())) for part in gradients)
    return {name: _cosine(*pair) for name, pair in pairs.items()}


def _cosine(a: torch.Tensor, b: torch.Tensor) -> float:
    if not (a.any() and b.any()):
        return float("nan")
    return float(cosine_similarity(a.double(), b.double(), dim=0))
