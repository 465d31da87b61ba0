"""``Recording``: trials of binned spikes or of continuous traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch, Index
from ..checks import check_number, check_real, check_seed
from ..dataset import Dataset, check_held_out
from ..rng import generator
from .inputs import Series, bin_inputs, check_inputs, check_series
from .labelled import read_pandas, read_xarray, write_xarray
from .neuro import read_nwb, read_pynapple
from .npz import read_recording as stored_recording
from .npz import write_recording
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

if TYPE_CHECKING:
    import pandas
    import xarray


ARGUMENTS = ("trials", "bin", "starts", "channels", "names", "conditions", "unit", "inputs")
ARGUMENTS += ("input_names",)


class Recording(Dataset):
    """Trials ``[T_i, M]`` of many channels, with their coordinates.

    Values that are NaN are missing: no likelihood, score or gradient depends on them (see
    ``Batch.observed``). A channel that is silent is not missing.

    Arguments:
        trials: one array ``[T_i, M]`` a trial, or one array ``[N, T, M]``.
        bin: width of a bin in seconds.
        starts: time of the first bin's beginning of each trial in seconds, ``[N]``; zeros when left
            out.
        channels: a name for each channel; numbers when left out.
        names: a name for each trial; numbers when left out.
        conditions: further facts of trials, by name: one value a trial.
        unit: the name of a channel, for axes and reports.
        inputs: what is known in each bin beside the channels, such as a stimulus or behaviour: one
            array ``[T_i, I]`` a trial, finite; None where there is none.
        input_names: a name for each input; ``input_0``, ``input_1``, ... when left out.

    Attributes:
        trials: the values of each trial, ``[T_i, M]``, float32 tensors with NaN where missing.
        inputs: the inputs of each trial, ``[T_i, I]``, float32 tensors, or None.

    Raises:
        ValueError: when there is no trial, trials differ in channels, values are no real numbers
            or infinite, a trial has no value that was seen, an input is missing, or names do not
            match in number.

    Example:
        >>> counts = [np.random.poisson(0.2, (length, 40)) for length in (80, 120, 100)]
        >>> Recording(counts, bin=0.02).batch().obs.shape
        torch.Size([3, 120, 40])
    """

    def __init__(
        self,
        trials: Numbers,
        bin: float = 1.0,
        starts: Numbers | None = None,
        channels: Sequence[Any] | None = None,
        names: Sequence[Any] | None = None,
        conditions: Mapping[str, Sequence[Any]] | None = None,
        unit: str = "neuron",
        inputs: Numbers | None = None,
        input_names: Sequence[Any] | None = None,
    ) -> None:
        self.trials = _trials(trials)
        number, width = len(self.trials), self.trials[0].shape[1]
        self.bin, self.unit = float(check_real("bin", bin, above=0)), unit
        self.starts = np.zeros(number) if starts is None else np.asarray(starts, dtype=np.float64)
        self.channels = list(range(width) if channels is None else channels)
        self.names = list(range(number) if names is None else names)
        self.conditions = {name: list(values) for name, values in (conditions or {}).items()}
        _check_number("channels", self.channels, width, "channel")
        if self.starts.shape != (number,) or not np.isfinite(self.starts).all():
            raise ValueError(f"starts must be {number} finite numbers, one for each trial")
        _check_facts(self.names, self.conditions, number)
        found, self.input_names = check_inputs(inputs, input_names, self.lengths.tolist())
        self.inputs = [torch.from_numpy(each.copy()) for each in found] or None
        self._parts: dict[str, Recording] = {}

    # From spike times, files, and labelled arrays ------------------------------------------------

    @classmethod
    def from_spikes(
        cls,
        times: Mapping[Any, Numbers] | Sequence[Numbers],
        bin: float,
        trials: Numbers | None = None,
        *,
        observed: Mapping[Any, Numbers] | Sequence[Numbers | None] | None = None,
        inputs: Series | None = None,
        names: Sequence[Any] | None = None,
        conditions: Mapping[str, Sequence[Any]] | None = None,
        unit: str = "neuron",
    ) -> Recording:
        """Counts the spikes of each unit in bins of every trial.

        A trial has all the bins that fit whole into it. Spikes outside of trials are not counted.
        Trials without a whole bin, or in which no unit was recorded, are left out with a warning.

        Arguments:
            times: spike times of each unit in seconds: a list, or a mapping from names of units.
            bin: width of a bin in seconds.
            trials: start and stop of each trial in seconds, ``[N, 2]``; one trial from the first to
                the last spike of all when left out.
            observed: for each unit the intervals ``[K, 2]`` in which it was recorded; its other
                bins are missing. None is all of the time.
            inputs: stimulus or behaviour: by name its times ``[S]`` in seconds and its samples
                ``[S]`` or ``[S, D]``, such as ``{"hand": (time, position)}``. They are averaged in
                bins; a bin without a sample is interpolated from the samples around it.
            names, conditions, unit: see ``Recording``.

        Raises:
            ValueError: when no spike is in a trial, times are no numbers, no trial has a whole bin,
                or an input does not cover the trials.
        """
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
        return cls._of_bins(found, rows, edges, bin, labels, names, conditions, unit, inputs)

    @classmethod
    def from_traces(
        cls,
        time: Numbers,
        values: Numbers,
        bin: float,
        trials: Numbers | None = None,
        *,
        channels: Sequence[Any] | None = None,
        inputs: Series | None = None,
        names: Sequence[Any] | None = None,
        conditions: Mapping[str, Sequence[Any]] | None = None,
        unit: str = "channel",
    ) -> Recording:
        """Averages continuous traces in bins of every trial; a bin without a sample is missing.

        Trials without a whole bin or without a sample are left out with a warning.

        Arguments:
            time: time of each sample in seconds, ``[S]``, ascending.
            values: samples, ``[S, M]``; NaN is missing.
            bin: width of a bin in seconds.
            trials: start and stop of each trial in seconds, ``[N, 2]``; one trial of all samples
                when left out.
            inputs: see ``from_spikes``.
            channels, names, conditions, unit: see ``Recording``.

        Raises:
            ValueError: for times that do not ascend, shapes that do not match, trials without a
                whole bin or a sample, or an input that does not cover the trials.
        """
        when, samples = check_series("the traces", time, values)
        if trials is None:
            step = float(np.median(np.diff(when))) if len(when) > 1 else 0.0
            trials = [[when[0], max(when[-1] + step, when[0] + bin)]]
        names = _names_of(trials, names, conditions)
        rows, edges = trial_edges(trials, bin, samples.shape[1], names)
        found = [mean_in_bins(when, samples, each) for each in edges]
        return cls._of_bins(found, rows, edges, bin, channels, names, conditions, unit, inputs)

    @classmethod
    def _of_bins(
        cls,
        found: list[np.ndarray],
        rows: list[int],
        edges: list[np.ndarray],
        bin: float,
        channels: Sequence[Any] | None,
        names: Sequence[Any],
        conditions: Mapping[str, Sequence[Any]] | None,
        unit: str,
        inputs: Series | None,
    ) -> Recording:
        """A recording of the trials that have a bin and a value that was seen."""
        unseen = [row for row, values in zip(rows, found) if np.isnan(values).all()]
        if len(unseen) == len(rows):
            raise ValueError("nothing was recorded within a trial: are all times on one clock?")
        if unseen:
            listed = [names[row] for row in unseen]
            warn_of("in which nothing was recorded, and left out", listed)
        kept = [at for at, row in enumerate(rows) if row not in set(unseen)]
        rows, edges = [rows[at] for at in kept], [edges[at] for at in kept]
        known, input_names = bin_inputs(inputs, edges) if inputs else (None, None)
        return cls(
            [found[at] for at in kept],
            bin,
            np.array([each[0] for each in edges]),
            channels,
            [names[row] for row in rows],
            {name: [values[row] for row in rows] for name, values in (conditions or {}).items()},
            unit,
            known,
            input_names,
        )

    @classmethod
    def from_nwb(
        cls,
        path: str | PathLike,
        bin: float,
        trials: str | None = "trials",
        *,
        units: Mapping[str, Any] | None = None,
        inputs: Sequence[str] = (),
        unit_table: str = "units",
    ) -> Recording:
        """Spikes of the units in an NWB file, see ``data.recordings.neuro.read_nwb``.

        Arguments:
            path: the file.
            bin: width of a bin in seconds.
            trials: name of the table of time intervals that are trials; None takes the whole
                recording as one trial.
            units: which units, by columns of their table: ``{"quality": "good"}``, or a list of
                values that are wanted; all when left out.
            inputs: names of time series, as ``"hand"`` or ``"behavior/Position/hand"``: stimulus or
                behaviour, brought to bins as in ``from_spikes``.
            unit_table: name of the table of units.

        Raises:
            DataError: when the file cannot be read, or has no units or no such table.
            ImportError: where pynwb is not installed.
        """
        check_real("bin", bin, above=0)
        return cls.from_spikes(bin=bin, **read_nwb(path, trials, units, inputs, unit_table))

    @classmethod
    def from_pynapple(
        cls, units: Any, bin: float, trials: Any = None, *, inputs: Mapping[str, Any] | None = None
    ) -> Recording:
        """Spikes of a pynapple ``TsGroup``, or traces of a ``TsdFrame``.

        Arguments:
            units: the object.
            bin: width of a bin in seconds.
            trials: an ``IntervalSet``; the object's time support when left out.
            inputs: stimulus or behaviour by name, each a ``Tsd`` or a ``TsdFrame``, brought to bins
                as in ``from_spikes``.

        Raises:
            ValueError: for other objects.
        """
        found = read_pynapple(units, trials, inputs)
        build = cls.from_spikes if "times" in found else cls.from_traces
        return build(bin=bin, **found)

    @classmethod
    def from_xarray(cls, array: xarray.DataArray, unit: str = "neuron") -> Recording:
        """Trials of a labelled array, see ``data.recordings.labelled.read_xarray``.

        Arguments:
            array: axes ``trial`` (which may lack), ``time`` in seconds, and one of channels.
                Coordinates along ``time`` are inputs.
            unit: see ``Recording``.

        Raises:
            ValueError: for other axes, or a time axis whose steps differ.
        """
        return cls(**read_xarray(array), unit=unit)

    @classmethod
    def from_pandas(
        cls,
        frame: pandas.DataFrame,
        trial: str | None = None,
        unit: str = "neuron",
        inputs: Sequence[str] = (),
    ) -> Recording:
        """Trials of a table, see ``data.recordings.labelled.read_pandas``.

        Arguments:
            frame: a row for each bin, indexed by time in seconds, and a column for each channel.
            trial: name of the column, or of the level of the index, that says which trial a row
                belongs to; None where the table is one trial.
            unit: see ``Recording``.
            inputs: names of the columns that are inputs.

        Raises:
            ValueError: for a table without such a column, or times whose steps differ.
        """
        return cls(**read_pandas(frame, trial, inputs), unit=unit)

    def to_xarray(self) -> xarray.DataArray:
        """All trials as a labelled array, NaN where a value is missing or a trial has ended.

        Inputs are coordinates ``(trial, time)`` of their names, conditions coordinates ``trial``.

        Raises:
            ValueError: where an input or a condition has the name of an axis or of one another.
        """
        batch = self.batch()
        seen = batch.mask[..., None] if batch.observed is None else batch.observed
        return write_xarray(
            batch.obs.masked_fill(~seen, float("nan")).numpy(),
            self.bin,
            self.starts,
            {self.unit: self.channels},
            self.names,
            self.conditions,
            self.lengths.numpy(),
            dict(zip(self.input_names, _padded(self.inputs).unbind(-1))) if self.inputs else {},
        )

    def save(self, path: str | PathLike) -> None:
        """Writes all of the recording to an ``.npz`` file, whole or not at all.

        Parts that ``split`` held out are recordings of their own, and saved as such.

        Raises:
            ValueError: for another ending, or names that are neither words nor numbers.
            OSError: where the file cannot be written.
        """
        write_recording(path, {name: getattr(self, name) for name in ARGUMENTS})

    @classmethod
    def load(cls, path: str | PathLike) -> Recording:
        """The recording that ``save`` wrote.

        Raises:
            DataError: when the file cannot be read, or holds no such recording.
        """
        return cls(**stored_recording(path))

    # As a data set --------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self.trials)

    def __repr__(self) -> str:
        size = (
            f"{len(self)} trials, {len(self.channels)} {self.unit}s, {int(self.lengths.sum())} bins"
        )
        return f"{type(self).__name__}({size} of {self.bin:g} s)"

    @property
    def lengths(self) -> Tensor:
        """Bins of each trial, ``[N]``."""
        return torch.tensor([len(trial) for trial in self.trials])

    def rows(self, index: Index) -> Batch:
        """Some of the trials, padded to the longest of them.

        Raises:
            ValueError: when no trial is left.
        """
        chosen = torch.arange(len(self))[index]
        if chosen.dim() != 1 or len(chosen) == 0:
            raise ValueError("no trial is left: index a recording with a slice or a list of rows")
        obs = _padded([self.trials[i] for i in chosen.tolist()])
        mask = torch.arange(obs.shape[1])[None] < self.lengths[chosen, None]
        known = self.inputs
        inputs = None if known is None else _padded([known[i] for i in chosen.tolist()])
        return Batch(obs, mask, observed=obs.isfinite(), inputs=inputs)

    def held_out(
        self, num_sequences: int, seed: int = 0, split: str = "test", steps: int | None = None
    ) -> Batch:
        """Trials of another part of the same ``split``; see ``Dataset``."""
        check_held_out(num_sequences, seed, split, steps)
        if split not in self._parts:
            raise ValueError(f"no {split} trials were held out: see Recording.split")
        other = self._parts[split]
        order = torch.randperm(len(other), generator=generator(seed, "report"))
        batch = other.rows(order[:num_sequences].tolist())
        return batch if steps is None else batch.window(0, steps)

    def rates(self) -> Tensor:
        """Mean of each channel over the bins in which it was seen, ``[M]``; NaN without any."""
        return torch.cat(self.trials).nanmean(0)

    # Parts ----------------------------------------------------------------------------------------

    def split(
        self, train: float = 0.7, validation: float = 0.15, test: float = 0.15, seed: int = 0
    ) -> tuple[Recording, Recording, Recording]:
        """Splits the trials at random into three recordings, for training, validation and test.

        Arguments:
            train, validation, test: fractions of the trials; together at most 1.
            seed: seed of the choice.

        Raises:
            ValueError: for fractions out of range, or too few trials for one in each part.
        """
        fractions = {"train": train, "validation": validation, "test": test}
        for name, fraction in fractions.items():
            check_real(name, fraction, above=0, below=1)
        if sum(fractions.values()) > 1 + 1e-9:
            raise ValueError(f"the fractions sum to {sum(fractions.values()):g}: 1 is the most")
        order = torch.randperm(len(self), generator=generator(check_seed(seed), "split")).tolist()
        at = np.round(np.cumsum([0.0, *fractions.values()]) * len(self)).astype(int)
        parts = {name: sorted(order[at[i] : at[i + 1]]) for i, name in enumerate(fractions)}
        empty = [name for name, rows in parts.items() if not rows]
        if empty:
            raise ValueError(
                f"{len(self)} trials leave none for {empty[0]}: give more, see split_time"
            )
        found = {name: self.select(rows) for name, rows in parts.items()}
        for part in found.values():
            part._parts = found
        return found["train"], found["validation"], found["test"]

    def split_time(self, fraction: float) -> tuple[Recording, Recording]:
        """Splits every trial in time: the first bins of all, and the rest of all.

        Arguments:
            fraction: fraction of a trial's bins that come first.

        Raises:
            ValueError: for a fraction out of range, or a trial too short for a bin in each part.
        """
        check_real("fraction", fraction, above=0, below=1)
        at = [round(fraction * len(trial)) for trial in self.trials]
        for name, trial, first in zip(self.names, self.trials, at):
            if not 0 < first < len(trial):
                raise ValueError(f"trial {name} has {len(trial)} bins: too few for two parts")
        ends, known = [len(trial) for trial in self.trials], self.inputs
        early, late = (
            self._with(
                trials=[trial[i:j] for trial, i, j in zip(self.trials, start, stop)],
                inputs=known and [each[i:j] for each, i, j in zip(known, start, stop)],
                starts=self.starts + self.bin * np.array(start),
            )
            for start, stop in (([0] * len(ends), at), (at, ends))
        )
        return early, late

    def pieces(self, steps: int) -> Recording:
        """Trials of at most so many bins: longer ones are cut into pieces of equal lengths.

        A piece of which no value was seen is left out.

        Arguments:
            steps: most bins of a piece.

        Raises:
            ValueError: when ``steps`` is below 1.
        """
        check_number("steps", steps)
        rows, parts, known, starts = [], [], [], []
        for row, trial in enumerate(self.trials):
            number, at = -(-len(trial) // steps), 0
            inputs = self.inputs[row] if self.inputs else trial
            for part, beside in zip(trial.tensor_split(number), inputs.tensor_split(number)):
                if part.isfinite().any():
                    rows.append(row)
                    parts.append(part)
                    known.append(beside)
                    starts.append(self.starts[row] + self.bin * at)
                at += len(part)
        return self._with(
            trials=parts,
            starts=np.array(starts),
            names=[self.names[row] for row in rows],
            conditions={key: [each[row] for row in rows] for key, each in self.conditions.items()},
            inputs=known if self.inputs else None,
        )

    def split_channels(self, fraction: float = 0.75, seed: int = 0) -> tuple[Recording, Recording]:
        """Splits the channels at random: those held in, and those held out for co-smoothing.

        Arguments:
            fraction: fraction of the channels that are held in.
            seed: seed of the choice.

        Raises:
            ValueError: for a fraction out of range, or too few channels for one in each part.
        """
        check_real("fraction", fraction, above=0, below=1)
        width = len(self.channels)
        order = torch.randperm(width, generator=generator(check_seed(seed), "channels")).tolist()
        number = round(fraction * width)
        if not 0 < number < width:
            raise ValueError(f"{width} channels are too few to hold some in and some out")
        return (
            self.select(channels=sorted(order[:number])),
            self.select(channels=sorted(order[number:])),
        )

    def select(
        self, trials: Sequence[int] | None = None, channels: Sequence[int] | None = None
    ) -> Recording:
        """Some of the trials, some of the channels, by their numbers; all when left out."""
        rows = list(range(len(self)) if trials is None else trials)
        columns = list(range(len(self.channels)) if channels is None else channels)
        return self._with(
            trials=[self.trials[row][:, columns] for row in rows],
            starts=self.starts[rows],
            channels=[self.channels[column] for column in columns],
            names=[self.names[row] for row in rows],
            conditions={
                name: [each[row] for row in rows] for name, each in self.conditions.items()
            },
            inputs=self.inputs and [self.inputs[row] for row in rows],
        )

    def _with(self, **changed: Any) -> Recording:
        """The same recording with some arguments changed."""
        arguments: dict[str, Any] = {name: getattr(self, name) for name in ARGUMENTS} | changed
        arguments["input_names"] = self.input_names or None
        return type(self)(**arguments)


def _trials(given: Numbers) -> list[Tensor]:
    """Trials ``[T_i, M]``, float32, checked."""
    try:
        trials = [torch.tensor(np.asarray(trial, dtype=np.float32)) for trial in given]
    except (TypeError, ValueError) as error:
        raise ValueError("trials must be arrays of numbers, [T, M] each") from error
    if not trials:
        raise ValueError("a recording needs a trial or more")
    for number, trial in enumerate(trials):
        if trial.dim() != 2 or trial.numel() == 0 or trial.shape[1] != trials[0].shape[1]:
            raise ValueError(
                f"trial {number} has shape {tuple(trial.shape)}: each must be [T, M], of "
                "the same channels M"
            )
        if trial.isinf().any():
            raise ValueError(f"trial {number} holds infinity: use NaN for a missing value")
        if trial.isnan().all():
            raise ValueError(f"trial {number} has no value that was seen: leave it out")
    return trials


def _padded(parts: Sequence[Tensor]) -> Tensor:
    """Arrays ``[T_i, M]`` of trials as one, ``[N, T, M]``, zeros after the end of each."""
    return torch.nn.utils.rnn.pad_sequence(list(parts), batch_first=True)


def _check_number(name: str, values: Sequence[Any], wanted: int, each: str) -> None:
    if len(values) != wanted:
        raise ValueError(f"{name}: {len(values)} values, one for each {each} are {wanted}")


def _check_facts(
    names: Sequence[Any], conditions: Mapping[str, Sequence[Any]], number: int
) -> None:
    """Raises a ValueError unless each trial has a name and a value of every condition."""
    _check_number("names", names, number, "trial")
    for key, values in conditions.items():
        _check_number(f"condition {key!r}", values, number, "trial")


def _names_of(
    trials: Numbers, names: Sequence[Any] | None, conditions: Mapping[str, Sequence[Any]] | None
) -> Sequence[Any]:
    """The names of trials, numbers where there are none, checked with their conditions."""
    names = list(range(len(trials))) if names is None else names
    _check_facts(names, conditions or {}, len(trials))
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
    _check_number("observed", given, len(labels), "unit")
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
