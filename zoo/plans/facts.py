"""What defaults depend on: sizes of a recording, and the kind of its values."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...data import BatchLike, Dataset, Recording, as_batch
from ...inference.diagnostics.values import are_counts

RESOLVED = 1e-5  # of a trace's mean: float32 holds 7 digits, and a spread below it has 2 or less
PIECE = 250  # bins of a sequence in training: longer trials are cut


class Facts(NamedTuple):
    """Facts of training data.

    Arguments:
        channels: values a bin, ``M``.
        trials: number of trials.
        frames: bins of all trials.
        inputs: known inputs a bin, ``I``.
        kind: ``"counts"``, whole numbers from 0 on; ``"binary"``, 0 and 1; or ``"traces"``.
        mean: mean of all values that were seen.
        location, scale: of traces, the mean and the standard deviation of each channel, ``[M]``. A
            channel that was never seen has the mean of the others. One that never changes has the
            median standard deviation of those that do.
    """

    channels: int
    trials: int
    frames: int
    inputs: int
    kind: str
    mean: float
    location: tuple[float, ...] = ()
    scale: tuple[float, ...] = ()

    @property
    def unit(self) -> str:
        """The unit of predictions: ``"bits/spike"`` of counts, otherwise ``"r2"``."""
        return "r2" if self.kind == "traces" else "bits/spike"

    @classmethod
    def of(cls, recording: Recording) -> Facts:
        """The facts of a recording.

        Raises:
            ValueError: where no channel changes, or float32 does not resolve how one changes.
        """
        bins = torch.cat(recording.trials).double()
        values = bins[bins.isfinite()]
        if values.min() == values.max():
            raise ValueError("all values are the same, so there is nothing to learn")
        kind = "counts" if values.max() > 1 else "binary"
        kind = kind if are_counts(values) else "traces"
        return cls(
            channels=len(recording.channels),
            trials=len(recording),
            frames=int(recording.lengths.sum()),
            inputs=len(recording.input_names),
            kind=kind,
            mean=float(values.mean()),
            **(_units(bins, recording) if kind == "traces" else {}),
        )


def _units(bins: Tensor, recording: Recording) -> dict[str, tuple[float, ...]]:
    """Location and scale of each channel of traces ``[T, M]``, NaN where missing."""
    seen = bins.isfinite()
    low, high = bins.nan_to_num(torch.inf).amin(0), bins.nan_to_num(-torch.inf).amax(0)
    location = torch.where(seen.any(0), bins.nanmean(0), bins.nanmean())
    scale = ((bins - location).square().nansum(0) / seen.sum(0).clamp_min(1)).sqrt()
    changes = high > low
    if not changes.any():
        raise ValueError("no channel changes, so there is nothing to learn")
    coarse = changes & (scale < RESOLVED * location.abs())
    if coarse.any():
        at = int(coarse.nonzero()[0])
        raise ValueError(
            f"channel {recording.channels[at]!r} changes by {scale[at]:.2g} around "
            f"{location[at]:.6g}, which float32 does not resolve: subtract its mean in float64, "
            "before you make the recording"
        )
    scale = torch.where(changes, scale, scale[changes].median())
    return {"location": tuple(location.tolist()), "scale": tuple(scale.tolist())}


def as_recording(data: Recording | Dataset | BatchLike, name: str) -> Recording:
    """Data as a recording: one that is given stays as it is.

    Arguments:
        data: a ``Recording``, a data set, a ``Batch``, or anything that ``data.as_batch`` takes.
        name: the name of the argument, for errors.

    Raises:
        ValueError: for data of other shapes than ``[B, T, M]``.
    """
    if isinstance(data, Recording):
        return data
    batch = data.batch() if isinstance(data, Dataset) else as_batch(data)
    if batch.obs.dim() != 3:
        raise ValueError(f"{name} must be sequences [B, T, M], got {tuple(batch.obs.shape)}")
    return Recording.from_batch(batch)


def in_pieces(recording: Recording, steps: int = PIECE) -> Recording:
    """The recording with longer trials cut into pieces, see ``Recording.pieces``."""
    return recording if int(recording.lengths.max()) <= steps else recording.pieces(steps)
