"""Predictions that need no model: what a model must beat to be worth its training."""

from __future__ import annotations

import torch
from torch import Tensor

from ...data import Batch, Recording
from ...inference.diagnostics.score import score_values

TIMES = 1, 2, 4, 8, 16, 32, 64  # time constants in bins that are tried
GAINS = 0.2, 0.4, 0.6, 0.8, 1.0  # weights of the moving average, beside that of the mean


class OwnPast:
    """Each channel's mean, plus a part of the exponential moving average of its own past.

    Time constant and weight are those that predict the training data best.

    Arguments:
        train: training data.
        unit: of the score, ``"bits/spike"`` or ``"r2"``.
    """

    def __init__(self, train: Recording, unit: str) -> None:
        batch = train.batch()
        self.means = train.rates().nan_to_num().to(batch.obs)
        scores = {}
        for time in TIMES:
            departure = self._departures(batch, time)
            for gain in GAINS:
                scores[time, gain] = score_values(self.means + gain * departure, batch, unit)
        self.time, self.gain = max(scores, key=lambda key: scores[key])

    def predict(self, batch: Batch) -> Tensor:
        """The expected values of every bin given the bins before it, ``[B, T, M]``."""
        return self.means.to(batch.obs) + self.gain * self._departures(batch, self.time)

    def _departures(self, batch: Batch, time: int) -> Tensor:
        """The average of past departures from the mean, ``[B, T, M]``; zero of missing values."""
        means, keep = self.means.to(batch.obs), 1 - 1 / (time + 1)
        news = (batch.obs - means) * batch.seen
        state, found = torch.zeros_like(news[:, 0]), []
        for now in news.unbind(1):
            found.append(state)
            state = keep * state + (1 - keep) * now
        return torch.stack(found, 1)
