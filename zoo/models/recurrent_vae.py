"""The base of the recurrent and the temporal VAE: recognition, emission, and verbs.

The recognition model has the statistics of its own belief as its memory:

    q(x_t | u_{t-1}, y_t) = N(nu(u_{t-1}, y_t), diag v²(u_{t-1}, y_t)),  u_t = (nu, v)

u_t, the statistics of the belief about x_t, summarises y_1 .. y_t. A model with inputs s_t has all
of its factors given them, q(x_t | u_{t-1}, y_t, s_t) included.

Source: Abdulsalam & Makin, "Learning recurrent models with temporally local rules" (2023), equation
2.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from ...data import Batch, BatchLike, generator
from ...inference.checks import check_number, check_sizes, portions
from ...inference.contracts import Fold, FrameModel, GibbsModel, States
from ...inference.inputs import at, inputs_of
from ...inference.particles import log_mean_exp
from ...inference.placing import batch_for
from ...inference.predict import Filtered, run_sweep
from ..parts.checks import (
    call,
    check_distribution,
    check_dropout,
    check_dtype,
    check_hidden,
    check_shape,
    size_of,
)
from ..parts.guides import FrameGuide, GaussianGuide
from ..parts.likelihoods import Likelihood, seen_part
from ..parts.missing import beside, expected, frames_read, reads
from ..parts.nets import MLP
from .generation import Generates

AT_ONCE = 25  # states drawn for each frame that are in memory together
DRAWS = 50  # pairs of states behind the frame that is expected before any was seen


class RecurrentVAE(Generates, FrameModel, GibbsModel, PyroModule):
    """The base of the two models. A subclass writes ``prior`` and ``sample_state``.

    Arguments:
        obs_dim: values a frame, ``M``.
        latent_dim: size of x, ``K``.
        likelihood: the distribution of y, of dimension ``obs_dim`` (see ``likelihoods``).
        hidden: width of the layers.
        emission_dim: number of latents, the first ones, that the frame depends on; None is all. The
            others depend on the frames through u alone, as velocities depend on positions.
        statistics: the statistics u_t of the default guide, ``"mean+spread"`` or ``"mean"``.
        guide: a recognition model (see ``guides``); None is a ``GaussianGuide``.
        decoder: a net from the first ``emission_dim`` latents to the natural parameters of y; None
            has two hidden layers.
        sees_missing: let the guide read, after the values of a frame, which of them were seen (1.0,
            otherwise 0.0), and zeros in place of the others. A guide of your own then reads
            ``2 M`` values. Otherwise it reads the frame that the model expects in their place.
        input_dim: inputs a frame, ``I`` (see ``Batch.inputs``). Guide and decoder then read them
            after their other values, ``M + I`` or ``2 M + I`` and ``K + I``.
        input_dropout: probability that a rule hides a value from the guide in training. A hidden
            value counts as missing for the guide, and the likelihood scores it. With
            ``sees_missing`` that is quick; without it the model must expect every frame.

    Raises:
        ValueError: when parts have sizes that do not match.
    """

    takes_missing = True
    latents_given = ("present",)
    rates_given = ("past", "present")
    likelihood: Likelihood
    recognition: FrameGuide
    decoder: nn.Module

    def __init__(
        self,
        obs_dim: int,
        latent_dim: int,
        likelihood: Likelihood,
        hidden: int = 64,
        *,
        emission_dim: int | None = None,
        statistics: str = "mean+spread",
        guide: FrameGuide | None = None,
        decoder: nn.Module | None = None,
        sees_missing: bool = False,
        input_dim: int = 0,
        input_dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(obs_dim=obs_dim, latent_dim=latent_dim)
        check_number("input_dim", input_dim, 0)
        check_dropout(input_dropout=input_dropout)
        check_hidden(hidden)
        if emission_dim is not None:
            check_number("emission_dim", emission_dim, most=latent_dim)
        if size_of(likelihood, "likelihood", "dim") != obs_dim:
            raise ValueError(f"likelihood has {likelihood.dim} units, obs_dim is {obs_dim}")
        if guide is not None and size_of(guide, "guide", "latent_dim") != latent_dim:
            raise ValueError(f"the guide has {guide.latent_dim} latents, the model {latent_dim}")
        self.obs_dim, self.latent_dim, self.likelihood = obs_dim, latent_dim, likelihood
        self.emission_dim = emission_dim or latent_dim
        self.sees_missing = sees_missing
        self.input_dim, self.input_dropout = input_dim, input_dropout
        if guide is None:
            read = reads(obs_dim, sees_missing, input_dim)
            guide = GaussianGuide(read, latent_dim, hidden, statistics, emission_dim)
        self.recognition = guide
        size_of(self.recognition, "guide", "statistics_dim")
        layers = [
            self.emission_dim + input_dim,
            hidden,
            hidden,
            size_of(likelihood, "likelihood", "natural_dim"),
        ]
        self.decoder = MLP(layers) if decoder is None else decoder

    @property
    def factorisation(self) -> str:
        """The factors of the model and of the guide."""
        raise NotImplementedError(f"{type(self).__name__} must define factorisation")

    def extra_repr(self) -> str:
        return self.factorisation

    # The recursion of the recognition model ---------------------------------------------------

    def check(self, obs: Tensor) -> None:
        """Raises a ValueError for ``obs`` outside the support, or of another dtype."""
        self.likelihood.check(obs)
        check_dtype(self, obs)

    def initial(self, rows: int) -> Tensor:
        """u before the first frame, ``[B, U]``."""
        shape = rows, self.recognition.statistics_dim
        first = self.recognition.initial(rows)
        return check_shape(first, "guide's initial", "[rows, statistics_dim]", shape)

    def encode(
        self, obs: Tensor, observed: Tensor | None = None, inputs: Tensor | None = None
    ) -> Tensor:
        """Features of each frame alone, ``[..., M] -> [..., F]``.

        Arguments:
            obs: frames, ``[..., M]``.
            observed: True where a value was seen, ``[..., M]``; None where all were. It is read
                where ``sees_missing``.
            inputs: s_t, ``[..., I]``; read where ``input_dim``.
        """
        role = "guide's encode"
        if self.sees_missing:
            role = "guide, which reads 2 M values where sees_missing,"
        frames = frames_read(self.likelihood, obs, observed, self.sees_missing)
        return call(self.recognition.encode, role, beside(frames, inputs, self.input_dim))

    def read(
        self, obs: Tensor, observed: Tensor, past: Tensor, inputs: Tensor | None = None
    ) -> Tensor:
        """Features of frames of which values are missing, ``[N, F]``; see ``Recurrent.read``.

        A guide that sees what is missing reads expected frames only where nothing was seen.
        """
        if not self.sees_missing:
            return super().read(obs, observed, past, inputs)
        obs, unseen = obs.masked_fill(~observed, 0.0), ~observed.any(-1, keepdim=True)
        if unseen.any():
            expected = self.expected_frame(past, inputs)
            obs, observed = torch.where(unseen, expected, obs), observed | unseen
        return self.encode(obs, observed, inputs)

    def shown(self, batch: Batch) -> Tensor | None:
        """True where the guide is shown a value in training, ``[B, T, M]``; None where it is all.

        Values are drawn from torch's global random state, anew for each frame.
        """
        if not (self.training and self.input_dropout):
            return None
        shown = torch.rand_like(batch.obs) >= self.input_dropout
        return shown & (batch.mask[..., None] if batch.observed is None else batch.observed)

    def step(self, features: Tensor, past: Tensor) -> Tensor:
        """u_t, ``[B, U]``."""
        new = self.recognition.step(features, past)
        return check_shape(new, "guide's step", "[rows, statistics_dim]", past.shape)

    def advance(self, features: Tensor, past: Tensor) -> Tensor:
        """``step`` for a past that is nowhere blank, ``[B, U]``."""
        return getattr(self.recognition, "advance", self.recognition.step)(features, past)

    # The Pyro pair, over N folded frames --------------------------------------------------------

    def prior(self, fold: Fold) -> dist.TorchDistribution:
        """p(x_t), batch shape ``[N]``, event shape ``[K]``."""
        zeros = fold.past.new_zeros(fold.rows, self.latent_dim)
        return dist.Normal(zeros, torch.ones_like(zeros), validate_args=False).to_event(1)

    def model(self, fold: Fold) -> None:
        """The generative model, with the frames and their past observed."""
        with pyro.plate("frames", fold.rows):
            x = pyro.sample("x", self.prior(fold))
            self.explain_past(x, fold)
            frame = seen_part(self.emit(x, fold.inputs), fold.observed)
            pyro.sample("y", frame, obs=fold.obs)

    def guide(self, fold: Fold) -> None:
        """The recognition model."""
        with pyro.plate("frames", fold.rows):
            pyro.sample("x", self.belief(fold))

    def belief(self, fold: Fold) -> dist.TorchDistribution:
        """q(x_t | u_{t-1}, y_t), batch shape ``[N]``, event shape ``[K]``."""
        if fold.present is not None and getattr(self.recognition, "complete", False):
            return self.recognition.posterior(fold.present)
        features = fold.features
        shown = fold.observed if fold.shown is None else fold.shown
        if features is None and shown is not None:
            features = self.read(fold.obs, shown, fold.past, fold.inputs)
        elif features is None:
            features = self.encode(fold.obs, inputs=fold.inputs)
        belief = self.recognition(features, fold.past)
        return check_distribution(belief, "guide's distribution", (self.latent_dim,))

    def natural(self, x: Tensor, inputs: Tensor | None = None) -> Tensor:
        """Natural parameters of y given x ``[..., K]`` and inputs ``[..., I]``, ``[..., M]``."""
        shape = *x.shape[:-1], self.likelihood.natural_dim
        read = beside(x[..., : self.emission_dim], inputs, self.input_dim)
        natural = call(self.decoder, "decoder", read)
        return check_shape(natural, "decoder", "[..., natural_dim]", shape)

    def emit(self, x: Tensor, inputs: Tensor | None = None) -> dist.TorchDistribution:
        """p(y_t | x_t, s_t), batch shape ``[...]``, event shape ``[M]``; see ``natural``."""
        distribution = self.likelihood.distribution(self.natural(x, inputs))
        return check_distribution(distribution, "likelihood's distribution", (self.obs_dim,))

    def explain_past(self, x: Tensor, fold: Fold) -> None:
        """The factor of the generative model for u_{t-1}: none here."""

    # Verbs ------------------------------------------------------------------------------------

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
        if blank.any():
            some = inputs[blank] if self.input_dim and inputs is not None else None
            rows = 1 if some is None else len(some)
            state = self.predict_state(self.initial(rows), some)
            noise = torch.randn(DRAWS, 1, self.latent_dim, generator=generator("expected frame"))
            x = state.mean + state.variance.sqrt() * torch.cat((noise, -noise)).to(past)
            frames[blank] = expected(self.likelihood, self.natural(x, some)).mean(0)
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
