"""The recurrent VAE, which explains its own past.

Generative model of one frame, paper equation (1):

    p(x_t) = N(0, I)      p(u_{t-1} | x_t) = N(mu_u(x_t), sigma_u²)      p(y_t | x_t)

u_{t-1}, the statistics of the belief about x_{t-1}, is a summary of y_1 .. y_{t-1}. The rVAE asks
x_t to explain the summary it came from as well as the frame, so that what the frames to come will
need is worth keeping; that takes the place of the gradient through time.

Source: Abdulsalam & Makin, "Learning recurrent models with temporally local rules" (2023).
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor, nn
from torch.distributions import MultivariateNormal

from ...inference.contracts import Fold
from ...inference.laplace import explaining_posterior, resample
from ..parts.checks import call, check_shape
from ..parts.guides import MIN_SPREAD
from ..parts.likelihoods import ExponentialFamily
from ..parts.nets import MLP
from .recurrent_vae import RecurrentVAE

WAYS = ("best", "posterior", "predictor", "mean", "gibbs")  # to foresee x_t


class RVAE(RecurrentVAE):
    """p(x_t) p(u_{t-1} | x_t) p(y_t | x_t): trained by ``LocalELBO`` or ``BPTT``.

    Arguments:
        past_scale: sigma_u, the spread of u_{t-1} given x_t: one number, or one for each
            statistic. It is fixed: learned, it lets the model make u trivial and then shrinks.
            It sets how much the past weighs against the present.
        past_hidden: width of the hidden layer of mu_u, added to a linear map; 0 leaves the map.
        past_decoder: a net from x to the mean of u_{t-1}, in place of the one above.
        predictor_hidden: width of the two hidden layers of an amortised predictor r(x_t | u_{t-1});
            0 has none. It learns by the same local rule, from beliefs that the rest of the network
            holds in any case, and nothing else learns from it.
        predictor: a net from u to the mean and the raw spread of x, in place of the one above.
        predict_frame: the frame that is decoded at the predictor's mean is compared with y_t, as a
            site ``foreseen_frame`` of its own: predictor and decoder learn from it.
        others: see ``RecurrentVAE``.

    Example:
        >>> net = RVAE(obs_dim=15, latent_dim=10, likelihood=likelihoods.Poisson(15))
    """

    directions = ("backwards", "forwards")
    factorisation = "p(x[t]) p(u[t-1] | x[t]) p(y[t] | x[t]);  q(x[t] | u[t-1], y[t])"

    def __init__(
        self,
        obs_dim: int,
        latent_dim: int,
        likelihood: ExponentialFamily,
        hidden: int = 64,
        *,
        past_scale: float | list[float] = 0.15,
        past_hidden: int = 64,
        past_decoder: nn.Module | None = None,
        predictor_hidden: int = 0,
        predictor: nn.Module | None = None,
        predict_frame: bool = False,
        **parts,
    ):
        super().__init__(obs_dim, latent_dim, likelihood, hidden, **parts)
        size = self.recognition.statistics_dim
        scale = torch.as_tensor(past_scale, dtype=torch.get_default_dtype())
        if (scale <= 0).any() or scale.numel() not in (1, size):
            raise ValueError(f"past_scale must be positive: one number or {size}, got {past_scale}")
        self.register_buffer("past_scale", scale)
        layers = [latent_dim, past_hidden, size] if past_hidden else [latent_dim, size]
        self.past_decoder = _near_identity(layers) if past_decoder is None else past_decoder
        width = predictor_hidden
        layers = [size, width, width, 2 * latent_dim]
        self.predictor = predictor
        if predictor is None and width:
            self.predictor = _near_identity(layers)
        if predict_frame and self.predictor is None:
            raise ValueError("predict_frame needs a predictor: give predictor or predictor_hidden")
        self.predict_frame = predict_frame

    def explain_past(self, x: Tensor, fold: Fold) -> None:
        """p(u_{t-1} | x_t), and what r(x_t | u_{t-1}) makes of x_t, taken as given.

        Before the first frame there is nothing to explain, and nothing to predict from.
        """
        past = dist.Normal(self._recalled(x), self.past_scale, validate_args=False)
        known = self._known(fold.past)
        pyro.sample("u", past.to_event(1).mask(known), obs=fold.past)
        if self.predictor is not None:
            foreseen = self.amortised(fold.past.detach())
            pyro.sample("foreseen", foreseen.mask(known), obs=x.detach())
            if self.predict_frame:
                frame = self.emit(foreseen.mean).mask(known)
                pyro.sample("foreseen_frame", frame, obs=fold.obs)

    def _recalled(self, x: Tensor) -> Tensor:
        """The mean of u_{t-1} given x_t, ``[..., K] -> [..., U]``."""
        shape = *x.shape[:-1], self.recognition.statistics_dim
        mean = call(self.past_decoder, "past_decoder", x)
        return check_shape(mean, "past_decoder", "[..., statistics_dim]", shape)

    def amortised(self, past: Tensor) -> dist.TorchDistribution:
        """r(x_t | u_{t-1}), a diagonal Gaussian, batch shape ``[N]``, event shape ``[K]``."""
        mean, spread = self.predictor(past).chunk(2, -1)
        spread = nn.functional.softplus(spread) + MIN_SPREAD
        return dist.Normal(mean, spread, validate_args=False).to_event(1)

    def predictive(self, past: Tensor) -> MultivariateNormal:
        """p(x_t | u_{t-1}) ∝ p(x_t) p(u_{t-1} | x_t): exact where mu_u is linear, else Laplace's.

        Arguments:
            past: u_{t-1}, ``[N, U]``.

        Returns:
            Batch shape ``[N]``, event shape ``[K]``.
        """
        return explaining_posterior(self._recalled, past, self.past_scale, self.latent_dim)

    @torch.no_grad()
    def foresee(
        self, past: Tensor, draws: int, by: str = "best", particles: int = 0, steps: int = 25
    ) -> Tensor:
        """States drawn from p(x_t | u_{t-1}), ``[D, N, K]``; from N(0, I) where the past is blank.

        The posterior of the generative model is as wide as sigma_u, which is set and not fitted,
        makes it. The amortised predictor learns how wide it really is.

        Arguments:
            past: u_{t-1}, ``[N, U]``.
            draws: draws ``D``.
            by: ``"posterior"`` of the generative model; ``"predictor"`` r; ``"mean"`` that of r,
                without a draw; ``"best"``, r where there is one; or ``"gibbs"``, the paper's
                clamped chains, which do not converge.
            particles: of the posterior: draws from the Laplace approximation for each ``N``, among
                which importance weights choose; 0 takes the approximation itself, which is exact
                for a linear mu_u.
            steps: of the clamped chains.

        Raises:
            ValueError: for another ``by``, or a network without a predictor.
        """
        if by not in WAYS:
            raise ValueError(f"by must be one of {', '.join(WAYS)}, got {by!r}")
        if by in ("predictor", "mean") and self.predictor is None:
            raise ValueError("this rVAE has no predictor: build it with predictor_hidden=256, say")
        if by == "gibbs":
            many = past.repeat(draws, 1)
            obs, _ = self.gibbs(self.random_frames(len(many)), many, steps)
            drawn = self.recognition(self.encode(obs), many).sample().unflatten(0, (draws, -1))
        elif by == "mean":
            drawn = self.amortised(past).mean.expand(draws, -1, -1)
        elif by != "posterior" and self.predictor is not None:
            drawn = self.amortised(past).sample((draws,))
        elif particles:
            posterior = self.predictive(past)
            drawn, _ = resample(lambda x: self._log_joint(x, past), posterior, draws, particles)
        else:
            drawn = self.predictive(past).sample((draws,))
        return torch.where(self._known(past)[:, None], drawn, torch.randn_like(drawn))

    def _known(self, past: Tensor) -> Tensor:
        """False where there is no past, ``[N]``."""
        return (past != self.initial(1)).any(-1)

    def _log_joint(self, x: Tensor, past: Tensor) -> Tensor:
        """log p(x_t) p(u_{t-1} | x_t) up to a constant, ``[..., N, K] -> [..., N]``."""
        residual = (past - self._recalled(x)) / self.past_scale
        return -(x.square().sum(-1) + residual.square().sum(-1)) / 2

    def backwards(self, sequences: int, steps: int, noise: bool = True) -> Tensor:
        """Generates as the paper does, ``[N, T, M]``, earliest frame first; see ``sample``.

        x_T comes from the prior; each x_t gives y_t and u_{t-1}, and u_{t-1} stands for the belief
        about x_{t-1} that the next draw is from. Where u tells the spread of that belief, u is
        taken at its mean given x_t: sigma_u is set, not fitted, and its noise on top of the
        belief's own makes the film drift out of the data. Otherwise it is the only noise there is.
        """
        emit = self.likelihood.sample if noise else self.likelihood.mean
        x = torch.randn(sequences, self.latent_dim, device=self.device)
        frames = []
        for _ in range(steps):
            frames.append(emit(self.natural(x)))
            past = self._recalled(x)
            if not getattr(self.recognition, "complete", False):
                past = past + self.past_scale * torch.randn_like(past)
            x = self.recognition.posterior(past).sample()
        return torch.stack(frames[::-1], 1)


def _near_identity(layers: list[int]) -> MLP:
    """A map from x to the mean of u_{t-1} that begins as: the state was what it is now."""
    net = MLP(layers, skip=len(layers) > 2)
    line = net[0] if net.skip is None else net.skip
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(0.1)
        line.weight.copy_(torch.eye(*line.weight.shape))
    return net
