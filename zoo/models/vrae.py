"""The variational recurrent auto-encoder: recurrent nets encode and decode whole sequences.

    z_{1:T} ~ prior      x_t ~ p(x_t | D_t(z_{1:T}))      q(z_{1:T} | R(x_{1:T}))

R is a recurrent net over the whole sequence and D is one over the latent path. D is bidirectional
as in the source, or causal, which particle filters need.

With inputs s_t the model is of the frames given the inputs, p(x_{1:T}, z | s_{1:T}):

    z_{1:T} ~ prior      x_t ~ p(x_t | D_t(z_{1:T}, s_{1:T}))      q(z_{1:T} | R(x_{1:T}, s_{1:T}))

The dynamics of a causal D are those of its memory, g_t = f([z_t, s_t], g_{t-1}): s_t acts on the
transition to g_t, and directly on frame t. The prior of z is that of the noise alone. A
bidirectional D lets a frame depend on later inputs, as on later noise.

Source: Bayer & Osendorfer, "Variational inference of latent state sequences using recurrent
networks" (2014), section 3.1.
"""

from __future__ import annotations

from typing import cast

import torch
from torch import Tensor, nn

from ...data import Batch
from ...inference.checks import check_number, check_sizes
from ...inference.conditional_smc import PathSteps
from ...inference.contracts import GIVENS, Encoding, States
from ...inference.evaluate import importance_estimate, particle_estimate, prepare_whole
from ...inference.inputs import keyword
from ...inference.particles import ParticleSteps
from ...inference.path_filter import PARTICLES, filter_paths, thinned
from ...inference.paths import Path
from ..parts.checks import call, check_dropout, check_hidden, check_mean, check_shape, size_of
from ..parts.decoders import BidirectionalDecoder, CausalDecoder, SteppedDecoder
from ..parts.likelihoods import Likelihood
from ..parts.likelihoods.likelihood import seen_part
from ..parts.memory import Memory, Reader, SequenceReader
from ..parts.missing import beside, expected, hide_values, reads
from ..parts.nets import set_output_mean
from ..parts.path_guides import (
    Autoregressive,
    AutoregressivePath,
    MarkovChain,
    PathGuide,
    check_guide,
)
from ..parts.priors import Prior, WienerProcess
from .path_model import PathModel

ROUNDS = 10  # of filling missing values in, after which they hardly change


