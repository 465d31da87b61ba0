"""The deep Markov model as Pyro's examples have it, a site for every time step: a baseline.

    z_t ~ N(m(z_{t-1}), v(z_{t-1}))        x_t ~ Bernoulli(f(z_t))
    q(z_t | z_{t-1}, x_{t:T}) = N(W c_t, softplus(V c_t)),  c_t = (tanh(U z_{t-1}) + h_t) / 2

with a gated m and a recurrent net over the later frames, h_t.

Source: Krishnan, Shalit & Sontag, "Structured inference networks for nonlinear state space models"
(AAAI 2017): the transition is that of section "Deep Markov Models", the guide is ST-R.
"""

from __future__ import annotations

import pyro
import pyro.distributions as dist
import torch
from pyro.infer import Trace_ELBO
from pyro.nn import PyroModule
from torch import Tensor, nn
from torch.nn.functional import softplus

from ...data import Batch
from ...inference import LearningRule, SequenceModel
from ...inference.rules.rule import Metrics


class DeepMarkovModel(SequenceModel, PyroModule):
    """A deep Markov model of binary frames.

    Arguments:
        obs_dim: values a frame, ``M``.
        latent_dim: values of a latent state, ``K``.
        emission: units of the two hidden layers of the emission.
        transition: units of the hidden layers of the transition.
        hidden: units of the recurrent net.
    """

    def __init__(
        self,
        obs_dim: int,
        latent_dim: int = 100,
        emission: int = 100,
        transition: int = 200,
        hidden: int = 600,
    ) -> None:
        super().__init__()
        linear, states = nn.Linear, latent_dim
        self.gate = nn.Sequential(
            *(linear(states, transition), nn.ReLU(), linear(transition, states), nn.Sigmoid())
        )
        self.proposed = nn.Sequential(
            linear(states, transition), nn.ReLU(), linear(transition, states)
        )
        self.kept = linear(states, states)
        nn.init.eye_(self.kept.weight)
        nn.init.zeros_(self.kept.bias)
        self.spread = nn.Sequential(nn.ReLU(), linear(states, states))
        self.emission = nn.Sequential(
            *(linear(states, emission), nn.ReLU(), linear(emission, emission), nn.ReLU()),
            linear(emission, obs_dim),
        )
        self.reader = nn.RNN(obs_dim, hidden, nonlinearity="relu", batch_first=True)
        self.combine = linear(states, hidden)
        self.mean, self.scale = linear(hidden, states), linear(hidden, states)
        self.first = nn.Parameter(torch.zeros(states))
        self.guess = nn.Parameter(torch.zeros(states))

    def model(self, batch: Batch) -> None:
        """The generative model."""
        state = self.first.expand(len(batch), -1)
        with pyro.plate("sequences", len(batch)):
            for t in range(batch.obs.shape[1]):
                real, gate, proposed = batch.mask[:, t], self.gate(state), self.proposed(state)
                mean = (1 - gate) * self.kept(state) + gate * proposed
                state = self._state(t, mean, softplus(self.spread(proposed)), real)
                frame = dist.Bernoulli(logits=self.emission(state)).mask(real[:, None])
                pyro.sample(f"x_{t}", frame.to_event(1), obs=batch.obs[:, t])

    def guide(self, batch: Batch) -> None:
        """The recognition model. Its reader begins at the end: sequences have one length."""
        later = self.reader(batch.obs.flip(1))[0].flip(1)
        state = self.guess.expand(len(batch), -1)
        with pyro.plate("sequences", len(batch)):
            for t in range(batch.obs.shape[1]):
                both = (torch.tanh(self.combine(state)) + later[:, t]) / 2
                scale = softplus(self.scale(both))
                state = self._state(t, self.mean(both), scale, batch.mask[:, t])

    @staticmethod
    def _state(t: int, mean: Tensor, scale: Tensor, real: Tensor) -> Tensor:
        return pyro.sample(f"z_{t}", dist.Normal(mean, scale).mask(real[:, None]).to_event(1))


class TraceELBO(LearningRule):
    """Pyro's ELBO from samples, which its example of the model uses."""

    net: DeepMarkovModel

    def gradients(self, batch: Batch) -> Metrics:
        self.net.zero_grad(set_to_none=True)
        loss = Trace_ELBO().differentiable_loss(self.net.model, self.net.guide, batch)
        loss = loss / batch.frames
        loss.backward()
        return {"loss": loss.detach(), "frames": loss.new_tensor(float(batch.frames))}
