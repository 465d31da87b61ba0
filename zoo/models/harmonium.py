"""Recurrent harmoniums: restricted Boltzmann machines with a memory.

The energy of a frame couples hidden units x_t with the visible units y_t and with the hidden means
of the frame before, u_{t-1}:

    E(x, y, u) = -x'(W_y T(y) + W_u u + b) - a_y'T(y) - B(y)
                 [- a_u'u for the rEFH] [- T(y)'W_v u with ``visible_past``]

Every conditional therefore factorises. The statistic T of a missing value is zero, as if its unit
were absent. The three models differ in the role of u_{t-1}:

| model | u_{t-1} | gradient through time |
|---|---|---|
| ``REFH`` | a random variable: p(x_t, y_t, u_{t-1}) | no |
| ``TRBM`` | given: p(x_t, y_t | u_{t-1}), with a dynamic hidden bias | no |
| ``RTRBM`` | given | yes |

Sources: Makin, Dichter & Sabes (2015, 2016); Sutskever & Hinton (2007); Sutskever, Hinton &
Taylor (2009); Abdulsalam & Makin (2023).
"""

from __future__ import annotations

import torch
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.nn import functional

from ...data import Batch, BatchLike
from ...inference import kernels
from ...inference.checks import check_real, check_sizes
from ...inference.contracts import States
from ...inference.placing import batch_for
from ...inference.predict import Filtered, run_sweep
from ..parts.checks import check_dtype, check_mean
from ..parts.likelihoods import ExponentialFamily
from ..parts.nets import ACTIVATIONS, SCANS
from .annealing import TemperedHarmonium
from .gibbs import GibbsSampler

SIGMOID = list(ACTIVATIONS).index("sigmoid")


