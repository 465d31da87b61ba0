"""Spike times and traces in the bins of trials: what a ``Recording`` is made of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .checks import check_facts, check_number_of
from .inputs import Series, bin_inputs, check_series
from .spikes import (
    Numbers,
    check_intervals,
    count_spikes,
    covered,
    mean_in_bins,
    sorted_times,
    trial_edges,
    warn_of,
)


def bin_spikes(
    times: Mapping[Any, Numbers] | Sequence[Numbers],
    bin: float,
    trials: Numbers | None,
    observed: Mapping[Any, Numbers] | Sequence[Numbers | None] | None,
    inputs: Series | None,
    names: Sequence[Any] | None,
    conditions: Mapping[str, Sequence[Any]] | None,
) -> dict[str, Any]:
    """Arguments of a ``Recording`` of counts; see ``Recording.from_spikes``."""
    labels = list(times) if isinstance(times, Mapping) else list(range(len(times)))
    given = times.values() if isinstance(times, Mapping) else times
    units = [sorted_times(f"unit {label}", unit) for label, unit in zip(labels, given)]
    if not any(len(unit) for unit in units):
        raise ValueError("no unit has a spike: see that times are of the right units")
    if trials is None:
        spikes = np.concatenate(units)
        trials = [[spikes.min(), max(spikes.max(), spikes.min() + bin)]]
    names = _names_of(trials, names, conditions)
    rows, edges = trial_edges(trials, bin, len(units), names)
    recorded = _observed(labels, observed)
    found = []
    for each in edges:
        counts = count_spikes(units, each)
        for column, when in recorded.items():
            counts[~covered(when, each), column] = np.nan
        found.append(counts)
    _check_clock(units, edges, [names[row] for row in rows], found)
    return {
        "channels": labels,
        **_kept(found, rows, edges, names, conditions, inputs),
    }


def bin_traces(
    time: Numbers,
    values: Numbers,
    bin: float,
    trials: Numbers | None,
    inputs: Series | None,
    names: Sequence[Any] | None,
    conditions: Mapping[str, Sequence[Any]] | None,
) -> dict[str, Any]:
    """Arguments of a ``Recording`` of averages; see ``Recording.from_traces``."""
    when, samples = check_series("the traces", time, values)
    if trials is None:
        step = float(np.median(np.diff(when))) if len(when) > 1 else 0.0
        trials = [[when[0], max(when[-1] + step, when[0] + bin)]]
    names = _names_of(trials, names, conditions)
    rows, edges = trial_edges(trials, bin, samples.shape[1], names)
    found = [mean_in_bins(when, samples, each) for each in edges]
    return _kept(found, rows, edges, names, conditions, inputs)


def _kept(
    found: list[np.ndarray],
    rows: list[int],
    edges: list[np.ndarray],
    names: Sequence[Any],
    conditions: Mapping[str, Sequence[Any]] | None,
    inputs: Series | None,
) -> dict[str, Any]:
    """Arguments of a ``Recording`` of the trials that have a bin and a value that was seen.

    Arguments:
        found: values of each trial, ``[T_i, M]``.
        rows: the number of each of these trials among all.
        edges: edges of the bins of each, ``[T_i + 1]``.
        names, conditions: of all trials.
        inputs: series by name.
    """
    unseen = [row for row, values in zip(rows, found) if np.isnan(values).all()]
    if len(unseen) == len(rows):
        raise ValueError("nothing was recorded within a trial: are all times on one clock?")
    if unseen:
        listed = [names[row] for row in unseen]
        warn_of("in which nothing was recorded, and left out", listed)
    kept = [at for at, row in enumerate(rows) if row not in set(unseen)]
    rows, edges = [rows[at] for at in kept], [edges[at] for at in kept]
    known, input_names = bin_inputs(inputs, edges) if inputs else (None, None)
    return {
        "trials": [found[at] for at in kept],
        "starts": np.array([each[0] for each in edges]),
        "names": [names[row] for row in rows],
        "conditions": {
            name: [values[row] for row in rows] for name, values in (conditions or {}).items()
        },
        "inputs": known,
        "input_names": input_names,
    }


def _names_of(
    trials: Numbers, names: Sequence[Any] | None, conditions: Mapping[str, Sequence[Any]] | None
) -> Sequence[Any]:
    """The names of trials, numbers where there are none, checked with their conditions."""
    names = list(range(len(trials))) if names is None else names
    check_facts(names, conditions or {}, len(trials))
    return names


def _observed(
    labels: Sequence[Any], given: Mapping[Any, Numbers] | Sequence[Numbers | None] | None
) -> dict[int, np.ndarray]:
    """Intervals of the units that were not recorded all of the time, by their columns."""
    if given is None:
        return {}
    if isinstance(given, Mapping):
        strange = [label for label in given if label not in labels]
        if strange:
            raise ValueError(f"observed: there is no unit {strange[0]!r}")
        given = [given.get(label) for label in labels]
    check_number_of("observed", given, len(labels), "unit")
    return {
        column: check_intervals(f"observed of unit {labels[column]}", when)
        for column, when in enumerate(given)
        if when is not None
    }


def _check_clock(
    units: Sequence[np.ndarray],
    edges: Sequence[np.ndarray],
    names: Sequence[Any],
    counts: Sequence[np.ndarray],
) -> None:
    """Refuses spikes that are in no trial; warns of trials before the first or after the last."""
    first, last = min(u[0] for u in units if len(u)), max(u[-1] for u in units if len(u))
    if not any(np.nansum(each) for each in counts):
        start, stop = min(each[0] for each in edges), max(each[-1] for each in edges)
        raise ValueError(
            f"no spike is in a trial: spikes are from {first:g} to {last:g} s, trials from "
            f"{start:g} to {stop:g} s; see that both are seconds of one clock"
        )
    outside = [name for name, each in zip(names, edges) if each[-1] < first or each[0] > last]
    if outside:
        warn_of("before the first or after the last spike of all, counted as silent", outside)
