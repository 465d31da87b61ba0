"""What models of a whole latent path share: the Pyro pair, its weights, and the verbs.

    z_{1:T} ~ prior      x_{1:T} ~ p(x | what the decoder makes of z)      q(z_{1:T} | x_{1:T})

Source: Bayer & Osendorfer, "Variational inference of latent state sequences using recurrent
networks" (2014).
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from ...data import Batch
from ...inference.contracts import Encoding, LatentPathModel
from ...inference.paths import LinearChain, Path
from ...inference.rng import RandomStream
from ..parts.checks import check_distribution, check_dtype, check_path, size_of
from ..parts.memory import check_ends
from .generation import Generates

DECODER_INPUTS = ("innovations", "path")


class PathModel(Generates, LatentPathModel, PyroModule):
    """A subclass writes ``features``, ``belief``, ``natural`` and ``forwards``.

    Arguments:
        obs_dim: values a frame, ``M``.
        latent_dim: size ``K`` of the state.
        likelihood: the family of a frame, of dimension ``obs_dim``.
        prior: the law of paths (see ``priors``), of dimension ``latent_dim``.
        decoder_input: ``"innovations"``, (z_t - E[z_t | z_<t]) / sd, which are white noise under
            any prior; or ``"path"``, z_t itself, as in the source, which grows with t under a
            Wiener prior.

    Raises:
        ValueError: when the parts do not fit one another.
    """

    def __init__(
        self,
        obs_dim: int,
        latent_dim: int,
        likelihood: nn.Module,
        prior: nn.Module,
        decoder_input: str,
    ):
        super().__init__()
        if size_of(likelihood, "likelihood", "dim") != obs_dim:
            raise ValueError(f"likelihood has {likelihood.dim} units, obs_dim is {obs_dim}")
        size_of(likelihood, "likelihood", "natural_dim")
        if size_of(prior, "prior", "dim") != latent_dim:
            raise ValueError(f"the prior has {prior.dim} latents, the model {latent_dim}")
        if decoder_input not in DECODER_INPUTS:
            known = ", ".join(DECODER_INPUTS)
            raise ValueError(f"decoder_input must be one of {known}, got {decoder_input!r}")
        self.obs_dim, self.latent_dim, self.decoder_input = obs_dim, latent_dim, decoder_input
        self.likelihood, self.prior = likelihood, prior

    def features(self, obs: Tensor, mask: Tensor) -> Tensor:
        """What recurrent nets read in the data, ``[B, T, F]``."""
        raise NotImplementedError

    def belief(self, obs: Tensor, mask: Tensor, features: Tensor) -> Path:
        """q(z | x), batch shape ``[B]``."""
        raise NotImplementedError

    def natural(self, path: Tensor, encoding: Encoding) -> Tensor:
        """Natural parameters of the frames, ``[..., B, T, N]``, of a path ``[..., B, T, K]``."""
        raise NotImplementedError

    # The Pyro pair, over whole sequences -------------------------------------------------------

    def check(self, obs: Tensor) -> None:
        """Raises a ValueError where ``obs`` does not fit the likelihood, or the dtype."""
        self.likelihood.check(obs)
        check_dtype(self, obs)

    def prepare(self, batch: Batch) -> Encoding:
        """Checks a batch and reads it once, for guide and model alike.

        Raises:
            ValueError: when a real frame is outside the support of the likelihood, padding comes
                before a real frame, or the guide returns no law of these paths.
        """
        self.check(batch.obs[batch.mask])
        check_ends(batch.mask)
        features = self.features(batch.obs, batch.mask)
        belief = self.belief(batch.obs, batch.mask, features)
        check_path(belief, "guide", (*batch.mask.shape, self.latent_dim))
        return Encoding(batch.obs, batch.mask, features, belief)

    def law(self, mask: Tensor) -> Path:
        """p(z), batch shape ``[B]``, event shape ``[T, K]``: what the prior returns, checked."""
        return check_path(self.prior(mask), "prior", (*mask.shape, self.latent_dim))

    def model(self, encoding: Encoding) -> None:
        """The generative model, the frames observed."""
        with pyro.plate("sequences", encoding.rows):
            path = pyro.sample("z", self.law(encoding.mask))
            pyro.sample("x", self.emit(path, encoding), obs=encoding.obs)

    def guide(self, encoding: Encoding) -> None:
        """The recognition model."""
        with pyro.plate("sequences", encoding.rows):
            pyro.sample("z", encoding.belief)

    def emit(self, path: Tensor, encoding: Encoding) -> dist.TorchDistribution:
        """p(x | z), batch shape ``[..., B]``, event shape ``[T, M]``; padding does not count."""
        frames = self.frames(path, encoding)
        return frames.mask(encoding.mask).to_event(1)

    def frames(self, path: Tensor, encoding: Encoding) -> dist.TorchDistribution:
        """p(x_t | z), batch shape ``[..., B, T]``, event shape ``[M]``."""
        law = self.likelihood.distribution(self.natural(path, encoding))
        return check_distribution(law, "likelihood's distribution", (self.obs_dim,))

    def inputs(self, path: Tensor, prior: Path) -> Tensor:
        """The decoder's input of a path, ``[..., T, K]``."""
        return path if self.decoder_input == "path" else prior.to_innovations(path)[0]

    # Weights of single frames -------------------------------------------------------------------

    def frame_weights(self, encoding: Encoding, num_samples: int) -> Tensor:
        """log p(x_t, z_t | z_<t) - log q(z_t | z_<t, x), ``[k, B, T]``, zero in padding."""
        belief, prior = encoding.belief, self.law(encoding.mask)
        path = belief.rsample((num_samples,))
        seen = self.frames(path, encoding).log_prob(encoding.obs)
        seen = torch.where(encoding.mask, seen, 0.0)
        return seen + prior.step_log_probs(path) - belief.step_log_probs(path)

    # Verbs --------------------------------------------------------------------------------------

    @torch.no_grad()
    def posterior(self, obs: Tensor, mask: Tensor | None = None) -> Path:
        """q(z | x), the law of the latent paths, batch shape ``[B]``, event shape ``[T, K]``."""
        return self.prepare(Batch(obs, mask)).belief

    @torch.no_grad()
    def reconstruct(
        self, obs: Tensor, mask: Tensor | None = None, by: str = "mean", seed: int | None = None
    ) -> Tensor:
        """Frames at the guide's most likely path, or at a path drawn from it, ``[B, T, M]``.

        Arguments:
            obs, mask: the data.
            by: what is made of p(x_t | z): ``"mean"``, ``"mode"`` or ``"sample"``.
            seed: draw the path (and the frames) instead of taking the most likely one.

        Raises:
            ValueError: for another ``by``.
        """
        if by not in ("mean", "mode", "sample"):
            raise ValueError(f"by must be mean, mode or sample, got {by!r}")
        encoding = self.prepare(Batch(obs, mask))
        belief = encoding.belief
        with RandomStream(obs.device, "reconstruct", seed or 0):
            path = belief.mode if seed is None else belief.rsample()
            return getattr(self.likelihood, by)(self.natural(path, encoding))


def same_noise(q: Path, p: Path) -> bool:
    """Whether two chains have the same coefficient, so that q's innovations are p's, shifted."""
    chains = type(q) is type(p) is LinearChain
    plain = chains and not isinstance(q.coefficient, Tensor)
    return plain and not isinstance(p.coefficient, Tensor) and q.coefficient == p.coefficient
