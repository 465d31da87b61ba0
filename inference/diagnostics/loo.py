"""What a model expects of a sequence, or of a frame, when it sees all others.

Sources: Vehtari, Gelman & Gabry, "Practical Bayesian model evaluation using leave-one-out
cross-validation and WAIC" (2017); Magnusson et al., "Bayesian leave-one-out cross-validation for
large data" (2019), on draws of an approximate posterior.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor

from ...data import Batch
from ..contracts import Fold, FrameModel, Recurrent
from ..draws import draw, frame_scores, main_site, prepare, spread_out
from ..evaluate import check_pair
from .psis import check_draws, in_parts, smooth_weights, weigh


class Loo(NamedTuple):
    """What a model expects of each unit when it sees all others.

    Arguments:
        elpd: log p(unit | others), nats; ``[B]``, or ``[B, T]`` with NaN in padding.
        khat: of the importance weights behind it, same shape.
    """

    elpd: Tensor
    khat: Tensor

    @property
    def total(self) -> float:
        """The sum over all units, nats."""
        return float(self.elpd.nansum())

    @property
    def error(self) -> float:
        """Standard error of the total, sqrt(n var): between units, not of the sampling.

        NaN of a single unit, which does not vary.
        """
        each = self.elpd[~self.elpd.isnan()]
        if len(each) < 2:
            return math.nan
        return float((len(each) * each.var(correction=0)).sqrt())


@torch.no_grad()
def loo(
    net, batch: Batch, draws: int = 1000, unit: str = "sequence", seed: int = 0, at_once: int = 50
) -> Loo:
    """Leave-one-out predictive densities of a model whose weights are fixed.

    * ``unit="sequence"``: given the weights, sequences are independent, so that
      log p(x_i | x_{-i}) = log p(x_i): the smoothed importance-weighted estimate. (ArviZ's ``loo``
      would make of log p(x_i | z) the harmonic mean of the likelihood, right for draws of the
      exact posterior alone, and then of infinite variance as a rule.) It says nothing of how the
      weights were learned: take held-out data.
    * ``unit="frame"``: log p(x_t | the other frames), where z explains all that frames share; of a
      model of single frames, log p(y_t | u_{t-1}), its one-step prediction. Draws are weighed by
      p(x, z) / (q(z | x) p(x_t | z)), so that the guide may be wrong, and may have seen x_t.

    Raises:
        ValueError: for frames that read the frames before them, of which none can be left out;
            where no frame has a law of its own; for sequences of a model of single frames; and as
            in ``weigh``.
    """
    if unit not in ("sequence", "frame"):
        raise ValueError(f"unit must be 'sequence' or 'frame', got {unit!r}")
    name = type(net).__name__
    if unit == "sequence":
        check_pair(net)
        if isinstance(net, FrameModel):
            raise ValueError(f"{name} is a model of single frames: leave them out by unit='frame'")
        found = weigh(net, batch, draws, "sequence", seed, at_once)
        return Loo(found.bound, found.khat)
    check_draws(draws, at_once)
    data = prepare(net, batch)
    if isinstance(net, Recurrent) and not isinstance(data, Fold):
        raise ValueError(
            f"each frame of this {name} reads the frames before it, so none can be left out: "
            "score predictions with elbo or frame_bound, or leave out sequences"
        )

    def score(number: int) -> Tensor:
        drawn = draw(net, data, number)
        frames = frame_scores(net, drawn, main_site(drawn, data), data, batch)
        if frames is None:
            raise ValueError(f"{name} has no law of single frames: leave out sequences")
        weights = drawn.log_p - drawn.log_q
        if not isinstance(data, Fold):
            weights = weights[..., None].expand_as(frames)[:, batch.mask]
            frames = frames[:, batch.mask]
        return torch.stack((weights - frames, frames), 1)

    weights, frames = torch.cat(in_parts(score, batch, draws, at_once, seed)).unbind(1)
    found = smooth_weights(weights)
    elpd = (found.weights + frames.double().cpu()).logsumexp(0)
    return Loo(*(spread_out(part, batch.mask.cpu()) for part in (elpd, found.khat)))
