"""The variational one-step predictor: the past flows in without noise, the present with it.

    h_t = f(x_t, h_{t-1})      z_{1:T} ~ prior      x_t ~ p(x_t | h_{t-1}, z_t)
    q(z_{1:T} | x_{1:T}), each step from h_{t-1} and x_t

Source: Bayer & Osendorfer, "Variational inference of latent state sequences using recurrent
networks" (2014), section 3.2.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ...inference.contracts import Encoding, Recurrent
from ...inference.paths import Path
from ...inference.predict import Filtered
from ..parts.checks import call, check_hidden, check_shape
from ..parts.memory import Memory, Remembers, check_fits
from ..parts.nets import MLP, set_output_mean
from ..parts.path_guides import Increments, check_guide
from ..parts.priors import WienerProcess
from .path_model import PathModel, same_noise


class VOSP(Remembers, PathModel, Recurrent):
    """p(z) prod_t p(x_t | x_<t, z_t); trained by ``SequenceELBO``.

    With a ``WienerProcess`` prior, the ``Increments`` guide and a decoder of innovations (the
    defaults) frames share no latent noise: every frame has a bound of its own, which
    ``inference.frame_bound`` tightens, and training is parallel in time but for h.

    Arguments:
        obs_dim, latent_dim, likelihood, prior, decoder_input: see ``PathModel``.
        hidden: units of the default nets.
        memory: the recurrent net f, a ``Memory`` over frames.
        guide: a recognition model over paths with ``features_dim`` equal to ``width``.
        width: of the layers between h, the frame or the latent state, and guide or frame.
        input_dropout: share of the past's observations hidden in training.
        dropout: of h.
        obs_mean: mean of a value, the same for all of them, to begin with.

    Example:
        >>> net = VOSP(88, 32, likelihoods.Bernoulli(88))
    """

    def __init__(
        self,
        obs_dim: int,
        latent_dim: int,
        likelihood: nn.Module,
        hidden: int = 200,
        *,
        prior: nn.Module | None = None,
        memory: nn.Module | None = None,
        guide: nn.Module | None = None,
        width: int = 200,
        decoder_input: str = "innovations",
        input_dropout: float = 0.0,
        dropout: float = 0.0,
        obs_mean: float | None = None,
    ):
        check_hidden(hidden)
        prior = WienerProcess(latent_dim) if prior is None else prior
        super().__init__(obs_dim, latent_dim, likelihood, prior, decoder_input)
        self.memory = Memory(obs_dim, hidden) if memory is None else memory
        check_fits(self.memory, obs_dim)
        self.recognition = Increments(width, latent_dim) if guide is None else guide
        check_guide(self.recognition, latent_dim, width)
        past = self.memory.outputs
        self.encoder = MLP([past + obs_dim, width, width], last="relu")
        self.from_past = nn.Linear(past, width)
        self.from_latent = nn.Linear(latent_dim, width, bias=False)
        self.decoder = nn.Linear(width, likelihood.natural_dim)
        if obs_mean is not None:
            set_output_mean(self.decoder, likelihood, obs_mean)
        self.hide, self.dropout = nn.Dropout(input_dropout), nn.Dropout(dropout)

    def extra_repr(self) -> str:
        return "p(z[1:T]) p(x[t] | x[1:t-1], z[t]);  q(z[t] | x[1:t])"

    @property
    def framewise(self) -> bool:
        blank = torch.ones(1, 2, dtype=torch.bool, device=self.device)
        prior = self.prior(blank)
        features = torch.zeros(1, 2, self.recognition.features_dim, device=self.device)
        belief = self.recognition(features, blank, prior, None)
        forgets = self.decoder_input == "innovations" or getattr(prior, "coefficient", None) == 0
        return same_noise(belief, prior) and forgets

    def features(self, obs: Tensor, mask: Tensor) -> Tensor:
        """h_{t-1} beside every frame, ``[B, T, H]``."""
        shape = *mask.shape, self.memory.outputs
        past = call(self.remembered, "memory", self.hide(obs))
        return self.dropout(check_shape(past, "memory", "[batch, steps, outputs]", shape))

    def belief(self, obs: Tensor, mask: Tensor, features: Tensor) -> Path:
        seen = self.encoder(torch.cat((features, obs), -1))
        return self.recognition(seen, mask, self.law(mask), None)

    def natural(self, path: Tensor, encoding: Encoding) -> Tensor:
        return self._frame(self.inputs(path, self.law(encoding.mask)), encoding.features)

    def _frame(self, inputs: Tensor, past: Tensor) -> Tensor:
        """Natural parameters of frames from what the decoder sees and h_{t-1}.

        h is weighed once, however many draws of the latent state there are.
        """
        return self.decoder(torch.relu(self.from_past(past) + self.from_latent(inputs)))

    # Verbs --------------------------------------------------------------------------------------

    @torch.no_grad()
    def predict(self, past: Tensor, previous: Tensor, chains: int = 8) -> Tensor:
        """E[x_t | h_{t-1}, e_t] for innovations drawn from the prior, ``[C, N, M]``.

        Raises:
            ValueError: when the decoder sees the path, whose beginning is not known here.
        """
        if self.decoder_input == "path":
            raise ValueError("this VOSP's frames depend on the path: it predicts from innovations")
        noise = torch.randn(chains, len(past), self.latent_dim, device=past.device)
        return self.likelihood.mean(self._frame(noise, self.memory.output(past)))

    def forwards(self, sequences: int, steps: int, noise: bool = True) -> Tensor:
        """Draws a path from the prior, then frame after frame; see ``sample``."""
        mask = torch.ones(sequences, steps, dtype=torch.bool, device=self.device)
        prior = self.law(mask)
        path = self.inputs(prior.sample(), prior)
        emit = self.likelihood.sample if noise else self.likelihood.mean
        past, frames = self.initial(sequences), []
        for inputs in path.unbind(1):
            frames.append(emit(self._frame(inputs, self.memory.output(past))))
            past = self.step(frames[-1], past)
        return torch.stack(frames, 1)

    @torch.no_grad()
    def filter(self, obs: Tensor, mask: Tensor | None = None) -> Filtered:
        """Mean and variance of z_t given x_1 .. x_t, ``[B, T, K]``; of Gaussian guides."""
        return Filtered(*self.posterior(obs, mask).moments())
