"""The simple recurrent network, with deterministic and stochastic units in any mix.

    h_t = f(W_xh x_t + W_hh h_{t-1} + b_h),   h_0 = f(0)        y ~ p(y | W_hy h + b_y)

Some units of h may be binary and stochastic: P(h_t = 1) = f. The net then is a mixture over all
paths of those units, p(y | x) = E_h[p(y | h)], approximated by M of them. A learned inverse,
h_{t-1} ~ G(x_t, h_t), lets ``inference.TargetPropagation`` send targets back.

Sources: Elman (1990); Manchev & Spratling, "Learning multi-modal recurrent neural networks with
target propagation" (2024), equations 1 to 7.
"""

from __future__ import annotations

import dataclasses

import pyro
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from ...data import Batch, check_sequences
from ...inference.contracts import AnswerModel, SequenceModel
from ...inference.particles import log_mean_exp
from ...inference.rng import RandomStream
from ...inference.unrolling import answering, in_paths, last_real, score_of, unroll
from ..part import Described
from ..parts.checks import check_dtype
from ..parts.initialisers import Initialiser, Orthogonal
from ..parts.memory import check_ends
from ..parts.nets import activation, set_output_mean
from ..parts.units import HybridUnits
from .stochastic_units import StochasticUnits


class SRN(Described, AnswerModel, SequenceModel, PyroModule):
    """p(y | x_{1:T}), trained by ``TargetPropagation``, ``StraightThrough`` or ``OutputBPTT``.

    Arguments:
        inputs: values of an input frame, ``I``.
        output: the law of an output: ``likelihoods.Categorical``, ``GaussianMixture`` or a
            likelihood, such as ``likelihoods.Bernoulli(88)``.
        hidden: units, ``H``.
        stochastic: share of the units that are binary and stochastic.
        nonlinearity: f of the others, a name in ``nets.ACTIVATIONS``.
        inverse: activation of G, a name in ``nets.ACTIVATIONS``; f when left out, as in the paper.
        every_step: answer at every step, or else at the last one alone, where no target says which.
        initialiser: of W_xh, W_hh and G; None is ``initialisers.Orthogonal()``.
        output_mean: mean of an output to begin with, the same for all its units (likelihoods only).

    Raises:
        ValueError: for a number out of range, or an unknown activation.

    Example:
        >>> SRN(1, Categorical(10), hidden=100, stochastic=0.5)
    """

    def __init__(
        self,
        inputs: int,
        output: nn.Module,
        hidden: int = 100,
        stochastic: float = 0.0,
        nonlinearity: str = "sigmoid",
        inverse: str | None = None,
        every_step: bool = False,
        initialiser: Initialiser | None = None,
        output_mean: float | None = None,
    ):
        super().__init__()
        if inputs < 1:
            raise ValueError(f"inputs must be at least 1, got {inputs}")
        self.inputs, self.every_step = inputs, every_step
        self.units = HybridUnits(hidden, stochastic, nonlinearity)
        self.from_input = nn.Linear(inputs, hidden, bias=False)  # W_xh
        self.from_state = nn.Linear(hidden, hidden)  # W_hh, b_h
        self.back = nn.Linear(hidden, hidden)  # V_hh, c_h
        self.inverse = inverse or nonlinearity
        self.back_function = activation(self.inverse)
        self.readout = nn.Linear(hidden, output.natural_dim)  # W_hy, b_y
        self.output = output
        (initialiser or Orthogonal())(self)
        if output_mean is not None and not hasattr(output, "natural"):
            raise ValueError(f"{type(output).__name__} has no one mean to begin at: leave it out")
        if output_mean is not None:
            set_output_mean(self.readout, output, output_mean)

    def extra_repr(self) -> str:
        when = "y[t] | x[1:t]" if self.every_step else "y | x[1:T]"
        return f"E[p({when}, h)] over p(h[t] | h[t-1], x[t])"

    # What a learning rule asks ------------------------------------------------------------------

    def prepare(self, batch: Batch) -> Batch:
        """Checks a batch; targets of padded steps become zero.

        Raises:
            ValueError: when frames have another size, padding comes before a real frame, or the
                target is missing or outside the output's support.
        """
        self.check(batch.obs)
        check_ends(batch.mask)
        if batch.target is None:
            raise ValueError(f"{type(self).__name__} learns from batches with a target")
        target, each = batch.target, self.at_every_step(batch)
        if target.dim() != 1 + each + self.output.event_dim or (
            each and target.shape[:2] != batch.mask.shape
        ):
            rest = ", D]" if self.output.event_dim else "]"
            raise ValueError(
                f"target must be [B{rest}, or [B, T{rest} for an answer at every step: got "
                f"{tuple(target.shape)}"
            )
        self.output.check(target[batch.mask] if each else target)
        if each and not batch.mask.all():  # padding may hold anything: it becomes zero
            padding = ~batch.mask.reshape(batch.mask.shape + (1,) * self.output.event_dim)
            batch = dataclasses.replace(batch, target=target.masked_fill(padding, 0))
        return batch

    def at_every_step(self, batch: Batch) -> bool:
        """Whether a batch asks for an answer at every step: its target says so, if it has one."""
        if batch.target is None:
            return self.every_step
        return batch.target.dim() == 2 + self.output.event_dim

    def check(self, obs: Tensor) -> None:
        """Raises a ValueError where ``obs`` is not ``[B, T, I]``, finite and of the right dtype."""
        check_sequences(obs)
        if obs.dim() != 3 or obs.shape[-1] != self.inputs:
            raise ValueError(f"obs must be [B, T, {self.inputs}], got {tuple(obs.shape)}")
        check_dtype(self, obs)

    def rest(self) -> Tensor:
        """h_0, the units' means without any drive, ``[H]``."""
        return self.units.mean(torch.zeros_like(self.from_state.bias))

    def drive(self, obs: Tensor) -> Tensor:
        """What frames say to the units, W_xh x; ``[..., I] -> [..., H]``."""
        return self.from_input(obs)

    def mean(self, drive: Tensor, past: Tensor) -> Tensor:
        """Means of h_t given h_{t-1}, ``[..., H]`` (equations 1 and 5)."""
        return self.units.mean(drive + self.from_state(past))

    def sample_units(self, mean: Tensor) -> Tensor:
        """h_t given its means, without a gradient through what is sampled; ``[..., H]``."""
        return self.units.sample(mean)

    def invert(self, drive: Tensor, after: Tensor) -> Tensor:
        """G(x_t, h_t), an estimate of h_{t-1}; ``[..., H]`` (equation 4)."""
        return self.back_function(drive + self.back(after))

    @property
    def num_stochastic(self) -> int:
        """How many units are stochastic, ``S``: the first of them."""
        return self.units.num_stochastic

    def log_score(self, states: Tensor, target: Tensor) -> Tensor:
        """log of the average over M states of p(target | h): probabilities are averaged.

        Arguments:
            states: ``[..., M, B, H]``.
            target: ``[..., B]``, or ``[..., B, D]`` for outputs of several values.

        Returns:
            ``[..., B]``, nats (equation 7).
        """
        law = self.output.distribution(self.readout(states))
        each = law.log_prob(target.unsqueeze(states.dim() - 3))
        return log_mean_exp(each.movedim(-2, 0))

    # The Pyro pair ------------------------------------------------------------------------------

    def model(self, batch: Batch) -> None:
        """p(y, units | x); the target, where there is one, is observed."""
        drive = self.drive(batch.obs)
        with pyro.plate("sequences", len(batch)):
            states = self.path(drive, self._sampled(drive, batch.mask))
            each = self.at_every_step(batch)
            states = states if each else last_real(states, batch.mask)
            law = self.output.distribution(self.readout(states))
            law = law.mask(batch.mask).to_event(1) if each else law
            pyro.sample("y", law, obs=batch.target)

    def guide(self, batch: Batch) -> None:
        """Draws the stochastic units as the model does.

        With it the importance-weighted bound of M samples is equation 7, for the answer at the last
        step; of answers at every step it bounds their joint law.
        """
        if self.num_stochastic:
            drive = self.drive(batch.obs)
            with pyro.plate("sequences", len(batch)):
                self._sampled(drive, batch.mask)

    def _sampled(self, drive: Tensor, mask: Tensor) -> Tensor | None:
        """The site of all stochastic units, ``[..., T, S]``; None where there are none."""
        if not self.num_stochastic:
            return None
        return pyro.sample("units", StochasticUnits(self, drive, mask))

    def path(self, drive: Tensor, units: Tensor | None = None) -> Tensor:
        """States of the units over a sequence, ``[..., T, H]``.

        Arguments:
            drive: ``[..., T, H]``.
            units: states of the stochastic units, ``[..., T, S]``; drawn when left out.
        """
        choose = None
        if units is not None:
            shape = torch.broadcast_shapes(drive.shape[:-1], units.shape[:-1])
            drive, given = drive.expand(*shape, -1), iter(units.expand(*shape, -1).unbind(-2))
            others = slice(self.num_stochastic, None)
            choose = lambda mean: torch.cat((next(given), mean[..., others]), -1)  # noqa: E731
        return unroll(self, drive.movedim(-2, 0), choose)[1:].movedim(0, -2)

    # Verbs --------------------------------------------------------------------------------------

    @torch.no_grad()
    def log_prob(
        self, obs: Tensor, target: Tensor, mask: Tensor | None = None, samples: int = 20
    ) -> Tensor:
        """log p(y | x) by ``samples`` paths, ``[B]``; of answers at every step, the sum of theirs.

        Exact without stochastic units; otherwise a lower bound in expectation, which rises with
        ``samples``.

        Arguments:
            obs, target, mask: as in ``Batch``.
            samples: paths ``M`` whose probabilities are averaged.

        Raises:
            ValueError: when data are not what the network takes, or for less than one sample.
        """
        batch = self.prepare(Batch(obs, mask, target=target))
        return score_of(self, self._answering(batch, samples), batch)

    @torch.no_grad()
    def predict(
        self, obs: Tensor, mask: Tensor | None = None, samples: int = 20, seed: int = 0
    ) -> Tensor:
        """E[y | x]: probabilities of classes or keys, or the mean; ``[B, D]`` or ``[B, T, D]``.

        The caller's random state is left alone.
        """
        batch = self._asked(obs, mask)
        with RandomStream(obs.device, "predict", seed):
            mean = self.output.mean(self.readout(self._answering(batch, samples))).mean(-3)
        return mean.transpose(0, 1) if self.every_step else mean

    @torch.no_grad()
    def answer(
        self, obs: Tensor, mask: Tensor | None = None, draws: int = 1, seed: int = 0
    ) -> Tensor:
        """Draws y ~ p(y | x), each from a path of its own.

        Returns:
            ``[draws, B, ...]``, or ``[draws, B, T, ...]`` with an output at every step.
        """
        batch = self._asked(obs, mask)
        if draws < 1:
            raise ValueError(f"draws must be at least 1, got {draws}")
        with RandomStream(obs.device, "answer", seed):
            batch = batch.rows(torch.arange(len(batch)).repeat(draws))
            drawn = self.output.sample(self.readout(self._answering(batch, 1)))
        drawn = drawn[:, 0].transpose(0, 1) if self.every_step else drawn[0]  # the one path
        return drawn.unflatten(0, (draws, -1))

    def _asked(self, obs: Tensor, mask: Tensor | None) -> Batch:
        """A checked batch without a target."""
        batch = Batch(obs, mask)
        self.check(batch.obs)
        check_ends(batch.mask)
        return batch

    def _answering(self, batch: Batch, samples: int) -> Tensor:
        """States that outputs are read from, ``[M, B, H]`` or ``[T, M, B, H]``."""
        drive = self.drive(batch.obs.transpose(0, 1))
        return answering(self, unroll(self, in_paths(self, drive, samples))[1:], batch)
