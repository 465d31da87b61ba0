"""Pareto-smoothed importance sampling: how far a guide's draws can be trusted, and what they say.

A guide q(z | x) is as good as the weights w = p(x, z) / q(z | x) of its draws are even. k-hat, the
shape of the generalised Pareto law of the largest ones, says how many of their moments exist: with
k-hat above 0.7 no number of draws that one can afford will do.

Weights are fitted and smoothed by ArviZ.

Sources: Vehtari et al., "Pareto smoothed importance sampling" (2024); Yao et al., "Yes, but did it
work?: evaluating variational inference" (2018); Vehtari, Gelman & Gabry, "Practical Bayesian model
evaluation using leave-one-out cross-validation and WAIC" (2017); Magnusson et al., "Bayesian
leave-one-out cross-validation for large data" (2019), on draws of an approximate posterior.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numpy as np
import torch
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import Independent

from ..data import Batch
from .evaluate import frame_weights, read, traces
from .local import Fold
from .outputs import Answers
from .predict import run_sweep
from .rule import Recurrent
from .streams import RandomStream

FEWEST = 25  # draws: a fifth of them is the tail, and five points are the least to fit
ALIKE = 1e-3  # nats: weights no further apart than that have no tail worth a fit
LEAST = 700.0  # nats below the largest weight, from where on a weight is as good as zero


# What a Pyro pair draws ---------------------------------------------------------------------------


class Drawn(NamedTuple):
    """Draws of a Pyro pair with one plate of ``N`` sequences, or frames taken out of time.

    Arguments:
        latents: value of every latent site, ``[k, N, ...]``.
        laws: of every observed site, given the draws; batch shape ``[k, N]``.
        data: what was observed there, ``[N, ...]``.
        log_p: log p(x, z), ``[k, N]``.
        log_q: log q(z | x), ``[k, N]``.
    """

    latents: dict[str, Tensor]
    laws: dict[str, torch.distributions.Distribution]
    data: dict[str, Tensor]
    log_p: Tensor
    log_q: Tensor


def draw(net, data, draws: int, prior: bool = False) -> Drawn:
    """Draws latent sites from the guide, or from the prior, and weighs them; with a graph.

    A site that the guide leaves out comes from the model. Observed sites whose value was itself
    drawn (a model may teach a part of itself on its own beliefs) are no data, and do not count.

    Arguments:
        net: holds ``model(data)`` and ``guide(data)``, with one plate, at dim -1.
        data: what they take, see ``prepare``.
        draws: ``k``.
        prior: from the prior.
    """
    guide = (lambda data: None) if prior else net.guide
    drawn, joint = traces(net.model, guide, data, draws)
    drawn.compute_log_prob()
    joint.compute_log_prob()
    nodes = {name: site for name, site in joint.nodes.items() if site["type"] == "sample"}
    sites = {name: site for name, site in nodes.items() if not site_is_subsample(site)}  # no plates
    latent = {name: site for name, site in sites.items() if not site["is_observed"]}
    seen = {
        name: site
        for name, site in sites.items()
        if site["is_observed"] and site["value"].dim() - site["fn"].event_dim < 2
    }
    log_p = sum(site["log_prob"] for site in (latent | seen).values())
    log_q = sum(drawn.nodes.get(name, site)["log_prob"] for name, site in latent.items())
    return Drawn(
        {name: site["value"] for name, site in latent.items()},
        {name: site["fn"] for name, site in seen.items()},
        {name: site["value"] for name, site in seen.items()},
        log_p,
        log_q + torch.zeros_like(log_p),
    )


def prepare(net, batch: Batch):
    """What the Pyro pair of a model takes: a batch, its reading of one, or a fold of real frames.

    Raises:
        ValueError: for a model without a Pyro pair, such as a harmonium.
    """
    if not (callable(getattr(net, "model", None)) and callable(getattr(net, "guide", None))):
        chains = "follow its Gibbs chains with inference.clamped_gibbs and convergence"
        raise ValueError(
            f"{type(net).__name__} has no Pyro pair of model and guide, so nothing can be drawn or "
            f"weighed: {chains if hasattr(net, 'gibbs') else 'score its predictions'}"
        )
    if isinstance(net, Recurrent) and not hasattr(net, "read"):  # a pair over single frames
        past = run_sweep(net, batch)[:, :-1]
        return Fold(batch.obs[batch.mask], past[batch.mask])
    if hasattr(net, "smooth"):  # it reads tensors, and its pair takes the batch itself
        return batch
    return read(net, batch)


def main_site(drawn: Drawn, data) -> str:
    """The observed site that holds the data themselves, of several the last."""
    obs = getattr(data, "obs", None)
    found = [name for name, value in drawn.data.items() if obs is not None and same(value, obs)]
    return (found or list(drawn.data))[-1]


def in_time(net, law, batch: Batch) -> bool:
    """Whether the first axis of a whole sequence's event is time."""
    answers = isinstance(net, Answers) and not net.at_every_step(batch)
    return not answers and law.event_shape[:1] == batch.mask.shape[1:]


