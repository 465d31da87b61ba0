"""What linear systems have in common: their parameters, and beliefs about their states."""

from __future__ import annotations

from abc import abstractmethod
from typing import NamedTuple

import torch
from pyro.nn import PyroModule
from torch import Tensor

from ...data import Batch, BatchLike
from ...inference.contracts import LinearSystem, States
from ...inference.linear.chain import GaussianChain, covariance_root, posterior_chain
from ...inference.linear.kalman import Beliefs, predictions
from ...inference.linear.system import LinearGaussian, Readings, baseline, drive
from ...inference.placing import batch_for
from .generation import Generates


class Moments(NamedTuple):
    """Means and variances of frames.

    Arguments:
        mean: ``[B, T, M]``.
        variance: ``[B, T, M]``.
    """

    mean: Tensor
    variance: Tensor


class LinearModel(Generates, LinearSystem, PyroModule):
    """x_t = A x_{t-1} + B s_t + noise: parameters, filter, smoother and predictions.

    A subclass writes the emission: ``measure``, ``frame_mean``, ``frame_variance``,
    ``emit``, and the rest of its kind.

    Arguments:
        state_dim: size of the state, ``K``.
        obs_dim: values read from a frame, ``D``.
        input_dim: known inputs a frame, ``I``; 0 for none.
        learned: names of the parameters beside A, Q, C, m and P.
    """

    latents_given = ("present", "all")
    rates_given = ("past", "present", "all")

    def __init__(self, state_dim: int, obs_dim: int, input_dim: int, learned: list[str]) -> None:
        super().__init__()
        self.state_dim, self.obs_dim, self.input_dim = state_dim, obs_dim, input_dim
        eye, size = torch.eye(state_dim, dtype=torch.float64), max(state_dim, obs_dim)
        start = {
            "dynamics": eye.clone(),
            "process": eye.clone(),
            "emission": torch.eye(size, dtype=torch.float64)[:obs_dim, :state_dim].clone(),
            "initial_mean": torch.zeros_like(eye[0]),
            "initial_covariance": eye.clone(),
            "offset": torch.zeros(obs_dim, dtype=torch.float64),
            "noise": torch.eye(obs_dim, dtype=torch.float64),
            "input_dynamics": torch.zeros(state_dim, input_dim, dtype=torch.float64),
            "input_emission": torch.zeros(obs_dim, input_dim, dtype=torch.float64),
        }
        self._names = [*list(start)[:5], *learned]
        for name in self._names:
            self.register_buffer(name, start[name])

    def system(self) -> LinearGaussian:
        """The parameters, float64."""
        return LinearGaussian(**{name: self.get_buffer(name) for name in self._names})

    def assign(self, system: LinearGaussian) -> None:
        """Copies parameters in."""
        for name in self._names:
            self.get_buffer(name).copy_(getattr(system, name))

    def read(self, batch: BatchLike) -> Readings:
        """Values, variances, mask and inputs of a batch, in float64.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.

        Raises:
            ValueError: for frames that cannot be read, or inputs of another size.
        """
        batch = batch_for(self, batch)
        return Readings(*self.measure(batch), batch.mask, self._inputs(batch))

    def _inputs(self, batch: Batch) -> Tensor | None:
        """The inputs that the model has, checked."""
        if not self.input_dim:
            return None
        if batch.inputs is None or batch.inputs.shape[-1] != self.input_dim:
            found = "none" if batch.inputs is None else batch.inputs.shape[-1]
            raise ValueError(
                f"this {type(self).__name__} has {self.input_dim} inputs a frame, the batch has "
                f"{found}: give them as Batch(obs, inputs=..)"
            )
        return batch.inputs.to(self.get_buffer("dynamics"))

    def check_begin(self, batch: Batch) -> None:
        """Raises a ValueError for padding at the beginning, where the Pyro model has no state."""
        if not batch.mask[:, 0].all():
            raise ValueError(
                f"the Pyro model of an {type(self).__name__} takes sequences that begin with a "
                "real frame: filter(batch) takes padding before them"
            )

    @abstractmethod
    def filter(self, batch: BatchLike) -> Beliefs:
        """p(x_t | y_1 .. y_t): ``.mean [B, T, K]``, ``.covariance``, ``.log_likelihood [B]``.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.
        """

    def smooth(self, batch: BatchLike) -> Beliefs:
        """p(x_t | y_1 .. y_T), with the same fields as ``filter``.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.
        """
        return self.e_step(self.system(), self.read(batch))

    def posterior(self, batch: BatchLike) -> GaussianChain:
        """p(x_1 .. x_T | y_1 .. y_T) as a distribution of paths, with the moments of ``smooth``.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.
        """
        batch = batch_for(self, batch)
        return posterior_chain(self.smooth(batch), batch.mask)

    def predict(self, batch: BatchLike) -> Beliefs:
        """p(x_t | y_1 .. y_{t-1}), with the same fields as ``filter``.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.
        """
        batch, system = batch_for(self, batch), self.system()
        filtered = self.filter(batch)
        mean, covariance = predictions(system, filtered, batch.mask, self._inputs(batch))
        start = system.initial_mean.expand_as(filtered.mean[:, :1])
        spread = system.initial_covariance.expand_as(filtered.covariance[:, :1])
        return Beliefs(
            torch.cat((start, mean), 1),
            torch.cat((spread, covariance), 1),
            filtered.log_likelihood,
        )

    def values(self, beliefs: Beliefs, batch: BatchLike) -> Moments:
        """Moments of C x_t + d + D s_t, and of its noise R where the system has one.

        Arguments:
            beliefs, batch: see ``frames``.
        """
        system, batch = self.system(), batch_for(self, batch)
        mean = beliefs.mean @ system.emission.mT
        level = baseline(system, self._inputs(batch), batch.mask)
        spread = (system.emission @ beliefs.covariance * system.emission).sum(-1)
        return Moments(
            mean if level is None else mean + level,
            spread if system.noise is None else spread + system.noise.diagonal(),
        )

    @abstractmethod
    def frame_mean(self, values: Moments) -> Tensor:
        """Means of frames, ``[B, T, M]``, from ``values``."""

    @abstractmethod
    def frame_variance(self, values: Moments) -> Tensor:
        """Variances of frames, ``[B, T, M]``, from ``values``.

        Raises:
            ValueError: where a readout does not tell the variance of frames.
        """

    def frames(self, beliefs: Beliefs, batch: BatchLike) -> Moments:
        """Means and variances of frames, given Gaussian beliefs about their states.

        Arguments:
            beliefs: those of ``predict``, which give p(y_t | y_1 .. y_{t-1}); of ``filter`` or of
                ``smooth``.
            batch: what they were given, for its inputs.

        Raises:
            ValueError: where a readout does not tell the variance of frames.
        """
        values = self.values(beliefs, batch)
        return Moments(self.frame_mean(values), self.frame_variance(values))

    def reconstruct(self, batch: BatchLike) -> Tensor:
        """Mean frames given the filtered beliefs, ``[B, T, M]``, in the dtype of the data.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.
        """
        batch = batch_for(self, batch)
        return self.expect(batch, "present", 1)[0]

    def infer(self, batch: Batch, given: str, num_samples: int) -> States:
        """Of the filter, or of the smoother; see ``Network.infer``."""
        found, draws = self._beliefs(batch, given), None
        if num_samples and given == "all":
            draws = posterior_chain(found, batch.mask).rsample((num_samples,))
        elif num_samples:
            factor = covariance_root(found.covariance)
            noise = torch.randn(num_samples, *found.mean.shape, 1).to(factor)
            draws = found.mean + (factor @ noise)[..., 0]
        return States(found.mean, found.variance, draws)

    def expect(self, batch: Batch, given: str, num_samples: int) -> Tensor:
        """Mean frames, in closed form; see ``Network.expect``."""
        values = self.values(self._beliefs(batch, given), batch)
        return self.frame_mean(values).to(batch.obs)[None]

    def _beliefs(self, batch: Batch, given: str) -> Beliefs:
        verbs = {"past": self.predict, "present": self.filter, "all": self.smooth}
        return verbs[given](batch)

    @torch.no_grad()
    def forwards(
        self, sequences: int, steps: int, noise: bool = True, inputs: Tensor | None = None
    ) -> Tensor:
        """Samples ``[N, T, M]``, in the default dtype; see ``sample``.

        Arguments:
            sequences, steps, noise: see ``sample``.
            inputs: those of the frames, ``[N, T, I]``.

        Raises:
            ValueError: for a model with inputs that is given none.
        """
        if self.input_dim and inputs is None:
            raise ValueError(
                f"this {type(self).__name__} has {self.input_dim} inputs a frame: give those of "
                "the frames to sample"
            )
        system, mask = self.system(), None
        start = torch.distributions.MultivariateNormal(
            system.initial_mean, system.initial_covariance
        )
        pushes = torch.distributions.MultivariateNormal(
            torch.zeros_like(system.initial_mean), system.process
        ).sample((steps, sequences))
        driven, level = drive(system, inputs, mask), baseline(system, inputs, mask)
        states = [start.sample((sequences,))]
        for t in range(1, steps):
            states.append(states[-1] @ system.dynamics.mT + pushes[t])
            if driven is not None:
                states[-1] = states[-1] + driven[:, t - 1]
        value = torch.stack(states, 1) @ system.emission.mT
        value = value if level is None else value + level
        return self.emit(value, noise).to(torch.get_default_dtype())

    @abstractmethod
    def emit(self, value: Tensor, noise: bool) -> Tensor:
        """Frames, random or expected, of C x_t + d + D s_t, ``[B, T, D] -> [B, T, M]``."""