class VRAE(PathModel):
    """p(z) p(x | z) over whole sequences; trained by ``SequenceELBO``.

    Arguments:
        obs_dim: values a frame, ``M``.
        latent_dim: size of z, ``K``.
        likelihood: the distribution of a frame, of dimension ``obs_dim`` (see ``likelihoods``).
        hidden: units of the default nets.
        prior: the distribution of paths (see ``priors``); None is a ``WienerProcess``.
        encoder: a net ``encoder(frames [B, T, R], mask [B, T]) -> [B, T, F]`` with
            ``features_dim``; None is a backwards ``Reader``. ``R`` is ``M`` (see ``sees_missing``).
        guide: a recognition model of paths (see ``path_guides``). None is ``Autoregressive``, or a
            ``MarkovChain`` where the decoder is not a causal one of innovations.
        decoder: a net from paths to frames (see ``decoders``); None is a ``CausalDecoder``.
        decoder_input: ``"innovations"`` of the path, or the ``"path"`` itself.
        input_dropout: probability that a value is hidden from the encoder in training; with
            ``sees_missing`` the encoder reads that it was not seen.
        obs_mean: initial mean of a value, which sets the biases of the decoder.
        sees_missing: the encoder reads ``R = 2 M`` values a frame: the frame with zeros in place of
            missing values, then 1.0 for each value that was seen. Without it, it reads the zeros.
        input_dim: inputs a frame, ``I`` (see ``Batch.inputs``). The encoder reads them after the
            other values of the frame, ``R + I``, and the decoder after the step of the path,
            ``K + I``; a ``CausalDecoder`` has the same ``input_dim``. A guide is called with a
            fifth argument, ``inputs``.

    Raises:
        ValueError: when parts have sizes that do not match.

    Example:
        >>> net = VRAE(88, 32, likelihoods.Bernoulli(88))
        >>> VRAE(88, 8, likelihoods.Bernoulli(88), guide=path_guides.Diagonal(200, 8))
    """

    encoder: SequenceReader
    decoder: nn.Module
    recognition: PathGuide

    def __init__(
        self,
        obs_dim: int,
        latent_dim: int,
        likelihood: Likelihood,
        hidden: int = 200,
        *,
        prior: Prior | None = None,
        encoder: SequenceReader | None = None,
        guide: PathGuide | None = None,
        decoder: nn.Module | None = None,
        decoder_input: str = "innovations",
        input_dropout: float = 0.0,
        obs_mean: float | None = None,
        sees_missing: bool = False,
        input_dim: int = 0,
    ) -> None:
        check_sizes(obs_dim=obs_dim, latent_dim=latent_dim)
        check_hidden(hidden)
        check_dropout(input_dropout=input_dropout)
        check_mean("obs_mean", obs_mean)
        prior = WienerProcess(latent_dim) if prior is None else prior
        sizes = obs_dim, latent_dim
        super().__init__(*sizes, likelihood, prior, decoder_input, sees_missing, input_dim)
        natural = likelihood.natural_dim
        if decoder is None:
            decoder = CausalDecoder(latent_dim, natural, hidden, input_dim=input_dim)
        self.decoder = decoder
        read = reads(obs_dim, sees_missing, input_dim)
        self.encoder = Reader(read, hidden) if encoder is None else encoder
        stepped = self._stepped_decoder()
        _check_sizes(self.encoder, "encoder", f"{read} values a frame", read)
        has = f"{latent_dim} latents" + (f" and {input_dim} inputs" if input_dim else "")
        _check_sizes(self.decoder, "decoder", has, latent_dim + input_dim, natural)
        if isinstance(decoder, CausalDecoder) and decoder.input_dim != input_dim:
            raise ValueError(
                f"the decoder has input_dim={decoder.input_dim}, the model input_dim={input_dim}"
            )
        size_of(self.encoder, "encoder", "features_dim")
        features = self.encoder.features_dim
        if guide is None and stepped is not None:
            guide = Autoregressive(features, latent_dim, stepped.memory.outputs, hidden)
        elif guide is None:
            guide = MarkovChain(features, latent_dim)
        check_guide(guide, latent_dim, features)
        if obs_mean is not None:
            set_output_mean(self.decoder, likelihood, obs_mean)
        self.recognition, self.hide = guide, nn.Dropout(input_dropout)

    @property
    def causal(self) -> bool:
        """Whether frames depend on the path up to them alone."""
        return getattr(self.decoder, "causal", False)

    @property
    def stepped(self) -> bool:
        """Whether the decoder is a causal one of innovations."""
        return self.causal and self.decoder_input == "innovations"

    def _stepped_decoder(self) -> SteppedDecoder | None:
        return cast("SteppedDecoder", self.decoder) if self.stepped else None

    def extra_repr(self) -> str:
        end = "t" if self.causal else "T"
        given, read = (f", s[1:{end}]", ", s[1:T]") if self.input_dim else ("", "")
        return f"p(z[1:T]) p(x[t] | z[1:{end}]{given});  q(z[1:T] | x[1:T]{read})"

    def features(self, frames: Tensor, mask: Tensor) -> Tensor:
        shape = *mask.shape, self.encoder.features_dim
        seen = hide_values(self.hide, frames, self.obs_dim, self.sees_missing)
        features = call(self.encoder, "encoder", seen, mask)
        return check_shape(features, "encoder", "[batch, steps, features_dim]", shape)

    def belief(self, frames: Tensor, mask: Tensor, features: Tensor) -> Path:
        inputs = frames[..., frames.shape[-1] - self.input_dim :]
        given = keyword(inputs if self.input_dim else None)
        prior, decoder = self.path_prior(mask), self._stepped_decoder()
        return self.recognition(features, mask, prior, decoder, **given)

    def natural(self, path: Tensor, encoding: Encoding) -> Tensor:
        belief = encoding.belief
        if isinstance(belief, AutoregressivePath) and (trail := belief.trail(path)) is not None:
            return self._fitting(belief.decoder.emit(*trail), path)
        prior = self.path_prior(encoding.mask)
        return self._decode(path, prior, encoding.mask, encoding.inputs)

    def _decode(self, path: Tensor, prior: Path, mask: Tensor, inputs: Tensor | None) -> Tensor:
        """The decoder's natural parameters, ``[..., B, T, N]``."""
        read = beside(self.decoded(path, prior), inputs, self.input_dim)
        return self._fitting(call(self.decoder, "decoder", read, mask), path)

    def _fitting(self, natural: Tensor, path: Tensor) -> Tensor:
        shape = *path.shape[:-1], self.likelihood.natural_dim
        return check_shape(natural, "decoder", "[..., steps, natural_dim]", shape)

    def particle_steps(self, encoding: Encoding) -> ParticleSteps:
        """A pass of particles along a batch; see ``inference.particle_bound``.

        Raises:
            ValueError: when the decoder is not causal.
        """
        if not self.causal:
            name = type(self.decoder).__name__
            raise ValueError(f"{name} sees the whole path: particles need a CausalDecoder")
        return DecoderSteps(self, encoding)

    def forwards(
        self, sequences: int, steps: int, noise: bool = True, inputs: Tensor | None = None
    ) -> Tensor:
        """Samples a path from the prior, then its frames; see ``sample``."""
        mask = torch.ones(sequences, steps, dtype=torch.bool, device=self.device)
        prior = self.path_prior(mask)
        natural = self._decode(prior.sample(), prior, mask, inputs)
        return self.likelihood.sample(natural) if noise else self.likelihood.mean(natural)

    # Verbs --------------------------------------------------------------------------------------

    @property
    def filters(self) -> bool:
        """Whether particles filter its paths: a causal decoder, prior and guide Markov chains."""
        blank = torch.ones(1, 2, dtype=torch.bool, device=self.device)
        shape = 1, 2, self.encoder.features_dim
        features = torch.zeros(shape, dtype=self.dtype, device=self.device)
        frames = features.new_zeros(1, 2, reads(self.obs_dim, self.sees_missing, self.input_dim))
        belief = self.belief(frames, blank, features)
        return PathSteps.applies(self, Encoding(features, blank, features, belief))

    @property
    def latents_given(self) -> tuple[str, ...]:
        """What its latents may be given."""
        return ("present", "all") if self.filters else ("all",)

    @property
    def rates_given(self) -> tuple[str, ...]:
        """What its expected frames may be given."""
        return GIVENS if self.filters else ("all",)

    def encoded(self, batch: Batch) -> Encoding:
        """A batch and the belief about its paths, as the verbs take them.

        An encoder that does not see what is missing reads zeros in training. Of a channel that
        is hidden, zeros would say that it is silent. Here it reads what the model expects in the
        place of missing values: first given no data, then given the belief, ``ROUNDS`` times.
        """
        encoding = self.prepare(batch)
        if batch.observed is None or self.sees_missing:
            return encoding
        belief: Path = self.path_prior(batch.mask)
        for _ in range(ROUNDS):
            natural = self.natural(belief.mode, encoding._replace(belief=belief))
            frames = torch.where(batch.observed, batch.obs, expected(self.likelihood, natural))
            frames = self.reading(frames, inputs=encoding.inputs)
            features = self.features(frames, batch.mask)
            belief = self.belief(frames, batch.mask, features)
        return encoding._replace(features=features, belief=belief)

    def infer(self, batch: Batch, given: str, num_samples: int) -> States:
        """Given all frames, see ``PathModel.infer``; given those up to t, by particles."""
        if given == "all":
            return super().infer(batch, given, num_samples)
        draws = torch.stack([p.state for p in filter_paths(self, batch, PARTICLES)], 2)
        some = thinned(draws, num_samples) if num_samples else None
        return States(draws.mean(0), draws.var(0), some)

    def expect(self, batch: Batch, given: str, num_samples: int) -> Tensor:
        """Given all frames, see ``PathModel.expect``; given fewer, by particles."""
        if given == "all":
            return super().expect(batch, given, num_samples)
        steps = filter_paths(self, batch, num_samples)
        natural = [p.ahead if given == "past" else p.natural for p in steps]
        return self.likelihood.mean(torch.stack(natural, 2))

    def log_predictive(self, batch: Batch, num_samples: int) -> Tensor:
        """The bound of a particle filter where there is one, otherwise that of paths; ``[B]``."""
        if self.filters:
            return particle_estimate(self, batch, num_samples)
        return importance_estimate(self, prepare_whole(self, batch), num_samples)

    def frame_log_prob(self, natural: Tensor, batch: Batch, t: int) -> Tensor:
        """log p(x_t) of the values seen, of natural parameters ``[k, B, N]``; ``[k, B]``."""
        check_number("t", t, 0, most=batch.obs.shape[1] - 1)
        observed = None if batch.observed is None else batch.observed[:, t]
        frames = seen_part(self.likelihood.distribution(natural), observed)
        return frames.log_prob(batch.obs[:, t])


