"""Prediction of the state x_t from the statistics u_{t-1} of a model that explains its past.

    p(x_t | u_{t-1}) ∝ p(x_t) p(u_{t-1} | x_t)      or an amortised predictor r(x_t | u_{t-1})

With inputs s_t, p(u_{t-1} | x_t, s_t) and r(x_t | u_{t-1}, s_t): the past of a state depends on the
input that led to it.

Source: Abdulsalam & Makin, "Learning recurrent models with temporally local rules" (2023).
"""

from __future__ import annotations

import functools

import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from ...inference.checks import check_number
from ...inference.laplace import explaining_posterior, resample
from ..parts.checks import call, check_shape
from ..parts.guides import MIN_SPREAD
from ..parts.missing import beside
from .recurrent_vae import RecurrentVAE

METHODS = ("best", "posterior", "predictor", "mean", "gibbs")  # of predicting x_t


class PredictiveVAE(RecurrentVAE):
    """A recurrent VAE with p(u_{t-1} | x_t) = N(mu_u(x_t), sigma_u²) in its generative model.

    Attributes:
        past_scale: sigma_u, one number or ``[U]``.
        past_decoder: mu_u, a net from x to the mean of u.
        predictor: a net from u to the mean and the raw spread of x, or None.
    """

    past_scale: Tensor
    past_decoder: nn.Module
    predictor: nn.Module | None

    def _recalled(self, x: Tensor, inputs: Tensor | None = None) -> Tensor:
        """The mean of u_{t-1} given x_t ``[..., K]`` and s_t ``[..., I]``, ``[..., U]``."""
        shape = *x.shape[:-1], self.recognition.statistics_dim
        mean = call(self.past_decoder, "past_decoder", beside(x, inputs, self.input_dim))
        return check_shape(mean, "past_decoder", "[..., statistics_dim]", shape)

    def amortised(self, past: Tensor, inputs: Tensor | None = None) -> dist.TorchDistribution:
        """r(x_t | u_{t-1}, s_t), a diagonal Gaussian, batch shape ``[N]``, event shape ``[K]``.

        Arguments:
            past: u_{t-1}, ``[N, U]``.
            inputs: s_t, ``[N, I]``; read where ``input_dim``.

        Raises:
            ValueError: for a network without a predictor.
        """
        if self.predictor is None:
            raise ValueError("this rVAE has no predictor: build it with predictor_hidden=256, say")
        mean, spread = self.predictor(beside(past, inputs, self.input_dim)).chunk(2, -1)
        spread = nn.functional.softplus(spread) + MIN_SPREAD
        return dist.Normal(mean, spread, validate_args=False).to_event(1)

    def predictive(self, past: Tensor, inputs: Tensor | None = None) -> MultivariateNormal:
        """p(x_t | u_{t-1}) ∝ p(x_t) p(u_{t-1} | x_t), exact where mu_u is linear.

        Otherwise it is the Laplace approximation.

        Arguments:
            past: u_{t-1}, ``[N, U]``.
            inputs: s_t, ``[N, I]``; read where ``input_dim``.

        Returns:
            Batch shape ``[N]``, event shape ``[K]``.
        """
        given = (inputs,) if self.input_dim and inputs is not None else ()
        return explaining_posterior(
            self._recalled, past, self.past_scale, self.latent_dim, given=given
        )

    @torch.no_grad()
    def predict_state(self, past: Tensor, inputs: Tensor | None = None) -> dist.TorchDistribution:
        """The marginals of p(x_t | u_{t-1}), of r where there is one; N(0, I) given a blank past.

        Arguments:
            past: u_{t-1}, ``[N, U]``.
            inputs: s_t, ``[N, I]``; read where ``input_dim``.

        Returns:
            A diagonal Gaussian, batch shape ``[N]``, event shape ``[K]``.
        """
        predict = self.predictive if self.predictor is None else self.amortised
        best = predict(past, inputs)
        known = self._known(past)[:, None]
        mean = torch.where(known, best.mean, 0.0)
        spread = torch.where(known, best.variance.sqrt(), 1.0)
        return dist.Normal(mean, spread, validate_args=False).to_event(1)

    @torch.no_grad()
    def sample_state(
        self,
        past: Tensor,
        num_samples: int,
        method: str = "best",
        num_particles: int = 0,
        steps: int = 25,
        *,
        inputs: Tensor | None = None,
    ) -> Tensor:
        """Samples of x_t from p(x_t | u_{t-1}), ``[S, N, K]``; from N(0, I) given a blank past.

        The width of the model's posterior follows from sigma_u, which is fixed. That of the
        amortised predictor is learned.

        Arguments:
            past: u_{t-1}, ``[N, U]``.
            num_samples: samples ``S``.
            method: ``"posterior"`` of the generative model; ``"predictor"`` r; the ``"mean"`` of r,
                without noise; ``"best"``, r where there is one, else the posterior; or ``"gibbs"``,
                the clamped chains of the source, which do not converge.
            num_particles: importance resampling of the posterior among this many samples of the
                Laplace approximation for each ``N``; 0 samples from the approximation, which is
                exact for a linear mu_u.
            steps: rounds of the clamped chains.
            inputs: s_t, ``[N, I]``; read where ``input_dim``.

        Raises:
            ValueError: for another ``method``, or a network without the predictor it needs.
        """
        check_number("num_samples", num_samples)
        check_number("num_particles", num_particles, 0)
        check_number("steps", steps, 0)
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
        if method == "best":
            method = "posterior" if self.predictor is None else "predictor"
        if method == "gibbs":
            many = past.repeat(num_samples, 1)
            now = None if inputs is None else inputs.repeat(num_samples, 1)
            obs, _ = self.gibbs(self.random_frames(len(many), now), many, steps, inputs=now)
            x = self.recognition(self.encode(obs, inputs=now), many).sample()
            x = x.unflatten(0, (num_samples, -1))
        elif method == "mean":
            x = self.amortised(past, inputs).mean.expand(num_samples, -1, -1)
        elif method == "predictor":
            x = self.amortised(past, inputs).sample((num_samples,))
        elif num_particles:
            proposal = self.predictive(past, inputs)
            target = functools.partial(self._log_joint, past=past, inputs=inputs)
            x, _ = resample(target, proposal, num_samples, num_particles)
        else:
            x = self.predictive(past, inputs).sample((num_samples,))
        return torch.where(self._known(past)[:, None], x, torch.randn_like(x))

    @torch.no_grad()
    def sample_next(
        self,
        past: Tensor,
        previous: Tensor,
        num_samples: int = 8,
        method: str = "best",
        num_particles: int = 0,
        steps: int = 25,
        *,
        inputs: Tensor | None = None,
    ) -> Tensor:
        """The next frame: E[y_t | x_t] for samples of p(x_t | u_{t-1}), ``[S, N, M]``.

        Arguments:
            past: u_{t-1}, ``[N, U]``.
            previous: y_{t-1}, ``[N, M]``; not used.
            num_samples: independent samples ``S``.
            method, num_particles, steps, inputs: see ``sample_state``.
        """
        x = self.sample_state(past, num_samples, method, num_particles, steps, inputs=inputs)
        return self.likelihood.mean(self.natural(x, inputs))

    def _known(self, past: Tensor) -> Tensor:
        """False where there is no past, ``[N]``."""
        return (past != self.initial(1)).any(-1)

    def _log_joint(self, x: Tensor, past: Tensor, inputs: Tensor | None = None) -> Tensor:
        """log p(x_t) p(u_{t-1} | x_t) up to a constant, ``[..., N, K] -> [..., N]``."""
        residual = (past - self._recalled(x, inputs)) / self.past_scale
        return -(x.square().sum(-1) + residual.square().sum(-1)) / 2
