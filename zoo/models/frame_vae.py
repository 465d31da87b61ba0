"""The generative model and the guide of a VAE of single frames: parts, and the Pyro pair.

    p(x_t) p(y_t | x_t)      q(x_t | u_{t-1}, y_t)

A subclass adds the factor of u_{t-1}: p(u_{t-1} | x_t), or p(x_t | u_{t-1}) as the prior.

Source: Abdulsalam & Makin, "Learning recurrent models with temporally local rules" (2023).
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from ...inference.checks import check_number, check_sizes
from ...inference.contracts import Fold
from ..parts.checks import (
    call,
    check_distribution,
    check_dropout,
    check_hidden,
    check_shape,
    size_of,
)
from ..parts.guides import FrameGuide, GaussianGuide
from ..parts.likelihoods import Likelihood, seen_part
from ..parts.missing import beside, reads
from ..parts.nets import MLP
from .recognition import Recognises


class FrameVAE(Recognises, PyroModule):
    """p(x_t) p(y_t | x_t) and q(x_t | u_{t-1}, y_t), over folded frames.

    A subclass writes ``factorisation``, and ``prior`` or ``explain_past``.

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
