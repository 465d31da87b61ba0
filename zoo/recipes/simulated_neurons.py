"""The data set of the tables ``lorenz`` and ``chaotic-rnn``: neurons whose true rates are known."""

from __future__ import annotations

from torch import Tensor

from ...data import Batch, ChaoticRNN, Lorenz, Recording
from ...data.dataset import check_held_out
from ..names import instead
from ..registry import register

BIN = 0.01  # seconds


class SimulatedNeurons(Recording):
    """A fixed number of trials of a simulated system, with its rates and states.

    Arguments:
        system: ``"lorenz"``: 30 neurons of ``data.Lorenz`` with 10 spikes a second at the centre of
            the attractor and weights of standard deviation 0.7; or ``"chaotic-rnn"``: 50 neurons of
            ``data.ChaoticRNN``.
        trials: number of trials ``N``.
        bins: bins of 10 ms of a trial, ``T``.
        seed: seed of initial states and spikes.
        split: ``"train"``, ``"validation"`` or ``"test"``.

    Attributes:
        rates_true: mean counts, ``[N, T, M]``.
        state: states of the system, ``[N, T, D]``.

    Raises:
        ValueError: for an unknown system or split, or a number out of its range.
    """

    rates_true: Tensor
    state: Tensor

    def __init__(
        self, system: str, trials: int = 100, bins: int = 100, seed: int = 0, split: str = "train"
    ) -> None:
        if system == "lorenz":
            made = Lorenz(trials, bins, seed, bin=BIN, rate=10.0, gain=0.7, split=split)
        elif system == "chaotic-rnn":
            made = ChaoticRNN(trials, bins, seed, bin=BIN, split=split)
        else:
            known = "lorenz", "chaotic-rnn"
            raise ValueError(f"no system {system!r}: {instead(system, known, ' or '.join(known))}")
        self.system, self.bins = system, bins
        super().__init__(made.obs.numpy(), bin=BIN)
        self.rates_true, self.state = made.rates, made.state

    def held_out(
        self, num_sequences: int, seed: int = 0, split: str = "test", steps: int | None = None
    ) -> Batch:
        """Trials of another split; see ``Dataset``."""
        check_held_out(num_sequences, seed, split, steps)
        batch = SimulatedNeurons(self.system, num_sequences, self.bins, seed, split).batch()
        return batch if steps is None else batch.window(0, steps)


register(SimulatedNeurons)