def frame_scores(net, drawn: Drawn, site: str, data, batch: Batch) -> Tensor | None:
    """log p(x_t | z) of every frame at an observed site.

    Returns:
        ``[k, B, T]``, zero in padding; of a fold ``[k, N]``; None where frames have no law of
        their own.
    """
    law, value = drawn.laws[site], drawn.data[site]
    if isinstance(data, Fold):
        return law.log_prob(value)
    if not (in_time(net, law, batch) and isinstance(law, Independent)):
        return None
    each = law.base_dist.log_prob(value)  # of an Independent over more than time: of its parts
    each = each.flatten(drawn.log_p.dim() + 1).sum(-1) if each.dim() > 3 else each
    return torch.where(batch.mask, each, 0.0)


def same(value: Tensor, obs: Tensor) -> bool:
    """Whether two tensors have the same shape and values."""
    return value.shape == obs.shape and torch.equal(value, obs)


# Smoothing ----------------------------------------------------------------------------------------


class Smoothed(NamedTuple):
    """Importance weights whose largest ones were replaced by quantiles of a fitted Pareto law.

    Arguments:
        khat: shape of that law, ``[...]``: infinite where no law fits, 0 where all weights are
            equal but for rounding, as an exact posterior's are.
        bound: log of the mean weight, nats, ``[...]``.
        effective: effective number of draws, ``[...]``.
        weights: normalised log-weights, ``[S, ...]``; float64, as all of them.
    """

    khat: Tensor
    bound: Tensor
    effective: Tensor
    weights: Tensor


