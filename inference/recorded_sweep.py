"""Sweeps that are recorded: a few steps at a time, once for each shape."""

from __future__ import annotations

from collections.abc import Hashable
from typing import cast

import torch
from torch import Tensor

from ..data import Batch
from .capture import Captured
from .contracts import Recurrent
from .inputs import inputs_of, keyword
from .sweep import FEW, Swept, run_steps
from .tape import Results

PIECE = 128  # steps of a CUDA graph: a longer one takes longer to record, and is no faster


class RecordedSweep:
    """``sweep`` of sequences without padding and gaps, in pieces of the time axis.

    On a CPU it runs windows of ``FEW`` frames, whose operations take less time than Python between
    them. On a GPU each piece is a replay of one CUDA graph. The numbers are those of ``sweep``; on
    a GPU to rounding, for a piece encodes fewer frames at once.

    Arguments:
        net: the network that sweeps.
        owner, captured: see ``Captured``.
    """

    def __init__(self, net: Recurrent, owner: object, captured: bool | None) -> None:
        self.net = net
        self.steps = Captured(self._steps, net, owner, captured)

    def refresh(self, net: Recurrent) -> None:
        """See ``Captured.refresh``; another network may sweep from now on."""
        self.net = self.steps.net = net
        self.steps.refresh()

    def __call__(self, batch: Batch, past: Tensor) -> Swept | None:
        """See ``sweep``; None where it is left to ``sweep``."""
        frames, device = batch.obs.shape[1], batch.obs.device.type
        pieces = self.steps.records(device) and (device != "cpu" or frames <= FEW)
        if not pieces or batch.observed is not None or not batch.whole:
            return None
        inputs = inputs_of(self.net, batch)
        found: list[Swept] = []
        for start in range(0, frames, PIECE):
            some = slice(start, start + PIECE)
            last = found[-1].statistics[:, -1].contiguous() if found else past
            new = self.steps(batch.obs[:, some], last, None if inputs is None else inputs[:, some])
            found.append(Swept(*cast("tuple[Tensor, Tensor]", new)))
        if len(found) == 1:
            return found[0]
        later = [piece.statistics[:, 1:] for piece in found]
        whole = torch.cat((past[:, None], *later), 1)
        return Swept(whole, torch.cat([piece.features for piece in found], 1))

    @torch.no_grad()
    def _steps(self, key: Hashable, obs: Tensor, past: Tensor, inputs: Tensor | None) -> Results:
        """The past and the statistics after each frame, and the features of the frames."""
        features = self.net.encode(obs, **keyword(inputs))
        passes = torch.ones(obs.shape[:2], dtype=torch.bool, device=obs.device)
        return run_steps(self.net, features, past, passes, always=True), features
