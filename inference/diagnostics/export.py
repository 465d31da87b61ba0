"""Samples of a model and its guide as one tree of named arrays, for ArviZ.

The tree is an ``xarray.DataTree``, which ArviZ 1.x uses directly. ArviZ 0.x wraps it as
``InferenceData``.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...data import Batch, BatchLike
from ...data.files import write_whole
from ..checks import check_samples, portions
from ..contracts import Fold, FrameModel, Recurrent, SequenceModel
from ..inputs import inputs_of, keyword
from ..placing import batch_for
from ..rng import RandomStream
from ..samples import (
    SiteSamples,
    blanked,
    blanked_obs,
    frame_scores,
    in_time,
    latent_in_time,
    main_site,
    prepare_plate,
    same,
    sample_sites,
    spread_out,
)

SAMPLES = "chain", "draw"  # as ArviZ calls them


@torch.no_grad()
def to_arviz(
    net: SequenceModel | FrameModel,
    batch: BatchLike,
    num_samples: int = 100,
    seed: int = 0,
    obs_axis: str = "unit",
    dims: Mapping[str, Sequence[str]] | None = None,
    coords: Mapping[str, Sequence[Any]] | None = None,
    at_once: int = 25,
) -> Any:
    """Exports a model's samples for a batch to ArviZ.

    | group | axes after chain and draw | content |
    |---|---|---|
    | posterior, prior | sequence, time, latent | latent sites, of the guide and of the model |
    | posterior_predictive, prior_predictive | sequence, time, unit | data sampled given these |
    | log_likelihood | sequence, time | log p(x_t given z), nats; per sequence where frames have \
no distribution of their own |
    | sample_stats | sequence | ``lp``, log p(x, z); ``log_q``, log q(z given x); ``log_weight`` |
    | observed_data | sequence, time, unit | the observations |
    | constant_data | sequence, time, unit | ``length``; ``inputs`` of networks that answer; \
