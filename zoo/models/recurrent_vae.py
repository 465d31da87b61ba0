"""The base of the recurrent and the temporal VAE: what both can do with states and frames.

They filter, predict, sample and score by p(x_t | u_{t-1}), which a subclass writes.

Source: Abdulsalam & Makin, "Learning recurrent models with temporally local rules" (2023).
"""

from __future__ import annotations

import functools

import pyro.distributions as dist
import torch
from torch import Tensor

from ...data import Batch, BatchLike, generator
from ...inference.checks import check_number, portions
from ...inference.contracts import Fold, GibbsModel, States
from ...inference.inputs import at, inputs_of
from ...inference.particles import log_mean_exp
from ...inference.placing import batch_for
from ...inference.predict import Filtered, run_sweep
from ...inference.tape import nowhere
from ..parts.likelihoods import seen_part
from ..parts.missing import expected
from .frame_vae import FrameVAE

AT_ONCE = 25  # states drawn for each frame that are in memory together
DRAWS = 50  # pairs of states behind the frame that is expected before any was seen


class RecurrentVAE(FrameVAE, GibbsModel):
    """A VAE of frames with verbs. A subclass writes ``predict_state`` and ``sample_state``.

    Arguments: those of ``FrameVAE``.
    """

    takes_missing = True
    latents_given = ("present",)
    rates_given = ("past", "present")

    def predict_state(self, past: Tensor, inputs: Tensor | None = None) -> dist.TorchDistribution:
        """p(x_t | u_{t-1}, s_t), a diagonal Gaussian, batch shape ``[N]``, event shape ``[K]``."""
        raise NotImplementedError(f"{type(self).__name__} must define predict_state(past, inputs)")

    def sample_state(
        self, past: Tensor, num_samples: int, *, inputs: Tensor | None = None
    ) -> Tensor:
        """Samples of x_t from p(x_t | u_{t-1}, s_t), ``[S, N, K]``."""
        raise NotImplementedError(f"{type(self).__name__} must define sample_state(past, ...)")

    @torch.no_grad()
    def expected_frame(self, past: Tensor, inputs: Tensor | None = None) -> Tensor:
        """The frame decoded at the mean of p(x_t | u_{t-1}, s_t), ``[N, U] -> [N, M]``.

        Given a blank past, where x_t may be anything, it is the average over fixed draws of x_t.
        """
        mean = self.predict_state(past, inputs).mean
        frames = expected(self.likelihood, self.natural(mean, inputs))
        blank = (past == self.initial(1)).all(-1)
        if nowhere(blank):
            return frames
        some = inputs[blank] if self.input_dim and inputs is not None else None
        rows = 1 if some is None else len(some)
        state = self.predict_state(self.initial(rows), some)
        noise = _fixed_draws(self.latent_dim, past.device, past.dtype)
        x = state.mean + state.variance.sqrt() * noise
        average = expected(self.likelihood, self.natural(x, some)).mean(0)
        if some is None:
            return torch.where(blank[:, None], average, frames)
        frames[blank] = average
        return frames

    @torch.no_grad()
    def random_frames(self, frames: int, inputs: Tensor | None = None) -> Tensor:
        """Frames given states from N(0, I), ``[N, M]``, as initial frames of chains.

        Arguments:
            frames: number of frames, ``N``.
            inputs: s_t of these frames, ``[N, I]``.
        """
        x = torch.randn(frames, self.latent_dim, dtype=self.dtype, device=self.device)
        return self.likelihood.sample(self.natural(x, inputs))

    @torch.no_grad()
    def sample_next(
        self,
        past: Tensor,
        previous: Tensor,
        num_samples: int = 8,
        *,
        inputs: Tensor | None = None,
    ) -> Tensor:
        """The next frame: E[y_t | x_t] for samples of p(x_t | u_{t-1}), ``[S, N, M]``.

        Arguments:
            past: u_{t-1}, ``[N, U]``.
            previous: y_{t-1}, ``[N, M]``; not used.
            num_samples: independent samples ``S``.
            inputs: s_t, ``[N, I]``; read where ``input_dim``.
        """
        x = self.sample_state(past, num_samples, inputs=inputs)
        return self.likelihood.mean(self.natural(x, inputs))

    def forwards(
        self, sequences: int, steps: int, noise: bool = True, inputs: Tensor | None = None
    ) -> Tensor:
        """Samples x_t from p(x_t | u_{t-1}), then y_t, then computes u_t; see ``sample``."""
        emit = self.likelihood.sample if noise else self.likelihood.mean
        past, frames = self.initial(sequences), []
        for t in range(steps):
            now = at(inputs, (slice(None), t))
            obs = emit(self.natural(self.sample_state(past, 1, inputs=now)[0], now))
            past = self.step(self.encode(obs, inputs=now), past)
            frames.append(obs)
        return torch.stack(frames, 1)

    @torch.no_grad()
    def gibbs(
        self,
        obs: Tensor,
        past: Tensor,
        steps: int,
        clamp_past: bool = True,
        inputs: Tensor | None = None,
    ) -> tuple[Tensor, Tensor]:
        """Clamped Gibbs sampling: x from q(x | u, y), then y from p(y | x), in turns.

        Arguments:
            obs: initial y, ``[N, M]``.
            past: u, ``[N, U]``, which is fixed.
            steps: number of rounds.
            clamp_past: must be True.
            inputs: s_t, ``[N, I]``; read where ``input_dim``.

        Returns:
            y ``[N, M]`` and u ``[N, U]``.

        Raises:
            ValueError: for another ``clamp_past``.
        """
        if not clamp_past:
            raise ValueError(f"{type(self).__name__} samples with u fixed: use clamp_past=True")
        check_number("steps", steps, 0)
        for _ in range(steps):
            x = self.recognition(self.encode(obs, inputs=inputs), past).sample()
            obs = self.likelihood.sample(self.natural(x, inputs))
        return obs, past

    @torch.no_grad()
    def filter(self, batch: BatchLike) -> Filtered:
        """Mean and variance of x_t given y_1 .. y_t, each ``[B, T, K]``.

        Where a frame was not seen, they are those of p(x_t | u_{t-1}). That is one step ahead of a
        u_{t-1} as certain as any other: the variance does not grow with the length of a gap.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.
        """
        batch = batch_for(self, batch)
        past, belief, unseen = self._beliefs(batch)
        mean, variance, shape = belief.mean, belief.variance, batch.obs.shape[:2]
        if unseen.any():
            inputs = at(self._inputs(batch), unseen)
            predicted = self.predict_state(past[unseen], inputs)
            mean, variance = mean.clone(), variance.clone()
            mean[unseen], variance[unseen] = predicted.mean, predicted.variance
        return Filtered(mean.unflatten(0, shape), variance.unflatten(0, shape))

    def _beliefs(self, batch: Batch) -> tuple[Tensor, dist.TorchDistribution, Tensor]:
        """u_{t-1}, q(x_t | u_{t-1}, y_t), and where nothing was seen; of all ``B T`` frames."""
        statistics, features = run_sweep(self, batch)
        past = statistics[:, :-1].flatten(0, 1)
        unseen = (batch.mask & ~batch.observed_frames).flatten()
        return past, self.recognition(features.flatten(0, 1), past), unseen

    def _inputs(self, batch: Batch) -> Tensor | None:
        """The inputs of all ``B T`` frames, ``[B T, I]``; None for a model that reads none."""
        inputs = inputs_of(self, batch)
        return None if inputs is None else inputs.flatten(0, 1)

    def _draw_states(self, batch: Batch, num_samples: int) -> Tensor:
        """x_t given y_1 .. y_t, or y_1 .. y_{t-1} where it was not seen; ``[S, B, T, K]``."""
        past, belief, unseen = self._beliefs(batch)
        x = belief.sample((num_samples,))
        if unseen.any():
            inputs = at(self._inputs(batch), unseen)
            x[:, unseen] = self.sample_state(past[unseen], num_samples, inputs=inputs)
        return x.unflatten(1, batch.obs.shape[:2])

    @torch.no_grad()
    def reconstruct(self, batch: BatchLike) -> Tensor:
        """Mean of y_t at the filtered mean of x_t, ``[B, T, M]``: the source's 'updated' data.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.
        """
        batch = batch_for(self, batch)
        return self.likelihood.mean(self.natural(self.filter(batch).mean, batch.inputs))

    def infer(self, batch: Batch, given: str, num_samples: int) -> States:
        """See ``Network.infer``."""
        draws = self._draw_states(batch, num_samples) if num_samples else None
        return States(*self.filter(batch), draws)

    def expect(self, batch: Batch, given: str, num_samples: int) -> Tensor:
        """See ``Network.expect``."""
        if given == "past":
            return super().expect(batch, given, num_samples)
        x = self._draw_states(batch, num_samples)
        return self.likelihood.mean(self.natural(x, batch.inputs))

    def log_predictive(self, batch: Batch, num_samples: int) -> Tensor:
        """The sum over frames of log mean p(y_t | x_t), of draws from p(x_t | u_{t-1}); ``[B]``."""
        seen = batch.observed_frames
        fold = Fold.of(batch, run_sweep(self, batch).statistics[:, :-1])
        parts = []
        for number in portions(num_samples, AT_ONCE):
            x = self.sample_state(fold.past, number, inputs=fold.inputs)
            frames = seen_part(self.emit(x, fold.inputs), fold.observed)
            parts.append(frames.log_prob(fold.obs))
        found = torch.zeros(seen.shape, dtype=fold.obs.dtype, device=seen.device)
        found[seen] = log_mean_exp(torch.cat(parts))
        return found.sum(1)


@functools.lru_cache(maxsize=8)
def _fixed_draws(size: int, device: torch.device, dtype: torch.dtype) -> Tensor:
    """Draws from N(0, I), each with its mirror image, ``[2 DRAWS, 1, size]``: always the same."""
    noise = torch.randn(DRAWS, 1, size, generator=generator("expected frame"))
    return torch.cat((noise, -noise)).to(device, dtype)
