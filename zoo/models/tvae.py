"""The temporal VAE: the prior of the state is conditional on the past.

    p(x_t | u_{t-1}) = N(f(u_{t-1}), diag g²(u_{t-1}))      p(y_t | x_t)

With inputs s_t these are p(x_t | u_{t-1}, s_t) and p(y_t | x_t, s_t).

Source: Abdulsalam & Makin, "Learning recurrent models with temporally local rules" (2023).
"""

from __future__ import annotations

import pyro.distributions as dist
from torch import Tensor, nn

from ...inference.checks import check_number
from ...inference.contracts import Fold
from ..parts.guides import FrameGuide
from ..parts.likelihoods import Likelihood
from ..parts.missing import beside
from ..parts.nets import MLP
from .recurrent_vae import RecurrentVAE


class TVAE(RecurrentVAE):
    """p(x_t | u_{t-1}) p(y_t | x_t): trained by ``LocalELBO`` or ``BPTT``.

    The source defines it by analogy with the TRBM, where u_{t-1} sets the prior of x_t through a
    dynamic bias. Here p(x_t | u_{t-1}) is a diagonal Gaussian whose moments a net computes.

    Arguments:
        obs_dim: values a frame, ``M``.
        latent_dim: size of x, ``K``.
        likelihood: the distribution of y, of dimension ``obs_dim`` (see ``likelihoods``).
        hidden: width of the layers.
        emission_dim: number of latents, the first ones, that the frame depends on; None is all.
        statistics: the statistics u_t of the default guide, ``"mean+spread"`` or ``"mean"``.
        guide: a recognition model (see ``guides``); None is a ``GaussianGuide``.
        decoder: a net from the first ``emission_dim`` latents to the natural parameters of y; None
            has two hidden layers.
        sees_missing: let the guide read, after the values of a frame, which of them were seen (1.0,
            otherwise 0.0), and zeros in place of the others. A guide of your own then reads
            ``2 M`` values. Otherwise it reads the frame that the model expects in their place.
        transition: False removes u_{t-1} from the generative model: p(x_t) = N(0, I). The free
            energy of a frame is then least at q(x_t | y_t), so the model decodes each frame alone.
        input_dim: inputs a frame, ``I`` (see ``Batch.inputs``). Guide and decoder then read them
            after their other values, ``M + I`` or ``2 M + I`` and ``K + I``.
        input_dropout: probability that a rule hides a value from the guide in training. A hidden
            value counts as missing for the guide, and the likelihood scores it. With
            ``sees_missing`` that is quick; without it the model must expect every frame.

    Raises:
        ValueError: when parts have sizes that do not match.
    """

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
        transition: bool = True,
        input_dim: int = 0,
        input_dropout: float = 0.0,
    ) -> None:
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
        size = self.recognition.statistics_dim + input_dim
        self.transition = MLP([size, hidden, 2 * latent_dim], skip=True) if transition else None

    @property
    def factorisation(self) -> str:
        now = ", s[t]" if self.input_dim else ""
        prior = "p(x[t])" if self.transition is None else f"p(x[t] | u[t-1]{now})"
        return f"{prior} p(y[t] | x[t]{now});  q(x[t] | u[t-1], y[t]{now})"

    def prior(self, fold: Fold) -> dist.TorchDistribution:
        """p(x_t | u_{t-1}, s_t), batch shape ``[N]``, event shape ``[K]``."""
        if self.transition is None:
            return super().prior(fold)
        mean, spread = self.transition(beside(fold.past, fold.inputs, self.input_dim)).chunk(2, -1)
        spread = nn.functional.softplus(spread) + 1e-3
        return dist.Normal(mean, spread, validate_args=False).to_event(1)

    def predict_state(self, past: Tensor, inputs: Tensor | None = None) -> dist.TorchDistribution:
        """p(x_t | u_{t-1}, s_t), batch shape ``[N]``, event shape ``[K]``."""
        return self.prior(Fold(past, past, inputs=inputs))

    def sample_state(
        self, past: Tensor, num_samples: int, *, inputs: Tensor | None = None
    ) -> Tensor:
        """Samples of x_t from p(x_t | u_{t-1}, s_t), ``[S, N, K]``.

        Arguments:
            past: u_{t-1}, ``[N, U]``.
            num_samples: samples ``S``.
            inputs: s_t, ``[N, I]``; read where ``input_dim``.
        """
        check_number("num_samples", num_samples)
        return self.predict_state(past, inputs).sample((num_samples,))
