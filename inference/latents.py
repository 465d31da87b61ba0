"""Latent states and expected values of every frame, with the coordinates of the data."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn

from ..data import Batch, BatchLike, Recording
from ..data.checks import check_number
from ..data.recordings.labelled import write_xarray
from .checks import check_missing, check_samples, check_seed
from .contracts import GIVENS, Network, evaluating
from .placing import batch_for
from .rng import RandomStream

if TYPE_CHECKING:
    import xarray

VALUES = 2**25  # expected values in memory together: draws times trials times bins times channels


@torch.no_grad()
def latents(
    net: Network,
    data: BatchLike,
    given: str | None = None,
    num_samples: int = 0,
    seed: int = 0,
) -> xarray.Dataset:
    """Latent states of every frame: their means, standard deviations and draws.

    Arguments:
        net: a network with latent states.
        data: a ``data.Recording``, whose coordinates are used; a ``Batch``; or anything that
            ``data.as_batch`` takes.
        given: ``"present"``, the frames up to each (a filter); ``"all"``, all frames of a sequence
            (a smoother); None is the most informed that the network has. The result's attribute
            ``given`` says which one it is.
        num_samples: draws from the distribution of the latent states. Given ``"all"`` each draw is
            a path from their joint distribution.
        seed: seed of a private random stream; the caller's random state is left alone.

    Returns:
        ``mean (trial, time, latent)``; ``sd``, of the same shape, which is left out where a state
        has no spread; ``draws (draw, trial, time, latent)``, where asked for. Padding is NaN. Times
        are in seconds, or in frames where the data have no bins.

    Raises:
        ValueError: for unfit data or numbers, or a network without such latent states.

    Example:
        >>> inference.latents(net, spikes).mean("trial")["mean"].plot(hue="latent")
    """
    check_number("num_samples", num_samples, 0)
    check_seed(seed)
    given = _chosen(net, given, "latent states", getattr(net, "latents_given", ()))
    batch = batch_for(net, data)
    check_missing(net, batch)
    with RandomStream(batch.obs.device, "latents", seed), evaluating(net):
        states = net.infer(batch, given, num_samples)
    found = {"mean": states.mean}
    if states.variance is not None:
        found["sd"] = states.variance.clamp_min(0).sqrt()
    labelled = {name: labelled_values(part, batch, data, "latent") for name, part in found.items()}
    if states.draws is not None:
        draws = [labelled_values(part, batch, data, "latent") for part in states.draws]
        labelled["draws"] = _stacked(draws)
    import xarray

    return xarray.Dataset(labelled, attrs={"given": given})


@torch.no_grad()
def rates(
    net: Network,
    data: BatchLike,
    given: str | None = None,
    num_samples: int = 100,
    seed: int = 0,
) -> xarray.DataArray:
    """Expected values of every frame, in the unit of the data: spikes a bin of counts.

    They are means of the distribution of y_t given the frames before it, or given frames that
    include it: averages over draws of the latent state, where they have no closed form, of the
    expected frame given that state. Given ``"present"`` or ``"all"`` the frame itself, where it was
    seen, has a part in the latent state.

    Arguments:
        net: a network that tells expected frames.
        data: a ``data.Recording``, whose coordinates are used; a ``Batch``; or anything that
            ``data.as_batch`` takes.
        given: ``"past"``, the frames before each (a prediction one step ahead); ``"present"`` or
            ``"all"``, see ``latents``; None is the most informed that the network has. The result's
            attribute ``given`` says which one it is.
        num_samples: draws of the latent state, or chains of a harmonium, that are averaged over.
        seed: seed of a private random stream; the caller's random state is left alone.

    Returns:
        ``(trial, time, neuron)``, where the last axis has the name of the recording's unit, or is
        ``channel``. Padding is NaN. Values that were not seen are estimated, too.

    Raises:
        ValueError: for unfit data or numbers, or a network that tells no such frames.
    """
    batch = batch_for(net, data)
    given, values = expected_values(net, batch, given, num_samples, seed)
    unit = data.unit if isinstance(data, Recording) else "channel"
    labelled = labelled_values(values, batch, data, unit)
    labelled.attrs["given"] = given
    return labelled


@torch.no_grad()
def expected_values(
    net: nn.Module, batch: Batch, given: str | None, num_samples: int, seed: int
) -> tuple[str, Tensor]:
    """What ``rates`` are given, and the rates themselves, ``[B, T, M]``; see ``rates``."""
    check_samples(num_samples, seed=seed)
    given = _chosen(net, given, "expected frames", getattr(net, "rates_given", ()))
    assert isinstance(net, Network)
    check_missing(net, batch)
    rows = max(1, VALUES // (num_samples * batch.obs[0].numel()))
    with RandomStream(batch.obs.device, "rates", seed), evaluating(net):
        parts = [
            net.expect(batch.rows(slice(i, i + rows)), given, num_samples).mean(0)
            for i in range(0, len(batch), rows)
        ]
    return given, torch.cat(parts)


def _chosen(net: nn.Module, given: str | None, thing: str, known: tuple[str, ...]) -> str:
    """What to give a network, checked."""
    name = type(net).__name__
    if given is not None and given not in GIVENS:
        raise ValueError(f"given must be one of {', '.join(GIVENS)}, got {given!r}")
    if not isinstance(net, Network) or not known:
        raise ValueError(f"{name} tells no {thing}: see inference.Network for what to write")
    if given is None:
        return known[-1]
    if given not in known:
        raise ValueError(
            f"this {name} tells {thing} given {' or '.join(map(repr, known))}, not {given!r}"
        )
    return given


def labelled_values(values: Tensor, batch: Batch, data: BatchLike, axis: str) -> xarray.DataArray:
    """Values ``[B, T, D]`` as a labelled array ``(trial, time, axis)``, NaN in padding."""
    array = values.masked_fill(~batch.mask[..., None], float("nan")).cpu().numpy()
    size, lengths = values.shape[-1], batch.mask.sum(1).cpu().numpy()
    if not isinstance(data, Recording):
        rows, zeros = range(len(batch)), np.zeros(len(batch))
        return write_xarray(array, 1.0, zeros, {axis: range(size)}, rows, {}, lengths, {})
    axes = {axis: data.channels if axis == data.unit else range(size)}
    about = (data.names, data.conditions, lengths, {})
    return write_xarray(array, data.bin, data.starts, axes, *about)


def _stacked(draws: list[xarray.DataArray]) -> xarray.DataArray:
    import xarray

    return xarray.concat(draws, "draw")
