"""Probabilistic population codes: a noisy spring seen through fifteen Poisson neurons.

The data of Table 1 in *Learning recurrent models with temporally local rules*, with the constants
of Makin, Dichter & Sabes (PLoS Comput Biol 2015). Position is in radians, velocity in rad/s.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from .synthetic import Synthetic

NEURONS = 15
LIMIT = math.pi / 3  # preferred positions span [-LIMIT, LIMIT]
SPACING = 2 * LIMIT / (NEURONS - 1)
PERIOD = NEURONS * SPACING  # the torus that the population tiles evenly
TUNING_SD = 2 * LIMIT / 6 / (2 * math.sqrt(2 * math.log(2)))  # full width at half maximum: 1/6
GAIN = (6.4, 9.6)  # spikes at the peak, drawn afresh at every step for the whole population

STEP = 0.05  # s
MASS, DAMPING, SPRING = 5.0, 0.25, 3.0
DYNAMICS = torch.tensor(
    [[1.0, STEP], [-SPRING / MASS * STEP, 1.0 - DAMPING / MASS * STEP]], dtype=torch.float64
)
PROCESS_COVARIANCE = torch.diag(torch.tensor([5e-7, 5e-5], dtype=torch.float64))
START_LIMIT = LIMIT - 0.05  # positions start uniform on +-START_LIMIT ...
START_VELOCITY_VARIANCE = 5e-10  # ... almost at rest


class PPC(Synthetic):
    """Spike counts of a population that reports the position of a noisy damped spring.

    The position runs free; only its encoding wraps around the torus.

    Arguments:
        sequences: number of trajectories ``N``.
        steps: time steps ``T`` of 50 ms.
        seed: seed; the same arguments give the same data on one kind of device.
        split: ``"train"``, ``"validation"`` or ``"test"``: unrelated streams for one seed.
        device: where the data are drawn and live.

    Attributes:
        obs: spike counts, ``[N, T, 15]``.
        state: position (rad) and velocity (rad/s), ``[N, T, 2]``.
        mask: all True, ``[N, T]``.

    Raises:
        ValueError: when ``sequences`` or ``steps`` is below 1, or the split is unknown.

    Example:
        >>> PPC(sequences=2, steps=100, seed=0).obs.shape
        torch.Size([2, 100, 15])
    """

    unit = "neuron"
    generator_device = None  # spikes are drawn on the device of the data

    def __init__(
        self,
        sequences: int,
        steps: int,
        seed: int = 0,
        split: str = "train",
        device: torch.device | str = "cpu",
        epoch: int = 0,
    ) -> None:
        super().__init__(sequences, steps, seed, split, device, epoch)

    def _draw(self, random: torch.Generator) -> None:
        state = _trajectories(self.sequences, self.steps, random).float()
        kind = torch.get_default_dtype()  # of the data; what is drawn does not depend on it
        self.state, self._obs = state.to(kind), _spikes(state[..., 0], random).to(kind)


def _trajectories(sequences: int, steps: int, random: torch.Generator) -> Tensor:
    """x_t = A x_{t-1} + w_t, in float64, ``[N, T, 2]``."""
    like = {"dtype": torch.float64, "device": random.device}
    position = (2 * torch.rand(sequences, generator=random, **like) - 1) * START_LIMIT
    noise = torch.randn(steps, sequences, 2, generator=random, **like)
    velocity = noise[0, :, 1] * math.sqrt(START_VELOCITY_VARIANCE)
    noise = noise * PROCESS_COVARIANCE.diagonal().sqrt().to(random.device)
    dynamics = DYNAMICS.T.to(random.device)
    states = [torch.stack((position, velocity), -1)]
    for t in range(1, steps):
        states.append(torch.addmm(noise[t], states[-1], dynamics))
    return torch.stack(states, 1)


def _spikes(position: Tensor, random: torch.Generator) -> Tensor:
    low, high = GAIN
    like = {"dtype": position.dtype, "device": random.device}
    gain = low + (high - low) * torch.rand(position.shape, generator=random, **like)
    return torch.poisson(gain[..., None] * tuning(position), generator=random)


def preferred(device: torch.device | str = "cpu", dtype: torch.dtype | None = None) -> Tensor:
    """Preferred positions of the neurons (rad), ``[15]``."""
    return torch.linspace(-LIMIT, LIMIT, NEURONS, dtype=dtype, device=device)


def wrap(position: Tensor) -> Tensor:
    """Positions (rad) moved by whole periods into ``[-PERIOD/2, PERIOD/2)``."""
    wrapped = torch.remainder(position + PERIOD / 2, PERIOD) - PERIOD / 2
    return torch.where(wrapped < PERIOD / 2, wrapped, wrapped - PERIOD)  # rounding may reach it


def tuning(position: Tensor) -> Tensor:
    """Mean response of each neuron at unit gain, ``[...] -> [..., 15]``: three copies summed."""
    offset = wrap(position)[..., None] - preferred(position.device, position.dtype)
    copies = PERIOD * torch.tensor([-1.0, 0.0, 1.0], dtype=offset.dtype, device=position.device)
    return (-0.5 * ((offset[..., None] + copies) / TUNING_SD) ** 2).exp().sum(-1)


def decode(obs: Tensor) -> Tensor:
    """Position (rad) in spike counts or mean rates: the population's centre of mass.

    The loudest neuron is rolled to the middle, so that the mass does not straddle the seam of the
    torus. A silent population decodes to the first neuron.

    Arguments:
        obs: counts or rates, ``[..., 15]``.

    Returns:
        Positions in ``[-PERIOD/2, PERIOD/2)``, shape ``[...]``.
    """
    _check_population(obs)
    middle = NEURONS // 2
    shift = obs.argmax(-1, keepdim=True) - middle
    index = torch.arange(NEURONS, device=obs.device)
    rolled = obs.gather(-1, (index + shift) % NEURONS)
    total = rolled.sum(-1)
    centre = torch.where(total > 0, (rolled * index).sum(-1) / total.clamp_min(1e-12), middle)
    return wrap(-LIMIT + SPACING * (centre + shift[..., 0]))


def observation_variance(obs: Tensor) -> Tensor:
    """Variance (rad²) of the decoded position: tuning variance / total spikes, ``[...]``.

    A silent population says nothing; it gets the variance of a uniform position on the torus.
    """
    _check_population(obs)
    total = obs.sum(-1)
    return torch.where(total > 0, TUNING_SD**2 / total.clamp_min(1e-12), PERIOD**2 / 12)


def position_mse(decoded: Tensor, position: Tensor, mask: Tensor | None = None) -> Tensor:
    """Mean squared error (rad²), the shortest way round the torus, over all real frames.

    Arguments:
        decoded: decoded positions, ``[B, T]``.
        position: true positions, ``[B, T]``.
        mask: True where a frame is real, ``[B, T]``. It and the true positions may be on another
            device.
    """
    if decoded.shape != position.shape:
        raise ValueError(
            f"decoded {tuple(decoded.shape)} and position {tuple(position.shape)} differ in shape"
        )
    error = wrap(decoded - position.to(decoded.device)).square()
    return error.mean() if mask is None else error[mask.to(error.device)].mean()


def _check_population(obs: Tensor) -> None:
    if obs.shape[-1:] != (NEURONS,):
        raise ValueError(f"a population has {NEURONS} neurons: got shape {tuple(obs.shape)}")
    if not torch.isfinite(obs).all() or (obs < 0).any():
        raise ValueError("spike counts and rates must be finite and not negative")
