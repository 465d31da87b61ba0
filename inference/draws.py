"""What a model with a Pyro pair draws, from its guide or its prior, and how it weighs the draws.

One plate of sequences, or of frames taken out of time, whatever the model. Diagnostics and ArviZ's
tree are made of these.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from pyro.poutine.util import site_is_subsample
from torch import Tensor
from torch.distributions import Independent

from ..data import Batch
from .contracts import AnswerModel, Fold, FrameModel
from .evaluate import check_batch, prepare_whole, traces
from .predict import run_sweep


class Drawn(NamedTuple):
    """Draws of a Pyro pair with one plate of ``N`` sequences, or frames taken out of time.

    Arguments:
        latents: value of every latent site, ``[k, N, ...]``.
        laws: of every observed site, given the draws; batch shape ``[k, N]``.
        data: what was observed there, ``[N, ...]``.
        log_p: log p(x, z), ``[k, N]``.
        log_q: log q(z | x), ``[k, N]``.
        latent_laws: the model's law of every latent site, given those before it.
    """

    latents: dict[str, Tensor]
    laws: dict[str, torch.distributions.Distribution]
    data: dict[str, Tensor]
    log_p: Tensor
    log_q: Tensor
    latent_laws: dict[str, torch.distributions.Distribution]


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
        {name: site["fn"] for name, site in latent.items()},
    )


def prepare(net, batch: Batch):
    """What the Pyro pair of a model takes: ``net.prepare(batch)``, or a fold of real frames.

    Raises:
        ValueError: for a model without a Pyro pair, such as a harmonium, or what is no batch.
    """
    if not isinstance(net, FrameModel):
        return prepare_whole(net, batch)
    check_batch(batch)
    past = run_sweep(net, batch)[:, :-1]
    return Fold(batch.obs[batch.mask], past[batch.mask])


def main_site(drawn: Drawn, data) -> str:
    """The observed site that holds the data themselves, of several the last."""
    obs = getattr(data, "obs", None)
    found = [name for name, value in drawn.data.items() if obs is not None and same(value, obs)]
    return (found or list(drawn.data))[-1]


def in_time(net, law, batch: Batch) -> bool:
    """Whether the first axis of a whole sequence's event is time."""
    answers = isinstance(net, AnswerModel) and not net.at_every_step(batch)
    return not answers and law.event_shape[:1] == batch.mask.shape[1:]


def latent_in_time(law, batch: Batch) -> bool:
    """Whether a latent site of whole sequences is a path, ``[T, ...]`` each.

    A vector of as many values as there are frames is none: only the law tells.
    """
    return len(law.event_shape) > 1 and law.event_shape[:1] == batch.mask.shape[1:]


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
