"""Draws of a model and its guide as one tree of named arrays, for ArviZ.

The tree is xarray's; ArviZ 1.x takes it as it is, ArviZ 0.x wraps it as ``InferenceData``.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...data import Batch
from ...data.files import write_whole
from ..contracts import Fold, Recurrent
from ..draws import (
    Drawn,
    blanked,
    draw,
    frame_scores,
    in_time,
    latent_in_time,
    main_site,
    prepare,
    spread_out,
)
from ..evaluate import check_samples, portions
from ..rng import RandomStream

SAMPLES = "chain", "draw"


@torch.no_grad()
def to_arviz(
    net,
    batch: Batch,
    draws: int = 100,
    seed: int = 0,
    unit: str = "unit",
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, Sequence] | None = None,
    at_once: int = 25,
):
    """Everything that ArviZ wants to know of a model and a batch, in one call.

    | group | beside chain and draw | what |
    |---|---|---|
    | posterior, prior | sequence, time, latent | latent sites, of the guide and of the model |
    | posterior_predictive, prior_predictive | sequence, time, unit | data drawn given those |
    | log_likelihood | sequence, time | log p(x_t given z), nats; of whole sequences where frames \
have no law of their own |
    | sample_stats | sequence | ``lp``, log p(x, z); ``log_q``, log q(z given x); ``log_weight`` |
    | observed_data | sequence, time, unit | what was observed |
    | constant_data | sequence, time, unit | ``length``; ``inputs`` of nets that answer |

    Padding is NaN. There is **one chain**, whose draws are independent: R-hat and effective sample
    sizes say nothing of them (``az.summary(..., kind="stats")``); ask ``khat`` whether the guide is
    any good. Models without latent state have neither ``posterior`` nor ``prior``.

    Models that read the frames before (RNN, VOSP) draw ``posterior_predictive`` frames given the
    past that was seen, one step ahead; their ``prior_predictive`` is dreamt freely by ``sample``,
    so it does not go with the latents in ``prior``. Models of single frames (rVAE, TVAE) say all
    they say of a frame given the statistics u_{t-1} of what was seen before it, ``sample_stats``
    included.

    What ArviZ's own tools cannot take: with padding, ``az.loo`` and ``az.waic`` are NaN (take
    ``inference.loo``); models without latent state have no posterior group for either;
    ``az.loo_pit`` wants likelihoods of single values, these are of frames; and it is in
    ``constant_data`` that the raw frames of a linear system (LGDS) stand.

    Arguments:
        net: a model with a Pyro pair.
        batch: the sequences.
        draws: draws ``S``; the predictive groups take ``2 S B T M`` numbers of memory.
        seed: of the draws; the caller's random state is left alone.
        unit: what the last axis of ``batch.obs`` is called, such as ``"key"``, ``"neuron"``,
            ``"pixel"``.
        dims: names of a site's axes after sequence and time, such as ``{"z": ["factor"]}``.
        coords: labels along dimensions, such as ``{"key": range(21, 109)}``; numbers otherwise.
        at_once: draws held in memory at a time while they are made.

    Returns:
        ``arviz.InferenceData`` (ArviZ 0.x) or ``xarray.DataTree`` (1.x).

    Raises:
        ValueError: for a model without a Pyro pair, less than one draw, or names that do not fit.

    Example:
        >>> found = to_arviz(net, batch, unit="key")
        >>> arviz.summary(found, var_names="z", kind="stats")
    """
    check_samples(draws, "draws", at_once)
    for site, names in (dims or {}).items():
        if isinstance(names, str):
            raise ValueError(f"dims takes a list of names a site: [{names!r}] for {site!r}")
    data = prepare(net, batch)
    groups: dict[str, dict[str, Array]] = {}
    for source in ("posterior", "prior"):
        with RandomStream(batch.obs.device, "arviz", source, seed):
            for number in portions(draws, at_once):
                drawn = draw(net, data, number, source == "prior")
                for group, name, array in _drawn(net, drawn, data, batch, source):
                    groups.setdefault(group, {}).setdefault(name, []).append(array)
    groups = {
        group: {
            name: Array(torch.cat([part.values for part in parts]), *parts[0][1:])
            for name, parts in found.items()
        }
        for group, found in groups.items()
    }
    if isinstance(net, Recurrent) and hasattr(net, "sample") and not isinstance(data, Fold):
        film = net.sample(draws * len(batch), batch.mask.shape[1], seed=seed)
        film = film.unflatten(0, (draws, len(batch)))
        groups["prior_predictive"][main_site(drawn, data)] = Array(
            blanked(film, batch.mask, 2), True, True
        )
    groups["observed_data"], groups["constant_data"] = _given(net, drawn, data, batch)
    frames = main_site(drawn, data) if "inputs" not in groups["constant_data"] else "inputs"
    tree = _Names(frames, unit, dict(dims or {}), dict(coords or {})).tree(groups)
    tree.attrs = {
        "inference_library": "pyro",
        "model": type(net).__name__,
        "draws": "independent draws of a guide in one chain: R-hat says nothing of them",
        "seed": seed,
    }
    return _for_arviz(tree)


def save_arviz(found, path: str | Path) -> None:
    """Writes what ``to_arviz`` returns as netCDF, whole or not at all; ``arviz.from_netcdf`` reads.

    Raises:
        ImportError: without h5netcdf.
    """
    tree = found.to_datatree() if hasattr(found, "to_datatree") else found
    write_whole(path, lambda part: tree.to_netcdf(part, engine="h5netcdf"))


def _for_arviz(tree):
    """The one place where the two lines of ArviZ differ."""
    import arviz

    if int(arviz.__version__.split(".")[0]) < 1:
        return arviz.InferenceData.from_datatree(tree)
    return tree


class Array(NamedTuple):
    """Values of a site: ``[draws,] B, [T,] ...``, and which of the two it has."""

    values: Tensor
    drawn: bool
    timed: bool


def _drawn(net, drawn: Drawn, data, batch: Batch, source: str):
    """Yields group, site and values of everything that was drawn."""
    mask, fold = batch.mask, isinstance(data, Fold)

    def array(values: Tensor, timed: bool) -> Array:
        if fold:
            return Array(spread_out(values, mask, 1), True, True)
        return Array(blanked(values, mask, 2) if timed else values, True, timed)

    for name, value in drawn.latents.items():
        yield source, name, array(value, latent_in_time(drawn.latent_laws[name], batch))
    for name, law in drawn.laws.items():
        yield f"{source}_predictive", name, array(law.sample(), in_time(net, law, batch))
        if source == "posterior":
            scores = frame_scores(net, drawn, name, data, batch)
            timed = scores is not None
            scores = scores if timed else law.log_prob(drawn.data[name])
            yield "log_likelihood", name, array(scores, timed)
    if source == "posterior":
        log_p, log_q = drawn.log_p, drawn.log_q
        for name, value in (("lp", log_p), ("log_q", log_q), ("log_weight", log_p - log_q)):
            yield "sample_stats", name, array(value, False)


def _given(net, drawn: Drawn, data, batch: Batch):
    """Observed and constant data."""
    seen, mask = {}, batch.mask
    for name, value in drawn.data.items():
        if isinstance(data, Fold):
            seen[name] = Array(spread_out(value, mask, 0), False, True)
        else:
            timed = in_time(net, drawn.laws[name], batch)
            seen[name] = Array(blanked(value, mask, 1) if timed else value, False, timed)
    known = {"length": Array(mask.sum(1), False, False)}
    obs = blanked(batch.obs, mask, 1)
    if not any(_alike(obs, found.values) for found in seen.values()):
        known["inputs"] = Array(obs, False, True)
    return seen, known


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(torch.isclose(one, other, equal_nan=True).all())


class _Names:
    """Names and labels of all axes, each name of one size throughout the tree."""

    def __init__(self, frames: str, unit: str, dims: dict, coords: dict):
        self.frames, self.unit, self.dims, self.coords = frames, unit, dims, coords
        self.sizes: dict[str, int] = {}

    def tree(self, groups: dict[str, dict[str, Array]]):
        """The groups as an ``xarray.DataTree``.

        Raises:
            ValueError: for names that do not fit.
        """
        import xarray

        latent = set(groups.get("posterior", {}))
        sites = latent | set(groups["observed_data"]) | set(groups["constant_data"])
        if strange := set(self.dims) - sites:
            raise ValueError(f"dims names {sorted(strange)}, the sites are {sorted(sites)}")
        datasets = {}
        for group, found in groups.items():
            arrays = {}
            for name, array in found.items():
                values = array.values.detach().cpu().numpy()
                values = values[None] if array.drawn else values
                names = self._axes(name, array, values.shape, "latent" if name in latent else None)
                arrays[name] = xarray.DataArray(values, dims=names)
            datasets[group] = xarray.Dataset(arrays)
        if strange := set(self.coords) - set(self.sizes):
            raise ValueError(
                f"coords names {sorted(strange)}, the dimensions are {sorted(self.sizes)}"
            )
        for group, dataset in datasets.items():
            labels = {
                name: self.coords.get(name, np.arange(n)) for name, n in dataset.sizes.items()
            }
            datasets[group] = dataset.assign_coords(
                {name: np.asarray(label) for name, label in labels.items()}
            )
        return xarray.DataTree.from_dict(datasets)

    def _axes(self, site: str, array: Array, shape: tuple, default: str | None) -> list[str]:
        names = [*(SAMPLES if array.drawn else ()), "sequence", *(["time"] if array.timed else [])]
        rest = shape[len(names) :]
        if site in self.dims and rest:
            own = list(self.dims[site])
            if len(own) != len(rest):
                raise ValueError(
                    f"dims gives {site!r} {len(own)} names after sequence and time, it has "
                    f"{len(rest)} axes there: {rest}"
                )
        elif len(rest) == 1:
            own = [default or (self.unit if site == self.frames else f"{site}_unit")]
            if self.sizes.get(own[0], rest[0]) != rest[0]:  # a second site of another size
                own = [f"{site}_{own[0]}"]
        else:
            own = [f"{site}_{axis}" for axis in range(len(rest))]
        for name, size in zip(names + own, shape):
            if self.sizes.setdefault(name, size) != size:
                raise ValueError(f"dims names axes of {self.sizes[name]} and {size} both {name!r}")
            if name in self.coords and len(self.coords[name]) != size:
                raise ValueError(
                    f"coords labels {len(self.coords[name])} of {name!r}, there are {size}"
                )
        return names + own
