"""The recurrent VAE, whose generative model includes the statistics of its past.

Generative model of one frame:

    p(x_t) = N(0, I)      p(u_{t-1} | x_t) = N(mu_u(x_t), sigma_u²)      p(y_t | x_t)

u_{t-1}, the statistics of the belief about x_{t-1}, summarises y_1 .. y_{t-1}. The state x_t
explains this summary as well as the frame, so the model learns to keep information about the past
without a gradient through time.

With inputs s_t the model is of the frames given the inputs, p(y_t, u_{t-1} | s_t):

    p(x_t) = N(0, I)      p(u_{t-1} | x_t, s_t) = N(mu_u(x_t, s_t), sigma_u²)      p(y_t | x_t, s_t)

The input s_t acts on the transition from u_{t-1} to x_t, and on the frame.

Source: Abdulsalam & Makin, "Learning recurrent models with temporally local rules" (2023), equation
1.
"""

from __future__ import annotations

from collections.abc import Sequence

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ...inference.checks import check_number
from ...inference.contracts import Fold
from ...inference.inputs import at
from ..parts.guides import FrameGuide
from ..parts.likelihoods import Likelihood, seen_part
from ..parts.nets import MLP
from .predictive import PredictiveVAE


class RVAE(PredictiveVAE):
    """p(x_t) p(u_{t-1} | x_t) p(y_t | x_t): trained by ``LocalELBO`` or ``BPTT``.

    Arguments:
        obs_dim: values a frame, ``M``.
        latent_dim: size of x, ``K``.
        likelihood: the distribution of y, of dimension ``obs_dim`` (see ``likelihoods``).
        hidden: width of the layers.
        emission_dim: number of latents, the first ones, that the frame depends on; None is all. The
            others depend on the frames through u alone, as velocities depend on positions.
        statistics: the statistics u_t of the default guide, ``"mean+spread"`` or ``"mean"``.
        guide: a recognition model (see ``guides``); None is a ``GaussianGuide``.
        decoder: a net from the first ``emission_dim`` latents to the natural parameters of y; None
            has two hidden layers.
        sees_missing: let the guide read, after the values of a frame, which of them were seen (1.0,
            otherwise 0.0), and zeros in place of the others. A guide of your own then reads
            ``2 M`` values. Otherwise it reads the frame that the model expects in their place.
        past_scale: sigma_u, the standard deviation of u_{t-1} given x_t: one number, or one for
            each statistic. It weighs the past against the present. It is not learned, since the
            model would then make u trivial and sigma_u small.
        past_hidden: width of the hidden layer of mu_u, which is added to a linear map; 0 has the
            map alone.
        past_decoder: a net from x to the mean of u_{t-1}, in place of that one.
        predictor_hidden: width of the two hidden layers of an amortised predictor r(x_t | u_{t-1});
            0 has no predictor. It learns from the beliefs by the same local rule, and no other part
            learns from it.
        predictor: a net from u to the mean and the raw spread of x, in place of that one.
        predict_frame: add a site ``foreseen_frame``, which compares y_t with the frame decoded at
            the mean of the predictor. Predictor and decoder learn from it.
        input_dim: inputs a frame, ``I`` (see ``Batch.inputs``). Guide, decoder, past decoder and
            predictor then read them after their other values, ``M + I`` (or ``2 M + I``),
            ``K + I``, ``K + I`` and ``U + I``.
        input_dropout: probability that a rule hides a value from the guide in training. A hidden
            value counts as missing for the guide, and the likelihood scores it. With
            ``sees_missing`` that is quick; without it the model must expect every frame.

    Raises:
        ValueError: when parts have sizes that do not match, or ``past_scale`` is not positive.

    Example:
        >>> net = RVAE(obs_dim=15, latent_dim=10, likelihood=likelihoods.Poisson(15))
    """

    directions = ("backwards", "forwards")

    def __init__(
        self,
        obs_dim: int,
        latent_dim: int,
        likelihood: Likelihood,
        hidden: int = 64,
        *,
        emission_dim: int | None = None,
        statistics: str = "mean+spread",
        guide: FrameGuide | None = None,
        decoder: nn.Module | None = None,
        sees_missing: bool = False,
        past_scale: float | Sequence[float] = 0.15,
        past_hidden: int = 64,
        past_decoder: nn.Module | None = None,
        predictor_hidden: int = 0,
        predictor: nn.Module | None = None,
        predict_frame: bool = False,
        input_dim: int = 0,
        input_dropout: float = 0.0,
    ) -> None:
        check_number("past_hidden", past_hidden, 0)
        check_number("predictor_hidden", predictor_hidden, 0)
        super().__init__(
            obs_dim,
            latent_dim,
            likelihood,
            hidden,
            emission_dim=emission_dim,
            statistics=statistics,
            guide=guide,
            decoder=decoder,
            sees_missing=sees_missing,
            input_dim=input_dim,
            input_dropout=input_dropout,
        )
        size = self.recognition.statistics_dim
        scale = torch.as_tensor(past_scale, dtype=torch.get_default_dtype())
        if (scale <= 0).any() or scale.numel() not in (1, size):
            raise ValueError(f"past_scale must be positive: one number or {size}, got {past_scale}")
        self.register_buffer("past_scale", scale)
        layers = [past_hidden, size] if past_hidden else [size]
        if past_decoder is None:
            past_decoder = _near_identity(latent_dim, input_dim, layers)
        self.past_decoder = past_decoder
        width = predictor_hidden
        self.predictor = predictor
        if predictor is None and width:
            self.predictor = _near_identity(size, input_dim, [width, width, 2 * latent_dim])
        if predict_frame and self.predictor is None:
            raise ValueError("predict_frame needs a predictor: give predictor or predictor_hidden")
        self.predict_frame = predict_frame

    @property
    def factorisation(self) -> str:
        """The factors of the model and of the guide."""
        now = ", s[t]" if self.input_dim else ""
        recalled = f"p(x[t]) p(u[t-1] | x[t]{now}) p(y[t] | x[t]{now})"
        return f"{recalled};  q(x[t] | u[t-1], y[t]{now})"

    def explain_past(self, x: Tensor, fold: Fold) -> None:
        """p(u_{t-1} | x_t), and r(x_t | u_{t-1}) with x_t observed.

        The first frame has neither.
        """
        past = dist.Normal(self._recalled(x, fold.inputs), self.past_scale, validate_args=False)
        known = self._known(fold.past)
        pyro.sample("u", past.to_event(1).mask(known), obs=fold.past)
        if self.predictor is not None:
            foreseen = self.amortised(fold.past.detach(), fold.inputs)
            pyro.sample("foreseen", foreseen.mask(known), obs=x.detach())
            if self.predict_frame:
                frame = seen_part(self.emit(foreseen.mean, fold.inputs), fold.observed)
                pyro.sample("foreseen_frame", frame.mask(known), obs=fold.obs)

    def backwards(
        self, sequences: int, steps: int, noise: bool = True, inputs: Tensor | None = None
    ) -> Tensor:
        """Samples as in the source, ``[N, T, M]``, earliest frame first; see ``sample``.

        x_T has the prior N(0, I). Each x_t gives y_t and u_{t-1}, and u_{t-1} gives the belief that
        x_{t-1} is sampled from. Where u holds the spread of that belief, u is its mean given x_t:
        sigma_u is not fitted, and its noise on top of that of the belief would take the film out of
        the data. Otherwise the noise of u is the only noise.
        """
        emit = self.likelihood.sample if noise else self.likelihood.mean
        x = torch.randn(sequences, self.latent_dim, dtype=self.dtype, device=self.device)
        frames = []
        for t in reversed(range(steps)):
            now = at(inputs, (slice(None), t))
            frames.append(emit(self.natural(x, now)))
            past = self._recalled(x, now)
            if not getattr(self.recognition, "complete", False):
                past = past + self.past_scale * torch.randn_like(past)
            x = self.recognition.posterior(past).sample()
        return torch.stack(frames[::-1], 1)


def _near_identity(state: int, inputs: int, others: list[int]) -> MLP:
    """A net that begins near the identity: the state before was the same as now.

    It reads a state and inputs, which begin with little weight.
    """
    net = MLP([state + inputs, *others], skip=len(others) > 1)
    line = net[0] if net.skip is None else net.skip
    assert isinstance(line, nn.Linear)
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(0.1)
        line.weight[:, :state] = torch.eye(len(line.weight), state)
    return net