``covariates``, the inputs of a batch that the model reads |

    Padding and missing values are NaN, and so is the likelihood of a frame of which nothing was
    seen. Models of whole sequences have latents and predictions there; for models of single frames
    these are NaN, too. There is **one chain**, whose samples are independent, so R-hat and
    effective sample sizes carry no information (use ``az.summary(..., kind="stats")``). ``khat``
    tells whether the guide can be trusted. Models without latent state have neither ``posterior``
    nor ``prior``.

    Models whose frames depend on earlier frames (RNN, VOSP) sample ``posterior_predictive`` frames
    one step ahead, given the observed past. Their ``prior_predictive`` comes from ``net.sample``,
    so it does not belong to the latents in ``prior``. For models of single frames (rVAE, TVAE) all
    groups, ``sample_stats`` included, are given the statistics u_{t-1} of the observed past.

    Limits of ArviZ's own tools: with padding, ``az.loo`` and ``az.waic`` are NaN (use
    ``inference.loo``), and neither works without a posterior group. ``az.loo_pit`` needs
    likelihoods of single values; these are of frames. The raw frames of a linear system (LGDS) are
    in ``constant_data``.

    Arguments:
        net: a model with a Pyro pair.
        batch: the sequences: a ``Batch``, or anything that ``data.as_batch`` takes.
        num_samples: samples ``S``; the predictive groups hold ``2 S B T M`` numbers.
        seed: seed of a private random stream; the caller's random state is left alone.
        obs_axis: name of the last axis of ``batch.obs``, such as ``"key"``, ``"neuron"``,
            ``"pixel"``.
        dims: names of a site's axes after sequence and time, such as ``{"z": ["factor"]}``.
        coords: labels along dimensions, such as ``{"key": range(21, 109)}``; numbers otherwise.
        at_once: samples held in memory at a time while sampling.

    Returns:
        ``arviz.InferenceData`` (ArviZ 0.x) or ``xarray.DataTree`` (1.x).

    Raises:
        ValueError: for a model without a Pyro pair, less than one sample, or names that do not fit.

    Example:
        >>> found = to_arviz(net, batch, obs_axis="key")
        >>> arviz.summary(found, var_names="z", kind="stats")
    """
    check_samples(num_samples, at_once, seed)
    batch = batch_for(net, batch)
    for site, names in (dims or {}).items():
        if isinstance(names, str):
            raise ValueError(f"dims needs a list of names for {site!r}: write [{names!r}]")
    data = prepare_plate(net, batch)
    parts: dict[str, dict[str, list[Array]]] = {}
    for source in ("posterior", "prior"):
        with RandomStream(batch.obs.device, "arviz", source, seed):
            for number in portions(num_samples, at_once):
                samples = sample_sites(net, data, number, source == "prior")
                for group, name, array in _arrays(net, samples, data, batch, source):
                    parts.setdefault(group, {}).setdefault(name, []).append(array)
    groups = {
        group: {name: _joined(arrays) for name, arrays in found.items()}
        for group, found in parts.items()
    }
    generate: Any = getattr(net, "sample", None)  # no contract asks for it
    if isinstance(net, Recurrent) and generate is not None and not isinstance(data, Fold):
        inputs = inputs_of(net, batch)
        given = keyword(None if inputs is None else inputs.repeat(num_samples, 1, 1))
        film = generate(num_samples * len(batch), batch.mask.shape[1], seed=seed, **given)
        film = film.unflatten(0, (num_samples, len(batch)))
        groups["prior_predictive"][main_site(samples, data)] = Array(
            blanked(film, batch.mask, 2), True, True
        )
    groups["observed_data"], groups["constant_data"] = _given(net, samples, data, batch)
    frames = main_site(samples, data) if "inputs" not in groups["constant_data"] else "inputs"
    tree = _Names(frames, obs_axis, dict(dims or {}), dict(coords or {})).tree(groups)
    tree.attrs = {
        "inference_library": "pyro",
        "model": type(net).__name__,
        "draws": "independent samples of a guide in one chain: R-hat carries no information",
        "seed": seed,
    }
    return _for_arviz(tree)


def save_arviz(found: Any, path: str | Path) -> None:
    """Writes the value of ``to_arviz`` as netCDF, which ``arviz.from_netcdf`` reads.

    Arguments:
        found: the value of ``to_arviz``.
        path: the file, which is written completely or not at all.

    Raises:
        ImportError: without h5netcdf.
    """
    tree = found.to_datatree() if hasattr(found, "to_datatree") else found
    write_whole(path, lambda part: tree.to_netcdf(part, engine="h5netcdf"))


def _for_arviz(tree: Any) -> Any:
    """Wraps the tree for ArviZ 0.x; this is the only place where the two versions differ."""
    import arviz

    if int(arviz.__version__.split(".")[0]) < 1:
        return arviz.InferenceData.from_datatree(tree)
    return tree


class Array(NamedTuple):
    """Values of a site, ``[S,] B, [T,] ...``, and which of the two optional axes they have."""

    values: Tensor
    sampled: bool
    timed: bool


def _arrays(
    net: SequenceModel | FrameModel, samples: SiteSamples, data: Any, batch: Batch, source: str
) -> Iterator[tuple[str, str, Array]]:
    """Yields group, site and values of all samples."""
    mask, fold = batch.mask, isinstance(data, Fold)

    def array(values: Tensor, timed: bool, mask: Tensor = mask) -> Array:
        if fold:
            return Array(spread_out(values, batch.observed_frames, 1), True, True)
        return Array(blanked(values, mask, 2) if timed else values, True, timed)

    for name, value in samples.latents.items():
        timed = latent_in_time(samples.latent_distributions[name], batch)
        yield source, name, array(value, timed)
    for name, each in samples.distributions.items():
        yield f"{source}_predictive", name, array(each.sample(), in_time(net, each, batch))
        if source == "posterior":
            scores = frame_scores(net, samples, name, data, batch)
            timed = scores is not None
            scores = scores if scores is not None else each.log_prob(samples.data[name])
            yield "log_likelihood", name, array(scores, timed, batch.observed_frames)
    if source == "posterior":
        log_p, log_q = samples.log_p, samples.log_q
        for name, value in (("lp", log_p), ("log_q", log_q), ("log_weight", log_p - log_q)):
            yield "sample_stats", name, array(value, False)


def _given(
    net: SequenceModel | FrameModel, samples: SiteSamples, data: Any, batch: Batch
) -> tuple[dict[str, Array], dict[str, Array]]:
    """Observed and constant data."""
    seen, mask, obs = {}, batch.mask, blanked_obs(batch)
    frames = getattr(data, "obs", None)
    for name, value in samples.data.items():
        if frames is not None and same(value, frames):
            seen[name] = Array(obs, False, True)
        elif isinstance(data, Fold):
            seen[name] = Array(spread_out(value, batch.observed_frames, 0), False, True)
        else:
            timed = in_time(net, samples.distributions[name], batch)
            values = blanked(value, batch.observed_frames, 1) if timed else value
            seen[name] = Array(values, False, timed)
    known = {"length": Array(mask.sum(1), False, False)}
    if not any(_alike(obs, found.values) for found in seen.values()):
        known["inputs"] = Array(obs, False, True)
    inputs = inputs_of(net, batch)
    if inputs is not None:
        known["covariates"] = Array(blanked(inputs, mask, 1), False, True)
    return seen, known


def _alike(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(torch.isclose(one, other, equal_nan=True).all())


def _joined(arrays: list[Array]) -> Array:
    """The samples of several portions."""
    return arrays[0]._replace(values=torch.cat([array.values for array in arrays]))


class _Names:
    """Names and labels of all axes, each name of one size throughout the tree."""

    def __init__(
        self, frames: str, obs_axis: str, dims: dict[str, Any], coords: dict[str, Any]
    ) -> None:
        self.frames, self.obs_axis, self.dims, self.coords = frames, obs_axis, dims, coords
        self.sizes: dict[str, int] = {}

    def tree(self, groups: dict[str, dict[str, Array]]) -> Any:
        """The groups as an ``xarray.DataTree``.

        Raises:
            ValueError: for names that do not fit.
        """
        import xarray

        latent = set(groups.get("posterior", {}))
        sites = latent | set(groups["observed_data"]) | set(groups["constant_data"])
        if strange := set(self.dims) - sites:
            raise ValueError(f"dims names {sorted(strange)}, but the sites are {sorted(sites)}")
        datasets = {}
        for group, found in groups.items():
            arrays = {}
            for name, array in found.items():
                values = array.values.detach().cpu().numpy()
                values = values[None] if array.sampled else values
                names = self._axes(name, array, values.shape, "latent" if name in latent else None)
                arrays[name] = xarray.DataArray(values, dims=names)
            datasets[group] = xarray.Dataset(arrays)
        if strange := set(self.coords) - set(self.sizes):
            raise ValueError(
                f"coords names {sorted(strange)}, but the dimensions are {sorted(self.sizes)}"
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
        names = [
            *(SAMPLES if array.sampled else ()),
            "sequence",
            *(["time"] if array.timed else []),
        ]
        rest = shape[len(names) :]
        if site in self.dims and rest:
            own = list(self.dims[site])
            if len(own) != len(rest):
                raise ValueError(
                    f"dims has {len(own)} names for {site!r}, which has {len(rest)} axes after "
                    f"sequence and time: {rest}"
                )
        elif len(rest) == 1:
            own = [default or (self.obs_axis if site == self.frames else f"{site}_unit")]
            if self.sizes.get(own[0], rest[0]) != rest[0]:  # a second site of another size
                own = [f"{site}_{own[0]}"]
        else:
            own = [f"{site}_{axis}" for axis in range(len(rest))]
        for name, size in zip(names + own, shape):
            if self.sizes.setdefault(name, size) != size:
                raise ValueError(
                    f"dims gives axes of {self.sizes[name]} and {size} the same name, {name!r}"
                )
            if name in self.coords and len(self.coords[name]) != size:
                raise ValueError(
                    f"coords has {len(self.coords[name])} labels for {name!r}, which has "
                    f"{size} values"
                )
        return names + own