class Harmonium(GibbsSampler, PyroModule):
    """The base of the three models.

    Arguments:
        obs_dim: values a frame, ``M``.
        hidden_dim: binary hidden units, ``H``; also the size of u.
        likelihood: the family of the visible units, of dimension ``obs_dim``.
        scale: standard deviation of the initial weights.
        obs_mean: initial mean of a visible unit, which sets the biases; None sets them to 0.

    Raises:
        ValueError: when the dimension of the likelihood is not ``obs_dim``, or ``hidden_dim`` below
            1.
    """

    factorisation = "p(x[t], y[t] | u[t-1])"
    latents_given = ("present",)
    rates_given = ("past", "present")

    def __init__(
        self,
        obs_dim: int,
        hidden_dim: int,
        likelihood: ExponentialFamily,
        scale: float = 0.005,
        obs_mean: float | None = None,
    ) -> None:
        super().__init__()
        check_sizes(obs_dim=obs_dim, hidden_dim=hidden_dim)
        check_real("scale", scale, least=0)
        check_mean("obs_mean", obs_mean)
        if likelihood.dim != obs_dim:
            raise ValueError(f"likelihood has {likelihood.dim} units, obs_dim is {obs_dim}")
        if not hasattr(likelihood, "statistic"):
            name = type(likelihood).__name__
            raise ValueError(f"a harmonium needs an exponential family, and {name} is none")
        self.obs_dim, self.hidden_dim, self.likelihood = obs_dim, hidden_dim, likelihood
        self.obs_weight = nn.Parameter(scale * torch.randn(hidden_dim, obs_dim))
        self.past_weight = nn.Parameter(scale * torch.randn(hidden_dim, hidden_dim))
        self.hidden_bias = nn.Parameter(torch.zeros(hidden_dim))
        bias = torch.zeros(obs_dim)
        if obs_mean is not None:
            bias = likelihood.natural(bias + obs_mean)
        self.obs_bias = nn.Parameter(bias)

    def extra_repr(self) -> str:
        return (
            f"{self.factorisation}; y: {type(self.likelihood).__name__}({self.obs_dim}), "
            f"x: Bernoulli({self.hidden_dim})"
        )

    # The recursion u_t = E[x_t | y_t, u_{t-1}] -----------------------------------------------

    def check(self, obs: Tensor) -> None:
        """Raises a ValueError for ``obs`` outside the support, or of another dtype."""
        self.likelihood.check(obs)
        check_dtype(self, obs)

    def initial(self, rows: int) -> Tensor:
        """u before the first frame, all zeros, ``[B, H]``."""
        return self.hidden_bias.new_zeros(rows, self.hidden_dim)

    def encode(self, obs: Tensor) -> Tensor:
        """W_y T(y) + b, ``[..., M] -> [..., H]``."""
        return functional.linear(self.likelihood.statistic(obs), self.obs_weight, self.hidden_bias)

    def step(self, features: Tensor, past: Tensor) -> Tensor:
        """u_t, ``[B, H]``."""
        return torch.sigmoid(torch.addmm(features, past, self.past_weight.T))

    def scan(self, features: Tensor, past: Tensor, passes: Tensor) -> Tensor | None:
        """All steps by a kernel; None where it does not apply. See ``Recurrent.scan``."""
        scans, weight = kernels.load(SCANS), self.past_weight.T
        if scans is None or kernels.overrides(self, Harmonium, "step", "advance"):
            return None
        if not kernels.suits(features, past, weight):
            return None
        return kernels.scan(scans.elman, features, past, passes, weight, SIGMOID)

    # Energy and Gibbs sampling ---------------------------------------------------------------

    def free_energy(self, obs: Tensor, past: Tensor) -> Tensor:
        """-log of the sum over x of exp(-E(x, y, u)): -log p(y, u) up to a constant.

        Arguments:
            obs: y_t, ``[N, M]``, zero at missing values.
            past: u_{t-1}, ``[N, H]``.

        Returns:
            ``[N]``, in nats.
        """
        drive = torch.addmm(self.encode(obs), past, self.past_weight.T)
        statistic, bias = self.likelihood.statistic(obs), self.visible_bias(past)
        visible = statistic @ bias if bias.dim() == 1 else (statistic * bias).sum(-1)
        base = self.likelihood.log_base(obs).sum(-1)
        return -functional.softplus(drive).sum(-1) - visible - base - self._past_bias(past)

    def visible_bias(self, past: Tensor | None) -> Tensor:
        """a_y, ``[M]``; or a_y + W_v u_{t-1}, ``[..., M]``, where it depends on ``past [..., H]``.

        Raises:
            ValueError: without the past where it depends on it.
        """
        return self.obs_bias

    def emission(self, hidden: Tensor, bias: Tensor | None = None) -> Tensor:
        """Natural parameters of y given x, ``[..., H] -> [..., M]``.

        Arguments:
            hidden: x_t.
            bias: ``visible_bias(past)``; it may be left out where it does not depend on the past.
        """
        bias = self.visible_bias(None) if bias is None else bias
        if bias.dim() == 1:
            return functional.linear(hidden, self.obs_weight.T, bias)
        return hidden @ self.obs_weight + bias

    def tempered(self, past: Tensor, obs: Tensor) -> TemperedHarmonium:
        """See ``EnergyModel.tempered``; u_{t-1} is given in all three models."""
        return TemperedHarmonium(self, past, obs)

    def _past_bias(self, past: Tensor) -> Tensor | float:
        return 0.0

    # Verbs ------------------------------------------------------------------------------------

    def filter(self, batch: BatchLike) -> Filtered:
        """Mean and variance of x_t given y_1 .. y_t, each ``[B, T, H]``.

        Where a frame was not seen, both are those given the frame that the model expects.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.
        """
        mean, _ = self._filtered(batch)
        return Filtered(mean, mean * (1 - mean))

    @torch.no_grad()
    def reconstruct(self, batch: BatchLike) -> Tensor:
        """Mean of y_t given the filtered means of x_t, ``[B, T, M]``.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.
        """
        mean, past = self._filtered(batch)
        return self.likelihood.mean(self.emission(mean, self.visible_bias(past)))

    def infer(self, batch: Batch, given: str, num_samples: int) -> States:
        """Hidden units; see ``Network.infer``."""
        mean, variance = self.filter(batch)
        draws = self.sample_hidden(mean.expand(num_samples, *mean.shape)) if num_samples else None
        return States(mean, variance, draws)

    def expect(self, batch: Batch, given: str, num_samples: int) -> Tensor:
        """See ``Network.expect``; given the present, draws are of the hidden units."""
        if given == "past":
            return super().expect(batch, given, num_samples)
        mean, past = self._filtered(batch)
        hidden = self.sample_hidden(mean.expand(num_samples, *mean.shape))
        return self.likelihood.mean(self.emission(hidden, self.visible_bias(past)))

    @torch.no_grad()
    def _filtered(self, batch: BatchLike) -> tuple[Tensor, Tensor]:
        """Means of x_t given y_1 .. y_t, and u_{t-1}, each ``[B, T, H]``."""
        batch = batch_for(self, batch)
        statistics, features = run_sweep(self, batch)
        past, mean = statistics[:, :-1], statistics[:, 1:]
        if batch.observed is not None:  # before anything was seen, u stays zero, but x_t is not
            mean = self.step(features.flatten(0, 1), past.flatten(0, 1)).view_as(mean)
        return mean, past
