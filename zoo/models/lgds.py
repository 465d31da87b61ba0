"""Linear-Gaussian dynamical systems."""

from __future__ import annotations

import math
from typing import Any

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor
from torch.distributions import constraints

from ...data import Batch, BatchLike
from ...inference.checks import check_number
from ...inference.contracts import LinearSystem
from ...inference.kalman import Beliefs, LinearGaussian, kalman_filter, kalman_smoother
from ...inference.placing import batch_for
from ..parts.readouts import Readout
from .generation import Generates


class LGDS(Generates, LinearSystem, PyroModule):
    """x_t = A x_{t-1} + noise, r_t = C x_t + noise, with values r_t read from the frame.

    C = [I 0] is fixed, so the first coordinates of the state are the values read from a frame. The
    others are hidden, such as rates of change. Every observable system has this form. ``EM`` trains
    it.

    Arguments:
        state_dim: order of the system, ``K``.
        obs_dim: values read from a frame, ``D <= K``.
        readout: a ``readouts.Readout``, which reads ``D`` values from a frame; None reads the frame
            itself.

    Raises:
        ValueError: when ``state_dim`` is below ``obs_dim``, or the readout has another size.
    """

    dynamics: Tensor
    process: Tensor
    emission: Tensor
    initial_mean: Tensor
    initial_covariance: Tensor
    readout: Readout

    def __init__(self, state_dim: int, obs_dim: int = 1, readout: Readout | None = None) -> None:
        super().__init__()
        check_number("state_dim", state_dim)
        check_number("obs_dim", obs_dim, most=state_dim)
        self.readout = Readout(obs_dim) if readout is None else readout
        if self.readout.dim != obs_dim:
            raise ValueError(
                f"the readout reads {self.readout.dim} values a frame, obs_dim is {obs_dim}"
            )
        self.takes_missing = self.readout.takes_missing
        self.state_dim, self.obs_dim = state_dim, obs_dim
        eye = torch.eye(state_dim, dtype=torch.float64)
        self.register_buffer("dynamics", eye.clone())
        self.register_buffer("process", eye.clone())
        self.register_buffer("emission", eye[:obs_dim].clone())
        self.register_buffer("initial_mean", torch.zeros(state_dim, dtype=torch.float64))
        self.register_buffer("initial_covariance", eye.clone())

    def extra_repr(self) -> str:
        return f"p(x[1]) prod p(x[t] | x[t-1]) p(y[t] | x[t]); K={self.state_dim}"

    def system(self) -> LinearGaussian:
        """The parameters, float64."""
        return LinearGaussian(
            self.dynamics,
            self.process,
            self.emission,
            self.initial_mean,
            self.initial_covariance,
        )

    def assign(self, system: LinearGaussian) -> None:
        """Copies parameters in."""
        for name, value in system.parts().items():
            self.get_buffer(name).copy_(value)

    def guess(self, value: Tensor, seen: Tensor) -> LinearGaussian:
        """A random system on the scale of the data, with slow and weakly coupled dynamics.

        Arguments:
            value: values read from frames, ``[B, T, D]``.
            seen: True where a value was seen, ``[B, T, D]``.

        Raises:
            ValueError: when the values seen do not vary, or their squares are not finite.
        """
        size, device, double = self.state_dim, value.device, torch.float64
        eye = torch.eye(size, dtype=double, device=device)
        spread = value[seen].var().to(device, double)
        if not spread > 0:
            raise ValueError("the values read from the data do not vary: EM needs data that do")
        if not spread.isfinite():
            raise ValueError("the squares of the values read are not finite: rescale the data")
        dynamics = 0.98 * eye + 0.05 * torch.randn(size, size, dtype=double, device=device)
        process = spread * 10 ** (-1 - 2 * torch.rand((), dtype=double, device=device)) * eye
        emission = self.emission.to(device, double)
        return LinearGaussian(dynamics, process, emission, torch.zeros_like(eye[0]), spread * eye)

    def check(self, obs: Tensor) -> None:
        """Raises a ValueError for observations that cannot be read."""
        self.readout.check(obs)

    def measure(self, batch: BatchLike) -> tuple[Tensor, Tensor]:
        """Values read from the frames and their variances, each ``[B, T, D]``, float64.

        The variance of a missing value is infinite. What a missing part of a frame does to the
        values read from it is for the readout to know.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.

        Raises:
            ValueError: for frames that cannot be read, and for missing values where the readout
                does not take any.
        """
        batch = batch_for(self, batch)
        self.check(batch.obs[batch.mask])
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
        batch = batch_for(self, batch)
        return kalman_filter(self.system(), *self.measure(batch), batch.mask)

    def smooth(self, batch: BatchLike) -> Beliefs:
        """p(x_t | y_1 .. y_T), with the same fields as ``filter``.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.
        """
        batch = batch_for(self, batch)
        return kalman_smoother(self.system(), *self.measure(batch), batch.mask)

    def reconstruct(self, batch: BatchLike) -> Tensor:
        """Mean observation at the filtered state, ``[B, T, M]``, in the dtype of the data.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.
        """
        batch = batch_for(self, batch)
        value = self.filter(batch).mean @ self.emission.mT
        return self.readout.expect(value).to(batch.obs)

    def model(self, batch: Batch) -> None:
        """The exact Pyro model of the values read: one ``GaussianHMM`` site for each sequence.

        Raises:
            ValueError: for padding at the beginning of a sequence.
        """
        if not batch.mask[:, 0].all():
            raise ValueError(
                "the Pyro model of an LGDS takes sequences that begin with a real frame: "
                "filter(batch) takes padding before them"
            )
        value, variance = self.measure(batch)
        spread, emission = variance.sqrt(), self.emission.mT
        seen = variance.isfinite() & batch.mask[..., None]
        if not seen.all():
            # A missing value is a 0 read from no state, with density 1.
            value = value.masked_fill(~seen, 0.0)
            spread = spread.masked_fill(~seen, 1 / math.sqrt(2 * math.pi))
            emission = emission * seen[..., None, :]
        # GaussianHMM starts one transition early: that transition adds the second half of P.
        steps, half = value.shape[1], self.initial_covariance / 2
        dynamics, process = (part.repeat(steps, 1, 1) for part in (self.dynamics, self.process))
        dynamics[0], process[0] = torch.eye(self.state_dim), half
        start = dist.MultivariateNormal(self.initial_mean, half)
        noise = dist.MultivariateNormal(torch.zeros_like(self.initial_mean), process)
        read = dist.Normal(torch.zeros_like(spread), spread).to_event(1)
        hmm = dist.GaussianHMM(start, dynamics.mT, noise, emission, read)
        if not seen.all():
            hmm = _SeenValues(hmm, seen)
        with pyro.plate("sequences", len(batch)):
            pyro.sample("y", hmm, obs=value)

    def guide(self, batch: Batch) -> None:
        """Empty: the model has no latent site."""

    @torch.no_grad()
    def forwards(self, sequences: int, steps: int, noise: bool = True) -> Tensor:
        """Samples ``[N, T, M]``, in the default dtype; see ``sample``."""
        start = torch.distributions.MultivariateNormal(self.initial_mean, self.initial_covariance)
        pushes = torch.distributions.MultivariateNormal(
            torch.zeros_like(self.initial_mean), self.process
        ).sample((steps, sequences))
        states = [start.sample((sequences,))]
        for t in range(1, steps):
            states.append(states[-1] @ self.dynamics.mT + pushes[t])
        emit = self.readout.sample if noise else self.readout.expect
        film = emit(torch.stack(states, 1) @ self.emission.mT)
        return film.to(torch.get_default_dtype())


class _SeenValues(dist.TorchDistribution):
    """Values of sequences of which some are missing: those are NaN in samples, and never scored.

    Arguments:
        filled: a distribution of sequences ``[T, D]`` that scores a missing value of 0 with 1.
        seen: True where a value was seen, ``[B, T, D]``.
    """

    arg_constraints = {}  # noqa: RUF012  # pyright: ignore[reportAssignmentType]
    support = constraints.independent(constraints.real, 2)  # pyright: ignore[reportAssignmentType]

    def __init__(self, filled: dist.TorchDistribution, seen: Tensor) -> None:
        self.filled, self.seen = filled, seen
        super().__init__(filled.batch_shape, filled.event_shape, validate_args=False)

    def expand(self, batch_shape: torch.Size, _instance: Any = None) -> _SeenValues:
        return _SeenValues(self.filled.expand(batch_shape), self.seen)

    def sample(self, sample_shape: torch.Size = torch.Size()) -> Tensor:  # noqa: B008
        return self.filled.sample(sample_shape).masked_fill(~self.seen, math.nan)

    def log_prob(self, value: Tensor) -> Tensor:
        return self.filled.log_prob(value.masked_fill(~self.seen, 0.0))
