"""Linear-Gaussian dynamical systems: the Kalman filters of Table 1."""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor

from ...data import Batch
from ...inference.contracts import LinearSystem
from ...inference.kalman import Beliefs, LinearGaussian, kalman_filter, kalman_smoother
from ..parts.readouts import Readout
from .generation import Generates


class LGDS(Generates, LinearSystem, PyroModule):
    """x_t = A x_{t-1} + noise; the first coordinates of x_t are what is read from the frame.

    With C = [I 0] fixed, the first coordinates of the state are those of the reading; the others
    are unseen, such as rates of change, in a basis that is free. Any observable system can be
    written so. Learned by ``EM``.

    Arguments:
        state_dim: order of the system, ``K``.
        obs_dim: values read from a frame, ``D <= K``.
        readout: a ``readouts.Readout``, which reads D values from a frame; the values of the frame
            themselves when left out.

    Raises:
        ValueError: when the state is smaller than the reading, or the readout is of another size.
    """

    def __init__(self, state_dim: int, obs_dim: int = 1, readout: Readout | None = None):
        super().__init__()
        if not 1 <= obs_dim <= state_dim:
            raise ValueError(
                f"state_dim {state_dim} is smaller than obs_dim {obs_dim}, or that < 1"
            )
        readout = Readout(obs_dim) if readout is None else readout
        if readout.dim != obs_dim:
            raise ValueError(
                f"the readout gives {readout.dim} values a frame, obs_dim is {obs_dim}"
            )
        self.state_dim, self.obs_dim, self.readout = state_dim, obs_dim, readout
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
        return LinearGaussian(*(getattr(self, name) for name in LinearGaussian._fields))

    def assign(self, system: LinearGaussian) -> None:
        """Copies parameters in."""
        for name, value in system._asdict().items():
            getattr(self, name).copy_(value)

    def guess(self, value: Tensor, mask: Tensor) -> LinearGaussian:
        """A random start for EM on the scale of the data: slow, lightly coupled dynamics."""
        like = {"dtype": torch.float64, "device": value.device}
        eye = torch.eye(self.state_dim, **like)
        spread = value[mask].var().to(**like)
        if not spread > 0:
            raise ValueError("the values read from the data do not vary: there is nothing to learn")
        dynamics = 0.98 * eye + 0.05 * torch.randn(self.state_dim, self.state_dim, **like)
        process = spread * 10 ** (-1 - 2 * torch.rand((), **like)) * eye
        mean = torch.zeros(self.state_dim, **like)
        return LinearGaussian(dynamics, process, self.emission.to(**like), mean, spread * eye)

    def check(self, obs: Tensor) -> None:
        """Raises a ValueError for observations that cannot be read."""
        self.readout.check(obs)

    def measure(self, obs: Tensor, mask: Tensor | None = None) -> tuple[Tensor, Tensor]:
        """Values read from the frames and their variances, each ``[B, T, D]``, float64."""
        batch = Batch(obs, mask)
        self.check(batch.obs[batch.mask])
        value, variance = self.readout.measure(batch.obs, batch.mask)
        return value.to(self.dynamics), variance.to(self.dynamics)

    def filter(self, obs: Tensor, mask: Tensor | None = None) -> Beliefs:
        """p(x_t | y_1 .. y_t): ``.mean [B, T, K]``, ``.covariance``, ``.log_likelihood [B]``."""
        return kalman_filter(self.system(), *self.measure(obs, mask), mask)

    def smooth(self, obs: Tensor, mask: Tensor | None = None) -> Beliefs:
        """p(x_t | y_1 .. y_T), like ``filter`` but with the future too."""
        return kalman_smoother(self.system(), *self.measure(obs, mask), mask)

    def reconstruct(self, obs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Mean observation at the filtered state, ``[B, T, M]``, in the dtype of ``obs``."""
        value = self.filter(obs, mask).mean @ self.emission.mT
        return self.readout.expect(value).to(obs)

    def model(self, batch: Batch) -> None:
        """The exact Pyro model of what is read: one ``GaussianHMM`` site a sequence.

        Every frame must say something: ``GaussianHMM`` knows no mask.

        Raises:
            ValueError: for padding and silent frames.
        """
        value, variance = self.measure(batch.obs, batch.mask)
        if not batch.mask.all() or not variance.isfinite().all():
            raise ValueError(
                "the Pyro model of an LGDS takes unpadded sequences without silent frames: "
                "filter(obs, mask) takes both"
            )
        # GaussianHMM starts one transition early: that transition adds the second half of P.
        steps, half = value.shape[1], self.initial_covariance / 2
        dynamics, process = (part.repeat(steps, 1, 1) for part in (self.dynamics, self.process))
        dynamics[0], process[0] = torch.eye(self.state_dim), half
        start = dist.MultivariateNormal(self.initial_mean, half)
        noise = dist.MultivariateNormal(torch.zeros_like(self.initial_mean), process)
        seen = dist.Normal(torch.zeros_like(variance), variance.sqrt()).to_event(1)
        hmm = dist.GaussianHMM(start, dynamics.mT, noise, self.emission.mT, seen)
        with pyro.plate("sequences", len(batch)):
            pyro.sample("y", hmm, obs=value)

    def guide(self, batch: Batch) -> None:
        """Empty: the model has no latent site left."""

    @torch.no_grad()
    def forwards(self, sequences: int, steps: int) -> Tensor:
        """Generates ``[N, T, M]``; see ``sample``."""
        start = torch.distributions.MultivariateNormal(self.initial_mean, self.initial_covariance)
        noise = torch.distributions.MultivariateNormal(
            torch.zeros_like(self.initial_mean), self.process
        ).sample((steps, sequences))
        states = [start.sample((sequences,))]
        for t in range(1, steps):
            states.append(states[-1] @ self.dynamics.mT + noise[t])
        return self.readout.sample(torch.stack(states, 1) @ self.emission.mT).float()
