"""Whether parts that were swapped in are what a model takes, and what is said when they are not."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence

import pyro.distributions as dist
import torch
from pyro.distributions.torch_distribution import TorchDistributionMixin
from torch import Tensor, nn

from ...inference.paths import Path

SHAPES = re.compile(r"(shape|size)s?\b")  # what torch's complaints of widths have in common
CASTS = {torch.float64: "double", torch.float32: "float", torch.float16: "half"}


def check_dtype(net: nn.Module, obs: Tensor) -> None:
    """Raises a ValueError where floating-point ``obs`` are of a dtype that no parameter has."""
    kinds = (parameter.dtype for parameter in net.parameters())
    first = next(kinds, obs.dtype)
    if first == obs.dtype or not obs.is_floating_point() or obs.dtype in kinds:
        return
    given, wanted = (str(dtype).removeprefix("torch.") for dtype in (obs.dtype, first))
    use = f"obs.{CASTS[first]}()" if first in CASTS else f"obs.to({first})"
    use += ", or net.double()" if obs.dtype == torch.float64 else ""
    raise ValueError(f"obs are {given}, the network's weights are {wanted}: use {use}")


def check_units(hidden: int) -> None:
    """Raises a ValueError where ``hidden`` is no number: a part that was given by its position."""
    if not isinstance(hidden, int):
        raise ValueError(
            f"hidden is a number of units, got {type(hidden).__name__}: give parts by name, such "
            "as prior=... or guide=..."
        )


def ask(part: Callable[..., Tensor], role: str, *inputs: Tensor) -> Tensor:
    """What a part makes of its inputs.

    Raises:
        ValueError: when torch complains of shapes: the part was built for other widths.
    """
    try:
        return part(*inputs)
    except RuntimeError as error:
        if not SHAPES.search(str(error)):
            raise
        given = tuple(inputs[0].shape)
        raise ValueError(f"the {role} fails on inputs of shape {given}: {error}") from error


def size_of(part: nn.Module, role: str, name: str) -> int:
    """A size that a part must tell.

    Raises:
        ValueError: when it does not.
    """
    size = getattr(part, name, None)
    if size is None:
        raise ValueError(f"the {role} needs an attribute {name}: {type(part).__name__} has none")
    return size


def check_shape(value: Tensor, role: str, axes: str, shape: Sequence[int]) -> Tensor:
    """``value``, or a ValueError where it is no tensor of this shape; ``axes`` names them."""
    found = tuple(value.shape) if isinstance(value, Tensor) else type(value).__name__
    if found != tuple(shape):
        raise ValueError(f"the {role} must return {axes} = {tuple(shape)}, got {found}")
    return value


def check_path(law: Path, role: str, shape: tuple[int, int, int]) -> Path:
    """``law``, or a ValueError where it is no law of ``B`` paths of event shape ``[T, K]``."""
    if not isinstance(law, Path):
        raise ValueError(
            f"the {role} must return an inference.Path, such as LinearChain(mask, 0.0, mean, "
            f"scale), which knows what is padding: got {type(law).__name__}"
        )
    found = (*law.batch_shape, *law.event_shape)
    if found != shape:
        raise ValueError(
            f"the {role} must return a law of [sequences, steps, latents] = {shape}, got {found}"
        )
    return law


def check_law(law: dist.TorchDistribution, role: str, event: tuple[int]) -> dist.TorchDistribution:
    """``law``, or a ValueError where it is no distribution of Pyro's with this event shape."""
    if not isinstance(law, TorchDistributionMixin):
        raise ValueError(
            f"the {role} must be one of pyro.distributions, such as Normal(...).to_event(1), got "
            f"{type(law).__module__}.{type(law).__name__}"
        )
    if tuple(law.event_shape) != event:
        raise ValueError(
            f"the {role} must have event shape {event}, got {tuple(law.event_shape)} and batch "
            f"shape {tuple(law.batch_shape)}: see its size, and that it ends in .to_event(1)"
        )
    return law
