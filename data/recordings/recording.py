"""``Recording``: trials of binned spikes or of continuous traces."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from ..batch import Batch, Index
from ..checks import check_real
from ..dataset import check_held_out
from ..rng import generator
from .binning import bin_spikes, bin_traces
from .checks import check_facts, check_number_of
from .inputs import Series, check_inputs
from .labelled import read_pandas, read_xarray, write_xarray
from .neuro import read_nwb, read_pynapple
from .npz import read_npz, write_npz
from .parts import ARGUMENTS, Divisible
from .spikes import Numbers

if TYPE_CHECKING:
    import pandas
    import xarray


class Recording(Divisible):
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
        check_number_of("channels", self.channels, width, "channel")
        if self.starts.shape != (number,) or not np.isfinite(self.starts).all():
            raise ValueError(f"starts must be {number} finite numbers, one for each trial")
        check_facts(self.names, self.conditions, number)
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
        about = bin_spikes(times, bin, trials, observed, inputs, names, conditions)
        return cls(bin=bin, unit=unit, **about)

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
        about = bin_traces(time, values, bin, trials, inputs, names, conditions)
        return cls(bin=bin, channels=channels, unit=unit, **about)

    @classmethod
    def from_batch(cls, batch: Batch, unit: str = "neuron") -> Recording:
        """The sequences of a batch as trials, each up to its last frame; bins have width 1.

        Arguments:
            batch: sequences ``[B, T, M]``; values that were not seen become NaN.
            unit: see ``Recording``.

        Raises:
            ValueError: for frames that are no vectors.
        """
        if batch.obs.dim() != 3:
            raise ValueError(f"sequences must be [B, T, M], got {tuple(batch.obs.shape)}")
        values = batch.obs.masked_fill(~batch.seen, float("nan"))
        steps = torch.arange(1, batch.mask.shape[1] + 1, device=batch.mask.device)
        ends = (batch.mask * steps).amax(1).tolist()

        def cut(parts: Tensor) -> list[np.ndarray]:
            return [part[:end].numpy() for part, end in zip(parts.detach().cpu(), ends)]

        inputs = None if batch.inputs is None else cut(batch.inputs)
        return cls(cut(values), unit=unit, inputs=inputs)

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
        return write_xarray(
            batch.obs.masked_fill(~batch.seen, float("nan")).numpy(),
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
        write_npz(path, {name: getattr(self, name) for name in ARGUMENTS})

    @classmethod
    def load(cls, path: str | PathLike) -> Recording:
        """The recording that ``save`` wrote.

        Raises:
            DataError: when the file cannot be read, or holds no such recording.
        """
        return cls(**read_npz(path))

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
        index = index.cpu() if isinstance(index, Tensor) else index
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
