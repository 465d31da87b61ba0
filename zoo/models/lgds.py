"""Linear-Gaussian dynamical systems."""

from __future__ import annotations

import pyro
import torch
from torch import Tensor

from ...data import Batch, BatchLike
from ...inference.checks import check_frames, check_number, check_real
from ...inference.linear.distribution import exact_distribution
from ...inference.linear.kalman import Beliefs, kalman_filter
from ...inference.linear.m_step import fit_emission, fit_states, moments_of_channels
from ...inference.linear.starts import start_gaussian
from ...inference.linear.system import LinearGaussian, Readings
from ...inference.placing import batch_for
from ..parts.readouts import Readout
from .linear import LinearModel, Moments


class LGDS(LinearModel):
    """x_t = A x_{t-1} + B s_t + N(0, Q), y_t = C x_t + d + D s_t + N(0, R): Kalman filters.

    ``EM`` learns every parameter. With a readout, only A, Q and the initial state are learned: the
    readout reads values of known variance from a frame, and C = [I 0], so that the first
    coordinates of the state are these values. Every observable system has this form.

    Arguments:
        state_dim: size of the state, ``K``.
        obs_dim: values of a frame, ``D``; with a readout, of those it reads, ``D <= K``.
        readout: a ``readouts.Readout``, which reads ``D`` values of known variance from a frame;
            None takes the frame itself, and learns C, d and R.
        noise: R is ``"diagonal"`` or ``"full"``; not with a readout.
        input_dim: known inputs a frame, ``I``; 0 ignores those of a batch. D is learned only
            without a readout.
        min_noise: least variance of the noise, as a fraction of the variance of each channel in
            the training data. EM finds the likeliest system within this limit, without which the
            likelihood has no maximum. A channel that is constant has the median limit.

    Raises:
        ValueError: when a size does not fit the readout, or noise is unknown or given beside it.

    Example:
        >>> net = zoo.LGDS(state_dim=3, obs_dim=40)
        >>> inference.fit(inference.EM(net), traces)
    """

    readout: Readout

    def __init__(
        self,
        state_dim: int,
        obs_dim: int = 1,
        readout: Readout | None = None,
        noise: str | None = None,
        input_dim: int = 0,
        min_noise: float = 1e-4,
    ) -> None:
        check_number("state_dim", state_dim)
        check_number("obs_dim", obs_dim, most=None if readout is None else state_dim)
        check_number("input_dim", input_dim, 0)
        check_real("min_noise", min_noise, above=0, most=1)
        if readout is not None and noise is not None:
            raise ValueError("a readout knows the variance of its values: leave noise out")
        if noise not in (None, "diagonal", "full"):
            raise ValueError(f"noise must be 'diagonal' or 'full', got {noise!r}")
        if readout is not None and readout.dim != obs_dim:
            raise ValueError(
                f"the readout reads {readout.dim} values a frame, obs_dim is {obs_dim}"
            )
        self.learns_emission = readout is None
        learned = ["offset", "noise"] if readout is None else []
        if input_dim:
            learned += ["input_dynamics", "input_emission"][: 2 if readout is None else 1]
        super().__init__(state_dim, obs_dim, input_dim, learned)
        self.readout = Readout(obs_dim, variance=0.0) if readout is None else readout
        self.takes_missing = self.readout.takes_missing
        self.noise_kind, self.min_noise = noise or "diagonal", min_noise

    def extra_repr(self) -> str:
        return f"p(x[1]) prod p(x[t] | x[t-1]) p(y[t] | x[t]); K={self.state_dim}"

    def check(self, obs: Tensor) -> None:
        """Raises a ValueError for observations that cannot be read."""
        self.readout.check(obs)

    def measure(self, batch: BatchLike) -> tuple[Tensor, Tensor]:
        """Values read from the frames and their known variances, each ``[B, T, D]``, float64.

        The variance of a missing value is infinite. What a missing part of a frame does to the
        values read from it is for the readout to know.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.

        Raises:
            ValueError: for frames that cannot be read, and for missing values where the readout
                does not take any.
        """
        batch = batch_for(self, batch)
        check_frames(self, batch)
        if batch.observed is not None and not self.takes_missing:
            raise ValueError(
                f"{type(self.readout).__name__} takes no missing values, and this batch has some: "
                "let its measure(batch) give them infinite variance, and set takes_missing = True "
                "in its class"
            )
        value, variance = self.readout.measure(batch)
        return value.to(self.dynamics), variance.to(self.dynamics)

    def filter(self, batch: BatchLike) -> Beliefs:
        """p(x_t | y_1 .. y_t): ``.mean [B, T, K]``, ``.covariance``, ``.log_likelihood [B]``.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.
        """
        return kalman_filter(self.system(), *self.read(batch))

    def log_predictive(self, batch: Batch, num_samples: int) -> Tensor:
        """log p of the values read, exact, ``[B]``."""
        return self.filter(batch).log_likelihood

    def frame_mean(self, values: Moments) -> Tensor:
        """Mean frames; of a readout that is not linear, those at the mean values."""
        return self.readout.expect(values.mean)

    def frame_variance(self, values: Moments) -> Tensor:
        """Variances of frames."""
        return self.readout.spread(values.variance)

    def emit(self, value: Tensor, noise: bool) -> Tensor:
        """Frames, random or expected, of C x_t + d + D s_t, ``[B, T, D] -> [B, T, M]``."""
        covariance = self.system().noise
        if not noise:
            return self.readout.expect(value)
        if covariance is not None:
            factor = torch.linalg.cholesky(covariance)
            value = value + torch.randn_like(value) @ factor.mT
        return self.readout.sample(value)

    # EM ----------------------------------------------------------------------------------------

    def guess(self, data: Readings, restart: int) -> LinearGaussian:
        """A system to start from: subspace identification for restart 0, the others random.

        With a readout all are random, on the scale of the data, slow and weakly coupled.

        Raises:
            ValueError: when the values seen do not vary, or their squares are not finite.
        """
        seen = data.seen
        spread = data.value[seen].var()
        varies = moments_of_channels(data)[1].any() if self.learns_emission else spread > 0
        if not varies:
            raise ValueError("the values read from the data do not vary: EM needs data that do")
        if not spread.isfinite():
            raise ValueError("the squares of the values read are not finite: rescale the data")
        if self.learns_emission:
            return start_gaussian(self.state_dim, data, self.min_noise, restart)
        size, like = self.state_dim, {"dtype": spread.dtype, "device": spread.device}
        eye = torch.eye(size, **like)
        dynamics = 0.98 * eye + 0.05 * torch.randn(size, size, **like)
        process = spread * 10 ** (-1 - 2 * torch.rand((), **like)) * eye
        start = (torch.zeros_like(eye[0]), spread * eye)
        drive = torch.zeros(size, self.input_dim, **like) if self.input_dim else None
        return LinearGaussian(dynamics, process, self.emission, *start, input_dynamics=drive)

    def m_step(self, system: LinearGaussian, beliefs: Beliefs, data: Readings) -> LinearGaussian:
        """The likeliest parameters, given smoothed beliefs."""
        system = fit_states(system, beliefs, data)
        if not self.learns_emission:
            return system
        return fit_emission(system, beliefs, data, self.min_noise, self.noise_kind == "full")

    # Pyro ---------------------------------------------------------------------------------------

    def model(self, batch: Batch) -> None:
        """The exact Pyro model of the values read: one ``GaussianHMM`` site for each sequence.

        Raises:
            ValueError: for padding at the beginning of a sequence.
        """
        self.check_begin(batch)
        data = self.read(batch)
        value = data.value.masked_fill(~data.seen, 0.0)
        with pyro.plate("sequences", len(batch)):
            pyro.sample("y", exact_distribution(self.system(), data), obs=value)

    def guide(self, batch: Batch) -> None:
        """Empty: the model has no latent site."""
