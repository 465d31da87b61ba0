"""The recurrent VAE, which explains its own past, and the temporal VAE, which does not.

Generative model of one frame, paper equation (1), and recognition model, equation (2):

    p(x_t) = N(0, I)      p(u_{t-1} | x_t) = N(mu_u(x_t), sigma_u²)      p(y_t | x_t)
    q(x_t | u_{t-1}, y_t) = N(nu(u_{t-1}, y_t), diag v²(u_{t-1}, y_t)),  u_t = (nu, v)

u_t, the statistics of the belief about x_t, is a summary of y_1 .. y_t. The rVAE asks x_t to
explain the summary it came from as well as the frame, so that what the frames to come will need
is worth keeping; that takes the place of the gradient through time.

Source: Abdulsalam & Makin, "Learning recurrent models with temporally local rules" (2023).
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from ..inference.local import Fold
from ..inference.predict import Filtered, run_filter
from ..inference.streams import RandomStream
from .guides import GaussianGuide
from .likelihoods import ExponentialFamily
from .nets import MLP


class RecurrentVAE(PyroModule):
    """What the two models share: recognition, emission, and the verbs.

    Arguments:
        obs_dim: values a frame, ``M``.
        latent_dim: size of x, ``K``.
        likelihood: the family of y, of dimension ``obs_dim``.
        hidden: width of the layers.
        seen: latents that the frame depends on, the first ones; all when left out. The others
            are tied to the frames through u alone, as a velocity is when positions are seen.
        statistics: what the default guide's u_t is made of, ``"mean+spread"`` or ``"mean"``.
        guide: a recognition model (see ``guides``) in place of the ``GaussianGuide``.
        decoder: a net from the seen latents to the natural parameters of y, in place of the one
            with two hidden layers.

    Raises:
        ValueError: when the parts do not fit one another.
    """

    factorisation = ""

    def __init__(
        self,
        obs_dim: int,
        latent_dim: int,
        likelihood: ExponentialFamily,
        hidden: int = 64,
        seen: int | None = None,
        statistics: str = "mean+spread",
        guide: nn.Module | None = None,
        decoder: nn.Module | None = None,
    ):
        super().__init__()
        if likelihood.dim != obs_dim:
            raise ValueError(f"likelihood has {likelihood.dim} units, obs_dim is {obs_dim}")
        if guide is not None and getattr(guide, "latent_dim", latent_dim) != latent_dim:
            raise ValueError(f"the guide has {guide.latent_dim} latents, the model {latent_dim}")
        self.obs_dim, self.latent_dim, self.likelihood = obs_dim, latent_dim, likelihood
        self.seen = seen or latent_dim
        default = GaussianGuide(obs_dim, latent_dim, hidden, statistics, seen)
        self.recognition = default if guide is None else guide
        layers = [self.seen, hidden, hidden, obs_dim]
        self.decoder = MLP(layers) if decoder is None else decoder

    def extra_repr(self) -> str:
        return self.factorisation

    # The recursion, delegated to the recognition model ---------------------------------------

    def check(self, obs: Tensor) -> None:
        """Raises a ValueError where ``obs`` is outside the support of the likelihood."""
        self.likelihood.check(obs)

    def initial(self, rows: int) -> Tensor:
        """u before the first frame, ``[B, U]``."""
        return self.recognition.initial(rows)

    def encode(self, obs: Tensor) -> Tensor:
        """What each frame says alone, ``[..., M] -> [..., F]``."""
        return self.recognition.encode(obs)

    def step(self, features: Tensor, past: Tensor) -> Tensor:
        """u_t, ``[B, U]``."""
        return self.recognition.step(features, past)

    def advance(self, features: Tensor, past: Tensor) -> Tensor:
        """``step`` where no past is blank, ``[B, U]``."""
        return getattr(self.recognition, "advance", self.recognition.step)(features, past)

    # The Pyro pair, over N frames taken out of time ------------------------------------------

    def prior(self, fold: Fold) -> dist.TorchDistribution:
        """p(x_t), batch shape ``[N]``, event shape ``[K]``."""
        zeros = fold.past.new_zeros(fold.rows, self.latent_dim)
        return dist.Normal(zeros, 1.0, validate_args=False).to_event(1)

    def model(self, fold: Fold) -> None:
        """The generative model, the frames and their past observed."""
        with pyro.plate("frames", fold.rows):
            x = pyro.sample("x", self.prior(fold))
            self.explain_past(x, fold)
            pyro.sample("y", self.emit(x), obs=fold.obs)

    def guide(self, fold: Fold) -> None:
        """The recognition model."""
        with pyro.plate("frames", fold.rows):
            pyro.sample("x", self.belief(fold))

    def belief(self, fold: Fold) -> dist.TorchDistribution:
        """q(x_t | u_{t-1}, y_t), batch shape ``[N]``, event shape ``[K]``."""
        if fold.present is not None and getattr(self.recognition, "complete", False):
            return self.recognition.posterior(fold.present)
        features = self.encode(fold.obs) if fold.features is None else fold.features
        return self.recognition(features, fold.past)

    def emit(self, x: Tensor) -> dist.TorchDistribution:
        """p(y_t | x_t), batch shape ``[...]``, event shape ``[M]``."""
        return self.likelihood.distribution(self.decoder(x[..., : self.seen]))

    def explain_past(self, x: Tensor, fold: Fold) -> None:
        """The part of the generative model that is about u_{t-1}: none."""

    # Verbs ------------------------------------------------------------------------------------

    @torch.no_grad()
    def filter(self, obs: Tensor, mask: Tensor | None = None) -> Filtered:
        """Mean and variance of x_t given the past and the present, ``[B, T, K]``."""
        after = run_filter(self, obs, mask)
        before = torch.cat((self.initial(len(obs))[:, None], after[:, :-1]), 1)
        clean = obs if mask is None else torch.where(mask[..., None], obs, 0.0)
        belief = self.recognition(self.encode(clean).flatten(0, 1), before.flatten(0, 1))
        moments = belief.mean, belief.variance
        return Filtered(*(part.unflatten(0, obs.shape[:2]) for part in moments))

    @torch.no_grad()
    def reconstruct(self, obs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mean of y_t at the posterior mean of x_t, ``[B, T, M]``: the paper's 'updated' data."""
        return self.emit(self.filter(obs, mask).mean).mean