class DecoderSteps(ParticleSteps):
    """Particles along a batch, weighted by the frames."""

    def __init__(self, net: VRAE, encoding: Encoding) -> None:
        self.steps, self.likelihood = PathSteps(net, encoding), net.likelihood
        self.obs, self.observed = encoding.obs, encoding.observed

    def begin(self, particles: int) -> tuple[Tensor, ...]:
        return self.steps.begin(particles)

    def step(self, t: int, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        state, now, natural, ratio = self.steps.step(t, state)
        rows = slice(now.shape[1])
        observed = None if self.observed is None else self.observed[rows, t]
        frames = seen_part(self.likelihood.distribution(natural), observed)
        return state, ratio + frames.log_prob(self.obs[rows, t])


def _check_sizes(net: object, role: str, has: str, inputs: int, outputs: int | None = None) -> None:
    """Raises a ValueError where a net of the zoo was built for other sizes."""
    known = type(net) in (Reader, CausalDecoder, BidirectionalDecoder)
    if not isinstance(net, nn.Module) or not known:
        return
    read = next(part.inputs for part in net.modules() if isinstance(part, Memory))
    if read != inputs:
        raise ValueError(f"the {role} reads {read} values a step, the model has {has}")
    if outputs is not None:
        written = [part for part in net.modules() if isinstance(part, nn.Linear)][-1].out_features
        if written != outputs:
            raise ValueError(
                f"the {role} has {written} outputs a frame, the likelihood needs "
                f"natural_dim = {outputs}"
            )