def smooth_weights(log_weights: Tensor) -> Smoothed:
    """Smooths importance weights ``[S, ...]``, all but the first axis one by one.

    Raises:
        ValueError: for fewer than 25 draws, NaN or infinite weights, or none above zero.
    """
    draws, *shape = log_weights.shape
    check_draws(draws)
    rows = log_weights.detach().double().cpu().numpy().reshape(draws, -1).T
    top = rows.max(-1, keepdims=True)
    if not np.isfinite(top).all() or np.isnan(rows).any():
        raise ValueError("importance weights are NaN, infinite or all zero: check model and guide")
    rows = np.maximum(rows, top - LEAST)
    spread = (top - rows.min(-1, keepdims=True))[:, 0]
    uneven = spread > ALIKE + 1e-6 * np.abs(top[:, 0])  # float32 sums round by about as much
    weights, khat = rows - np.logaddexp.reduce(rows, -1, keepdims=True), np.zeros(len(rows))
    if uneven.any():
        weights[uneven], found = _psislw(rows[uneven])
        khat[uneven] = np.where(np.isnan(found), np.inf, found)
    # The middle weight is no part of the tail: what it was divided by is the sum of all.
    middle = np.argsort(rows, -1)[:, [draws // 2]]
    total = np.take_along_axis(rows - weights, middle, -1)[:, 0]
    return Smoothed(
        torch.from_numpy(khat).view(shape),
        torch.from_numpy(total - math.log(draws)).view(shape),
        torch.from_numpy(1 / np.exp(2 * weights).sum(-1)).view(shape),
        torch.from_numpy(weights.T.copy()).view(draws, *shape),
    )


def _psislw(rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Smoothed, normalised log-weights ``[N, S]`` and k-hat ``[N]``, by either line of ArviZ."""
    import arviz

    if hasattr(arviz, "psislw"):
        return arviz.psislw(rows)
    from arviz_stats.base import array_stats  # 1.x: it takes log-likelihoods, minus the log-weights

    return array_stats.psislw(-rows)


def good_khat(draws: int) -> float:
    """The largest k-hat to be trusted with so many draws: min(1 - 1 / log10 S, 0.7)."""
    check_draws(draws)
    return min(1 - 1 / math.log10(draws), 0.7)


def check_draws(draws: int) -> None:
    """Raises a ValueError for too few draws to fit a tail to."""
    if draws < FEWEST:
        raise ValueError(f"Pareto smoothing takes at least {FEWEST} draws, got {draws}")


# A guide's weights --------------------------------------------------------------------------------


@torch.no_grad()
def weigh(
    net,
    batch: Batch,
    draws: int = 1000,
    by: str | None = None,
    seed: int = 0,
    at_once: int = 50,
) -> Smoothed:
    """Weighs a guide's draws, and smooths the weights of each sequence or frame.

    ``bound`` estimates log p(x) with less variance than ``importance_bound``; as smoothing biases
    it a little, it is no bound in the strict sense. Where k-hat is high it is far too low, as are
    all such estimates.

    Arguments:
        net: a model with a Pyro pair.
        batch: the sequences.
        draws: ``S``, from the guide.
        by: ``"sequence"``; or ``"frame"``, of models whose frames share no latent noise (VOSP) or
            are taken out of time (rVAE, whose frames are given u_{t-1}), which is the default for
            the latter. The factors that a chain of latents contributes step by step would not do:
            an exact posterior's are uneven, their product alone is not. How the guide fares with
            the length of a sequence is seen by cutting it: ``batch.window(0, t)``.
        seed: of the draws; the caller's random state is left alone.
        at_once: draws held in memory at a time.

    Returns:
        Parts ``[B]``, or ``[B, T]`` with NaN in padding; its weights have ``S`` in front.

    Raises:
        ValueError: for too few draws, or a model that cannot be weighed so.
    """
    check_draws(draws)
    data = prepare(net, batch)
    fold = isinstance(data, Fold)
    by = by or ("frame" if fold else "sequence")
    if by not in ("sequence", "frame"):
        raise ValueError(f"by must be 'sequence' or 'frame', got {by!r}")
    if fold and by == "sequence":
        raise ValueError(f"{type(net).__name__} is a model of single frames: weigh by='frame'")

    def weights(number: int) -> Tensor:
        if by == "frame" and not fold:
            return frame_weights(net, data, number)[:, batch.mask]
        drawn = draw(net, data, number)
        return drawn.log_p - drawn.log_q

    found = smooth_weights(torch.cat(_in_parts(weights, batch, draws, at_once, seed)))
    return _placed(found, batch.mask.cpu()) if by == "frame" else found


def khat(
    net,
    batch: Batch,
    draws: int = 1000,
    by: str | None = None,
    seed: int = 0,
    at_once: int = 50,
) -> Tensor:
    """PSIS k-hat of a guide, ``[B]`` or ``[B, T]``, see ``weigh``: below ``good_khat`` is good.

    It compares the guide with the model's posterior, not the model with the data, and is hard on
    guides that are too narrow: a Gaussian with a share v of the right variance has k = 1 - v, found
    with many draws only. It forgives half the variance, which calibration does not, and is high for
    guides of many dimensions that are good in each. A guide that misses a whole mode has even
    weights where it looks: nothing here can tell.
    """
    return weigh(net, batch, draws, by, seed, at_once).khat


def smoothed_bound(
    net,
    batch: Batch,
    draws: int = 1000,
    by: str | None = None,
    seed: int = 0,
    at_once: int = 50,
) -> Tensor:
    """The smoothed importance-weighted estimate of log p(x), ``[B]``, nats; see ``weigh``."""
    bound = weigh(net, batch, draws, by, seed, at_once).bound
    return bound if bound.dim() == 1 else bound.nansum(1)


# Leaving one out ----------------------------------------------------------------------------------


class Loo(NamedTuple):
    """What a model expects of each unit when it sees all others.

    Arguments:
        elpd: log p(unit | others), nats; ``[B]``, or ``[B, T]`` with NaN in padding.
        khat: of the importance weights behind it, same shape.
    """

    elpd: Tensor
    khat: Tensor

    @property
    def total(self) -> float:
        """The sum over all units, nats."""
        return float(self.elpd.nansum())

    @property
    def error(self) -> float:
        """Standard error of the total, sqrt(n var): between units, not of the sampling."""
        each = self.elpd[~self.elpd.isnan()]
        return float((len(each) * each.var(correction=0)).sqrt())


@torch.no_grad()
def loo(
    net, batch: Batch, draws: int = 1000, unit: str = "sequence", seed: int = 0, at_once: int = 50
) -> Loo:
    """Leave-one-out predictive densities of a model whose weights are fixed.

    * ``unit="sequence"``: given the weights, sequences are independent, so that
      log p(x_i | x_{-i}) = log p(x_i): the smoothed importance-weighted bound. (ArviZ's ``loo``
      would make of log p(x_i | z) the harmonic mean of the likelihood, right for draws of the
      exact posterior alone, and then of infinite variance as a rule.) It says nothing of how the
      weights were learned: take held-out data.
    * ``unit="frame"``: log p(x_t | the other frames), where z explains all that frames share; of a
      model of single frames, log p(y_t | u_{t-1}), its one-step prediction. Draws are weighed by
      p(x, z) / (q(z | x) p(x_t | z)), so that the guide may be wrong, and may have seen x_t.

    Raises:
        ValueError: for frames that read the frames before them, of which none can be left out;
            where no frame has a law of its own; and as in ``weigh``.
    """
    if unit not in ("sequence", "frame"):
        raise ValueError(f"unit must be 'sequence' or 'frame', got {unit!r}")
    if unit == "sequence":
        found = weigh(net, batch, draws, "sequence", seed, at_once)
        return Loo(found.bound, found.khat)
    check_draws(draws)
    data = prepare(net, batch)
    name = type(net).__name__
    if isinstance(net, Recurrent) and not isinstance(data, Fold):
        raise ValueError(
            f"each frame of this {name} reads the frames before it, so none can be left out: "
            "score predictions with elbo or frame_bound, or leave out sequences"
        )

    def score(number: int) -> Tensor:
        drawn = draw(net, data, number)
        frames = frame_scores(net, drawn, main_site(drawn, data), data, batch)
        if frames is None:
            raise ValueError(f"{name} has no law of single frames: leave out sequences")
        weights = drawn.log_p - drawn.log_q
        if not isinstance(data, Fold):
            weights = weights[..., None].expand_as(frames)[:, batch.mask]
            frames = frames[:, batch.mask]
        return torch.stack((weights - frames, frames), 1)

    weights, frames = torch.cat(_in_parts(score, batch, draws, at_once, seed)).unbind(1)
    found = smooth_weights(weights)
    elpd = (found.weights + frames.double().cpu()).logsumexp(0)
    return Loo(*(spread_out(part, batch.mask.cpu()) for part in (elpd, found.khat)))


def _in_parts(make, batch: Batch, draws: int, at_once: int, seed: int) -> list[Tensor]:
    """``make(k)`` of few draws at a time, from a random stream of its own."""
    with RandomStream(batch.obs.device, "psis", seed):
        return [make(min(at_once, draws - start)) for start in range(0, draws, at_once)]


def _placed(found: Smoothed, mask: Tensor) -> Smoothed:
    return Smoothed(*(spread_out(part, mask) for part in found))


def blanked(values: Tensor, mask: Tensor, axis: int) -> Tensor:
    """NaN in padding, time being axis ``axis``; the values themselves where there is none."""
    if mask.all():
        return values
    mask = mask.view(mask.shape + (1,) * (values.dim() - axis - 1))
    kind = values if values.is_floating_point() else values.to(torch.get_default_dtype())
    return kind.masked_fill(~mask, math.nan)


def spread_out(values: Tensor, mask: Tensor, lead: int | None = None) -> Tensor:
    """Puts real frames back into time, NaN in padding: ``[..., N] -> [..., B, T]``.

    Arguments:
        values: ``N`` is the last axis, or follows ``lead`` ones.
        mask: ``[B, T]``.
    """
    lead = values.dim() - 1 if lead is None else lead
    shape = (*values.shape[:lead], *mask.shape, *values.shape[lead + 1 :])
    kind = values.dtype if values.is_floating_point() else torch.get_default_dtype()
    out = values.new_full(shape, math.nan, dtype=kind)
    out[(slice(None),) * lead + (mask,)] = values.to(kind)
    return out
