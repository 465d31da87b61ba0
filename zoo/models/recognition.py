"""The recognition model of a recurrent VAE, whose memory are the statistics of its own belief.

    q(x_t | u_{t-1}, y_t) = N(nu(u_{t-1}, y_t), diag v²(u_{t-1}, y_t)),  u_t = (nu, v)

u_t, the statistics of the belief about x_t, summarises y_1 .. y_t. A model with inputs s_t has
them in all of its factors, q(x_t | u_{t-1}, y_t, s_t) included.

Source: Abdulsalam & Makin, "Learning recurrent models with temporally local rules" (2023), equation
2.
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor

from ...data import Batch
from ...inference import kernels
from ...inference.contracts import Fold, FrameModel
from ...inference.inputs import keyword
from ...inference.tape import nowhere
from ..parts.checks import call, check_distribution, check_dtype, check_shape
from ..parts.guides import FrameGuide
from ..parts.likelihoods import Likelihood
from ..parts.missing import beside, frames_read
from .generation import Generates


class Recognises(Generates, FrameModel):
    """The recursion u_t = f(y_t, u_{t-1}) of a guide, and its belief about x_t.

    Attributes:
        recognition: the guide (see ``guides``).
        likelihood: the distribution of y, which checks frames.
        latent_dim: size of x, ``K``.
        sees_missing: whether the guide reads which values were seen.
        input_dropout: probability that a value is hidden from the guide in training.
    """

    recognition: FrameGuide
    likelihood: Likelihood
    latent_dim: int
    sees_missing: bool
    input_dropout: float

    def check(self, obs: Tensor) -> None:
        """Raises a ValueError for ``obs`` outside the support, or of another dtype."""
        self.likelihood.check(obs)
        check_dtype(self, obs)

    def initial(self, rows: int) -> Tensor:
        """u before the first frame, ``[B, U]``."""
        shape = rows, self.recognition.statistics_dim
        first = self.recognition.initial(rows)
        return check_shape(first, "guide's initial", "[rows, statistics_dim]", shape)

    def encode(
        self, obs: Tensor, observed: Tensor | None = None, inputs: Tensor | None = None
    ) -> Tensor:
        """Features of each frame alone, ``[..., M] -> [..., F]``.

        Arguments:
            obs: frames, ``[..., M]``.
            observed: True where a value was seen, ``[..., M]``; None where all were. It is read
                where ``sees_missing``.
            inputs: s_t, ``[..., I]``; read where ``input_dim``.
        """
        role = "guide's encode"
        if self.sees_missing:
            role = "guide, which reads 2 M values where sees_missing,"
        frames = frames_read(self.likelihood, obs, observed, self.sees_missing)
        return call(self.recognition.encode, role, beside(frames, inputs, self.input_dim))

    def read(
        self, obs: Tensor, observed: Tensor, past: Tensor, inputs: Tensor | None = None
    ) -> Tensor:
        """Features of frames of which values are missing, ``[N, F]``; see ``Recurrent.read``.

        A guide that sees what is missing reads expected frames only where nothing was seen.
        """
        if not self.sees_missing:
            return super().read(obs, observed, past, inputs)
        obs, unseen = obs.masked_fill(~observed, 0.0), ~observed.any(-1, keepdim=True)
        if not nowhere(unseen):
            expected = self.expected_frame(past, **keyword(inputs))
            obs, observed = torch.where(unseen, expected, obs), observed | unseen
        return self.encode(obs, observed, inputs)

    def shown(self, batch: Batch) -> Tensor | None:
        """True where the guide is shown a value in training, ``[B, T, M]``; None where it is all.

        Values are drawn from torch's global random state, anew for each frame.
        """
        if not (self.training and self.input_dropout):
            return None
        shown = torch.rand_like(batch.obs) >= self.input_dropout
        return shown & batch.seen

    def step(self, features: Tensor, past: Tensor) -> Tensor:
        """u_t, ``[B, U]``."""
        new = self.recognition.step(features, past)
        return check_shape(new, "guide's step", "[rows, statistics_dim]", past.shape)

    def advance(self, features: Tensor, past: Tensor) -> Tensor:
        """``step`` for a past that is nowhere blank, ``[B, U]``."""
        return getattr(self.recognition, "advance", self.recognition.step)(features, past)

    def scan(self, features: Tensor, past: Tensor, passes: Tensor) -> Tensor | None:
        """The guide's scan, where it has one: see ``Recurrent.scan``."""
        scan = getattr(self.recognition, "scan", None)
        if scan is None or kernels.overrides(self, Recognises, "step", "advance"):
            return None
        found, (rows, steps) = scan(features, past, passes), passes.shape
        if found is None:
            return None
        shape = rows, steps + 1, past.shape[1]
        return check_shape(found, "guide's scan", "[rows, steps + 1, statistics_dim]", shape)

    def belief(self, fold: Fold) -> dist.TorchDistribution:
        """q(x_t | u_{t-1}, y_t), batch shape ``[N]``, event shape ``[K]``."""
        if fold.present is not None and getattr(self.recognition, "complete", False):
            return self.recognition.posterior(fold.present)
        features = fold.features
        shown = fold.observed if fold.shown is None else fold.shown
        if features is None and shown is not None:
            features = self.read(fold.obs, shown, fold.past, fold.inputs)
        elif features is None:
            features = self.encode(fold.obs, inputs=fold.inputs)
        belief = self.recognition(features, fold.past)
        return check_distribution(belief, "guide's distribution", (self.latent_dim,))
