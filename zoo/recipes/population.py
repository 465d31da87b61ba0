"""Linear systems of the population code: a readout, and the Kalman filter that knows it all."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ...data import Batch, ppc
from ..models.lgds import LGDS
from ..parts.readouts import Readout
from ..registry import register

GRID = 16 * ppc.NEURONS  # places, a third of the width of what a loud population says


class PopulationReadout(Readout):
    """Position from spike counts, with variance = tuning variance / total spikes, step by step.

    The decoded position is unwrapped along time from the past alone, so that the filter sees a
    straight line and not a torus. Padded and silent frames, which decode to nothing, are passed
    over. Where counts of some neurons are missing, the centre of mass would move away from these
    neurons: position and variance are then the moments of p(position | the other counts).
    """

    takes_missing = True

    def __init__(self) -> None:
        super().__init__(dim=1)

    def measure(self, batch: Batch) -> tuple[Tensor, Tensor]:
        obs = batch.obs
        decoded, variance = ppc.decode(obs).double(), ppc.observation_variance(obs).double()
        if batch.observed is not None:
            some = batch.observed_frames & ~batch.observed.all(-1)
            decoded[some], variance[some] = self._moments(obs[some], batch.observed[some])
        seen = batch.mask & (obs.sum(-1) > 0)
        index = torch.arange(obs.shape[1], device=obs.device).expand_as(seen)
        last = torch.where(seen, index, -1).cummax(1).values
        first = seen.int().argmax(1, keepdim=True)
        decoded = decoded.gather(1, torch.where(last < 0, first, last))
        turns = ((decoded[:, 1:] - decoded[:, :-1]) / ppc.PERIOD).round().cumsum(1)
        decoded[:, 1:] -= ppc.PERIOD * turns
        return decoded[..., None], variance.masked_fill(~seen, math.inf)[..., None]

    def _moments(self, obs: Tensor, observed: Tensor) -> tuple[Tensor, Tensor]:
        """Mean and variance of the position given some counts, ``[N, 15]``, on a grid; ``[N]``."""
        places = torch.arange(GRID, dtype=torch.float64, device=obs.device) * (ppc.PERIOD / GRID)
        rates = self.expect(places[:, None])
        score = obs.double() @ rates.log().mT - observed.double() @ rates.mT
        peak = places[score.argmax(-1)]
        away, weight = ppc.wrap(places - peak[:, None]), score.softmax(-1)
        mean = (weight * away).sum(-1)
        variance = (weight * (away - mean[:, None]).square()).sum(-1)
        return ppc.wrap(peak + mean), variance

    def expect(self, value: Tensor) -> Tensor:
        return sum(ppc.GAIN) / 2 * ppc.tuning(value[..., 0])

    def sample(self, value: Tensor) -> Tensor:
        return torch.poisson(self.expect(value))

    def check(self, obs: Tensor) -> None:
        ppc.decode(obs)


class SpringFilter(LGDS):
    """The Kalman filter with the true parameters of ``data.PPC``: the limit of the task."""

    def __init__(self) -> None:
        super().__init__(state_dim=2, readout=PopulationReadout())
        self.dynamics.copy_(ppc.DYNAMICS)
        self.process.copy_(ppc.PROCESS_COVARIANCE)
        start = torch.tensor([ppc.START_LIMIT**2 / 3, ppc.START_VELOCITY_VARIANCE])
        self.initial_covariance.copy_(torch.diag(start))


register(PopulationReadout, SpringFilter)
