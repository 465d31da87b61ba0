"""Gibbs sampling of a harmonium's frames: prediction and generation."""

from __future__ import annotations

import torch
from torch import Tensor

from ..parts.likelihoods.exponential_family import sample_bits
from .generation import Generates


class GibbsSampler(Generates):
    """The verbs of a harmonium that need a Markov chain: what it expects, and what it dreams.

    A chain of the next frame holds u_{t-1} still and draws x_t given (y_t, u_{t-1}), then y_t given
    x_t, in turns.
    """

    sample_hidden = staticmethod(sample_bits)

    def gibbs(
        self, obs: Tensor, past: Tensor, steps: int, clamp_past: bool = False
    ) -> tuple[Tensor, Tensor]:
        """``steps`` rounds of block Gibbs sampling: x given (y, u), then (y, u) given x.

        Arguments:
            obs: start of y, ``[N, M]``.
            past: start of u, ``[N, H]``; it stays where it is for models that clamp it.
            steps: rounds.
            clamp_past: hold u in any model.

        Returns:
            y ``[N, M]`` and u ``[N, H]``.
        """
        clamped = self.clamps_past or clamp_past
        for step in range(steps):
            if not (clamped and step):
                bias = torch.addmm(self.hidden_bias, past, self.past_weight.T)
            drive = torch.addmm(bias, self.likelihood.statistic(obs), self.obs_weight.T)
            hidden = self.sample_hidden(torch.sigmoid(drive))
            obs = self.likelihood.sample(self.emission(hidden))
            if not clamped:
                past = self.sample_hidden(torch.sigmoid(self.past_emission(hidden)))
        return obs, past

    def random_frames(self, frames: int) -> Tensor:
        """Visible units at rest (natural parameter 0), where chains start, ``[N, M]``."""
        rest = torch.zeros_like(self.obs_bias).expand(frames, -1)
        return self.likelihood.sample(rest)

    @torch.no_grad()
    def predict(
        self,
        past: Tensor,
        previous: Tensor,
        chains: int = 8,
        steps: int = 25,
        means: int = 1,
        start: str = "random",
    ) -> Tensor:
        """The next frame by Gibbs sampling with u_{t-1} clamped, then means, ``[C, N, M]``.

        Arguments:
            past: u_{t-1}, ``[N, H]``.
            previous: y_{t-1}, ``[N, M]``.
            chains: chains ``C`` for each frame.
            steps: Gibbs steps.
            means: rounds of means after them: of x_t, then of y_t given that, without noise.
            start: ``"random"`` visibles, or the ``"previous"`` frame.

        Raises:
            ValueError: for another ``start``, or less than one round of means.
        """
        if start not in ("random", "previous"):
            raise ValueError(f"start must be 'random' or 'previous', got {start!r}")
        if means < 1:
            raise ValueError(f"means must be at least 1, got {means}")
        past = past.repeat(chains, 1)
        obs = self.random_frames(len(past)) if start == "random" else previous.repeat(chains, 1)
        obs, _ = self.gibbs(obs, past, steps, clamp_past=True)
        for _ in range(means):
            obs = self.likelihood.mean(self.emission(self.step(self.encode(obs), past)))
        return obs.unflatten(0, (chains, -1))

    def forwards(
        self, sequences: int, steps: int, gibbs_steps: int = 25, noise: bool = True
    ) -> Tensor:
        """Generates by Gibbs sampling with u_{t-1} clamped, ``[N, T, M]``; see ``sample``.

        Each frame's chain, of ``gibbs_steps`` rounds, starts from the frame before (the first from
        the visible biases).
        """
        past = self.initial(sequences)
        obs = self.likelihood.sample(self.obs_bias.expand(sequences, -1))
        frames = []
        for _ in range(steps):
            obs, _ = self.gibbs(obs, past, gibbs_steps, clamp_past=True)
            if not noise:
                hidden = self.step(self.encode(obs), past)
                obs = self.likelihood.mean(self.emission(hidden))
            past = self.step(self.encode(obs), past)
            frames.append(obs)
        return torch.stack(frames, 1)
