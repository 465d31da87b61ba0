"""Learning from whole sequences: bounds over all of a path, and backpropagation through time."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from ...data import Batch
from ..checks import check_real, check_samples
from ..contracts import SequenceModel
from ..evaluate import (
    Terms,
    elbo_terms,
    frame_weights,
    log_weights,
    particle_estimate,
    prepare_whole,
)
from ..particles import log_mean_exp
from ..paths import Path, kl_steps, marginal_increments
from .rule import LearningRule, Metrics, anneal

KL = ("elbo", "marginal-increments")  # objectives that have a KL term
OBJECTIVES = ("elbo", "importance", "frames", "particles", "marginal-increments")


class SequenceELBO(LearningRule):
    """A bound on the evidence of whole sequences, by one gradient over all their frames.

    Arguments:
        net: the network.
        objective: the bound to maximise, or several with their weights, such as
            ``{"particles": 0.7, "elbo": 0.3}``: a mean of bounds is a bound.

            * ``"elbo"``: the evidence lower bound; the exact log-likelihood of a model without
              latent state.
            * ``"importance"``: the importance-weighted bound of each sequence.
            * ``"frames"``: the importance-weighted bound of each frame (see ``frame_bound``).
            * ``"particles"``: a particle filter's estimate (see ``run_particles``).
            * ``"marginal-increments"``: the published surrogate. **Not a bound**: its
              ``loss`` cannot be compared with a negative log-likelihood (see
              ``paths.marginal_increments``).
        num_samples: samples of the guide for each sequence; in a mixture the ELBO takes one.
        kl_weight: factor on the KL term, a number or ``[first, last, fraction]`` (see
            ``rule.anneal``); of ``"elbo"`` and ``"marginal-increments"`` alone. Below 1 the loss
            is no bound.
        free_bits: nats a frame below which the KL term has no gradient; of the same two
            objectives.
        weight_noise: standard deviation of Gaussian noise that is added to all weights, but not to
            biases, anew for each gradient; a regulariser of recurrent nets.

    Raises:
        ValueError: for an unknown objective, options that it does not have, or a network that
            is no ``SequenceModel`` or has no trainable parameter.

    Sources: Kingma & Welling (2014); Burda et al. (2016); Maddison et al. (2017); Bowman et al.
    (2016), annealing; Kingma et al. (2016), free bits; Bayer & Osendorfer (2014), the surrogate;
    Graves (2011), weight noise.
    """

    trains = SequenceModel
    net: SequenceModel

    def __init__(
        self,
        net: SequenceModel,
        *,
        objective: str | Mapping[str, float] = "elbo",
        num_samples: int = 1,
        kl_weight: float | Sequence[float] = 1.0,
        free_bits: float = 0.0,
        weight_noise: float = 0.0,
    ) -> None:
        super().__init__(net)
        if not any(parameter.requires_grad for parameter in net.parameters()):
            self.refuse(net, "networks with trainable parameters", "has none")
        weights = {objective: 1.0} if isinstance(objective, str) else dict(objective)
        if not weights or set(weights) - set(OBJECTIVES) or min(weights.values()) <= 0:
            known = ", ".join(OBJECTIVES)
            raise ValueError(f"objective must be one of {known}, or weights: got {objective!r}")
        check_samples(num_samples)
        check_real("free_bits", free_bits, least=0)
        check_real("weight_noise", weight_noise, least=0)
        anneal(kl_weight, 0.0)
        if not set(weights) & set(KL) and (kl_weight != 1 or free_bits):
            raise ValueError(f"objective {objective!r} has no KL term to weigh or to give free")
        self.weights = {name: weight / sum(weights.values()) for name, weight in weights.items()}
        self.num_samples = num_samples
        self.kl_weight, self.free_bits, self.weight_noise = kl_weight, free_bits, weight_noise

    def gradients(self, batch: Batch) -> Metrics:
        """Sets ``.grad`` to that of the objective, in nats per frame of which a value was seen.

        Returns:
            ``loss``, the objective with the KL term's full weight, and ``frames``; ``kl``, nats per
            frame, where there is such a term.

        Raises:
            ValueError: for missing values that the network does not leave out.
        """
        seen = batch.observed_frames.sum()
        frames = seen.clamp_min(1)  # a window of a gap costs its KL term, and no NaN
        self.net.zero_grad(set_to_none=True)
        metrics = {
            "frames": seen.to(batch.obs.dtype),
            "loss": torch.zeros((), device=frames.device, dtype=batch.obs.dtype),
        }
        with _noisy_weights(self.net, self.weight_noise):
            self._backward(batch, frames, metrics)
        return metrics

    def _backward(self, batch: Batch, frames: Tensor, metrics: Metrics) -> None:
        """Adds the gradient of every objective, and their values to ``metrics``."""
        for name, weight in self.weights.items():
            if name in KL:
                terms = self._terms(name, batch)
                kl = terms.divergence.sum((1, 2)).mean() / frames
                nll = -terms.likelihood.sum(1).mean() / frames
                costly = kl.clamp_min(self.free_bits) if self.free_bits else kl
                (weight * (nll + anneal(self.kl_weight, self.done) * costly)).backward()
                loss, metrics["kl"] = nll + kl, kl.detach()
            else:
                loss = -self._bound(name, batch).sum() / frames
                (weight * loss).backward()
            metrics["loss"] += weight * loss.detach()

    def _terms(self, objective: str, batch: Batch) -> Terms:
        divergence = _marginal if objective == "marginal-increments" else kl_steps
        draws = self.num_samples if len(self.weights) == 1 else 1
        return elbo_terms(self.net, prepare_whole(self.net, batch), draws, divergence)

    def _bound(self, objective: str, batch: Batch) -> Tensor:
        """The objective of each sequence, ``[B]``."""
        net, k = self.net, self.num_samples
        if objective == "particles":
            return particle_estimate(net, batch, k)
        data = prepare_whole(net, batch)
        if objective == "importance":
            return log_mean_exp(log_weights(net.model, net.guide, data, k))
        return log_mean_exp(frame_weights(net, data, k)).sum(-1)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self.net).__name__}, {' + '.join(self.weights)})"


@contextmanager
def _noisy_weights(net: nn.Module, scale: float) -> Iterator[None]:
    """Adds Gaussian noise to the trainable weights of a network, which are as before afterwards.

    Biases have no noise.

    Arguments:
        net: the network.
        scale: standard deviation of the noise; with 0 nothing is drawn.
    """
    weights = [w for w in net.parameters() if scale and w.requires_grad and w.dim() > 1]
    before = [weight.detach().clone() for weight in weights]
    with torch.no_grad():
        for weight in weights:
            weight.add_(torch.randn_like(weight), alpha=scale)
    try:
        yield
    finally:
        with torch.no_grad():
            for weight, value in zip(weights, before):
                weight.copy_(value)


def _marginal(q: Path, p: Path, path: Tensor) -> Tensor:
    return marginal_increments(q, p)
