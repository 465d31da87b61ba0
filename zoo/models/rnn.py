"""Recurrent nets that predict one step ahead, with an exact likelihood.

    h_t = f(x_t, h_{t-1})      p(x_{1:T}) = prod_t p(x_t | h_{t-1})

With inputs s_t it is of the frames given the inputs, p(x_{1:T} | s_{1:T}):

    h_t = f([x_t, s_t], h_{t-1})      p(x_t | h_{t-1}, s_t)

s_t acts on frame t through the readout, and on later frames through h. With a ``NADE`` likelihood
it is the RNN-NADE.

Sources: Bengio et al., "Advances in optimizing recurrent networks" (2013); Boulanger-Lewandowski et
al., "Modeling temporal dependencies in high-dimensional sequences" (2012).
"""

from __future__ import annotations

import pyro
import torch
from pyro.nn import PyroModule
from torch import Tensor, nn

from ...data import Batch, BatchLike
from ...inference.checks import check_frames, check_number, check_sizes
from ...inference.contracts import Recurrent, SequenceModel, States
from ...inference.evaluate import elbo
from ...inference.inputs import at, inputs_of
from ...inference.predict import run_sweep
from ..parts.checks import call, check_dropout, check_dtype, check_hidden, check_mean, check_shape
from ..parts.likelihoods import Likelihood
from ..parts.likelihoods.likelihood import seen_part
from ..parts.memory import CausalNet, Memory, Remembers, check_ends, check_fits
from ..parts.missing import beside, expected, hide_values, reads
from ..parts.nets import MLP, set_output_mean
from ..parts.private import add_private, drop_shared, shared_part, with_private
from .generation import Generates


