"""Frames taken out of time, as the Pyro pairs of frame models take them."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from ...data import Batch


class Fold(NamedTuple):
    """Real frames taken out of time: ``N`` independent members of a plate.

    Arguments:
        obs: y_t, ``[N, M]``.
        past: u_{t-1}, the statistics of the state before, ``[N, U]``.
        features: ``net.encode(obs)``, ``[N, F]``, and
        present: u_t, ``[N, U]``: both where the sweep kept its graph, so that a guide need not
            compute them again (``BPTT``); otherwise None.
        observed: True where a value of ``obs`` was seen, ``[N, M]``; None where all were. Missing
            values of ``obs`` are zero, and no frame lacks all of its values.
        inputs: s_t, the inputs of each frame, ``[N, I]``; None where the batch has none.
        shown: True where the recognition model is shown a value, ``[N, M]``; the likelihood is of
            all that were observed. None shows all of these.
    """

    obs: Tensor
    past: Tensor
    features: Tensor | None = None
    present: Tensor | None = None
    observed: Tensor | None = None
    inputs: Tensor | None = None
    shown: Tensor | None = None

    @classmethod
    def of(
        cls,
        batch: Batch,
        past: Tensor,
        features: Tensor | None = None,
        present: Tensor | None = None,
        shown: Tensor | None = None,
    ) -> Fold:
        """The frames of a batch of which something was seen.

        Arguments:
            batch: the sequences.
            past: u_{t-1}, ``[B, T, U]``.
            features, present, shown: ``[B, T, F]``, ``[B, T, U]`` and ``[B, T, M]``, see above.
        """
        host, observed = batch.host, batch.observed
        seen = host.observed_frames.flatten()
        if host.observed is not None and host.observed.flatten(0, 1)[seen].all():
            observed = None  # of frames that were seen whole or not at all
        frames = cls(batch.obs, past, features, present, observed, batch.inputs, shown)
        frames = frames.each(lambda part: part.flatten(0, 1))
        return frames if seen.all() else frames.select(seen.nonzero()[:, 0].to(past.device))

    @property
    def rows(self) -> int:
        """``N`` (``len`` of a named tuple counts its fields)."""
        return len(self.obs)

    def select(self, index: slice | Tensor) -> Fold:
        """Some of the frames."""
        return self.each(lambda part: part[index])

    def each(self, change: Callable[[Tensor], Tensor]) -> Fold:
        """All that the fold holds, each changed alike."""
        others = (None if part is None else change(part) for part in self[2:])
        return Fold(change(self.obs), change(self.past), *others)
