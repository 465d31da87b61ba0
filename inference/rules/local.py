"""Temporally local learning: sweep forwards without a graph, then fold time into the batch.

*Sweep*: run the recognition network forwards and collect the statistics u_0 .. u_{T-1}.
*Fold*: treat the pairs (u_{t-1}, y_t) as independent data and take one gradient over all of them.
The backward pass is then as parallel as a feed-forward network's.

Source: Abdulsalam & Makin, "Learning recurrent models with temporally local rules" (2023).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from pyro.infer import TraceMeanField_ELBO
from pyro.poutine.messenger import Messenger
from torch import Tensor

from ..contracts import Fold, FrameModel
from ..evaluate import log_weights
from .folded import FoldedRule
from .rule import anneal


class LocalELBO(FoldedRule):
    """The free energy of paper equation (3), one frame at a time, as a Pyro ELBO over a fold.

    The network's Pyro pair is called as ``net.model(fold)`` and ``net.guide(fold)``.

    Arguments:
        net: a ``FrameModel``.
        particles: samples of the latent state a frame.
        bound: ``"elbo"``, or ``"iwae"`` for the importance-weighted bound of each frame.
        weights: factors on the log-probability of sites, by name: ``{"x": 0.3}`` weighs the KL
            term of the latent state by 0.3. ``[first, last, fraction]`` anneals (see ``anneal``).
            With any weight but 1 the loss is no bound.
        window, minibatch, forget, compiled: see ``FoldedRule``.

    Raises:
        ValueError: for an unknown bound, fewer than one particle, weights that are no numbers, or
            a network without a Pyro pair over single frames.
    """

    trains = FrameModel

    def __init__(
        self,
        net: FrameModel,
        *,
        particles: int = 1,
        bound: str = "elbo",
        weights: Mapping[str, float | Sequence[float]] | None = None,
        **how,
    ):
        super().__init__(net, **how)
        if particles < 1:
            raise ValueError(f"particles must be at least 1, got {particles}")
        if bound not in ("elbo", "iwae"):
            raise ValueError(f"bound must be 'elbo' or 'iwae', got {bound!r}")
        self.particles, self.bound, self.weights = particles, bound, dict(weights or {})
        for weight in self.weights.values():
            anneal(weight, 0.0)
        self.elbo = TraceMeanField_ELBO(  # exact KL where one is registered, else sampled
            num_particles=particles, vectorize_particles=particles > 1, max_plate_nesting=1
        )

    def loss(self, fold: Fold) -> Tensor:
        model, guide = self.net.model, self.net.guide
        if self.weights:
            now = {site: anneal(weight, self.done) for site, weight in self.weights.items()}
            model, guide = Weighted(now)(model), Weighted(now)(guide)
        if self.bound == "elbo":
            return self.elbo.differentiable_loss(model, guide, fold)
        weights = log_weights(model, guide, fold, self.particles)
        return -(weights.logsumexp(0) - math.log(self.particles)).sum()


class Weighted(Messenger):
    """Pyro handler that scales the log-probability of sites by name."""

    def __init__(self, weights: Mapping[str, float]):
        super().__init__()
        self.weights = weights

    def _pyro_sample(self, msg) -> None:
        if msg["name"] in self.weights:
            msg["scale"] = msg["scale"] * self.weights[msg["name"]]


class BPTT(LocalELBO):
    """Backpropagation through time: ``LocalELBO``'s loss, with u_{t-1}'s dependence kept.

    Only the recursion carries a graph through time; encoder, decoder and likelihoods are folded,
    as in the local rule. ``window`` truncates.

    Arguments:
        net: a ``FrameModel``.
        window: frames an update; ``None`` takes the whole sequence.
        particles, bound: see ``LocalELBO``.
    """

    def __init__(self, net: FrameModel, *, window: int | None = None, **how):
        super().__init__(net, window=window, through_time=True, **how)
