"""Samples of a Pyro pair, from its guide or its prior, with their log-densities.

Every model has one plate, of sequences or of frames taken out of time. Diagnostics and the export
to ArviZ are built on these samples.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from pyro import poutine
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import Independent

from ..data import Batch
from .contracts import AnswerModel, Fold, FrameModel, SequenceModel
from .evaluate import prepare_whole, sites, traces
from .predict import run_sweep


class SiteSamples(NamedTuple):
    """Samples of a Pyro pair with one plate of ``N`` sequences, or frames taken out of time.

    Arguments:
        latents: value of every latent site, ``[k, N, ...]``.
        distributions: of every observed site, given the latents; batch shape ``[k, N]``.
        data: the observed value of these sites, ``[N, ...]``.
        log_p: log p(x, z), ``[k, N]``.
        log_q: log q(z | x), ``[k, N]``.
        latent_distributions: the model's distribution of every latent site, given those before it.
    """

    latents: dict[str, Tensor]
    distributions: dict[str, Any]
    data: dict[str, Tensor]
    log_p: Tensor
    log_q: Tensor
    latent_distributions: dict[str, Any]


def sample_sites(
    net: SequenceModel | FrameModel,
    data: Any,
    num_samples: int,
    prior: bool = False,
    latents: dict[str, Tensor] | None = None,
) -> SiteSamples:
    """Samples latent sites from the guide, or from the prior, and scores them; with a graph.

    Sites that the guide leaves out are sampled from the model. An observed site whose value was
    itself sampled (a model may train a part of itself on its own beliefs) is not data, and is left
    out.

    Arguments:
        net: has ``model(data)`` and ``guide(data)``, with one plate, at dim -1.
        data: the argument of both, see ``prepare_plate``.
        num_samples: ``k``.
        prior: sample from the prior.
        latents: values of latent sites to take instead, ``[k, N, ...]``.
    """
    model: Callable[..., Any] = net.model
    if latents is not None:
        model = poutine.condition(model, data=latents)
    guide = (lambda data: None) if prior else net.guide
    guided, joint = traces(model, guide, data, num_samples)
    guided.compute_log_prob()
    joint.compute_log_prob()
    plates = {name for name, site in joint.nodes.items() if site_is_subsample(site)}
    found = {name: site for name, site in sites(joint).items() if name not in plates}
    latent = {name: site for name, site in found.items() if not site["is_observed"]}
    seen = {
        name: site
        for name, site in found.items()
        if site["is_observed"] and site["value"].dim() - site["fn"].event_dim < 2
    }
    proposed, zero = sites(guided), torch.zeros(())
    log_p = sum((site["log_prob"] for site in (latent | seen).values()), zero)
    log_q = sum((proposed.get(name, site)["log_prob"] for name, site in latent.items()), zero)
    return SiteSamples(
        {name: site["value"] for name, site in latent.items()},
        {name: site["fn"] for name, site in seen.items()},
        {name: site["value"] for name, site in seen.items()},
        log_p,
        log_q + torch.zeros_like(log_p),
        {name: site["fn"] for name, site in latent.items()},
    )


def prepare_plate(net: SequenceModel | FrameModel, batch: Batch) -> Any:
    """The argument of a model's Pyro pair: ``net.prepare(batch)``, or a ``Fold`` of frames seen.

    Raises:
        ValueError: for a model without a Pyro pair, such as a harmonium.
    """
    if not isinstance(net, FrameModel):
        return prepare_whole(net, batch)
    return Fold.of(batch, run_sweep(net, batch).statistics[:, :-1])


def main_site(samples: SiteSamples, data: Any) -> str:
    """Name of the observed site that holds the data; the last one of several."""
    obs = getattr(data, "obs", None)
    found = [name for name, value in samples.data.items() if obs is not None and same(value, obs)]
    return (found or list(samples.data))[-1]


def in_time(net: SequenceModel | FrameModel, distribution: Any, batch: Batch) -> bool:
    """Whether the first axis of a whole sequence's event is time."""
    answers = isinstance(net, AnswerModel) and not net.at_every_step(batch)
    return not answers and distribution.event_shape[:1] == batch.mask.shape[1:]


def latent_in_time(distribution: Any, batch: Batch) -> bool:
    """Whether a latent site of whole sequences is a path, ``[T, ...]`` each.

    A vector may have as many values as there are frames, so the event shape decides.
    """
    return (
        len(distribution.event_shape) > 1 and distribution.event_shape[:1] == batch.mask.shape[1:]
    )


def frame_scores(
    net: SequenceModel | FrameModel, samples: SiteSamples, site: str, data: Any, batch: Batch
) -> Tensor | None:
    """log p(x_t | z) of every frame at an observed site.

    Returns:
        ``[k, B, T]``, zero in padding; of a fold ``[k, N]``; None where frames have no
        distribution of their own.
    """
    distribution, value = samples.distributions[site], samples.data[site]
    if isinstance(data, Fold):
        return distribution.log_prob(value)
    if not (in_time(net, distribution, batch) and isinstance(distribution, Independent)):
        return None
    each = distribution.base_dist.log_prob(value)  # one value each where it covers more than time
    each = each.flatten(samples.log_p.dim() + 1).sum(-1) if each.dim() > 3 else each
    return torch.where(batch.mask, each, 0.0)


def same(value: Tensor, obs: Tensor) -> bool:
    """Whether two tensors have the same shape and values."""
    return value.shape == obs.shape and torch.equal(value, obs)


def blanked(values: Tensor, mask: Tensor, axis: int) -> Tensor:
    """Values with NaN in padding, where time is axis ``axis``; unchanged where there is none."""
    if mask.all():
        return values
    mask = mask.view(mask.shape + (1,) * (values.dim() - axis - 1))
    kind = values if values.is_floating_point() else values.to(torch.get_default_dtype())
    return kind.masked_fill(~mask, math.nan)


def blanked_obs(batch: Batch) -> Tensor:
    """The observations, NaN in padding and where values are missing."""
    obs = blanked(batch.obs, batch.mask, 1)
    return obs if batch.observed is None else obs.masked_fill(~batch.observed, math.nan)


def spread_out(values: Tensor, mask: Tensor, lead: int | None = None) -> Tensor:
    """Puts frames back into time, NaN in all others: ``[..., N] -> [..., B, T]``.

    Arguments:
        values: ``N`` is the last axis, or follows ``lead`` ones.
        mask: True at the ``N`` frames, ``[B, T]``.
    """
    lead = values.dim() - 1 if lead is None else lead
    shape = (*values.shape[:lead], *mask.shape, *values.shape[lead + 1 :])
    kind = values.dtype if values.is_floating_point() else torch.get_default_dtype()
    out = values.new_full(shape, math.nan, dtype=kind)
    out[(slice(None),) * lead + (mask,)] = values.to(kind)
    return out
