"""Linear-Gaussian dynamical systems: parameters, readings and beliefs."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor


class LinearGaussian(NamedTuple):
    """Parameters of a linear-Gaussian dynamical system.

    Arguments:
        dynamics: A, ``[..., K, K]``.
        process: Q, covariance of the process noise, ``[..., K, K]``.
        emission: C, ``[..., D, K]``.
        initial_mean: m, ``[..., K]``.
        initial_covariance: P, ``[..., K, K]``.
        offset: d, ``[..., D]``; None for zero, like those below.
        noise: R, covariance of the observation noise beside the known variances,
            ``[..., D, D]``.
        input_dynamics: B, effect of the inputs on the state, ``[..., K, I]``.
        input_emission: D, effect of the inputs on the observations, ``[..., D, I]``.
    """

    dynamics: Tensor
    process: Tensor
    emission: Tensor
    initial_mean: Tensor
    initial_covariance: Tensor
    offset: Tensor | None = None
    noise: Tensor | None = None
    input_dynamics: Tensor | None = None
    input_emission: Tensor | None = None

    def map(self, function: Callable[..., Tensor], *others: LinearGaussian) -> LinearGaussian:
        """The system of ``function(parameter, ...)`` for each parameter that is there.

        Arguments:
            function: takes a parameter of this system, and the same one of each of the others.
            others: systems with the same parameters.
        """
        rest = [system.parts() for system in others]
        return LinearGaussian(
            **{
                name: function(value, *(parts[name] for parts in rest))
                for name, value in self.parts().items()
            }
        )

    def parts(self) -> dict[str, Tensor]:
        """The parameters that are there, by name."""
        return {name: value for name, value in self._asdict().items() if value is not None}

    @property
    def input_dim(self) -> int:
        """Number of inputs a frame, ``I``; 0 where the system takes none."""
        parts = (self.input_dynamics, self.input_emission)
        return max((0 if part is None else part.shape[-1]) for part in parts)


class Beliefs(NamedTuple):
    """Gaussian distributions of the state at every step.

    Arguments:
        mean: ``[..., B, T, K]``.
        covariance: ``[..., B, T, K, K]``.
        log_likelihood: log p(y_1 .. y_T) in nats, ``[..., B]``.
        lagged: Cov(x_{t+1}, x_t | y), ``[..., B, T - 1, K, K]``; None from the filter.
    """

    mean: Tensor
    covariance: Tensor
    log_likelihood: Tensor
    lagged: Tensor | None = None

    @property
    def variance(self) -> Tensor:
        """Marginal variances, ``[..., B, T, K]``."""
        return self.covariance.diagonal(dim1=-2, dim2=-1)


class Readings(NamedTuple):
    """What a linear system reads from a batch.

    Arguments:
        value: ``[B, T, D]``.
        variance: known variance of each value, infinite where it is missing, ``[B, T, D]``.
        mask: True where a frame is real, ``[B, T]``.
        inputs: known inputs s_t, ``[B, T, I]``; None where there are none.
    """

    value: Tensor
    variance: Tensor
    mask: Tensor
    inputs: Tensor | None = None

    @property
    def seen(self) -> Tensor:
        """True where a value was seen, ``[B, T, D]``; False in padding."""
        return self.variance.isfinite() & self.mask[..., None]


def begun(mask: Tensor) -> Tensor:
    """True from the first real frame of each sequence on, ``[B, T]``."""
    return mask.cummax(1).values


def known_inputs(model: LinearGaussian, inputs: Tensor | None, mask: Tensor | None) -> Tensor:
    """Inputs in the dtype of the parameters, ``[B, T, I]``; zero in frames that are not real."""
    inputs = torch.as_tensor(inputs).to(model.dynamics)
    return inputs if mask is None else inputs.masked_fill(~mask[..., None], 0.0)


def drive(model: LinearGaussian, inputs: Tensor | None, mask: Tensor | None) -> Tensor | None:
    """B s_t of each frame but the first, ``[..., B, T - 1, K]``, 0 up to x_1; None without B."""
    if model.input_dynamics is None:
        return None
    moved = known_inputs(model, inputs, mask)[:, 1:] @ model.input_dynamics.mT.unsqueeze(-3)
    return moved if mask is None else moved * begun(mask)[:, :-1, None]


def baseline(
    model: LinearGaussian, inputs: Tensor | None = None, mask: Tensor | None = None
) -> Tensor | None:
    """d + D s_t, the mean of y_t at a state of zero; broadcasts to ``[..., B, T, D]``.

    Arguments:
        model: the parameters.
        inputs: ``[B, T, I]``.
        mask: True where a frame is real, ``[B, T]``; inputs of others count as zero.

    Returns:
        The means, or None for a system with neither d nor D.
    """
    total = None
    if model.input_emission is not None:
        total = known_inputs(model, inputs, mask) @ model.input_emission.mT.unsqueeze(-3)
    if model.offset is not None:
        d = model.offset[..., None, None, :]
        total = d if total is None else total + d
    return total
