"""Draws of posterior and prior, predictions and data, for ArviZ."""

from __future__ import annotations

import torch

from ...inference import RandomStream, save_arviz, to_arviz
from ...inference.samples import prepare_plate, sample_sites
from .context import Context, Section

EXPORTED = 1_000_000  # numbers that are written of latents and predictions of each kind
EXPORTED_DRAWS = 25, 100  # at least, at most


def export_samples(context: Context) -> list[Section]:
    context.need_pair()
    few = context.batch.rows(slice(1))
    with RandomStream(few.obs.device, "report"), torch.no_grad():
        latents = sample_sites(context.net, prepare_plate(context.net, few), 1).latents.values()
    each = few.obs.numel() + sum(value.numel() for value in latents)  # of a draw and sequence
    least, most = EXPORTED_DRAWS
    draws = min(context.num_samples, max(least, min(most, EXPORTED // each)))
    rows = min(context.sequences, max(1, EXPORTED // (draws * each)))
    batch = context.batch.rows(slice(rows))
    found = to_arviz(context.net, batch, draws, context.seed, context.data.unit)
    path = context.out / "posterior.nc"
    save_arviz(found, path)
    size = path.stat().st_size / 1e6
    return [
        Section(
            "Draws, for ArviZ",
            "What does the model say of single sequences? `arviz.from_netcdf('posterior.nc')` has "
            "draws of posterior and prior, predictions, likelihoods and the data.",
            [
                f"{draws} draws of {rows} sequence{'s' * (rows > 1)}, {size:.1f} MB.",
                "Draws are independent: there is one chain, and R-hat says nothing of them "
                "(`arviz.summary(..., kind='stats')`).",
            ],
            "posterior.nc",
        )
    ]
