"""Predictions that need no model: what a model must beat to be worth its training."""

from __future__ import annotations

import torch
from torch import Tensor

from ...data import Batch, Recording
from ...inference import bits_per_spike

TIMES = 1, 2, 4, 8, 16, 32, 64  # time constants in bins that are tried
GAINS = 0.2, 0.4, 0.6, 0.8, 1.0  # weights of the moving average, beside that of the mean


class OwnPast:
    """Each channel's mean, plus a part of the exponential moving average of its own past.

    Time constant and weight are those that predict the training data best.

    Arguments:
        train: training data.
        counts: score by bits per spike; otherwise by the squared error.
    """

    def __init__(self, train: Recording, counts: bool) -> None:
        batch = train.batch()
        self.means = train.rates().nan_to_num().to(batch.obs)
        losses = {}
        for time in TIMES:
            departure = self._departures(batch, time)
            for gain in GAINS:
                losses[time, gain] = _loss(self.means + gain * departure, batch, counts)
        self.time, self.gain = min(losses, key=lambda key: losses[key])

    def predict(self, batch: Batch) -> Tensor:
        """The expected values of every bin given the bins before it, ``[B, T, M]``."""
        return self.means.to(batch.obs) + self.gain * self._departures(batch, self.time)

    def _departures(self, batch: Batch, time: int) -> Tensor:
        """The average of past departures from the mean, ``[B, T, M]``; zero of missing values."""
        means, keep = self.means.to(batch.obs), 1 - 1 / (time + 1)
        seen = batch.mask[..., None] if batch.observed is None else batch.observed
        news = (batch.obs - means) * seen
        state, found = torch.zeros_like(news[:, 0]), []
        for now in news.unbind(1):
            found.append(state)
            state = keep * state + (1 - keep) * now
        return torch.stack(found, 1)


def _loss(rates: Tensor, batch: Batch, counts: bool) -> float:
    if counts:
        return -bits_per_spike(rates.clamp_min(1e-6), batch)
    seen = batch.mask[..., None] if batch.observed is None else batch.observed
    return float((((rates - batch.obs) * seen) ** 2).sum())
