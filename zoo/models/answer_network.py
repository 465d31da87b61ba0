"""The base of networks that answer a sequence: checks, the Pyro pair, and verbs."""

from __future__ import annotations

import dataclasses

import pyro
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from ...data import Batch, BatchLike, check_sequences
from ...inference.checks import check_missing, check_samples
from ...inference.contracts import AnswerModel, SequenceModel
from ...inference.particles import log_mean_exp
from ...inference.placing import batch_for, check_placed
from ...inference.rng import RandomStream
from ...inference.unrolling import answer_states, last_real, score_of, unroll
from ..part import Described
from ..parts.checks import check_dtype
from ..parts.likelihoods import Output
from ..parts.memory import check_ends
from ..parts.missing import with_seen
from .stochastic_units import StochasticUnits


class AnswerNetwork(Described, AnswerModel, SequenceModel, PyroModule):
    """E[p(y | h)] over p(h_t | h_{t-1}, x_t). A subclass writes the units, see ``AnswerModel``.

    Attributes:
        inputs: values of an input frame, ``I``.
        output: the distribution of an answer (see ``likelihoods``).
        readout: the layer from the units to natural parameters of the output.
        every_step: answer at every step instead of the last one, where no target says which.
        sees_missing: read which values of an input were seen; otherwise missing ones are refused.
    """

    inputs: int
    sees_missing: bool = False
    output: Output
    readout: nn.Linear
    every_step: bool

    # Data -----------------------------------------------------------------------------------------

    def check(self, obs: Tensor) -> None:
        """Raises a ValueError where ``obs`` is not ``[B, T, I]``, finite and of the right dtype."""
        check_sequences(obs)
        if obs.dim() != 3 or obs.shape[-1] != self.inputs:
            raise ValueError(f"obs must be [B, T, {self.inputs}], got {tuple(obs.shape)}")
        check_dtype(self, obs)

    def at_every_step(self, batch: Batch) -> bool:
        """Whether a batch asks for an answer at every step, as its target says where it has one."""
        if batch.target is None:
            return self.every_step
        return batch.target.dim() == 2 + self.output.event_dim

    def prepare(self, batch: Batch) -> Batch:
        """A batch as the units read it, checked, with targets of padded steps set to zero.

        No answer is asked at a step of whose input nothing was seen.

        Returns:
            The batch itself, or, with ``sees_missing``, one with frames ``[B, T, 2 I]``: zeros in
            place of missing values, then 1.0 for each value that was seen.

        Raises:
            ValueError: when frames have another size or missing values that the network does not
                see, padding comes before a real frame, or the target is missing or outside the
                output's support.
        """
        self._check_inputs(batch)
        if batch.target is None:
            raise ValueError(f"{type(self).__name__} needs a batch with a target")
        target, each = batch.target, self.at_every_step(batch)
        if target.dim() != 1 + each + self.output.event_dim or (
            each and target.shape[:2] != batch.mask.shape
        ):
            rest = ", D]" if self.output.event_dim else "]"
            raise ValueError(
                f"target must be [B{rest}, or [B, T{rest} for an answer at every step: got "
                f"{tuple(target.shape)}"
            )
        host, dtype = batch.host, batch.obs.dtype if target.is_floating_point() else target.dtype
        asked = host.observed_frames
        given = target if host.target is None else host.target.to(dtype)
        self.output.check(given[asked] if each else given)
        if each and not asked.all():
            unasked = ~batch.observed_frames
            unasked = unasked.reshape(unasked.shape + (1,) * self.output.event_dim)
            target = target.masked_fill(unasked, 0)
        return self._read(batch.with_target(target.to(dtype)))

    def _check_inputs(self, batch: Batch) -> None:
        check_missing(self, batch)
        check_placed(self, batch.obs)
        self.check(batch.host.obs)
        check_ends(batch.host.mask)

    def _read(self, batch: Batch) -> Batch:
        """The batch as the units read it; of ``observed`` the frames without any value remain."""
        if not self.sees_missing:
            return batch
        frames, observed = with_seen(batch.obs, batch.observed), batch.observed
        if observed is not None:
            observed = batch.observed_frames[..., None].expand_as(frames)
        return dataclasses.replace(batch, obs=frames, observed=observed)

    # The Pyro pair --------------------------------------------------------------------------------

    def log_score(self, states: Tensor, target: Tensor) -> Tensor:
        """log of the average over M states of p(target | h).

        Arguments:
            states: ``[..., M, B, H]``.
            target: ``[..., B]``, or ``[..., B, D]`` for outputs of several values.

        Returns:
            ``[..., B]``, in nats.
        """
        distribution = self.output.distribution(self.readout(states))
        each = distribution.log_prob(target.unsqueeze(states.dim() - 3))
        return log_mean_exp(each.movedim(-2, 0))

    def model(self, batch: Batch) -> None:
        """p(y, units | x), with the target observed where there is one."""
        drive = self.drive(batch.obs)
        with pyro.plate("sequences", len(batch)):
            states = self.path(drive, self._sampled(drive, batch.mask))
            each = self.at_every_step(batch)
            states = states if each else last_real(states, batch)
            answer = self.output.distribution(self.readout(states))
            answer = answer.mask(batch.observed_frames).to_event(1) if each else answer
            pyro.sample("y", answer, obs=batch.target)

    def guide(self, batch: Batch) -> None:
        """Samples the stochastic units as the model does.

        For an answer at the last step, the importance-weighted bound of M samples is then
        ``log_prob``. For answers at every step it bounds their joint log-probability.
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
            drive: input to the units, ``[..., T, H]``.
            units: states of the stochastic units, ``[..., T, S]``; None samples them.
        """
        choose = None
        if units is not None:
            shape = torch.broadcast_shapes(drive.shape[:-1], units.shape[:-1])
            drive, given = drive.expand(*shape, -1), iter(units.expand(*shape, -1).unbind(-2))
            others = slice(self.num_stochastic, None)
            choose = lambda mean: torch.cat((next(given), mean[..., others]), -1)  # noqa: E731
        return unroll(self, drive.movedim(-2, 0), choose)[1:].movedim(0, -2)

    # Verbs ----------------------------------------------------------------------------------------

    @torch.no_grad()
    def log_prob(self, batch: Batch, num_samples: int = 20, seed: int = 0) -> Tensor:
        """log p(y | x) of the target, ``[B]``, nats; of answers at every step, their sum.

        It is exact without stochastic units. Otherwise it is a lower bound in expectation, which
        rises with ``num_samples``.

        Arguments:
            batch: a ``Batch`` with a target.
            num_samples: paths ``M`` whose probabilities are averaged.
            seed: seed of a private random stream.

        Raises:
            ValueError: for data that the network does not take, or ``num_samples`` below 1.
        """
        check_samples(num_samples, seed=seed)
        batch = batch_for(self, batch)
        with RandomStream(batch.obs.device, "log_prob", seed):
            return self.estimate_log_prob(batch, num_samples)

    @torch.no_grad()
    def estimate_log_prob(self, batch: Batch, num_samples: int = 20) -> Tensor:
        """``log_prob`` from torch's global random state."""
        batch = self.prepare(batch)
        return score_of(self, answer_states(self, batch, num_samples), batch)

    @torch.no_grad()
    def predict(self, batch: BatchLike, num_samples: int = 20, seed: int = 0) -> Tensor:
        """E[y | x], the mean answer; of classes, their probabilities.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.
            num_samples: paths ``M`` that are averaged.
            seed: seed of a private random stream.

        Returns:
            ``[B, D]``, or ``[B, T, D]`` with an answer at every step.
        """
        check_samples(num_samples, seed=seed)
        batch = self._asked(batch)
        with RandomStream(batch.obs.device, "predict", seed):
            states = answer_states(self, batch, num_samples)
            mean = self.output.mean(self.readout(states)).mean(-3)
        return mean.transpose(0, 1) if self.every_step else mean

    @torch.no_grad()
    def sample_answers(self, batch: BatchLike, num_samples: int = 1, seed: int = 0) -> Tensor:
        """Samples of y ~ p(y | x), each from a path of its own.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.
            num_samples: samples ``S``.
            seed: seed of a private random stream.

        Returns:
            ``[S, B, ...]``, or ``[S, B, T, ...]`` with an answer at every step.

        Raises:
            ValueError: for ``num_samples`` below 1.
        """
        check_samples(num_samples, seed=seed)
        batch = self._asked(batch)
        with RandomStream(batch.obs.device, "answer", seed):
            rows = torch.arange(len(batch), device=batch.obs.device)
            batch = batch.rows(rows.repeat(num_samples))
            answers = self.output.sample(self.readout(answer_states(self, batch, 1)))
        answers = answers[:, 0].transpose(0, 1) if self.every_step else answers[0]  # the one path
        return answers.unflatten(0, (num_samples, -1))

    def _asked(self, batch: BatchLike) -> Batch:
        """A checked batch as the units read it, without its target."""
        batch = dataclasses.replace(batch_for(self, batch), target=None)
        self._check_inputs(batch)
        return self._read(batch)
