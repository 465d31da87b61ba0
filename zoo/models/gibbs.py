"""Gibbs sampling of a harmonium's frames: prediction and generation."""

from __future__ import annotations

from abc import abstractmethod

import torch
from torch import Tensor, nn

from ...inference.checks import check_number, check_sizes
from ...inference.contracts import EnergyModel
from ..parts.likelihoods import ExponentialFamily
from ..parts.likelihoods.exponential_family import sample_bits
from .generation import Generates

ROUNDS = 5  # of means, after which the expected frame hardly changes


class GibbsSampler(Generates, EnergyModel):
    """The methods of a harmonium that run a Markov chain.

    A chain of the next frame keeps u_{t-1} fixed. It alternates between x_t given (y_t, u_{t-1})
    and y_t given x_t.
    """

    takes_missing = True
    likelihood: ExponentialFamily
    obs_weight: nn.Parameter
    past_weight: nn.Parameter
    hidden_bias: nn.Parameter
    obs_bias: nn.Parameter

    @abstractmethod
    def visible_bias(self, past: Tensor | None) -> Tensor:
        """Biases of y, ``[M]``, or ``[..., M]`` where they depend on u_{t-1}."""
        raise NotImplementedError(f"{type(self).__name__} must define visible_bias(past)")

    @abstractmethod
    def emission(self, hidden: Tensor, bias: Tensor | None = None) -> Tensor:
        """Natural parameters of y given x and the biases of y, ``[..., H] -> [..., M]``."""
        raise NotImplementedError(f"{type(self).__name__} must define emission(hidden, bias)")

    def past_emission(self, hidden: Tensor) -> Tensor:
        """Log-odds of u_{t-1} given x_t, ``[..., H] -> [..., H]``.

        Raises:
            ValueError: for a model that takes u_{t-1} as given.
        """
        raise ValueError(f"{type(self).__name__} has no distribution of u[t-1]")

    def sample_hidden(self, mean: Tensor) -> Tensor:
        """Binary hidden units with these means, ``[..., H] -> [..., H]``."""
        return sample_bits(mean)

    def gibbs(
        self, obs: Tensor, past: Tensor, steps: int, clamp_past: bool = False
    ) -> tuple[Tensor, Tensor]:
        """Rounds of block Gibbs sampling: x given (y, u), then (y, u) given x.

        Arguments:
            obs: initial y, ``[N, M]``.
            past: initial u, ``[N, H]``; fixed in models that take it as given.
            steps: number of rounds.
            clamp_past: keep u fixed in any model.

        Returns:
            y ``[N, M]`` and u ``[N, H]``.
        """
        check_number("steps", steps, 0)
        clamped = self.clamps_past or clamp_past
        bias = torch.addmm(self.hidden_bias, past, self.past_weight.T)
        visible_bias = self.visible_bias(past)  # it depends on none but clamped pasts
        for step in range(steps):
            if step and not clamped:
                bias = torch.addmm(self.hidden_bias, past, self.past_weight.T)
            drive = torch.addmm(bias, self.likelihood.statistic(obs), self.obs_weight.T)
            hidden = self.sample_hidden(torch.sigmoid(drive))
            obs = self.likelihood.sample(self.emission(hidden, visible_bias))
            if not clamped:
                past = self.sample_hidden(torch.sigmoid(self.past_emission(hidden)))
        return obs, past

    def random_frames(self, frames: int) -> Tensor:
        """Visible units with natural parameter 0, ``[N, M]``, as initial frames of chains."""
        rest = torch.zeros_like(self.obs_bias).expand(frames, -1)
        return self.likelihood.sample(rest)

    @torch.no_grad()
    def expected_frame(self, past: Tensor) -> Tensor:
        """The mean of the chain's frame by mean-field rounds, u_{t-1} fixed, ``[N, U] -> [N, M]``.

        They start from the mean of x_t given u_{t-1} alone.
        """
        return self._settled(past)

    def read(self, obs: Tensor, observed: Tensor, past: Tensor) -> Tensor:
        """Features of frames of which values are missing, ``[N, F]``; see ``Recurrent.read``.

        The expected values in their place are those given the values that were seen.
        """
        return self.encode(self._settled(past, obs, observed))

    @torch.no_grad()
    def _settled(
        self, past: Tensor, obs: Tensor | None = None, observed: Tensor | None = None
    ) -> Tensor:
        """Frames after mean-field rounds, u_{t-1} and the values that were seen held still."""
        bias = torch.addmm(self.hidden_bias, past, self.past_weight.T)
        drive, visible_bias = bias, self.visible_bias(past)
        for _ in range(ROUNDS + 1):
            frames = self.likelihood.mean(self.emission(torch.sigmoid(drive), visible_bias))
            if obs is not None and observed is not None:
                frames = torch.where(observed, obs, frames)
            drive = torch.addmm(bias, self.likelihood.statistic(frames), self.obs_weight.T)
        return frames

    @torch.no_grad()
    def sample_next(
        self,
        past: Tensor,
        previous: Tensor,
        num_samples: int = 8,
        *,
        steps: int = 25,
        means: int = 1,
        start: str = "random",
    ) -> Tensor:
        """The next frame by Gibbs sampling with u_{t-1} fixed, then by means, ``[S, N, M]``.

        Arguments:
            past: u_{t-1}, ``[N, H]``.
            previous: y_{t-1}, ``[N, M]``.
            num_samples: independent chains ``S`` for each frame.
            steps: rounds of Gibbs sampling.
            means: rounds after these without noise: the mean of x_t, then that of y_t given it.
            start: initial y_t: ``"random"`` visible units, or the ``"previous"`` frame.

        Raises:
            ValueError: for another ``start``, or ``means`` below 1.
        """
        if start not in ("random", "previous"):
            raise ValueError(f"start must be 'random' or 'previous', got {start!r}")
        check_sizes(num_samples=num_samples, means=means)
        check_number("steps", steps, 0)
        past = past.repeat(num_samples, 1)
        random = start == "random"
        obs = self.random_frames(len(past)) if random else previous.repeat(num_samples, 1)
        obs, _ = self.gibbs(obs, past, steps, clamp_past=True)
        for _ in range(means):
            hidden = self.step(self.encode(obs), past)
            obs = self.likelihood.mean(self.emission(hidden, self.visible_bias(past)))
        return obs.unflatten(0, (num_samples, -1))

    @torch.no_grad()
    def sample(
        self,
        sequences: int,
        steps: int,
        seed: int = 0,
        direction: str | None = None,
        *,
        noise: bool = True,
        gibbs_steps: int = 25,
    ) -> Tensor:
        """Samples sequences, ``[N, T, M]``, earliest frame first.

        Arguments:
            sequences: number of sequences, ``N``.
            steps: frames of each sequence, ``T``.
            seed: seed of a private random stream.
            direction: ``"forwards"`` or ``"backwards"`` in time; None is the model's default.
            noise: False gives every frame as its mean given x_t.
            gibbs_steps: rounds of a chain: of every frame forwards, of the last frame backwards.

        Raises:
            ValueError: for a direction that the model does not have.
        """
        check_number("gibbs_steps", gibbs_steps, 0)
        return self._sampled(sequences, steps, seed, direction, noise, gibbs_steps)

    def forwards(
        self, sequences: int, steps: int, noise: bool = True, gibbs_steps: int = 25
    ) -> Tensor:
        """Samples by Gibbs sampling with u_{t-1} fixed, ``[N, T, M]``; see ``sample``.

        The chain of each frame begins at the frame before, that of the first at the visible biases.
        """
        past = self.initial(sequences)
        obs = self.likelihood.sample(self.obs_bias.expand(sequences, -1))
        frames = []
        for _ in range(steps):
            obs, _ = self.gibbs(obs, past, gibbs_steps, clamp_past=True)
            if not noise:
                hidden = self.step(self.encode(obs), past)
                obs = self.likelihood.mean(self.emission(hidden, self.visible_bias(past)))
            past = self.step(self.encode(obs), past)
            frames.append(obs)
        return torch.stack(frames, 1)
