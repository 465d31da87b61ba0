"""The variational one-step predictor: a recurrent net of the past and one latent path.

    h_t = f(x_t, h_{t-1})      z_{1:T} ~ prior      x_t ~ p(x_t | h_{t-1}, z_t)
    q(z_{1:T} | x_{1:T}), each step from h_{t-1} and x_t

With inputs s_t the model is of the frames given the inputs, p(x_{1:T}, z | s_{1:T}):

    h_t = f([x_t, s_t], h_{t-1})      x_t ~ p(x_t | h_{t-1}, z_t, s_t)

s_t acts on frame t directly, and on later frames through h. The guide reads h_{t-1}, x_t and s_t.

Source: Bayer & Osendorfer, "Variational inference of latent state sequences using recurrent
networks" (2014), section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...data import Batch, BatchLike
from ...inference.checks import check_number, check_sizes
from ...inference.contracts import Encoding, Recurrent
from ...inference.evaluate import frame_estimate, importance_estimate, prepare_whole
from ...inference.inputs import at
from ...inference.paths import LinearChain, Path
from ...inference.predict import Filtered
from ..parts.checks import call, check_dropout, check_hidden, check_mean, check_shape
from ..parts.likelihoods import Likelihood
from ..parts.memory import CausalNet, Memory, Remembers, check_fits
from ..parts.missing import beside, expected, hide_values, needed, reads
from ..parts.nets import MLP, set_output_mean
from ..parts.path_guides import Increments, PathGuide, check_guide
from ..parts.priors import Prior, WienerProcess
from ..parts.private import add_private, drop_shared, shared_part, with_private
from .path_model import PathModel, same_noise


class VOSP(Remembers, PathModel, Recurrent):
    """p(z) prod_t p(x_t | x_<t, z_t); trained by ``SequenceELBO``.

    With the defaults, which are a ``WienerProcess`` prior, an ``Increments`` guide and a decoder of
    innovations, no two frames depend on the same latent noise. Every frame then has a bound of its
    own, which ``inference.frame_bound`` tightens, and only h is computed step by step.

    Arguments:
        obs_dim: values a frame, ``M``.
        latent_dim: size of z, ``K``.
        likelihood: the distribution of a frame, of dimension ``obs_dim`` (see ``likelihoods``).
        hidden: units of the default memory, ``H``.
        prior: the distribution of paths (see ``priors``); None is a ``WienerProcess``.
        memory: the recurrent net f over frames (see ``memory``); None is a GRU.
        guide: a recognition model of paths with ``features_dim`` equal to ``width`` (see
            ``path_guides``); None is ``Increments``.
        encoder: a net from h_{t-1} and the values that f reads of frame t to the ``width`` features
            of the guide; None is two layers of rectified units.
        emission: a net from h_{t-1}, z_t and s_t, ``H + K + I`` values, to natural parameters;
            None has one hidden layer of ``width`` rectified units.
        width: features of the guide, and units of the default hidden layers.
        decoder_input: ``"innovations"`` of the path, or the ``"path"`` itself.
        input_dropout: probability that a value of the past is hidden from f in training; with
            ``sees_missing`` f reads that it was not seen.
        dropout: probability that a unit of h is dropped.
        obs_mean: initial mean of a value, which sets the biases of the decoder.
        sees_missing: f and the guide read ``2 M`` values a frame: the frame with zeros in place of
            missing values, then 1.0 for each value that was seen. Without it they read, in place
            of a missing value, the one that is expected after the frames before it (see
            ``expected_frame``). In either case the likelihood is of the values seen, given the
            frames as they are read: not what is left when the missing values are summed out.
        input_dim: inputs a frame, ``I`` (see ``Batch.inputs``). f and the guide read them after the
            other values of the frame, and so does the decoder.
        private: of traces, each channel has a state of its own beside the memory, a Kalman filter
            of its own past, which is added to the natural parameters (see ``private``). It is for
            recordings in which each channel has a memory that others do not share, such as the
            decay of a calcium indicator.

    Raises:
        ValueError: when parts have sizes that do not match.

    Example:
        >>> net = VOSP(88, 32, likelihoods.Bernoulli(88))
    """

    recognition: PathGuide

    def __init__(
        self,
        obs_dim: int,
        latent_dim: int,
        likelihood: Likelihood,
        hidden: int = 200,
        *,
        prior: Prior | None = None,
        memory: CausalNet | None = None,
        guide: PathGuide | None = None,
        encoder: nn.Module | None = None,
        emission: nn.Module | None = None,
        width: int = 200,
        decoder_input: str = "innovations",
        input_dropout: float = 0.0,
        dropout: float = 0.0,
        obs_mean: float | None = None,
        sees_missing: bool = False,
        input_dim: int = 0,
        private: bool = False,
    ) -> None:
        check_sizes(obs_dim=obs_dim, latent_dim=latent_dim, width=width)
        check_hidden(hidden)
        check_dropout(input_dropout=input_dropout, dropout=dropout)
        check_mean("obs_mean", obs_mean)
        prior = WienerProcess(latent_dim) if prior is None else prior
        sizes = obs_dim, latent_dim
        super().__init__(*sizes, likelihood, prior, decoder_input, sees_missing, input_dim)
        read = reads(obs_dim, sees_missing, input_dim)
        self.memory = Memory(read, hidden) if memory is None else memory
        check_fits(self.memory, obs_dim, sees_missing, input_dim)
        self.recognition = Increments(width, latent_dim) if guide is None else guide
        check_guide(self.recognition, latent_dim, width)
        past = self.memory.outputs
        if private:
            self.memory = with_private(self.memory, likelihood, sees_missing)
        layers = [self.memory.outputs + read, width, width]
        self.encoder = MLP(layers, last="relu") if encoder is None else encoder
        self.emission = emission
        if emission is None:
            self.from_past = nn.Linear(past, width)
            self.from_latent = nn.Linear(latent_dim, width, bias=False)
            self.from_inputs = nn.Linear(input_dim, width, bias=False) if input_dim else None
            self.decoder = nn.Linear(width, likelihood.natural_dim)
        if obs_mean is not None:
            set_output_mean(self.decoder if emission is None else emission, likelihood, obs_mean)
        self.hide, self.dropout = nn.Dropout(input_dropout), nn.Dropout(dropout)

    def extra_repr(self) -> str:
        past, now = (", s[1:t]", ", s[1:t]") if self.input_dim else ("", "")
        return f"p(z[1:T]) p(x[t] | x[1:t-1], z[t]{past});  q(z[t] | x[1:t]{now})"

    @property
    def framewise(self) -> bool:
        """Whether no two frames depend on the same latent noise, given the data."""
        blank = torch.ones(1, 2, dtype=torch.bool, device=self.device)
        prior = self.prior(blank)
        width, like = self.recognition.features_dim, {"dtype": self.dtype, "device": self.device}
        features = torch.zeros(1, 2, width, **like)
        belief = self.recognition(features, blank, prior, None)
        white = isinstance(prior, LinearChain) and prior.coefficient == 0
        return same_noise(belief, prior) and (white or self.decoder_input == "innovations")

    @property
    def latents_given(self) -> tuple[str, ...]:
        """What its latents may be given: a frame says nothing of the noise of those before it."""
        return ("present", "all") if self.framewise else ("present",)

    @property
    def rates_given(self) -> tuple[str, ...]:
        """What its expected frames may be given."""
        past = () if self.decoder_input == "path" else ("past",)
        return (*past, *self.latents_given)

    def prepare(self, batch: Batch) -> Encoding:
        """See ``PathModel.prepare``.

        Where no two frames depend on the same noise, that of a frame of which nothing was seen has
        the prior for posterior, and the guide is not asked.
        """
        encoding = super().prepare(batch)
        if batch.observed is None or not self.framewise:
            return encoding
        q, p = encoding.belief, self.path_prior(batch.mask)
        assert isinstance(q, LinearChain)  # framewise: chains with the same coefficient
        assert isinstance(p, LinearChain)
        seen = batch.observed_frames[..., None]
        offset, scale = torch.where(seen, q.offset, p.offset), torch.where(seen, q.scale, p.scale)
        return encoding._replace(belief=LinearChain(batch.mask, q.coefficient, offset, scale))

    def features(self, frames: Tensor, mask: Tensor) -> Tensor:
        """h_{t-1} for every frame, ``[B, T, H]``."""
        shape = *mask.shape, self.memory.outputs
        past = call(
            self.remembered,
            "memory",
            hide_values(self.hide, frames, self.obs_dim, self.sees_missing),
        )
        past = check_shape(past, "memory", "[batch, steps, outputs]", shape)
        return drop_shared(self.dropout, self.memory, past)

    def belief(self, frames: Tensor, mask: Tensor, features: Tensor) -> Path:
        seen = call(self.encoder, "encoder", torch.cat((features, frames), -1))
        seen = check_shape(
            seen, "encoder", "[batch, steps, width]", (*mask.shape, self.recognition.features_dim)
        )
        return self.recognition(seen, mask, self.path_prior(mask), None)

    def natural(self, path: Tensor, encoding: Encoding) -> Tensor:
        latent = self.decoded(path, self.path_prior(encoding.mask))
        return self._frame(latent, encoding.features, encoding.inputs)

    def _frame(self, latent: Tensor, past: Tensor, inputs: Tensor | None = None) -> Tensor:
        """Natural parameters of frames given the path as it is decoded, h_{t-1} and s_t.

        The product of the default emission with h is computed once for all samples of the latent
        state.
        """
        shared = shared_part(self.memory, past)
        if self.emission is not None:
            read = torch.cat((shared.expand(*latent.shape[:-1], -1), latent), -1)
            natural = call(self.emission, "emission", beside(read, inputs, self.input_dim))
            shape = *latent.shape[:-1], self.likelihood.natural_dim
            natural = check_shape(natural, "emission", "[..., natural_dim]", shape)
        else:
            drive = self.from_past(shared)
            if self.from_inputs is not None:
                drive = drive + self.from_inputs(needed(inputs, self.input_dim))
            natural = self.decoder(torch.relu(drive + self.from_latent(latent)))
        return add_private(natural, self.memory, past)

    def expected_frame(self, past: Tensor, inputs: Tensor | None = None) -> Tensor:
        """The frame that is read in place of a missing one, ``[N, U] -> [N, M]``.

        It is the mean of the frame without noise, e_t = 0, or its mode under a ``NADE``. Where the
        input of the decoder is the path, which is not known here, the path is taken as zero.
        """
        latent = past.new_zeros(len(past), self.latent_dim)
        return expected(self.likelihood, self._frame(latent, self.memory.output(past), inputs))

    # Verbs --------------------------------------------------------------------------------------

    def expect(self, batch: Batch, given: str, num_samples: int) -> Tensor:
        """See ``Network.expect``."""
        if given == "past":
            return Recurrent.expect(self, batch, given, num_samples)
        return super().expect(batch, given, num_samples)

    def log_predictive(self, batch: Batch, num_samples: int) -> Tensor:
        """The bound of frames where they share no noise, otherwise that of paths; ``[B]``."""
        bound = frame_estimate if self.framewise else importance_estimate
        return bound(self, prepare_whole(self, batch), num_samples)

    @torch.no_grad()
    def sample_next(
        self,
        past: Tensor,
        previous: Tensor,
        num_samples: int = 8,
        *,
        inputs: Tensor | None = None,
    ) -> Tensor:
        """The next frame: E[x_t | h_{t-1}, e_t] for innovations e_t of the prior, ``[S, N, M]``.

        Arguments:
            past: the state of h before the frame, ``[N, U]``.
            previous: x_{t-1}, ``[N, M]``; not used.
            num_samples: independent samples ``S``.
            inputs: s_t, ``[N, I]``; read where ``input_dim``.

        Raises:
            ValueError: when the input of the decoder is the path, which is not known here.
        """
        check_number("num_samples", num_samples)
        if self.decoder_input == "path":
            raise ValueError(
                "frames of this VOSP depend on the path: to predict, build it with "
                "decoder_input='innovations'"
            )
        shape = num_samples, len(past), self.latent_dim
        noise = torch.randn(shape, dtype=past.dtype, device=past.device)
        return self.likelihood.mean(self._frame(noise, self.memory.output(past), inputs))

    def forwards(
        self, sequences: int, steps: int, noise: bool = True, inputs: Tensor | None = None
    ) -> Tensor:
        """Samples a path from the prior, then frame after frame; see ``sample``."""
        mask = torch.ones(sequences, steps, dtype=torch.bool, device=self.device)
        prior = self.path_prior(mask)
        path = self.decoded(prior.sample(), prior)
        emit = self.likelihood.sample if noise else self.likelihood.mean
        past, frames = self.initial(sequences), []
        for t, latent in enumerate(path.unbind(1)):
            now = at(inputs, (slice(None), t))
            frames.append(emit(self._frame(latent, self.memory.output(past), now)))
            past = self.step(self.encode(frames[-1], inputs=now), past)
        return torch.stack(frames, 1)

    @torch.no_grad()
    def filter(self, batch: BatchLike) -> Filtered:
        """Mean and variance of z_t given x_1 .. x_t, each ``[B, T, K]``.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.

        Raises:
            ValueError: when the guide is not a Gaussian chain.
        """
        belief = self.posterior(batch)
        if not isinstance(belief, LinearChain):
            raise ValueError(
                f"filter needs a guide that is a LinearChain, got {type(belief).__name__}"
            )
        return Filtered(*belief.moments())
