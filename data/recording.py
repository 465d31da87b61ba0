"""Recordings of one's own: trials of binned spikes or of continuous traces."""

from __future__ import annotations

import warnings
from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from .batch import Batch, Index
from .checks import check_real, check_seed
from .dataset import Dataset, check_held_out
from .labelled import read_pandas, read_xarray, write_xarray
from .neuro import read_nwb, read_pynapple
from .rng import generator
from .spikes import (
    Numbers,
    bin_edges,
    check_intervals,
    count_spikes,
    covered,
    mean_in_bins,
    sorted_times,
)

if TYPE_CHECKING:
    import pandas
    import xarray


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

    Attributes:
        trials: the values of each trial, ``[T_i, M]``, float32 tensors with NaN where missing.

    Raises:
        ValueError: when there is no trial, trials differ in channels, values are no real numbers
            or infinite, a trial has no value that was seen, or names do not match in number.

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
    ) -> None:
        self.trials = _trials(trials)
        number, width = len(self.trials), self.trials[0].shape[1]
        self.bin, self.unit = float(check_real("bin", bin, above=0)), unit
        self.starts = np.zeros(number) if starts is None else np.asarray(starts, dtype=np.float64)
        self.channels = list(range(width) if channels is None else channels)
        self.names = list(range(number) if names is None else names)
        self.conditions = {name: list(values) for name, values in (conditions or {}).items()}
        for name, values, wanted, each in (
            ("starts", self.starts, number, "trial"),
            ("channels", self.channels, width, "channel"),
            ("names", self.names, number, "trial"),
            *(
                (f"condition {key!r}", found, number, "trial")
                for key, found in self.conditions.items()
            ),
        ):
            if len(values) != wanted:
                raise ValueError(f"{name}: {len(values)} values, one for each {each} are {wanted}")
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
        names: Sequence[Any] | None = None,
        conditions: Mapping[str, Sequence[Any]] | None = None,
        unit: str = "neuron",
    ) -> Recording:
        """Counts the spikes of each unit in bins of every trial.

        A trial has all the bins that fit whole into it. Spikes outside of trials are not counted.

        Arguments:
            times: spike times of each unit in seconds: a list, or a mapping from names of units.
            bin: width of a bin in seconds.
            trials: start and stop of each trial in seconds, ``[N, 2]``; one trial from the first to
                the last spike of all when left out.
            observed: for each unit the intervals ``[K, 2]`` in which it was recorded; its other
                bins are missing. None is all of the time.
            names, conditions, unit: see ``Recording``.

        Raises:
            ValueError: for units without a single spike among them, times that are no numbers, or
                trials without a whole bin.
        """
        labels = list(times) if isinstance(times, Mapping) else list(range(len(times)))
        given = times.values() if isinstance(times, Mapping) else times
        units = [sorted_times(f"unit {label}", unit) for label, unit in zip(labels, given)]
        if not any(len(unit) for unit in units):
            raise ValueError("no unit has a spike: see that times are of the right units")
        if trials is None:
            spikes = np.concatenate(units)
            trials = [[spikes.min(), max(spikes.max(), spikes.min() + bin)]]
        intervals = _trial_intervals(trials)
        recorded = {}  # intervals of the units that were not recorded all the time
        for column, label in enumerate(labels if observed is not None else ()):
            key = label if isinstance(observed, Mapping) else column
            if (when := _observed_of(observed or (), key)) is not None:
                recorded[column] = check_intervals(f"observed of unit {label}", when)
        found = []
        for start, stop in intervals:
            edges = bin_edges(start, stop, bin)
            counts = count_spikes(units, edges)
            for column, when in recorded.items():
                counts[~covered(when, edges), column] = np.nan
            found.append(counts)
        return cls(found, bin, intervals[:, 0], labels, names, conditions, unit)

    @classmethod
    def from_traces(
        cls,
        time: Numbers,
        values: Numbers,
        bin: float,
        trials: Numbers | None = None,
        *,
        channels: Sequence[Any] | None = None,
        names: Sequence[Any] | None = None,
        conditions: Mapping[str, Sequence[Any]] | None = None,
        unit: str = "channel",
    ) -> Recording:
        """Averages continuous traces in bins of every trial; a bin without a sample is missing.

        Arguments:
            time: time of each sample in seconds, ``[S]``, ascending.
            values: samples, ``[S, M]``; NaN is missing.
            bin: width of a bin in seconds.
            trials: start and stop of each trial in seconds, ``[N, 2]``; one trial of all samples
                when left out.
            channels, names, conditions, unit: see ``Recording``.

        Raises:
            ValueError: for times that do not ascend, shapes that do not match, or trials without a
                whole bin.
        """
        when, samples = np.asarray(time, dtype=np.float64), np.asarray(values, dtype=np.float64)
        if samples.ndim != 2 or when.shape != samples.shape[:1] or len(when) == 0:
            raise ValueError(
                f"time must be [S] and values [S, M], got {when.shape} and {samples.shape}"
            )
        if not np.isfinite(when).all() or (np.diff(when) < 0).any():
            raise ValueError("the times of samples must be finite and ascend")
        if trials is None:
            trials = [[when[0], max(when[-1], when[0] + bin)]]
        intervals = _trial_intervals(trials)
        found = [
            mean_in_bins(when, samples, bin_edges(each[0], each[1], bin)) for each in intervals
        ]
        return cls(found, bin, intervals[:, 0], channels, names, conditions, unit)

    @classmethod
    def from_nwb(cls, path: str | PathLike, bin: float, trials: str | None = "trials") -> Recording:
        """Spikes of the units in an NWB file, see ``data.neuro.read_nwb``.

        Arguments:
            path: the file.
            bin: width of a bin in seconds.
            trials: name of the table of time intervals that are trials; None takes the whole
                recording as one trial.

        Raises:
            DataError: when the file cannot be read, or has no units or no such table.
            ImportError: where pynwb is not installed.
        """
        return cls.from_spikes(bin=bin, **read_nwb(path, trials))

    @classmethod
    def from_pynapple(cls, units: Any, bin: float, trials: Any = None) -> Recording:
        """Spikes of a pynapple ``TsGroup``, or traces of a ``TsdFrame``.

        Arguments:
            units: the object.
            bin: width of a bin in seconds.
            trials: an ``IntervalSet``; the object's time support when left out.

        Raises:
            ValueError: for other objects.
        """
        found = read_pynapple(units, trials)
        build = cls.from_spikes if "times" in found else cls.from_traces
        return build(bin=bin, **found)

    @classmethod
    def from_xarray(cls, array: xarray.DataArray, unit: str = "neuron") -> Recording:
        """Trials of a labelled array, see ``data.labelled.read_xarray``.

        Arguments:
            array: axes ``trial`` (which may lack), ``time`` in seconds, and one of channels.
            unit: see ``Recording``.

        Raises:
            ValueError: for other axes, or a time axis whose steps differ.
        """
        return cls(**read_xarray(array), unit=unit)

    @classmethod
    def from_pandas(
        cls, frame: pandas.DataFrame, trial: str | None = None, unit: str = "neuron"
    ) -> Recording:
        """Trials of a table, see ``data.labelled.read_pandas``.

        Arguments:
            frame: a row for each bin, indexed by time in seconds, and a column for each channel.
            trial: name of the column, or of the level of the index, that says which trial a row
                belongs to; None where the table is one trial.
            unit: see ``Recording``.

        Raises:
            ValueError: for a table without such a column, or times whose steps differ.
        """
        return cls(**read_pandas(frame, trial), unit=unit)

    def to_xarray(self) -> xarray.DataArray:
        """All trials as a labelled array, NaN where a value is missing or a trial has ended."""
        batch = self.batch()
        seen = batch.mask[..., None] if batch.observed is None else batch.observed
        return write_xarray(
            batch.obs.masked_fill(~seen, float("nan")).numpy(),
            self.bin,
            self.starts,
            {self.unit: self.channels},
            self.names,
            self.conditions,
        )

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
        parts = [self.trials[i] for i in chosen.tolist()]
        obs = torch.nn.utils.rnn.pad_sequence(parts, batch_first=True)
        lengths = torch.tensor([len(part) for part in parts])
        mask = torch.arange(obs.shape[1])[None] < lengths[:, None]
        return Batch(obs, mask, observed=obs.isfinite())

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
        early = [trial[:first] for trial, first in zip(self.trials, at)]
        late = [trial[first:] for trial, first in zip(self.trials, at)]
        later = self.starts + self.bin * np.array(at)
        return self._like(early, self.starts), self._like(late, later)

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
        rows = range(len(self)) if trials is None else trials
        columns = list(range(len(self.channels)) if channels is None else channels)
        return type(self)(
            [self.trials[row][:, columns] for row in rows],
            self.bin,
            self.starts[list(rows)],
            [self.channels[column] for column in columns],
            [self.names[row] for row in rows],
            {name: [found[row] for row in rows] for name, found in self.conditions.items()},
            self.unit,
        )

    def _like(self, trials: list[Tensor], starts: np.ndarray) -> Recording:
        """Other values of the same trials and channels."""
        about = (self.channels, self.names, self.conditions, self.unit)
        return type(self)(trials, self.bin, starts, *about)


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


def _trial_intervals(trials: Numbers) -> np.ndarray:
    """Start and stop of trials, checked; warns where two overlap."""
    intervals = check_intervals("trials", trials)
    order = intervals[:, 0].argsort(kind="stable")
    overlap = np.flatnonzero(intervals[order[1:], 0] < intervals[order[:-1], 1] - 1e-9)
    if len(overlap):
        first, second = order[overlap[0]], order[overlap[0] + 1]
        warnings.warn(
            f"trials {first} and {second} overlap, and {len(overlap)} pairs in all: their spikes "
            "count in both, so that a split by trials shares data between its parts",
            stacklevel=3,
        )
    return intervals


def _observed_of(observed: Mapping[Any, Numbers] | Sequence[Numbers | None], key: Any) -> Any:
    """The intervals of one unit; None where it was recorded all the time."""
    return observed.get(key) if isinstance(observed, Mapping) else observed[key]
