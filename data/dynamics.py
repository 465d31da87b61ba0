"""Spike counts of neurons that follow a known dynamical system: Lorenz, and a chaotic network.

Both are the kinds of synthetic data of Pandarinath et al., "Inferring single-trial neural
population dynamics using sequential auto-encoders" (2018). Numbers that the paper leaves open are
stated here. The true rates are known, so that those of a model can be compared with them.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .checks import check_number, check_real, check_seed
from .rng import generator
from .synthetic import Synthetic

# Lorenz: sigma, rho and beta as usual; mean and standard deviation of x, y and z on the attractor,
# in 4 million Euler steps, put the state on one scale.
SIGMA, RHO, BETA = 10.0, 28.0, 8.0 / 3.0
STEP = 0.006  # of Lorenz time: one millisecond
CENTRE, SPREAD = (0.0, 0.0, 24.53), (8.12, 9.12, 8.07)
BURN_IN = 1000  # steps until a random start is on the attractor


class _Spiking(Synthetic):
    """Poisson counts at rates that follow from a state."""

    unit = "neuron"
    rates: Tensor
    weights_seed: int

    def _normal(self, *shape: int) -> Tensor:
        """Normal numbers of the seed of the weights, float64."""
        seed = check_seed(self.weights_seed, "weights_seed")
        random = generator(seed, f"{type(self).__name__} weights")
        return torch.randn(*shape, generator=random, dtype=torch.float64)

    def _spikes(self, rates: Tensor, random: torch.Generator) -> None:
        kind = torch.get_default_dtype()
        self._obs = torch.poisson(rates, generator=random).to(self.device, kind)
        self.rates = rates.to(self.device, kind)


class Lorenz(_Spiking):
    """Neurons whose log-rates are linear in the state of a Lorenz system.

    The system is integrated by Euler steps of 0.006, one for each millisecond. Its state is put on
    the scale of its attractor. Weights are N(0, ``gain``²) and the same for all splits and epochs.

    Arguments:
        sequences: number of trials ``N``, each from a start of its own on the attractor.
        steps: bins ``T``.
        seed: seed of starts and spikes.
        neurons: number of neurons ``M``.
        bin: width of a bin, a whole number of milliseconds, in seconds.
        rate: spikes a second at the attractor's centre.
        gain: standard deviation of the weights.
        weights_seed: seed of the weights.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        device: where the data live.

    Attributes:
        obs: spike counts, ``[N, T, M]``.
        state: the scaled state, ``[N, T, 3]``.
        rates: mean counts, ``[N, T, M]``.
        mask: all True, ``[N, T]``.

    Raises:
        ValueError: for a number out of its range, or an unknown split.

    Example:
        >>> Lorenz(sequences=2, steps=100, seed=0).obs.shape
        torch.Size([2, 100, 30])
    """

    def __init__(
        self,
        sequences: int,
        steps: int,
        seed: int = 0,
        neurons: int = 30,
        bin: float = 0.01,
        rate: float = 5.0,
        gain: float = 0.35,
        weights_seed: int = 0,
        split: str = "train",
        device: torch.device | str = "cpu",
        epoch: int = 0,
    ) -> None:
        self.neurons, self.weights_seed = check_number("neurons", neurons), weights_seed
        self.bin, self.rate = check_real("bin", bin, above=0), check_real("rate", rate, above=0)
        self.gain = check_real("gain", gain, least=0)
        if not math.isclose(1000 * bin, round(1000 * bin), abs_tol=1e-6) or bin < 0.001:
            raise ValueError(f"bin must be a whole number of milliseconds, got {bin} s")
        self.weights = self.gain * self._normal(3, neurons)
        super().__init__(sequences, steps, seed, split, device, epoch)

    def _draw(self, random: torch.Generator) -> None:
        state = _lorenz(self.sequences, self.steps, round(1000 * self.bin), random)
        rates = self.rate * self.bin * (state @ self.weights).exp()
        self.state = state.to(self.device, torch.get_default_dtype())
        self._spikes(rates, random)


class ChaoticRNN(_Spiking):
    """Neurons that are the units of a random network in its chaotic regime.

        tau dx/dt = -x + g W tanh(x),  W ~ N(0, 1 / M),  rate = max_rate (1 + tanh(x)) / 2

    by Euler steps of one bin, from x_0 ~ N(0, 1).

    Arguments:
        sequences: number of trials ``N``, each from a start of its own.
        steps: bins ``T``.
        seed: seed of starts and spikes.
        neurons: number of units ``M``.
        g: strength of the weights: chaotic above 1, the faster the larger.
        tau: time constant of a unit in seconds.
        bin: width of a bin in seconds, at most ``tau``.
        max_rate: largest number of spikes a second.
        weights_seed: seed of the weights, which are the same for all splits and epochs.
        split: ``"train"``, ``"validation"`` or ``"test"``.
        device: where the data live.

    Attributes:
        obs: spike counts, ``[N, T, M]``.
        state: x, ``[N, T, M]``.
        rates: mean counts, ``[N, T, M]``.
        mask: all True, ``[N, T]``.

    Raises:
        ValueError: for a number out of its range, or an unknown split.

    Example:
        >>> ChaoticRNN(sequences=2, steps=100, seed=0).obs.shape
        torch.Size([2, 100, 50])
    """

    def __init__(
        self,
        sequences: int,
        steps: int,
        seed: int = 0,
        neurons: int = 50,
        g: float = 1.5,
        tau: float = 0.025,
        bin: float = 0.01,
        max_rate: float = 30.0,
        weights_seed: int = 0,
        split: str = "train",
        device: torch.device | str = "cpu",
        epoch: int = 0,
    ) -> None:
        self.neurons, self.weights_seed = check_number("neurons", neurons), weights_seed
        self.g, self.tau = check_real("g", g, least=0), check_real("tau", tau, above=0)
        self.bin = check_real("bin", bin, above=0, most=tau)
        self.max_rate = check_real("max_rate", max_rate, above=0)
        self.weights = self.g * self._normal(neurons, neurons) / math.sqrt(neurons)
        super().__init__(sequences, steps, seed, split, device, epoch)

    def _draw(self, random: torch.Generator) -> None:
        x = torch.randn(self.sequences, self.neurons, generator=random, dtype=torch.float64)
        states = []
        for _ in range(self.steps):
            states.append(x)
            x = x + self.bin / self.tau * (x.tanh() @ self.weights - x)
        state = torch.stack(states, 1)
        self.state = state.to(self.device, torch.get_default_dtype())
        self._spikes(self.max_rate * self.bin * (1 + state.tanh()) / 2, random)


def _lorenz(sequences: int, steps: int, each: int, random: torch.Generator) -> Tensor:
    """Scaled states every ``each`` Euler steps, ``[N, T, 3]``, float64."""
    x, y, z = torch.randn(3, sequences, generator=random, dtype=torch.float64).mul(5).unbind(0)
    z, states = z + RHO - 1, []
    for at in range(-BURN_IN, (steps - 1) * each + 1):
        if at >= 0 and at % each == 0:
            states.append(torch.stack((x, y, z), -1))
        x, y, z = (
            x + STEP * SIGMA * (y - x),
            y + STEP * (x * (RHO - z) - y),
            z + STEP * (x * y - BETA * z),
        )
    found = torch.stack(states, 1)
    return (found - found.new_tensor(CENTRE)) / found.new_tensor(SPREAD)
