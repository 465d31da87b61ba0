"""The temporal VAE: its past is given to it, and it does not explain it.

    p(x_t | u_{t-1}) = N(f(u_{t-1}), diag g²(u_{t-1}))      p(y_t | x_t)

Source: Abdulsalam & Makin, "Learning recurrent models with temporally local rules" (2023).
"""

from __future__ import annotations

import pyro.distributions as dist
from torch import Tensor, nn

from ...inference.contracts import Fold
from ..parts.likelihoods import ExponentialFamily
from ..parts.nets import MLP
from .recurrent_vae import RecurrentVAE


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
        *,
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

    def foresee(self, past: Tensor, draws: int) -> Tensor:
        """States drawn from p(x_t | u_{t-1}), ``[D, N, K]``: without a transition, from N(0, I)."""
        return self.prior(Fold(past, past)).sample((draws,))
