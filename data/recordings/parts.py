"""Parts of a recording: some of its trials, bins or channels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from ..checks import check_number, check_real, check_seed
from ..dataset import Dataset
from ..rng import generator

ARGUMENTS = ("trials", "bin", "starts", "channels", "names", "conditions", "unit", "inputs")
ARGUMENTS += ("input_names",)


class Divisible(Dataset):
    """Trials that can be split and selected; a ``Recording``, whose attributes these are."""

    trials: list[Tensor]
    bin: float
    starts: np.ndarray
    channels: list[Any]
    names: list[Any]
    conditions: Mapping[str, list[Any]]
    inputs: list[Tensor] | None
    input_names: list[str]
    _parts: dict[str, Self]

    def split(
        self, train: float = 0.7, validation: float = 0.15, test: float = 0.15, seed: int = 0
    ) -> tuple[Self, Self, Self]:
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
            told = ", ".join(f"{name} {fraction:g}" for name, fraction in fractions.items())
            raise ValueError(f"the fractions sum to {sum(fractions.values()):g}, above 1: {told}")
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

    def split_time(self, fraction: float) -> tuple[Self, Self]:
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

    def pieces(self, steps: int) -> Self:
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

    def split_channels(self, fraction: float = 0.75, seed: int = 0) -> tuple[Self, Self]:
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
    ) -> Self:
        """Some of the trials, some of the channels, by position; all when left out.

        Raises:
            ValueError: for a position that is not there.
        """
        rows = _positions("trials", trials, len(self))
        columns = _positions("channels", channels, len(self.channels))
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

    def _with(self, **changed: Any) -> Self:
        """The same recording with some arguments changed."""
        arguments: dict[str, Any] = {name: getattr(self, name) for name in ARGUMENTS} | changed
        arguments["input_names"] = self.input_names or None
        return type(self)(**arguments)


def _positions(what: str, wanted: Sequence[int] | None, number: int) -> list[int]:
    """Positions in a list of trials or channels, checked; a name or a mask is none."""
    if isinstance(wanted, Tensor):
        wanted = wanted.tolist()
    found = list(range(number) if wanted is None else wanted)
    for each in found:
        whole = isinstance(each, (int, np.integer)) and not isinstance(each, bool)
        if not whole or not -number <= each < number:
            told = f"{what} are chosen by position, 0 to {number - 1}, got {each!r}"
            raise ValueError(f"{told}; names.index() or channels.index() finds one")
    return found
