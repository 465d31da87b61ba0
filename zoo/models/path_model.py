"""The base of models of a whole latent path: the Pyro pair, its weights, and verbs.

    z_{1:T} ~ prior      x_{1:T} ~ p(x | decoder(z))      q(z_{1:T} | x_{1:T})

Source: Bayer & Osendorfer, "Variational inference of latent state sequences using recurrent
networks" (2014).
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor

from ...data import Batch, BatchLike
from ...inference.checks import check_frames, check_number, check_seed
from ...inference.contracts import Encoding, LatentPathModel, States
from ...inference.inputs import inputs_of
from ...inference.paths import LinearChain, Path
from ...inference.placing import batch_for
from ...inference.rng import RandomStream
from ..parts.checks import check_distribution, check_dtype, check_path, size_of
from ..parts.likelihoods import Likelihood
from ..parts.likelihoods.likelihood import seen_part
from ..parts.memory import check_ends
from ..parts.missing import beside, frames_read
from ..parts.priors import Prior
from .generation import Generates

DECODER_INPUTS = ("innovations", "path")
METHODS = ("mean", "mode", "sample")
MOMENTS = 100  # paths behind the mean and the variance of a guide without closed form


class PathModel(Generates, LatentPathModel, PyroModule):
    """A subclass writes ``features``, ``belief``, ``natural`` and ``forwards``.

    Missing values count for nothing in p(x | z), while the prior and the guide go on through a gap.

    Arguments:
        obs_dim: values a frame, ``M``.
        latent_dim: size ``K`` of the state.
        likelihood: the distribution of a frame, of dimension ``obs_dim`` (see ``likelihoods``).
        prior: the distribution of paths (see ``priors``), of dimension ``latent_dim``.
        decoder_input: ``"innovations"``, (z_t - E[z_t | z_<t]) / sd, which are white noise under
            any prior; or ``"path"``, z_t itself, as in the source, which grows with t under a
            Wiener prior.
        sees_missing: see ``reading``.
        input_dim: inputs a frame, ``I`` (see ``Batch.inputs``).

    Raises:
        ValueError: when parts have sizes that do not match.
    """

    takes_missing = True
    latents_given: tuple[str, ...] = ("all",)
    rates_given: tuple[str, ...] = ("all",)
    likelihood: Likelihood
    prior: Prior

    def __init__(
        self,
        obs_dim: int,
        latent_dim: int,
        likelihood: Likelihood,
        prior: Prior,
        decoder_input: str,
        sees_missing: bool = False,
        input_dim: int = 0,
    ) -> None:
        super().__init__()
        check_number("input_dim", input_dim, 0)
        if size_of(likelihood, "likelihood", "dim") != obs_dim:
            raise ValueError(f"likelihood has {likelihood.dim} units, obs_dim is {obs_dim}")
        size_of(likelihood, "likelihood", "natural_dim")
        if size_of(prior, "prior", "dim") != latent_dim:
            raise ValueError(f"the prior has {prior.dim} latents, the model {latent_dim}")
        if decoder_input not in DECODER_INPUTS:
            known = ", ".join(DECODER_INPUTS)
            raise ValueError(f"decoder_input must be one of {known}, got {decoder_input!r}")
        self.obs_dim, self.latent_dim, self.decoder_input = obs_dim, latent_dim, decoder_input
        self.likelihood, self.prior, self.sees_missing = likelihood, prior, sees_missing
        self.input_dim = input_dim

    def reading(
        self, obs: Tensor, observed: Tensor | None = None, inputs: Tensor | None = None
    ) -> Tensor:
        """Frames as the guide's nets read them, ``[B, T, M] -> [B, T, R]``.

        Missing values are zero. With ``sees_missing``, 1.0 follows for each value that was seen.
        The inputs of the frame come last.

        Arguments:
            obs: frames with zeros in place of missing values, ``[B, T, M]``.
            observed: True where a value was seen, ``[B, T, M]``; None where all were.
            inputs: ``[B, T, I]``; read where ``input_dim``.
        """
        frames = frames_read(self.likelihood, obs, observed, self.sees_missing)
        return beside(frames, inputs, self.input_dim)

    def features(self, frames: Tensor, mask: Tensor) -> Tensor:
        """Features of the data, see ``reading``; ``[B, T, R] -> [B, T, F]``."""
        raise NotImplementedError(f"{type(self).__name__} must define features(frames, mask)")

    def belief(self, frames: Tensor, mask: Tensor, features: Tensor) -> Path:
        """q(z | x), batch shape ``[B]``, of the data, see ``reading``."""
        raise NotImplementedError(f"{type(self).__name__} must define belief(frames, ...)")

    def natural(self, path: Tensor, encoding: Encoding) -> Tensor:
        """Natural parameters of the frames, ``[..., B, T, N]``, of a path ``[..., B, T, K]``."""
        raise NotImplementedError(f"{type(self).__name__} must define natural(path, encoding)")

    # The Pyro pair, over whole sequences -------------------------------------------------------

    def check(self, obs: Tensor) -> None:
        """Raises a ValueError for ``obs`` outside the support, or of another dtype."""
        self.likelihood.check(obs)
        check_dtype(self, obs)

    def prepare(self, batch: Batch) -> Encoding:
        """Checks a batch and encodes it once, for both model and guide.

        Raises:
            ValueError: when a real frame is outside the support of the likelihood, the batch lacks
                the inputs that the model reads, padding comes before a real frame, or the guide
                returns no distribution of these paths.
        """
        check_frames(self, batch)
        check_ends(batch.host.mask)
        inputs = inputs_of(self, batch)
        frames = self.reading(batch.obs, batch.observed, inputs)
        features = self.features(frames, batch.mask)
        belief = self.belief(frames, batch.mask, features)
        check_path(belief, "guide", batch.mask, self.latent_dim)
        return Encoding(batch.obs, batch.mask, features, belief, batch.observed, inputs)

    def path_prior(self, mask: Tensor) -> Path:
        """p(z), batch shape ``[B]``, event shape ``[T, K]``, checked."""
        return check_path(self.prior(mask), "prior", mask, self.latent_dim)

    def model(self, encoding: Encoding) -> None:
        """The generative model, with the frames observed."""
        with pyro.plate("sequences", encoding.rows):
            path = pyro.sample("z", self.path_prior(encoding.mask))
            pyro.sample("x", self.emit(path, encoding), obs=encoding.obs)

    def guide(self, encoding: Encoding) -> None:
        """The recognition model."""
        with pyro.plate("sequences", encoding.rows):
            pyro.sample("z", encoding.belief)

    def emit(self, path: Tensor, encoding: Encoding) -> dist.TorchDistribution:
        """p(x | z), batch shape ``[..., B]``, event shape ``[T, M]``.

        Neither padding nor missing values count.
        """
        frames = seen_part(self.frames(path, encoding), encoding.observed)
        return frames.mask(encoding.mask).to_event(1)

    def frames(self, path: Tensor, encoding: Encoding) -> dist.TorchDistribution:
        """p(x_t | z), batch shape ``[..., B, T]``, event shape ``[M]``."""
        distribution = self.likelihood.distribution(self.natural(path, encoding))
        return check_distribution(distribution, "likelihood's distribution", (self.obs_dim,))

    def decoded(self, path: Tensor, prior: Path) -> Tensor:
        """A path as the decoder reads it, ``[..., T, K]``."""
        return path if self.decoder_input == "path" else prior.to_innovations(path)[0]

    # Weights of single frames -------------------------------------------------------------------

    def frame_weights(self, encoding: Encoding, num_samples: int) -> Tensor:
        """log p(x_t, z_t | z_<t) - log q(z_t | z_<t, x), ``[k, B, T]``, zero in padding."""
        belief, prior = encoding.belief, self.path_prior(encoding.mask)
        path = belief.rsample((num_samples,))
        frames = seen_part(self.frames(path, encoding), encoding.observed)
        seen = torch.where(encoding.mask, frames.log_prob(encoding.obs), 0.0)
        return seen + prior.step_log_probs(path) - belief.step_log_probs(path)

    # Verbs --------------------------------------------------------------------------------------

    def encoded(self, batch: Batch) -> Encoding:
        """A batch and the belief about its paths, as the verbs take them."""
        return self.prepare(batch)

    def infer(self, batch: Batch, given: str, num_samples: int) -> States:
        """z_t as the guide draws paths; see ``Network.infer``.

        Means and variances of a guide without closed form are those of ``MOMENTS`` draws.
        """
        belief = self.encoded(batch).belief
        draws = belief.rsample((num_samples,)) if num_samples else None
        if isinstance(belief, LinearChain):
            return States(*belief.moments(), draws)
        paths = belief.rsample((MOMENTS,))
        return States(paths.mean(0), paths.var(0), draws)

    def expect(self, batch: Batch, given: str, num_samples: int) -> Tensor:
        """Frames decoded from paths that the guide draws; see ``Network.expect``."""
        encoding = self.encoded(batch)
        path = encoding.belief.rsample((num_samples,))
        return self.likelihood.mean(self.natural(path, encoding))

    @torch.no_grad()
    def posterior(self, batch: BatchLike) -> Path:
        """q(z | x), batch shape ``[B]``, event shape ``[T, K]``.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.
        """
        return self.prepare(batch_for(self, batch)).belief

    @torch.no_grad()
    def reconstruct(
        self, batch: BatchLike, method: str = "mean", sample_path: bool = False, seed: int = 0
    ) -> Tensor:
        """Frames at the guide's most likely path, or at a random path, ``[B, T, M]``.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.
            method: ``"mean"``, ``"mode"`` or ``"sample"`` of p(x_t | z).
            sample_path: sample the path from the guide.
            seed: seed of a private random stream.

        Raises:
            ValueError: for another ``method``.
        """
        check_seed(seed)
        if method not in METHODS:
            raise ValueError(f"method must be one of {', '.join(METHODS)}, got {method!r}")
        batch, family = batch_for(self, batch), self.likelihood
        encoding = self.prepare(batch)
        emit = {"mean": family.mean, "mode": family.mode, "sample": family.sample}[method]
        with RandomStream(batch.obs.device, "reconstruct", seed):
            path = encoding.belief.rsample() if sample_path else encoding.belief.mode
            return emit(self.natural(path, encoding))


def same_noise(q: Path, p: Path) -> bool:
    """Whether two chains have the same coefficient: q's innovations are then p's, shifted."""
    if not (type(q) is LinearChain and type(p) is LinearChain):
        return False
    tensors = isinstance(q.coefficient, Tensor) or isinstance(p.coefficient, Tensor)
    return not tensors and bool(q.coefficient == p.coefficient)
