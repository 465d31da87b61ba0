"""Samples of posterior and prior, predictions and data, for ArviZ."""

from __future__ import annotations

import torch

from ...inference import RandomStream, save_arviz, to_arviz
from ...inference.samples import prepare_plate, sample_sites
from .context import Context, Section

VALUES = 1_000_000  # largest number of values of latents and of predictions
FEWEST, MOST = 25, 100  # samples


def export_samples(context: Context) -> list[Section]:
    """Writes ``posterior.nc``."""
    context.need_pair()
    few = context.batch.rows(slice(1))
    with RandomStream(few.obs.device, "report"), torch.no_grad():
        latents = sample_sites(context.net, prepare_plate(context.net, few), 1).latents.values()
    each = few.obs.numel() + sum(value.numel() for value in latents)  # of a sample and sequence
    number = min(context.num_samples, max(FEWEST, min(MOST, VALUES // each)))
    rows = min(context.sequences, max(1, VALUES // (number * each)))
    batch = context.batch.rows(slice(rows))
    found = to_arviz(context.net, batch, number, context.seed, context.data.unit)
    path = context.out / "posterior.nc"
    save_arviz(found, path)
    size = path.stat().st_size / 1e6
    return [
        Section(
            "Posterior samples for ArviZ",
            "What does the model say about single sequences? `arviz.from_netcdf('posterior.nc')` "
            "has samples of posterior and prior, predictions, likelihoods and the data.",
            [
                f"{number} samples of {rows} sequence{'s' * (rows > 1)}, {size:.1f} MB.",
                "Samples are independent: there is one chain, and R-hat says nothing about them "
                "(`arviz.summary(..., kind='stats')`).",
            ],
            "posterior.nc",
        )
    ]
