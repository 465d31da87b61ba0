"""Recurrent harmoniums: restricted Boltzmann machines with a memory.

The energy of a frame couples hidden units x_t with the visible units y_t and with the hidden means
of the frame before, u_{t-1}:

    E(x, y, u) = -x'(W_y T(y) + W_u u + b) - a_y'T(y) - B(y)  [- a_u'u for the rEFH]

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
        visible = self.likelihood.statistic(obs) @ self.obs_bias
        base = self.likelihood.log_base(obs).sum(-1)
        return -functional.softplus(drive).sum(-1) - visible - base - self._past_bias(past)

    def emission(self, hidden: Tensor) -> Tensor:
        """Natural parameters of y given x, ``[..., H] -> [..., M]``."""
        return functional.linear(hidden, self.obs_weight.T, self.obs_bias)

    def tempered(self, past: Tensor, obs: Tensor) -> TemperedHarmonium:
        """See ``EnergyModel.tempered``; u_{t-1} is given in all three models."""
        return TemperedHarmonium(self, past, obs)

    def _past_bias(self, past: Tensor) -> Tensor | float:
        return 0.0

    # Verbs ------------------------------------------------------------------------------------

    @torch.no_grad()
    def filter(self, batch: BatchLike) -> Filtered:
        """Mean and variance of x_t given y_1 .. y_t, each ``[B, T, H]``.

        Where a frame was not seen, both are those given the frame that the model expects.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.
        """
        batch = batch_for(self, batch)
        statistics, features = run_sweep(self, batch)
        mean = statistics[:, 1:]
        if batch.observed is not None:  # before anything was seen, u stays zero, but x_t is not
            mean = self.step(features.flatten(0, 1), statistics[:, :-1].flatten(0, 1)).view_as(mean)
        return Filtered(mean, mean * (1 - mean))

    def reconstruct(self, batch: BatchLike) -> Tensor:
        """Mean of y_t given the filtered means of x_t, ``[B, T, M]``.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.
        """
        mean = self.filter(batch).mean
        with torch.no_grad():
            return self.likelihood.mean(self.emission(mean))

    def infer(self, batch: Batch, given: str, num_samples: int) -> States:
        """Hidden units; see ``Network.infer``."""
        mean, variance = self.filter(batch)
        draws = self.sample_hidden(mean.expand(num_samples, *mean.shape)) if num_samples else None
        return States(mean, variance, draws)

    def expect(self, batch: Batch, given: str, num_samples: int) -> Tensor:
        """See ``Network.expect``; given the present, draws are of the hidden units."""
        if given == "past":
            return super().expect(batch, given, num_samples)
        hidden = self.infer(batch, given, num_samples).draws
        assert hidden is not None
        return self.likelihood.mean(self.emission(hidden))


class TRBM(Harmonium):
    """Temporal RBM: u_{t-1} is a dynamic bias of the hidden units, without gradient through time.

    Arguments: see ``Harmonium``.
    """


class RTRBM(TRBM):
    """Recurrent temporal RBM: the TRBM with the gradient through time.

    Arguments: see ``Harmonium``.
    """

    through_time = True


class REFH(Harmonium):
    """Recurrent exponential-family harmonium: a joint model of y_t and u_{t-1}.

    It is temporally local by construction: p(x_t, y_t, u_{t-1}) is one static harmonium.

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

    clamps_past = False
    directions = ("forwards", "backwards")
    factorisation = "p(x[t], y[t], u[t-1])"

    def __init__(
        self,
        obs_dim: int,
        hidden_dim: int,
        likelihood: ExponentialFamily,
        scale: float = 0.005,
        obs_mean: float | None = None,
    ) -> None:
        super().__init__(obs_dim, hidden_dim, likelihood, scale, obs_mean)
        self.past_bias = nn.Parameter(torch.zeros(hidden_dim))

    def past_emission(self, hidden: Tensor) -> Tensor:
        """Log-odds of u_{t-1} given x_t, ``[..., H] -> [..., H]``."""
        return functional.linear(hidden, self.past_weight.T, self.past_bias)

    def _past_bias(self, past: Tensor) -> Tensor:
        return past @ self.past_bias

    def backwards(
        self, sequences: int, steps: int, noise: bool = True, gibbs_steps: int = 25
    ) -> Tensor:
        """Samples ``[N, T, M]``, earliest frame first; see ``sample``.

        A chain of ``gibbs_steps`` rounds over y and u gives x_T. Then, without any chain, each x_t
        gives y_t and u_{t-1}, the mean of x_{t-1}.
        """
        start = self.likelihood.sample(self.obs_bias.expand(sequences, -1))
        past = self.sample_hidden(torch.sigmoid(self.past_bias.expand(sequences, -1)))
        obs, past = self.gibbs(start, past, gibbs_steps)
        mean, frames = self.step(self.encode(obs), past), []
        emit = self.likelihood.sample if noise else self.likelihood.mean
        for _ in range(steps):
            hidden = self.sample_hidden(mean)
            frames.append(emit(self.emission(hidden)))
            mean = torch.sigmoid(self.past_emission(hidden))
        return torch.stack(frames[::-1], 1)