class RNN(Remembers, Generates, SequenceModel, Recurrent, PyroModule):
    """prod_t p(x_t | x_<t); trained by ``SequenceELBO``, which here is maximum likelihood.

    Arguments:
        obs_dim: values a frame, ``M``.
        likelihood: the distribution of a frame, of dimension ``obs_dim`` (see ``likelihoods``).
        hidden: units of the default memory, ``H``.
        memory: the recurrent net f over frames, such as ``Memory(88, 200, "tanh")``,
            ``DeepTransition`` or ``FastDropoutMemory``; None is a GRU.
        readout: a net from h to natural parameters; None is one linear layer.
        input_dropout: probability that a value of the past is hidden from f in training; with
            ``sees_missing`` f reads that it was not seen.
        dropout: probability that a unit of h is dropped.
        obs_mean: initial mean of a value, which sets the biases of the readout.
        sees_missing: f reads ``2 M`` values a frame: the frame with zeros in place of missing
            values, then 1.0 for each value that was seen. Without it f reads, in place of a
            missing value, the one that is expected after the frames before it. In either case
            the likelihood is of the values seen, given the frames as f reads them: not what is
            left when the missing values are summed out.
        input_dim: inputs a frame, ``I`` (see ``Batch.inputs``). f reads them after the other values
            of the frame, and the readout reads s_t after h_{t-1}, ``H + I`` values.
        private: of traces, each channel has a state of its own beside the memory, a Kalman filter
            of its own past, which is added to the natural parameters (see ``private``). It is for
            recordings in which each channel has a memory that others do not share, such as the
            decay of a calcium indicator.

    Raises:
        ValueError: when parts have sizes that do not match.

    Example:
        >>> RNN(88, likelihoods.Bernoulli(88), memory=Memory(88, 200, "tanh"))
    """

    takes_missing = True
    latents_given = ("present",)
    likelihood: Likelihood
    readout: nn.Module

    def __init__(
        self,
        obs_dim: int,
        likelihood: Likelihood,
        hidden: int = 200,
        *,
        memory: CausalNet | None = None,
        readout: nn.Module | None = None,
        input_dropout: float = 0.0,
        dropout: float = 0.0,
        obs_mean: float | None = None,
        sees_missing: bool = False,
        input_dim: int = 0,
        private: bool = False,
    ) -> None:
        super().__init__()
        check_sizes(obs_dim=obs_dim)
        check_hidden(hidden)
        check_dropout(input_dropout=input_dropout, dropout=dropout)
        check_mean("obs_mean", obs_mean)
        if likelihood.dim != obs_dim:
            raise ValueError(f"likelihood has {likelihood.dim} units, obs_dim is {obs_dim}")
        self.obs_dim, self.likelihood, self.sees_missing = obs_dim, likelihood, sees_missing
        check_number("input_dim", input_dim, 0)
        self.input_dim = input_dim
        read = reads(obs_dim, sees_missing, input_dim)
        self.memory = Memory(read, hidden) if memory is None else memory
        check_fits(self.memory, obs_dim, sees_missing, input_dim)
        linear = MLP([self.memory.outputs + input_dim, likelihood.natural_dim])
        if private:
            self.memory = with_private(self.memory, likelihood, sees_missing)
        self.readout = linear if readout is None else readout
        if obs_mean is not None:
            set_output_mean(self.readout, likelihood, obs_mean)
        self.hide, self.dropout = nn.Dropout(input_dropout), nn.Dropout(dropout)

    def extra_repr(self) -> str:
        return "p(x[t] | x[1:t-1], s[1:t])" if self.input_dim else "p(x[t] | x[1:t-1])"

    # The Pyro pair, over whole sequences -------------------------------------------------------

    def check(self, obs: Tensor) -> None:
        """Raises a ValueError for ``obs`` outside the support, or of another dtype."""
        self.likelihood.check(obs)
        check_dtype(self, obs)

    def prepare(self, batch: Batch) -> Batch:
        """Checks a batch.

        Raises:
            ValueError: when a real frame is outside the support of the likelihood, the batch lacks
                the inputs that the model reads, or padding comes before a real frame.
        """
        inputs_of(self, batch)
        check_frames(self, batch)
        check_ends(batch.host.mask)
        return batch

    def model(self, batch: Batch) -> None:
        """The generative model, with the frames observed."""
        with pyro.plate("sequences", len(batch)):
            natural = self.natural(batch.obs, batch.observed, batch.inputs)
            frames = seen_part(self.likelihood.distribution(natural), batch.observed)
            pyro.sample("x", frames.mask(batch.mask).to_event(1), obs=batch.obs)

    def guide(self, batch: Batch) -> None:
        """Empty: the model has no latent site."""

    def natural(
        self, obs: Tensor, observed: Tensor | None = None, inputs: Tensor | None = None
    ) -> Tensor:
        """Natural parameters of every frame given those before it, ``[B, T, N]``.

        Arguments:
            obs: frames with zeros in place of missing values, ``[B, T, M]``.
            observed: True where a value was seen, ``[B, T, M]``; None where all were.
            inputs: ``[B, T, I]``; read where ``input_dim``.
        """
        shape = *obs.shape[:-1], self.memory.outputs
        read = self.reading(obs, observed, inputs)
        frames = hide_values(self.hide, read, self.obs_dim, self.sees_missing)
        past = call(self.remembered, "memory", frames)
        past = check_shape(past, "memory", "[batch, steps, outputs]", shape)
        past = drop_shared(self.dropout, self.memory, past)
        return self._frame(past, inputs)

    def _frame(self, remembered: Tensor, inputs: Tensor | None = None) -> Tensor:
        """Natural parameters of frames given h and s_t, ``[..., H] -> [..., N]``."""
        shape = *remembered.shape[:-1], self.likelihood.natural_dim
        read = beside(shared_part(self.memory, remembered), inputs, self.input_dim)
        natural = call(self.readout, "readout", read)
        natural = check_shape(natural, "readout", "[..., natural_dim]", shape)
        return add_private(natural, self.memory, remembered)

    # Verbs --------------------------------------------------------------------------------------

    @torch.no_grad()
    def log_prob(self, batch: BatchLike) -> Tensor:
        """log p(x_{1:T}) of each sequence, exact, ``[B]``, nats.

        Of missing values, see ``sees_missing``.

        Arguments:
            batch: a ``Batch``, or anything that ``data.as_batch`` takes.
        """
        return elbo(self, batch)

    def infer(self, batch: Batch, given: str, num_samples: int) -> States:
        """h_t, which has no spread: draws are copies; see ``Network.infer``."""
        after = self.memory.output(run_sweep(self, batch).statistics[:, 1:])
        state = shared_part(self.memory, after)
        return States(state, None, state.expand(num_samples, *state.shape) if num_samples else None)

    def expect(self, batch: Batch, given: str, num_samples: int) -> Tensor:
        """See ``Network.expect``; all draws of an RNN are the same, and it gives one."""
        return super().expect(batch, given, 1)

    def log_predictive(self, batch: Batch, num_samples: int) -> Tensor:
        """log p(x_{1:T}), exact, ``[B]``."""
        return self.log_prob(batch)

    @torch.no_grad()
    def sample_next(
        self,
        past: Tensor,
        previous: Tensor,
        num_samples: int = 1,
        *,
        inputs: Tensor | None = None,
    ) -> Tensor:
        """The next frame: E[x_t | x_<t], the same for every sample, ``[S, N, M]``.

        Arguments:
            past: the state of h before the frame, ``[N, U]``.
            previous: x_{t-1}, ``[N, M]``; not used.
            num_samples: copies ``S``.
            inputs: s_t, ``[N, I]``; read where ``input_dim``.
        """
        check_number("num_samples", num_samples)
        mean = self.likelihood.mean(self._frame(self.memory.output(past), inputs))
        return mean.expand(num_samples, -1, -1)

    def expected_frame(self, past: Tensor, inputs: Tensor | None = None) -> Tensor:
        """The frame that is read in place of a missing one, ``[N, U] -> [N, M]``.

        It is the mean, or the mode under a ``NADE``.
        """
        return expected(self.likelihood, self._frame(self.memory.output(past), inputs))

    def forwards(
        self, sequences: int, steps: int, noise: bool = True, inputs: Tensor | None = None
    ) -> Tensor:
        """Samples frame after frame, and without noise returns their means; see ``sample``."""
        past, frames = self.initial(sequences), []
        for t in range(steps):
            now = at(inputs, (slice(None), t))
            natural = self._frame(self.memory.output(past), now)
            drawn = self.likelihood.sample(natural)
            frames.append(drawn if noise else self.likelihood.mean(natural))
            past = self.step(self.encode(drawn, inputs=now), past)
        return torch.stack(frames, 1)
