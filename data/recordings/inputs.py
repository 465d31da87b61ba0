"""Known inputs of a recording, such as stimulus and behaviour: series of samples, in bins."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .spikes import Numbers, mean_in_bins

#: Times ``[S]`` of samples in seconds, and the samples ``[S]`` or ``[S, D]``, by name.
Series = Mapping[str, tuple[Numbers, Numbers]]


def check_series(name: str, time: Numbers, values: Numbers) -> tuple[np.ndarray, np.ndarray]:
    """Times ``[S]`` and samples ``[S, D]`` of a series, float64, checked.

    Arguments:
        name: its name in errors.
        time: time of each sample in seconds, ascending.
        values: samples, ``[S]`` or ``[S, D]``; NaN is missing.

    Raises:
        ValueError: for times that do not ascend, infinite samples, or shapes that do not match.
    """
    try:
        when, samples = (np.asarray(given, dtype=np.float64) for given in (time, values))
    except (TypeError, ValueError) as error:
        raise ValueError(f"{name}: times and samples must be numbers") from error
    samples = samples[:, None] if samples.ndim == 1 else samples
    if samples.ndim != 2 or when.shape != samples.shape[:1] or samples.size == 0:
        raise ValueError(
            f"{name}: times must be [S] and samples [S, D], got {when.shape} and {samples.shape}"
        )
    if not np.isfinite(when).all() or (np.diff(when) < 0).any():
        raise ValueError(f"{name}: the times of samples must be finite and ascend")
    if np.isinf(samples).any():
        raise ValueError(f"{name} has infinite samples: use NaN for a missing one")
    return when, samples


def bin_inputs(inputs: Series, edges: Sequence[np.ndarray]) -> tuple[list[np.ndarray], list[str]]:
    """Known inputs in the bins of every trial.

    A bin has the mean of its samples. A bin without a sample has the value at its centre on the
    straight line between the samples before and after it.

    Arguments:
        inputs: series by name. One with several columns has the names ``name_0``, ``name_1``, ...
        edges: edges of the bins of each trial, ``[T_i + 1]``.

    Returns:
        The values ``[T_i, I]`` of each trial, and the ``I`` names.

    Raises:
        ValueError: for a bin before the first or after the last sample of a series.

    Warns:
        UserWarning: when bins lack samples although a series has more samples than bins.
    """
    found: list[list[np.ndarray]] = [[] for _ in edges]
    names: list[str] = []
    for name, given in inputs.items():
        if not isinstance(given, tuple | list) or len(given) != 2:
            raise ValueError(f"input {name!r} must be a pair, times and samples")
        time, samples = check_series(f"input {name!r}", *given)
        width = samples.shape[1]
        names += [name] if width == 1 else [f"{name}_{column}" for column in range(width)]
        filled, bins = 0, 0
        for trial, at in zip(found, edges):
            values = mean_in_bins(time, samples, at)
            filled += int(np.isnan(values).any(1).sum())
            bins += len(values)
            trial.append(_interpolated(name, time, samples, at, values))
        widths = np.diff(edges[0])
        if filled and np.median(np.diff(time)) < 0.5 * widths[0]:
            warnings.warn(
                f"input {name!r} has no sample in {filled} of {bins} bins: they are interpolated",
                stacklevel=5,
            )
    return [np.concatenate(trial, 1) for trial in found], names


def _interpolated(
    name: str, time: np.ndarray, samples: np.ndarray, edges: np.ndarray, values: np.ndarray
) -> np.ndarray:
    """Values ``[T, D]`` of a trial with those that are NaN filled in."""
    for column in np.flatnonzero(np.isnan(values).any(0)):
        known = np.isfinite(samples[:, column])
        at, missing = time[known], np.isnan(values[:, column])
        centres = 0.5 * (edges[:-1] + edges[1:])[missing]
        if not known.any() or centres[0] < at[0] or centres[-1] > at[-1]:
            first, last = (at[0], at[-1]) if known.any() else (np.nan, np.nan)
            raise ValueError(
                f"input {name!r} has samples from {first:g} to {last:g} s, and none for the bins "
                f"from {centres[0]:g} to {centres[-1]:g} s of a trial"
            )
        values[missing, column] = np.interp(centres, at, samples[known, column])
    return values


def check_inputs(
    inputs: Any, names: Sequence[Any] | None, lengths: Sequence[int]
) -> tuple[list[np.ndarray], list[str]]:
    """Inputs ``[T_i, I]`` of trials, float32, and their names, checked.

    Raises:
        ValueError: for another number of trials or bins, values that are no finite numbers, or
            names that do not match.
    """
    if inputs is None:
        if names:
            raise ValueError("input_names without inputs: give inputs, [T, I] a trial")
        return [], []
    try:
        found = [np.asarray(each, dtype=np.float32) for each in inputs]
    except (TypeError, ValueError) as error:
        raise ValueError("inputs must be arrays of numbers, [T, I] each") from error
    if len(found) != len(lengths):
        raise ValueError(f"inputs: {len(found)} trials, the recording has {len(lengths)}")
    for number, (each, length) in enumerate(zip(found, lengths)):
        if each.ndim != 2 or each.shape != (length, found[0].shape[1]) or each.shape[1] == 0:
            raise ValueError(
                f"inputs of trial {number} have shape {each.shape}: each must be [T, I], with the "
                f"{length} bins of the trial and the same inputs I"
            )
        if not np.isfinite(each).all():
            raise ValueError(
                f"inputs of trial {number} hold NaN or infinity: an input is known in every bin, "
                "so fill it in or leave the trial out"
            )
    width = found[0].shape[1]
    labels = [f"input_{i}" for i in range(width)] if names is None else [str(n) for n in names]
    if len(labels) != width or len(set(labels)) != width:
        raise ValueError(f"input_names: {labels} are not {width} different names")
    return found, labels
