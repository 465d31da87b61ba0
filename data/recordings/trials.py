"""``RecordedTrials``: a recording in a file and its split, as a data set that a card can name."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor

from ..batch import Batch, Index
from ..checks import check_number, check_real, check_seed
from ..dataset import Dataset
from ..files import DataError, check_file
from .files import read_recording
from .recording import Recording


class RecordedTrials(Dataset):
    """The training trials of a recording in a file; its other trials are held out.

    Arguments:
        path: the file, see ``read_recording``.
        bin, trials, inputs, units, variable: how it is read, see ``read_recording``.
        split: fractions of the trials for training, validation and test.
        split_seed: seed of the split.
        longest: most bins of a sequence in training: longer trials are cut into equal pieces.
        sha256: checksum of the file, which is then refused when it has changed; empty for none.
        seed: no choice depends on it.

    Attributes:
        parts: the recordings for training, validation and test, by name.
        sha256: the checksum of the file.

    Raises:
        DataError: when the file cannot be read, lacks what was asked for, or has changed.
        ValueError: for a split that leaves a part without a trial; see ``read_recording``.
    """

    def __init__(
        self,
        path: str,
        bin: float | None = None,
        trials: str | None = "trials",
        inputs: Sequence[str] = (),
        units: Mapping[str, Any] | None = None,
        variable: str | None = None,
        split: Sequence[float] = (0.7, 0.15, 0.15),
        split_seed: int = 0,
        longest: int | None = None,
        sha256: str = "",
        seed: int = 0,
    ) -> None:
        if bin is not None:
            check_real("bin", bin, above=0)
        if longest is not None:
            check_number("longest", longest)
        self.path, self.bin, self.trials, self.inputs = str(path), bin, trials, list(inputs)
        self.units, self.variable, self.seed = units, variable, check_seed(seed)
        self.split, self.split_seed = list(split), check_seed(split_seed, "split_seed")
        if len(self.split) != 3:
            raise ValueError(f"split must be three fractions, got {self.split}")
        self.sha256 = checksum(path, sha256)
        how = {"inputs": self.inputs, "units": units, "variable": variable}
        recording = read_recording(path, bin, trials, **how)
        found = recording.split(*self.split, seed=split_seed)
        self.parts: dict[str, Recording] = dict(zip(("train", "validation", "test"), found))
        self.unit, self.longest = recording.unit, longest
        train = self.parts["train"]
        self._train = train if longest is None else train.pieces(longest)

    def __len__(self) -> int:
        return len(self._train)

    @property
    def lengths(self) -> Tensor:
        """Bins of each training sequence, ``[N]``."""
        return self._train.lengths

    def rows(self, index: Index) -> Batch:
        """Some of the training sequences; see ``Recording.rows``."""
        return self._train.rows(index)

    def held_out(
        self, num_sequences: int, seed: int = 0, split: str = "test", steps: int | None = None
    ) -> Batch:
        """Trials for validation or test; see ``Dataset``."""
        return self.parts["train"].held_out(num_sequences, seed, split, steps)


def checksum(path: str | Path, wanted: str = "") -> str:
    """The SHA-256 of a file.

    Arguments:
        path: the file.
        wanted: what it was; empty for unknown.

    Raises:
        DataError: when it cannot be read, or has changed.
    """
    check_file(path)
    try:
        with open(path, "rb") as file:
            found = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read ({error.strerror}): check its name") from error
    if wanted and found != wanted:
        raise DataError(f"{path} has changed since the model was trained: give the file as it was")
    return found
