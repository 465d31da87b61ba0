"""Temporally local learning: sweep forwards without a graph, then fold time into the batch.

*Sweep*: run the recognition network forwards and collect the statistics u_0 .. u_{T-1}.
*Fold*: treat the pairs (u_{t-1}, y_t) as independent data and take one gradient over all of them.
The backward pass is then as parallel as a feed-forward network's.

Source: Abdulsalam & Makin, "Learning recurrent models with temporally local rules" (2023).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from pyro.poutine.messenger import Messenger
from torch import Tensor

from ..checks import check_samples
from ..contracts import Fold, FrameModel
from ..evaluate import log_weights, negative_elbo
from .folded import FoldedRule, recordable
from .rule import anneal


class LocalELBO(FoldedRule):
    """The free energy of each frame given the statistics of its past, as a Pyro ELBO over a fold.

    It is equation (3) of the source. The network's Pyro pair is called as ``net.model(fold)`` and
    ``net.guide(fold)``.

    Arguments:
        net: the network.
        num_samples: samples of the latent state a frame.
        bound: ``"elbo"``, or ``"iwae"`` for the importance-weighted bound of each frame.
        weights: factors on the log-probability of sites, by name: ``{"x": 0.3}`` weighs the KL
            term of the latent state by 0.3. ``[first, last, fraction]`` anneals (see
            ``rule.anneal``). With any weight but 1 the loss is no bound.
        window, minibatch, drop_past, chunk, captured: see ``FoldedRule``.

    Raises:
        ValueError: for an unknown bound, numbers out of range, weights that are no numbers, or a
            network that is no ``FrameModel``.
    """

    trains = FrameModel
    net: FrameModel

    def __init__(
        self,
        net: FrameModel,
        *,
        num_samples: int = 1,
        bound: str = "elbo",
        weights: Mapping[str, float | Sequence[float]] | None = None,
        window: int | None = None,
        minibatch: int | None = None,
        drop_past: float | Sequence[float] = 0.0,
        chunk: int | None = None,
        captured: bool | None = None,
    ) -> None:
        super().__init__(
            net,
            window=window,
            minibatch=minibatch,
            drop_past=drop_past,
            chunk=chunk,
            captured=captured,
        )
        check_samples(num_samples)
        if bound not in ("elbo", "iwae"):
            raise ValueError(f"bound must be 'elbo' or 'iwae', got {bound!r}")
        self.num_samples, self.bound, self.weights = num_samples, bound, dict(weights or {})
        for weight in self.weights.values():
            anneal(weight, 0.0)

    def annealed(self) -> dict[str, float | Sequence[float]]:
        return {f"weight of {site}": weight for site, weight in self.weights.items()}

    @recordable
    def loss(self, fold: Fold) -> Tensor:
        model, guide = self.net.model, self.net.guide
        if self.weights:
            now = {site: self.now(f"weight of {site}") for site in self.weights}
            model, guide = Weighted(now)(model), Weighted(now)(guide)
        if self.bound == "elbo":
            return negative_elbo(model, guide, fold, self.num_samples)
        weights = log_weights(model, guide, fold, self.num_samples)
        return -(weights.logsumexp(0) - math.log(self.num_samples)).sum()


class Weighted(Messenger):
    """Pyro handler that scales the log-probability of sites by name."""

    def __init__(self, weights: Mapping[str, float | Tensor]) -> None:
        super().__init__()
        self.weights = weights

    def _pyro_sample(self, msg: dict[str, Any]) -> None:
        if msg["name"] in self.weights:
            msg["scale"] = msg["scale"] * self.weights[msg["name"]]


class BPTT(LocalELBO):
    """Backpropagation through time: ``LocalELBO``'s loss, with u_{t-1}'s dependence kept.

    Only the recursion carries a graph through time; encoder, decoder and likelihoods are folded,
    as in the local rule. ``window`` truncates.

    Arguments:
        net: the network.
        window: frames an update; ``None`` takes the whole sequence.
        num_samples, bound, weights: see ``LocalELBO``.
        drop_past, chunk, captured: see ``FoldedRule``.

    Raises:
        ValueError: as ``LocalELBO`` does.
    """

    def __init__(
        self,
        net: FrameModel,
        *,
        window: int | None = None,
        num_samples: int = 1,
        bound: str = "elbo",
        weights: Mapping[str, float | Sequence[float]] | None = None,
        drop_past: float | Sequence[float] = 0.0,
        chunk: int | None = None,
        captured: bool | None = None,
    ) -> None:
        super().__init__(
            net,
            num_samples=num_samples,
            bound=bound,
            weights=weights,
            window=window,
            drop_past=drop_past,
            chunk=chunk,
            captured=captured,
        )
        self.through_time = True
