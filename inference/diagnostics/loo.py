"""Leave-one-out predictive densities of sequences, or of frames.

Sources: Vehtari, Gelman & Gabry, "Practical Bayesian model evaluation using leave-one-out
cross-validation and WAIC" (2017); Magnusson et al., "Bayesian leave-one-out cross-validation for
large data" (2019), on samples of an approximate posterior.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ...data import BatchLike
from ..contracts import Fold, FrameModel, Recurrent, SequenceModel
from ..evaluate import check_pair
from ..placing import batch_for
from ..samples import frame_scores, main_site, prepare_plate, sample_sites, spread_out
from .psis import check_enough, importance_weights, in_portions, smooth_weights


class Loo(NamedTuple):
    """The log predictive density of each unit given all others.

    Arguments:
        elpd: log p(unit | others), nats; ``[B]``, or ``[B, T]`` with NaN in padding and where
            nothing was seen.
        khat: k-hat of the importance weights, same shape.
    """

    elpd: Tensor
    khat: Tensor

    @property
    def total(self) -> float:
        """The sum over all units, nats."""
        return float(self.elpd.nansum())

    @property
    def error(self) -> float:
        """Standard error of the total, sqrt(n var), from the variance between units.

        It leaves out the error of the sampling, and is NaN for a single unit.
        """
        each = self.elpd[~self.elpd.isnan()]
        if len(each) < 2:
            return math.nan
        return float((len(each) * each.var(correction=0)).sqrt())


@torch.no_grad()
def loo(
    net: SequenceModel | FrameModel,
    batch: BatchLike,
    num_samples: int = 1000,
    unit: str = "sequence",
    seed: int = 0,
    at_once: int = 50,
) -> Loo:
    """Leave-one-out predictive densities of a model whose weights are fixed.

    * ``unit="sequence"``: given the weights, sequences are independent, so that
      log p(x_i | x_{-i}) = log p(x_i), the smoothed importance-weighted estimate. (ArviZ's ``loo``
      would take the harmonic mean of the likelihoods p(x_i | z). That is right for samples of the
      exact posterior only, and usually has infinite variance.) The result does not show how the
      weights were learned: use held-out data.
    * ``unit="frame"``: log p(x_t | the other frames), where z explains everything that frames
      share; for a model of single frames log p(y_t | u_{t-1}), its one-step prediction. Samples are
      weighed by p(x, z) / (q(z | x) p(x_t | z)), so the guide may be wrong, and may depend on x_t.

    Arguments:
        net, batch, num_samples, seed, at_once: see ``importance_weights``.
        unit: ``"sequence"`` or ``"frame"``.

    Raises:
        ValueError: where frames depend on the frames before them, so that none can be left out;
            where frames have no distribution of their own; for sequences of a model of single
            frames; and as in ``importance_weights``.
    """
    if unit not in ("sequence", "frame"):
        raise ValueError(f"unit must be 'sequence' or 'frame', got {unit!r}")
    name = type(net).__name__
    if unit == "sequence":
        check_pair(net)
        if isinstance(net, FrameModel):
            raise ValueError(f"{name} is a model of single frames: take unit='frame'")
        found = importance_weights(net, batch, num_samples, "sequence", seed, at_once)
        return Loo(found.bound, found.khat)
    check_enough(num_samples, at_once, seed)
    batch = batch_for(net, batch)
    data, seen = prepare_plate(net, batch), batch.observed_frames
    if isinstance(net, Recurrent) and not isinstance(data, Fold):
        raise ValueError(
            f"each frame of this {name} depends on the frames before it, so none can be left out: "
            "score predictions with elbo or frame_bound, or leave out sequences"
        )

    def score(number: int) -> Tensor:
        samples = sample_sites(net, data, number)
        frames = frame_scores(net, samples, main_site(samples, data), data, batch)
        if frames is None:
            raise ValueError(f"{name} has no distribution of single frames: take unit='sequence'")
        weights = samples.log_p - samples.log_q
        if not isinstance(data, Fold):
            weights = weights[..., None].expand_as(frames)[:, seen]
            frames = frames[:, seen]
        return torch.stack((weights - frames, frames), 1)

    weights, frames = torch.cat(in_portions(score, batch, num_samples, at_once, seed)).unbind(1)
    found = smooth_weights(weights)
    elpd = (found.weights + frames.double().cpu()).logsumexp(0)
    return Loo(*(spread_out(part, seen.cpu()) for part in (elpd, found.khat)))
