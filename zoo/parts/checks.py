"""Checks of the parts that a model is given, with errors that name the part."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn

from ...inference.checks import check_number, check_real
from ...inference.paths import Path

CASTS = {torch.float64: "double", torch.float32: "float", torch.float16: "half"}


def check_dtype(net: nn.Module, obs: Tensor) -> None:
    """Raises a ValueError where ``obs`` have a floating dtype that no parameter has."""
    dtypes = [parameter.dtype for parameter in net.parameters()]
    if not dtypes or not obs.is_floating_point() or obs.dtype in dtypes:
        return
    first = dtypes[0]
    given, wanted = (str(dtype).removeprefix("torch.") for dtype in (obs.dtype, first))
    use = f"obs.{CASTS[first]}()" if first in CASTS else f"obs.to({first})"
    use += ", or net.double()" if obs.dtype == torch.float64 else ""
    if first == torch.float64:
        use += "; for a data set call torch.set_default_dtype(torch.float64) before you make it"
    raise ValueError(f"obs are {given}, the network's weights are {wanted}: use {use}")


def check_hidden(hidden: int) -> None:
    """Raises a ValueError where ``hidden`` is no size, such as a part given by position."""
    if isinstance(hidden, nn.Module):
        raise ValueError(
            f"hidden must be a whole number, got {type(hidden).__name__}: give parts by name, such "
            "as prior=... or guide=..."
        )
    check_number("hidden", hidden)


def check_dropout(**rates: float) -> None:
    """Raises a ValueError unless the probabilities, by name, that a unit is dropped fit."""
    for name, rate in rates.items():
        check_real(name, rate, least=0, most=1)


def check_mean(name: str, mean: float | None) -> None:
    """Raises a ValueError unless the initial mean of a value is None or a finite number."""
    if mean is not None:
        check_real(name, mean)


def call(part: Callable[..., Tensor], role: str, *inputs: Tensor) -> Tensor:
    """The output of a part.

    Raises:
        ValueError: when torch cannot run the part on these inputs, as where widths differ.
    """
    try:
        return part(*inputs)
    except torch.OutOfMemoryError:
        raise
    except RuntimeError as error:
        given = tuple(inputs[0].shape)
        raise ValueError(f"the {role} fails on inputs of shape {given}: {error}") from error


def size_of(part: object, role: str, name: str) -> int:
    """The attribute ``name`` of a part, such as ``dim``.

    Raises:
        ValueError: when the part has no such attribute.
    """
    size = getattr(part, name, None)
    if size is None:
        raise ValueError(f"the {role} needs an attribute {name}: {type(part).__name__} has none")
    return size


def check_shape(value: Tensor, role: str, axes: str, shape: Sequence[int]) -> Tensor:
    """``value``, checked to be a tensor of this shape; ``axes`` names the axes in the error.

    Raises:
        ValueError: for another shape or type.
    """
    found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    if found != tuple(shape):
        raise ValueError(f"the {role} must return {axes} = {tuple(shape)}, got {found}")
    return value


def check_path(path: Path, role: str, mask: Tensor, latent_dim: int) -> Path:
    """``path``, checked to be a distribution over paths of ``mask [B, T]`` and ``latent_dim``.

    Raises:
        ValueError: for another shape or type.
    """
    if not isinstance(path, Path):
        raise ValueError(
            f"the {role} must return an inference.Path, such as LinearChain(mask, 0.0, mean, "
            f"scale), got {type(path).__name__}"
        )
    found, shape = (*path.batch_shape, *path.event_shape), (*mask.shape, latent_dim)
    if found != shape:
        raise ValueError(
            f"the {role} must return a distribution over paths [sequences, steps, latents] = "
            f"{shape}, got {found}"
        )
    return path


def check_distribution(
    distribution: dist.TorchDistribution, role: str, event_shape: tuple[int]
) -> dist.TorchDistribution:
    """``distribution``, checked to be one of Pyro's with this event shape.

    Raises:
        ValueError: for another event shape or type.
    """
    if not isinstance(distribution, TorchDistributionMixin):
        kind = type(distribution)
        raise ValueError(
            f"the {role} must be one of pyro.distributions, such as Normal(...).to_event(1), got "
            f"{kind.__module__}.{kind.__name__}"
        )
    if tuple(distribution.event_shape) != event_shape:
        raise ValueError(
            f"the {role} must have event shape {event_shape}, got "
            f"{tuple(distribution.event_shape)} and batch shape {tuple(distribution.batch_shape)}: "
            "check its size, and end it in .to_event(1)"
        )
    return distribution