class RVAE(RecurrentVAE):
    """p(x_t) p(u_{t-1} | x_t) p(y_t | x_t): trained by ``LocalELBO`` or ``BPTT``.

    Arguments:
        past_scale: sigma_u, the spread of u_{t-1} given x_t: one number, or one for each
            statistic. It is fixed: learned, it lets the model make u trivial and then shrinks.
            It sets how much the past weighs against the present.
        past_hidden: width of the hidden layer of mu_u, added to a linear map; 0 leaves the map.
        past_decoder: a net from x to the mean of u_{t-1}, in place of the one above.
        others: see ``RecurrentVAE``.

    Example:
        >>> net = RVAE(obs_dim=15, latent_dim=10, likelihood=likelihoods.Poisson(15))
    """

    factorisation = "p(x[t]) p(u[t-1] | x[t]) p(y[t] | x[t]);  q(x[t] | u[t-1], y[t])"

    def __init__(
        self,
        obs_dim: int,
        latent_dim: int,
        likelihood: ExponentialFamily,
        hidden: int = 64,
        past_scale: float | list[float] = 0.15,
        past_hidden: int = 64,
        past_decoder: nn.Module | None = None,
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

    def explain_past(self, x: Tensor, fold: Fold) -> None:
        """p(u_{t-1} | x_t); before the first frame there is nothing to explain."""
        past = dist.Normal(self.past_decoder(x), self.past_scale, validate_args=False)
        known = (fold.past != self.initial(1)).any(-1)
        pyro.sample("u", past.to_event(1).mask(known), obs=fold.past)

    @torch.no_grad()
    def sample(self, sequences: int, steps: int, seed: int = 0) -> Tensor:
        """Generates backwards in time, as the paper does, ``[N, T, M]``, earliest frame first.

        x_T comes from the prior; each x_t gives y_t and u_{t-1}, and u_{t-1} stands for the belief
        about x_{t-1} that the next draw is from. Where u tells the spread of that belief, u is
        taken at its mean given x_t: sigma_u is set, not fitted, and its noise on top of the
        belief's own makes the film drift out of the data. Otherwise it is the only noise there is.
        """
        with RandomStream(self.past_scale.device, "sample", seed):
            x = torch.randn(sequences, self.latent_dim, device=self.past_scale.device)
            frames = []
            for _ in range(steps):
                frames.append(self.emit(x).sample())
                past = self.past_decoder(x)
                if not getattr(self.recognition, "complete", False):
                    past = past + self.past_scale * torch.randn_like(past)
                x = self.recognition.posterior(past).sample()
        return torch.stack(frames[::-1], 1)


class TVAE(RecurrentVAE):
    """The same without the distribution over u: u_{t-1} is a given, and is not explained.

    The paper defines it by analogy with the TRBM, in which u_{t-1} sets the prior of x_t through a
    dynamic bias; here p(x_t | u_{t-1}) is a diagonal Gaussian whose moments are a net's.

    Arguments:
        transition: False takes u_{t-1} out of the generative model altogether, p(x_t) = N(0, I).
            The free energy of a frame is then least at q(x_t | y_t): the past is of no use, and
            the model cannot do better than decode each frame alone.
        others: see ``RecurrentVAE``.
    """

    def __init__(
        self,
        obs_dim: int,
        latent_dim: int,
        likelihood: ExponentialFamily,
        hidden: int = 64,
        transition: bool = True,
        **parts,
    ):
        super().__init__(obs_dim, latent_dim, likelihood, hidden, **parts)
        size = self.recognition.statistics_dim
        self.transition = MLP([size, hidden, 2 * latent_dim], skip=True) if transition else None

    @property
    def factorisation(self) -> str:
        prior = "p(x[t])" if self.transition is None else "p(x[t] | u[t-1])"
        return f"{prior} p(y[t] | x[t]);  q(x[t] | u[t-1], y[t])"

    def prior(self, fold: Fold) -> dist.TorchDistribution:
        if self.transition is None:
            return super().prior(fold)
        return self._predict(fold.past)

    def _predict(self, past: Tensor) -> dist.TorchDistribution:
        mean, spread = self.transition(past).chunk(2, -1)
        spread = nn.functional.softplus(spread) + 1e-3
        return dist.Normal(mean, spread, validate_args=False).to_event(1)

    @torch.no_grad()
    def sample(self, sequences: int, steps: int, seed: int = 0) -> Tensor:
        """Generates forwards in time, ``[N, T, M]``; without a transition, frames are unrelated."""
        past = self.initial(sequences)
        with RandomStream(past.device, "sample", seed):
            frames = []
            for _ in range(steps):
                x = self.prior(Fold(past, past)).sample()
                obs = self.emit(x).sample()
                past = self.step(self.encode(obs), past)
                frames.append(obs)
        return torch.stack(frames, 1)


def _near_identity(layers: list[int]) -> MLP:
    """A map from x to the mean of u_{t-1} that begins as: the state was what it is now."""
    net = MLP(layers, skip=len(layers) > 2)
    line = net[0] if net.skip is None else net.skip
    with torch.no_grad():
        for parameter in net.parameters():
            parameter.mul_(0.1)
        line.weight.copy_(torch.eye(*line.weight.shape))
    return net
