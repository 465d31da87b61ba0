"""Latent states: their paths by condition, and over time beside the true ones."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from ...data.checks import check_number
from ...inference.diagnostics.values import Values, as_tensor
from .axes import COLOURS, INK, make_axes, palette

if TYPE_CHECKING:  # matplotlib and xarray take long to import
    import xarray
    from matplotlib.axes import Axes


def plot_latents(
    latents: xarray.Dataset | Values,
    by: str | Sequence[Hashable] | None = None,
    dims: int = 2,
    ax: Axes | None = None,
) -> Axes:
    """Latent paths of all trials, coloured by condition, with the mean path of each condition.

    More than ``dims`` latents are projected onto their first principal components, of all frames of
    all trials. A mean path ends where less than half of its trials go on. A dot marks the start of
    a path. Frames without a latent state break a line.

    Arguments:
        latents: the result of ``inference.latents``; or means ``(trial, time, latent)``, NaN where
            there are none.
        by: the condition of each trial, ``[N]``, or the name of such a coordinate of ``latents``;
            none when left out.
        dims: 2 or 3.
        ax: where to plot, of as many dimensions; None makes a figure.

    Returns:
        The axes.

    Raises:
        ValueError: for fewer latents than dimensions, conditions that do not match, or axes of
            other dimensions.
    """
    check_number("dims", dims, 2, 3)
    array, _ = _parts(latents)
    paths, names = _projected(_numbers(array, "latents"), dims)
    labels = _conditions(array, by, len(paths))
    kinds: list[Any] = list(dict.fromkeys(labels))
    ax = make_axes(ax, (5.0, 4.4), dims)
    numbers = by is not None and all(isinstance(kind, int | float) for kind in kinds)
    if numbers:
        kinds.sort()
    for kind, colour in zip(kinds, palette(len(kinds))):
        mine = paths[[row for row, label in enumerate(labels) if label == kind]]
        averaged = len(mine) > 1 and by is not None
        for path in mine:
            ax.plot(*path.T, color=colour, lw=0.7, alpha=0.35 if averaged else 0.7)
        if averaged:
            mine = _middle(mine)[None]
            ax.plot(*mine[0].T, color=colour, lw=2.4, solid_capstyle="round")
        starts = np.concatenate([path[np.isfinite(path).all(1)][:1] for path in mine])
        label = None if by is None else str(kind)
        ax.plot(*starts.T, ls="", marker="o", ms=5, mec="white", color=colour, label=label)
    for axis, name in zip("xyz", names):
        getattr(ax, f"set_{axis}label")(name)
    title = by if isinstance(by, str) else ""
    if numbers and len(kinds) > len(COLOURS):
        _colour_bar(ax, len(kinds), kinds, title)
    elif by is not None:
        columns = 1 + (len(kinds) - 1) // 20
        beside = {"loc": "upper left", "bbox_to_anchor": (1.02, 1), "ncols": columns}
        ax.legend(title=title, fontsize=8, frameon=False, **beside)
    return ax


def _middle(paths: np.ndarray) -> np.ndarray:
    """The mean of paths ``[N, T, D]`` where half of them or more go on, NaN elsewhere."""
    going = np.isfinite(paths).all(2).mean(0) >= 0.5
    found = np.full(paths.shape[1:], np.nan)
    found[going] = np.nanmean(paths[:, going], 0)
    return found


def _colour_bar(ax: Axes, number: int, kinds: Sequence[Any], title: str) -> None:
    """A scale of as many colours as there are conditions, with the numbers of some of them."""
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import BoundaryNorm, ListedColormap

    colours = ListedColormap(palette(number))
    scale = ScalarMappable(BoundaryNorm(np.arange(number + 1) - 0.5, number), colours)
    shown = list(range(0, number, -(-number // 8)))
    bar = ax.figure.colorbar(scale, ax=ax, label=title, ticks=shown, shrink=0.8, pad=0.1)
    bar.ax.set_yticklabels([f"{kinds[each]:g}" for each in shown])


def plot_over_time(
    latents: xarray.Dataset | Values,
    truth: Values | None = None,
    trial: int = 0,
    ax: Axes | None = None,
) -> Axes:
    """Latent states or traces of a trial over time, with a band of two standard deviations.

    Arguments:
        latents: the result of ``inference.latents``, whose ``sd`` makes the band; or values
            ``(trial, time, latent)``, NaN where there are none.
        truth: the true ones, ``[N, T, K]``, dashed; none when left out.
        trial: number of the trial.
        ax: where to plot; None makes a figure.

    Returns:
        The axes.

    Raises:
        ValueError: for a truth of another shape, or a trial out of range.
    """
    array, sd = _parts(latents)
    means, spread = _numbers(array, "latents"), None if sd is None else _numbers(sd, "sd")
    trial = check_number("trial", trial, 0, len(means) - 1)
    coords, dims = getattr(array, "coords", {}), getattr(array, "dims", ())
    times = np.asarray(coords["time"]) if "time" in coords else np.arange(means.shape[1])
    wanted = None if truth is None else _numbers(truth, "truth")
    if wanted is not None and wanted.shape != means.shape:
        raise ValueError(f"truth has shape {wanted.shape}, the latents {means.shape}")
    ax = make_axes(ax, (7.0, 2.8), frame=False)
    kind = str(dims[2]) if dims else "latent"
    labels = np.asarray(coords[kind]).tolist() if kind in coords else range(means.shape[2])
    for column, (label, colour) in enumerate(zip(labels, palette(means.shape[2]))):
        line = means[trial, :, column]
        ax.plot(times, line, color=colour, lw=1.4, label=f"{kind} {label}")
        if spread is not None:
            half = 2 * spread[trial, :, column]
            ax.fill_between(times, line - half, line + half, color=colour, alpha=0.2, lw=0)
        if wanted is not None:
            ax.plot(times, wanted[trial, :, column], color=colour, lw=1.0, ls="--")
    if wanted is not None:
        ax.plot([], [], color=INK, lw=1.0, ls="--", label="truth")
    real = times[np.isfinite(means[trial]).any(1)]
    if len(real):
        ax.set_xlim(real[0], max(real[-1], real[0] + 1e-9))
    ax.set(xlabel="time in the trial (s)" if "time" in coords else "bin", ylabel=kind)
    columns = 1 + (len(labels) - 1) // 8
    beside: dict[str, Any] = {"loc": "upper left", "bbox_to_anchor": (1.01, 1), "ncols": columns}
    ax.legend(frameon=False, fontsize=8, **beside)
    return ax


def _parts(latents: xarray.Dataset | Values) -> tuple[Any, Any]:
    """Means of latent states, and their standard deviations or None."""
    if not hasattr(latents, "data_vars"):
        return latents, None
    found: Any = latents
    if "mean" not in found:
        raise ValueError("the data set has no variable 'mean': see inference.latents")
    return found["mean"], found.get("sd")


def _numbers(values: Any, name: str) -> np.ndarray:
    found = as_tensor(values, name).cpu().numpy()
    if found.ndim != 3:
        raise ValueError(f"{name} must be (trial, time, latent), got shape {found.shape}")
    return found


def _conditions(array: Any, by: str | Sequence[Hashable] | None, number: int) -> list[Hashable]:
    """The condition of each trial."""
    if by is None:
        return [None] * number
    if isinstance(by, str):
        coords = getattr(array, "coords", {})
        if by not in coords or coords[by].dims != ("trial",):
            known = [str(name) for name, found in coords.items() if found.dims == ("trial",)]
            raise ValueError(f"the latents have no coordinate {by!r} of trials, but {known}")
        labels = coords[by].values.tolist()
    else:
        labels = np.asarray(by).tolist() if hasattr(by, "shape") else list(by)
    if len(labels) != number:
        raise ValueError(f"{len(labels)} conditions for {number} trials")
    return labels


def _projected(paths: np.ndarray, dims: int) -> tuple[np.ndarray, list[str]]:
    """Paths ``[N, T, dims]``, and the names of their axes."""
    width = paths.shape[2]
    if width < dims:
        raise ValueError(f"{width} latents have no {dims} dimensions: see plot_over_time")
    if width == dims:
        return paths, [f"latent {number}" for number in range(dims)]
    known = np.isfinite(paths).all(2)
    frames = paths[known]
    if len(frames) < 2:
        raise ValueError("the latents have less than two finite frames")
    _, size, directions = np.linalg.svd(frames - frames.mean(0), full_matrices=False)
    largest = np.abs(directions).argmax(1)
    directions *= np.sign(directions[np.arange(len(directions)), largest])[:, None]
    found = np.full((*known.shape, dims), np.nan)
    found[known] = (frames - frames.mean(0)) @ directions[:dims].T
    share = 100 * size**2 / max((size**2).sum(), 1e-300)
    return found, [f"PC {n + 1} ({share[n]:.0f} % of variance)" for n in range(dims)]
