"""The variational recurrent auto-encoder: a recurrent net reads the data, another writes them.

    z_{1:T} ~ prior      x_t ~ p(x_t | D_t(z_{1:T}))      q(z_{1:T} | R(x_{1:T}))

R is a recurrent net over the whole sequence, D one over the latent path: bidirectional as in the
paper, or causal, which lets a particle filter step through it.

Source: Bayer & Osendorfer, "Variational inference of latent state sequences using recurrent
networks" (2014), section 3.1.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...inference.conditional_smc import PathSteps
from ...inference.contracts import Encoding
from ...inference.particles import ParticleSteps
from ...inference.paths import Path
from ..parts.checks import call, check_hidden, check_shape, size_of
from ..parts.decoders import BidirectionalDecoder, CausalDecoder
from ..parts.memory import Memory, Reader
from ..parts.nets import set_output_mean
from ..parts.path_guides import Autoregressive, MarkovChain, check_guide
from ..parts.priors import WienerProcess
from .path_model import PathModel


class VRAE(PathModel):
    """p(z) p(x | z) over whole sequences; trained by ``SequenceELBO``.

    Arguments:
        obs_dim, latent_dim, likelihood, prior, decoder_input: see ``PathModel``; the prior is a
            ``WienerProcess`` when left out.
        hidden: units of the default nets.
        encoder: ``encoder(obs [B, T, M], mask [B, T]) -> [B, T, F]`` with ``features_dim``; when
            left out a backwards ``Reader``.
        guide: a recognition model over paths (see ``path_guides``); when left out
            ``Autoregressive``, or a ``MarkovChain`` where the decoder is not causal or sees the
            path itself.
        decoder: see ``decoders``; when left out a ``CausalDecoder``.
        input_dropout: share of the observations that are hidden from the encoder in training.
        obs_mean: mean of a value, the same for all of them, to begin with.

    Example:
        >>> net = VRAE(88, 32, likelihoods.Bernoulli(88))
        >>> VRAE(88, 8, likelihoods.Bernoulli(88), guide=path_guides.Diagonal(200, 8))
    """

    def __init__(
        self,
        obs_dim: int,
        latent_dim: int,
        likelihood: nn.Module,
        hidden: int = 200,
        *,
        prior: nn.Module | None = None,
        encoder: nn.Module | None = None,
        guide: nn.Module | None = None,
        decoder: nn.Module | None = None,
        decoder_input: str = "innovations",
        input_dropout: float = 0.0,
        obs_mean: float | None = None,
    ):
        check_hidden(hidden)
        prior = WienerProcess(latent_dim) if prior is None else prior
        super().__init__(obs_dim, latent_dim, likelihood, prior, decoder_input)
        natural = likelihood.natural_dim
        self.decoder = CausalDecoder(latent_dim, natural, hidden) if decoder is None else decoder
        self.encoder = Reader(obs_dim, hidden) if encoder is None else encoder
        _check_sizes(self.encoder, "encoder", f"{obs_dim} values a frame", obs_dim)
        _check_sizes(self.decoder, "decoder", f"{latent_dim} latents", latent_dim, natural)
        size_of(self.encoder, "encoder", "features_dim")
        if guide is None and self.stepped:
            seen, remembered = self.encoder.features_dim, self.decoder.memory.outputs
            guide = Autoregressive(seen, latent_dim, remembered, hidden)
        elif guide is None:
            guide = MarkovChain(self.encoder.features_dim, latent_dim)
        check_guide(guide, latent_dim, self.encoder.features_dim)
        if obs_mean is not None:
            set_output_mean(self.decoder, likelihood, obs_mean)
        self.recognition, self.hide = guide, nn.Dropout(input_dropout)

    @property
    def stepped(self) -> bool:
        """Whether the decoder takes the path's innovations one by one."""
        return self.causal and self.decoder_input == "innovations"

    @property
    def causal(self) -> bool:
        """Whether frames depend on the path up to them alone."""
        return getattr(self.decoder, "causal", False)

    def extra_repr(self) -> str:
        seen = "z[1:t]" if self.causal else "z[1:T]"
        return f"p(z[1:T]) p(x[t] | {seen});  q(z[1:T] | x[1:T])"

    def features(self, obs: Tensor, mask: Tensor) -> Tensor:
        shape = *mask.shape, self.encoder.features_dim
        features = call(self.encoder, "encoder", self.hide(obs), mask)
        return check_shape(features, "encoder", "[batch, steps, features_dim]", shape)

    def belief(self, obs: Tensor, mask: Tensor, features: Tensor) -> Path:
        decoder = self.decoder if self.stepped else None
        return self.recognition(features, mask, self.law(mask), decoder)

    def natural(self, path: Tensor, encoding: Encoding) -> Tensor:
        trail = getattr(encoding.belief, "trail", lambda path: None)(path)
        if trail is not None:
            return self._fitting(self.decoder.emit(*trail), path)
        return self._decode(path, self.law(encoding.mask), encoding.mask)

    def _decode(self, path: Tensor, prior: Path, mask: Tensor) -> Tensor:
        """The decoder's natural parameters, ``[..., B, T, N]``."""
        return self._fitting(call(self.decoder, "decoder", self.inputs(path, prior), mask), path)

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

    def forwards(self, sequences: int, steps: int, noise: bool = True) -> Tensor:
        """Draws a path from the prior, then its frames; see ``sample``."""
        mask = torch.ones(sequences, steps, dtype=torch.bool, device=self.device)
        prior = self.law(mask)
        natural = self._decode(prior.sample(), prior, mask)
        return self.likelihood.sample(natural) if noise else self.likelihood.mean(natural)


class DecoderSteps(ParticleSteps):
    """Particles along a batch, weighed by the frames that were seen."""

    def __init__(self, net: VRAE, encoding: Encoding):
        self.steps, self.likelihood, self.obs = (
            PathSteps(net, encoding),
            net.likelihood,
            encoding.obs,
        )

    def begin(self, particles: int) -> tuple[Tensor, ...]:
        return self.steps.begin(particles)

    def step(self, t: int, state: tuple[Tensor, ...]) -> tuple[tuple[Tensor, ...], Tensor]:
        state, now, natural, ratio = self.steps.step(t, state)
        frame = self.obs[: now.shape[1], t]
        return state, ratio + self.likelihood.distribution(natural).log_prob(frame)


def _check_sizes(
    net: nn.Module, role: str, has: str, inputs: int, outputs: int | None = None
) -> None:
    """Raises a ValueError where one of the zoo's own nets was built for another model."""
    if type(net) not in (Reader, CausalDecoder, BidirectionalDecoder):
        return
    read = next(part.inputs for part in net.modules() if isinstance(part, Memory))
    if read != inputs:
        raise ValueError(f"the {role} reads {read} values a step, the model has {has}")
    if outputs is not None:
        written = [part for part in net.modules() if isinstance(part, nn.Linear)][-1].out_features
        if written != outputs:
            raise ValueError(
                f"the {role} puts out {written} values a frame, the likelihood needs "
                f"natural_dim = {outputs}"
            )
