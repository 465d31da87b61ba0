"""Inputs beside the data: those that a network reads, and how its methods are given them.

A network with ``input_dim`` 0 ignores a batch's inputs, and its methods need no such argument.
"""

from __future__ import annotations

from types import EllipsisType

from torch import Tensor, nn

from ..data import Batch

#: Which of a tensor's entries: an index along its first axes, or all of them.
Where = Tensor | slice | int | EllipsisType | tuple[slice | int | None, ...]


def inputs_of(net: nn.Module, batch: Batch) -> Tensor | None:
    """The inputs of a batch that a network reads, ``[B, T, I]``; None for one that reads none.

    Arguments:
        net: a network of a kind in ``inference.contracts``; it reads ``net.input_dim`` values.
        batch: what it is given.

    Raises:
        ValueError: for a batch without the inputs that the network reads.
    """
    size = getattr(net, "input_dim", 0)
    if not size:
        return None
    if batch.inputs is None or batch.inputs.shape[-1] != size:
        found = "none" if batch.inputs is None else str(batch.inputs.shape[-1])
        raise ValueError(
            f"{type(net).__name__} reads {size} inputs a frame, and this batch has {found}: give "
            f"Batch(obs, inputs=...) of shape [B, T, {size}]"
        )
    return batch.inputs


def given_inputs(
    net: nn.Module, inputs: Tensor | None, rows: int, steps: int, like: Tensor
) -> Tensor | None:
    """Inputs of frames that a network makes, ``[rows, steps, I]``; None for one that reads none.

    Arguments:
        net: a network of a kind in ``inference.contracts``; it reads ``net.input_dim`` values.
        inputs: what it is given.
        rows, steps: sequences to make, and their frames.
        like: a tensor of the dtype and on the device of the frames.

    Raises:
        ValueError: for inputs of another shape, NaN, or inputs for a network that reads none.
    """
    size, name = getattr(net, "input_dim", 0), type(net).__name__
    if not size:
        if inputs is not None:
            raise ValueError(f"this {name} reads no inputs: leave inputs out")
        return None
    shape = rows, steps, size
    if not isinstance(inputs, Tensor) or inputs.shape != shape:
        found = tuple(inputs.shape) if isinstance(inputs, Tensor) else type(inputs).__name__
        raise ValueError(
            f"{name} reads {size} inputs a frame: give those of the frames to make, inputs of "
            f"shape {list(shape)}, got {found}"
        )
    if not inputs.isfinite().all():
        raise ValueError("inputs have NaN or Inf: fill them in")
    return inputs.to(like)


def at(inputs: Tensor | None, index: Where) -> Tensor | None:
    """Some of the inputs, ``inputs[index]``; None where there are none."""
    return None if inputs is None else inputs[index]


def keyword(inputs: Tensor | None, index: Where = ...) -> dict[str, Tensor]:
    """The keyword ``inputs`` of a call, ``inputs[index]``; no keyword where there are none."""
    return {} if inputs is None else {"inputs": inputs[index]}
