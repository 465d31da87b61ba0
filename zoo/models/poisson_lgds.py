"""Linear dynamical systems of counts."""

from __future__ import annotations

import math

import pyro
import pyro.distributions as dist
import torch
from torch import Tensor

from ...data import Batch, BatchLike
from ...inference.checks import check_frames, check_number, check_sizes
from ...inference.contracts import Encoding
from ...inference.evaluate import importance_estimate, prepare_whole
from ...inference.linear.chain import prior_chain
from ...inference.linear.kalman import Beliefs
from ...inference.linear.m_step import fit_states
from ...inference.linear.poisson import filter_counts, fit_counts, log_count_prior, smooth_counts
from ...inference.linear.starts import start_counts
from ...inference.linear.system import LinearGaussian, Readings, baseline
from ...inference.placing import batch_for
from ..parts.likelihoods import Poisson
from .linear import LinearModel, Moments


class PoissonLGDS(LinearModel):
    """x_t = A x_{t-1} + B s_t + N(0, Q), y_t ~ Poisson(exp(C x_t + d + D s_t)): spike counts.

    The posterior of the states is the Gaussian one with the highest lower bound on log p(y). ``EM``
    learns every parameter, with a weak normal prior on C, d and D.

    Arguments:
        state_dim: size of the state, ``K``.
        obs_dim: counts of a frame, ``D``.
        input_dim: known inputs a frame, ``I``; 0 ignores those of a batch.

    Example:
        >>> net = zoo.PoissonLGDS(state_dim=3, obs_dim=40)
        >>> inference.fit(inference.EM(net), spikes)

    Source: J. H. Macke et al., "Empirical models of spiking in neural populations" (2011).
    """

    takes_missing = True

    def __init__(self, state_dim: int, obs_dim: int, input_dim: int = 0) -> None:
        check_sizes(state_dim=state_dim, obs_dim=obs_dim)
        check_number("input_dim", input_dim, 0)
        learned = ["offset", *(["input_dynamics", "input_emission"] if input_dim else [])]
        super().__init__(state_dim, obs_dim, input_dim, learned)
        self.likelihood = Poisson(obs_dim)

    def extra_repr(self) -> str:
        return f"p(x[1]) prod p(x[t] | x[t-1]) p(y[t] | x[t]); K={self.state_dim}"

    def check(self, obs: Tensor) -> None:
        """Raises a ValueError for frames that are no counts of so many channels."""
        self.likelihood.check(obs)

    def measure(self, batch: BatchLike) -> tuple[Tensor, Tensor]:
        """Counts, and 0 or, where one is missing, infinity: each ``[B, T, D]``, float64.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.

        Raises:
            ValueError: for frames that are no counts.
        """
        batch = batch_for(self, batch)
        check_frames(self, batch)
        counts = batch.obs.to(self.dynamics)
        missing = torch.zeros_like(counts)
        if batch.observed is not None:
            missing = missing.masked_fill(~batch.observed, math.inf)
        return counts, missing

    def filter(self, batch: BatchLike) -> Beliefs:
        """p(x_t | y_1 .. y_t), approximately: ``.mean [B, T, K]``, ``.covariance``.

        ``.log_likelihood [B]`` approximates log p(y), and is no bound; that of ``smooth`` is one.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.
        """
        return filter_counts(self.system(), self.read(batch))

    def log_predictive(self, batch: Batch, num_samples: int) -> Tensor:
        """The importance-weighted bound on log p(y) of paths from the posterior, ``[B]``."""
        return importance_estimate(self, prepare_whole(self, batch), num_samples)

    def frame_mean(self, values: Moments) -> Tensor:
        """Mean counts, of Gaussian log rates."""
        return (values.mean + values.variance / 2).exp()

    def frame_variance(self, values: Moments) -> Tensor:
        """Variances of counts: that of Poisson counts, and that of their rates."""
        mean = self.frame_mean(values)
        return mean + mean.square() * values.variance.expm1()

    def emit(self, value: Tensor, noise: bool) -> Tensor:
        """Counts, random or expected, of log rates, ``[B, T, D]``."""
        return torch.poisson(value.exp()) if noise else value.exp()

    # EM ----------------------------------------------------------------------------------------

    def guess(self, data: Readings, restart: int) -> LinearGaussian:
        """A system to start from: subspace identification for restart 0, the others random.

        Raises:
            ValueError: for data without a count above zero.
        """
        if not data.value[data.seen].any():
            raise ValueError("all counts that were seen are zero: EM needs data with spikes")
        return start_counts(self.state_dim, data, restart)

    def e_step(
        self, system: LinearGaussian, data: Readings, before: Beliefs | None = None
    ) -> Beliefs:
        """The best Gaussian posterior; its ``log_likelihood`` is a lower bound."""
        return smooth_counts(system, data, before)

    def m_step(self, system: LinearGaussian, beliefs: Beliefs, data: Readings) -> LinearGaussian:
        """Parameters that raise the bound and the log-density of the prior."""
        return fit_counts(fit_states(system, beliefs, data), beliefs, data)

    def log_prior(self, system: LinearGaussian, data: Readings) -> Tensor:
        """log p(C, d, D) up to a constant, ``[R]``."""
        return log_count_prior(system, data)

    # Pyro ---------------------------------------------------------------------------------------

    def prepare(self, batch: Batch) -> Encoding:
        """The counts and their posterior.

        Raises:
            ValueError: for unfit data, or padding at the beginning of a sequence.
        """
        self.check_begin(batch)
        data = self.read(batch)
        counts, belief = data.value, self.posterior(batch)
        return Encoding(counts, data.mask, counts, belief, batch.observed, data.inputs)

    def model(self, data: Encoding) -> None:
        """A path ``x`` of states, and counts ``y`` given the path."""
        system = self.system()
        level = baseline(system, data.inputs, data.mask)
        assert level is not None
        seen = data.mask[..., None] if data.observed is None else data.observed
        with pyro.plate("sequences", data.rows):
            x = pyro.sample("x", prior_chain(system, data.mask, data.inputs))
            rates = dist.Poisson((x @ system.emission.mT + level).exp())
            pyro.sample("y", rates.mask(seen).to_event(2), obs=data.obs)

    def guide(self, data: Encoding) -> None:
        """The path, from its Gaussian posterior."""
        with pyro.plate("sequences", data.rows):
            pyro.sample("x", data.belief)
