"""Checks of the parameters of a linear-Gaussian system, and of the data that it is given."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ...data.checks import shown
from .system import LinearGaussian, baseline, drive


class Data(NamedTuple):
    """What a system is given, checked, in its dtype and on its device.

    Arguments:
        obs: values less d + D s_t, ``[..., B, T, D]``; zero where missing.
        variance: known variances, ``[B, T, D]``; 1 where a value is missing.
        seen: True where a value was seen, ``[B, T, D]``; None where all were.
        drive: B s_t of every frame but the first, ``[..., B, T - 1, K]``; None without inputs.
    """

    obs: Tensor
    variance: Tensor
    seen: Tensor | None
    drive: Tensor | None


#: Trailing axes of every parameter: states, values a frame, inputs.
AXES = {
    "dynamics": "KK",
    "process": "KK",
    "emission": "DK",
    "initial_mean": "K",
    "initial_covariance": "KK",
    "offset": "D",
    "noise": "DD",
    "input_dynamics": "KI",
    "input_emission": "DI",
}


def check_system(model: LinearGaussian) -> None:
    """Raises a ValueError for parameters of wrong shapes or kinds, or not finite.

    Arguments:
        model: the parameters; Q, P and R must be covariances.
    """
    first, parts = model.dynamics, model.parts()
    for name in LinearGaussian._fields[:5]:
        parts.setdefault(name, getattr(model, name))  # None is no tensor
    for name, value in parts.items():
        if not isinstance(value, Tensor) or not value.is_floating_point():
            raise ValueError(f"{name} must be a floating-point tensor")
        if value.dtype != first.dtype or value.device != first.device:
            raise ValueError(f"{name} is {value.dtype} on {value.device}, dynamics are not")
        if value.dim() < len(AXES[name]):
            raise ValueError(f"{name} has too few axes, shape {tuple(value.shape)}")
        if not value.isfinite().all():
            raise ValueError(f"{name} has NaN or Inf")
    sizes = {"K": first.shape[-1], "D": model.emission.shape[-2], "I": model.input_dim}
    leading = []
    for name, value in parts.items():
        shape = tuple(sizes[axis] for axis in AXES[name])
        if value.shape[value.dim() - len(shape) :] != shape or 0 in value.shape:
            inputs = f", {sizes['I']} inputs" if "I" in AXES[name] else ""
            raise ValueError(
                f"{name} must end in the axes {shape}, for {sizes['K']} states{inputs} and "
                f"{sizes['D']} values a frame, got shape {tuple(value.shape)}"
            )
        leading.append(value.shape[: value.dim() - len(shape)])
    try:
        torch.broadcast_shapes(*leading)
    except RuntimeError as error:
        raise ValueError(f"leading axes of the parameters differ: {leading}") from error
    for name in ("process", "initial_covariance", "noise"):
        if name in parts:
            _check_covariance(name, parts[name].detach())


def _check_covariance(name: str, value: Tensor) -> None:
    scale = value.abs().amax((-2, -1))
    slack = torch.finfo(value.dtype).eps ** 0.5 * scale
    lowest = torch.linalg.eigvalsh(value)[..., 0]
    if ((value - value.mT).abs().amax((-2, -1)) > slack).any() or (lowest < -slack).any():
        raise ValueError(f"{name} must be a covariance: symmetric, with no negative eigenvalue")


def check_inputs(
    model: LinearGaussian, inputs: Tensor | None, mask: Tensor | None, shape: torch.Size
) -> None:
    """Raises a ValueError for inputs that do not fit the system or the data.

    Arguments:
        model: the parameters.
        inputs: ``[B, T, I]``, or None.
        mask: True where a frame is real, ``[B, T]``.
        shape: sequences and frames, ``(B, T)``.
    """
    size = model.input_dim
    if inputs is None:
        if size:
            raise ValueError(f"the system takes {size} inputs a frame: give inputs [B, T, {size}]")
        return
    if not size:
        raise ValueError(
            "the system takes no inputs: give it input_dynamics or input_emission, or inputs=None"
        )
    if not isinstance(inputs, Tensor) or inputs.is_complex():
        raise ValueError(f"inputs must be a tensor of real numbers, got {shown(inputs)}")
    if inputs.shape != (*shape, size):
        raise ValueError(
            f"inputs must be [sequences, frames, inputs], {(*shape, size)}, got "
            f"{tuple(inputs.shape)}"
        )
    real = True if mask is None else mask[..., None]
    if (~inputs.isfinite() & real).any():
        raise ValueError("inputs have NaN or Inf in a real frame: an input has no missing values")


def measured(
    model: LinearGaussian,
    obs: Tensor,
    variance: Tensor,
    mask: Tensor | None = None,
    inputs: Tensor | None = None,
) -> Data:
    """Checks the data of a system and fills in missing values.

    Arguments:
        model, obs, variance, mask, inputs: see ``kalman_filter``.

    Raises:
        ValueError: for data that do not fit the system.
    """
    for name, value in (("obs", obs), ("variance", variance)):
        if not isinstance(value, Tensor) or value.is_complex():
            raise ValueError(f"{name} must be a tensor of real numbers, got {shown(value)}")
    values = model.emission.shape[-2]
    if obs.dim() != 3 or obs.shape[-1] != values or obs.numel() == 0:
        raise ValueError(
            f"obs must be [sequences, frames, {values}], as the emission has {values} rows, got "
            f"{tuple(obs.shape)}"
        )
    if variance.shape != obs.shape:
        raise ValueError(
            f"variance must have a number for each value, shaped like obs {tuple(obs.shape)}, got "
            f"{tuple(variance.shape)}: use variance.expand_as(obs)"
        )
    if mask is not None and (
        not isinstance(mask, Tensor) or mask.dtype != torch.bool or mask.shape != obs.shape[:2]
    ):
        raise ValueError(
            f"mask must be a bool tensor {tuple(obs.shape[:2])}, True where a frame is real"
        )
    check_inputs(model, inputs, mask, obs.shape[:2])
    obs, variance = obs.to(model.dynamics), variance.to(model.dynamics)
    seen = _seen(obs, variance, mask)
    base, moved = baseline(model, inputs, mask), drive(model, inputs, mask)
    if base is not None:
        obs = obs - base
    if seen is None:
        return Data(obs, variance, None, moved)
    return Data(obs.masked_fill(~seen, 0.0), variance.masked_fill(~seen, 1.0), seen, moved)


def _seen(obs: Tensor, variance: Tensor, mask: Tensor | None) -> Tensor | None:
    """True where a value was seen, ``[B, T, D]``; None where all were. Refuses what is none."""
    every = mask is None or bool(mask.all())
    if every and variance.amin() >= 0 and (obs.sum() + variance.sum()).isfinite():
        return None  # three sums, where what follows takes ten arrays of the size of the data
    real = torch.ones_like(obs, dtype=torch.bool) if mask is None else mask[..., None]
    if ((variance.isnan() | (variance < 0)) & real).any():
        raise ValueError(
            "variance has NaN or a negative number in a real frame: that of a missing value is inf"
        )
    seen = variance.isfinite() & real
    if not (obs.isfinite() | ~seen).all():
        raise ValueError(
            "obs has NaN or Inf where the variance is finite: that of a missing value is inf"
        )
    return None if seen.all() else seen


def check_precision(mean: Tensor, cov: Tensor, scores: Tensor | None = None) -> None:
    """Raises a ValueError that names the first frame of which something is not finite.

    Arguments:
        mean: ``[..., B, T, K]``.
        cov: ``[..., B, T, K, K]``.
        scores: log-density of each frame, ``[..., B, T]``.
    """
    fine = mean.isfinite().all(-1) & cov.isfinite().flatten(-2).all(-1)
    if scores is not None:
        fine = fine & scores.isfinite()
    fine = fine.flatten(0, -2).all(0)
    if not fine.all():
        raise ValueError(
            f"{mean.dtype} does not suffice at frame {int((~fine).nonzero()[0])}: the variances, "
            "and what the system predicts, differ by too many orders of magnitude: rescale the "
            "data, give a larger variance or use shorter sequences"
        )
