"""Batches of sequences, and their masks.

Three different masks exist in seqzoo and are never mixed:

* ``mask [B, T]``: True where time passes, False where it is padding;
* ``observed [B, T, M]``: True where a single value was seen;
* the ``mask`` handlers of Pyro, which the models derive from both.

A missing value is zero in ``obs``, so that no result depends on a filler.
A gap within a sequence is a run of frames of which no value was seen.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from typing import Any, ClassVar, Protocol, runtime_checkable

import numpy as np
import torch
from torch import Tensor

from .checks import check_number

#: Which rows: a slice, or a list or tensor of their numbers.
Index = slice | Sequence[int] | Tensor


@dataclass(frozen=True, init=False)
class Batch:
    """Sequences of one batch: batch first, time second, always.

    Arguments:
        obs: observations, ``[B, T, M]`` (or ``[B, T, ...]`` for frames), floating point.
        mask: True where a frame is real, ``[B, T]``; all True when left out, so that a batch
            always has one. Padded frames of ``obs`` become zero. Frames that are False between two
            real ones are a gap: time passes there, so ``mask`` becomes True and ``observed`` False.
        target: the target of a supervised task, any shape that starts with ``B``.
        observed: True where a single value was seen, ``[B, T, M]``; None where no value of a real
            frame is missing. A missing value of ``obs`` may be NaN or infinite, and becomes zero.
        state: the generator's own hidden state, ``[B, T, ...]``, for evaluation only.
        inputs: known values beside the data at each step, such as a stimulus or a behaviour,
            ``[B, T, I]``, of the dtype of ``obs``. None of them may be missing where time passes,
            gaps included. Padding becomes zero.

    Raises:
        ValueError: for an empty batch, a non-finite or integer ``obs``, a mask of the wrong
            shape or dtype, a sequence without a single value that was seen, or unfit ``inputs``.
    """

    obs: Tensor
    mask: Tensor
    target: Tensor | None
    observed: Tensor | None
    state: Tensor | None
    inputs: Tensor | None
    _host: ClassVar[Batch | None] = None  # where a batch on another device came from

    def __init__(
        self,
        obs: Tensor,
        mask: Tensor | None = None,
        target: Tensor | None = None,
        observed: Tensor | None = None,
        state: Tensor | None = None,
        inputs: Tensor | None = None,
    ) -> None:
        others = {"target": target, "observed": observed, "state": state, "inputs": inputs}
        _check_devices(obs, {"mask": mask, **others})
        obs, observed = _without_missing(obs, observed)
        check_sequences(obs, mask)
        if mask is None:
            mask = torch.ones(obs.shape[:2], dtype=torch.bool, device=obs.device)
        elif not mask.all():
            gaps = _gaps(mask)
            real = _over_values(mask, obs)
            obs = obs.masked_fill(~real, 0.0)  # padding may hold anything, NaN included
            if gaps.any():
                mask = mask | gaps
                observed = real.expand(obs.shape) if observed is None else observed & real
        if observed is not None:
            observed = _where_missing(observed, mask)
        if inputs is not None:
            inputs = check_inputs(inputs, obs).masked_fill(~mask[..., None], 0.0)
            if not inputs.isfinite().all():
                row, step = (~inputs.isfinite()).any(-1).nonzero()[0].tolist()
                raise ValueError(
                    f"inputs have NaN or Inf at step {step} of sequence {row}, where time passes: "
                    "fill them in"
                )
        others |= {"observed": observed, "inputs": inputs}
        for name, value in {"obs": obs, "mask": mask, **others}.items():
            object.__setattr__(self, name, value)  # the batch is frozen
        for name in ("target", "state"):
            value = getattr(self, name)
            if value is not None and len(value) != len(self.obs):
                raise ValueError(f"{name} has {len(value)} rows, obs has {len(self.obs)}")
        if self.state is not None and self.state.shape[:2] != self.obs.shape[:2]:
            raise ValueError(
                f"state must start with {tuple(self.obs.shape[:2])}, got {tuple(self.state.shape)}"
            )

    def __len__(self) -> int:
        return len(self.obs)

    @property
    def host(self) -> Batch:
        """The batch that this one was on the CPU, if it came from there; otherwise this one itself.

        Questions about masks and values are asked of it, so that no one waits for a GPU.
        """
        return self if self._host is None else self._host

    @property
    def whole(self) -> bool:
        """Whether no frame is padding."""
        return bool(self.host.mask.all())

    @property
    def frames(self) -> int:
        """Number of frames of which at least one value was seen."""
        return int(self.host.observed_frames.sum())

    @property
    def seen(self) -> Tensor:
        """True where a value was seen, ``[B, T, ...]`` like ``obs``; False in padding."""
        if self.observed is not None:
            return self.observed
        return _over_values(self.mask, self.obs).expand(self.obs.shape)

    @property
    def observed_frames(self) -> Tensor:
        """True where at least one value of a frame was seen, ``[B, T]``."""
        return self.mask if self.observed is None else self.observed.flatten(2).any(-1)

    def to(self, kind: torch.device | str | torch.dtype) -> Batch:
        """The same batch on another device, or in another floating dtype.

        Arguments:
            kind: the device, or the dtype of every part that is floating point.
        """
        if not isinstance(kind, torch.dtype):
            away = torch.device(kind).type != "cpu"
            return self._map(lambda value: value.to(kind), self.host if away else None)
        if not kind.is_floating_point:
            raise ValueError(f"a batch has a floating dtype, such as torch.float64: got {kind}")
        host = self._host and self._host.to(kind)
        return self._map(lambda value: value.to(kind) if value.is_floating_point() else value, host)

    def rows(self, index: Index) -> Batch:
        """The sequences at ``index`` (a slice, a list or a tensor of indices)."""
        host = self._host
        if isinstance(index, Tensor) and index.device.type != "cpu":
            host = None  # the index would have to be waited for
        return self._map(lambda value: value[index], host and host.rows(index))

    def window(self, start: int, stop: int) -> Batch:
        """Frames ``start`` to ``stop`` of every sequence; ``target`` is not cut.

        A sequence that has ended before ``start`` stays in the window, wholly masked, so that a
        recurrent state carried from window to window keeps its rows.

        Raises:
            ValueError: for an end that is no frame's number, or a window without a frame.
        """
        check_number("start", start, 0)
        check_number("stop", stop, start + 1)
        uncut, host = self.target, self._host and self._host.window(start, stop)
        return self._map(lambda value: value if value is uncut else value[:, start:stop], host)

    def with_target(self, target: Tensor) -> Batch:
        """The same batch with another target in place of its own."""
        old = self.target
        return self._map(lambda value: target if value is old else value, self._host)

    def _map(self, function: Callable[[Tensor], Tensor], host: Batch | None) -> Batch:
        """The parts of a batch that was checked, each changed alike, without a second check."""
        part = object.__new__(Batch)
        for field in fields(self):
            value = getattr(self, field.name)
            object.__setattr__(part, field.name, None if value is None else function(value))
        object.__setattr__(part, "_host", host)
        if part.obs.dim() != self.obs.dim() or part.obs.numel() == 0:
            raise ValueError("no sequence is left: index a batch with a slice or a list of rows")
        return part


def _check_devices(obs: Tensor, parts: dict[str, Tensor | None]) -> None:
    """Raises a ValueError for a part of a batch that is on another device than ``obs``."""
    for name, part in parts.items():
        if isinstance(part, Tensor) and isinstance(obs, Tensor) and part.device != obs.device:
            raise ValueError(
                f"{name} is on {part.device}, obs are on {obs.device}: use "
                f"{name}.to('{obs.device}')"
            )


def _without_missing(obs: Tensor, observed: Tensor | None) -> tuple[Tensor, Tensor | None]:
    """Observations with zero in place of missing values, and the checked ``observed``."""
    if observed is None or not isinstance(obs, Tensor):
        return obs, observed
    if not isinstance(observed, Tensor) or observed.dtype != torch.bool:
        raise ValueError("observed must be a bool tensor, True where a value was seen")
    if observed.shape != obs.shape:
        raise ValueError(
            f"observed must be shaped like obs {tuple(obs.shape)}, got {tuple(observed.shape)}"
        )
    return obs.masked_fill(~observed, 0), observed


def _where_missing(observed: Tensor, mask: Tensor) -> Tensor | None:
    """``observed``, False in padding; None where no value of a real frame is missing."""
    observed = observed & _over_values(mask, observed)
    empty = ~observed.flatten(1).any(1)
    if empty.any():
        row = int(empty.nonzero()[0])
        raise ValueError(f"sequence {row} has no value that was seen: leave it out")
    return None if observed[mask].all() else observed


def _gaps(mask: Tensor) -> Tensor:
    """True where frames are not real between two that are, ``[B, T]``."""
    before, after = mask.cummax(1).values, mask.flip(1).cummax(1).values.flip(1)
    return before & after & ~mask


def _over_values(mask: Tensor, values: Tensor) -> Tensor:
    """A mask ``[B, T]`` with an axis of 1 for each further axis of ``values [B, T, ...]``."""
    return mask.reshape(mask.shape + (1,) * (values.dim() - 2))


def check_sequences(obs: Tensor, mask: Tensor | None = None) -> None:
    """Raises a ValueError that says what is wrong with ``obs [B, T, ...]`` or ``mask [B, T]``."""
    if not isinstance(obs, Tensor):
        raise ValueError(f"obs must be a torch tensor, got {type(obs).__name__}")
    if not obs.is_floating_point():
        raise ValueError(f"obs must be floating point, got {obs.dtype}: convert it with .float()")
    if obs.dim() < 3:
        raise ValueError(
            f"obs must be [batch, time, features], got shape {tuple(obs.shape)}: "
            "add the missing axes (obs[None] for one sequence, obs[..., None] for one feature)"
        )
    if obs.numel() == 0:
        raise ValueError(f"obs is empty, shape {tuple(obs.shape)}")
    if mask is not None:
        if not isinstance(mask, Tensor) or mask.dtype != torch.bool:
            raise ValueError("mask must be a bool tensor, True where a frame is real")
        if mask.shape != obs.shape[:2]:
            raise ValueError(
                f"mask must be [batch, time] = {tuple(obs.shape[:2])}, got {tuple(mask.shape)}"
            )
        if not mask.any(1).all():
            row = int((~mask.any(1)).nonzero()[0])
            raise ValueError(f"sequence {row} has no real frame: its mask is all False")
        obs = obs[mask]
    if not torch.isfinite(obs).all():
        raise ValueError(
            "obs has NaN or Inf in a real frame: say which values are missing, with "
            "Batch(obs, observed=obs.isfinite())"
        )


def check_inputs(inputs: Tensor, obs: Tensor) -> Tensor:
    """Inputs ``[B, T, I]`` of a batch with ``obs [B, T, ...]``.

    Raises:
        ValueError: for another shape or dtype.
    """
    if not isinstance(inputs, Tensor):
        raise ValueError(f"inputs must be a torch tensor, got {type(inputs).__name__}")
    if inputs.dim() != 3 or inputs.shape[:2] != obs.shape[:2] or not inputs.numel():
        steps = ", ".join(map(str, obs.shape[:2]))
        raise ValueError(f"inputs must be [{steps}, I] beside obs, got {tuple(inputs.shape)}")
    if inputs.dtype != obs.dtype:
        raise ValueError(
            f"inputs are {inputs.dtype}, obs are {obs.dtype}: use inputs.to({obs.dtype})"
        )
    return inputs


@runtime_checkable
class Sequences(Protocol):
    """The members of a data set that ``as_batch`` asks for."""

    @property
    def finite(self) -> bool:
        """Whether its sequences are always the same."""
        ...

    def batch(self) -> Batch:
        """All sequences."""
        ...


#: Every form of data that ``as_batch`` accepts.
BatchLike = Batch | Tensor | np.ndarray | Sequence[Any] | Sequences


def as_batch(value: BatchLike) -> Batch:
    """Converts sequences of any form into a batch.

    Tensors keep their floating dtype. Integers, bools, arrays and lists are converted to the
    default dtype.

    Arguments:
        value: a ``Batch``, which is returned as it is; a tensor or an array ``[B, T, M]``; or a
            list or tuple of sequences ``[T_i, M]``, tensors, arrays or lists of numbers, which
            are padded into one masked batch; or a data set of fixed sequences, such as a
            ``Recording``. Of a set that draws its sequences anew, ask for ``.batch()``.

    Raises:
        ValueError: when ``value`` is none of these, does not hold real numbers, or its sequences
            differ in shape.

    Example:
        >>> as_batch([torch.zeros(5, 2), torch.zeros(3, 2)]).mask.sum(1)
        tensor([5, 3])
    """
    if isinstance(value, Batch):
        return value
    if isinstance(value, Tensor | np.ndarray):
        return Batch(obs=_real(value, "the data"))
    if isinstance(value, list | tuple):
        sequences = [_real(part, f"sequence {i}") for i, part in enumerate(value)]
        for i, sequence in enumerate(sequences):
            if sequence.dim() < 2:
                raise ValueError(
                    f"sequence {i} must be [time, features], got shape {tuple(sequence.shape)}: "
                    "give a list of sequences, and each frame its own axis"
                )
        return collate(sequences)
    kind = type(value).__name__
    if isinstance(value, Sequences):
        if value.finite:
            return value.batch()
        raise ValueError(f"expected a batch, got the data set {kind}: use its .batch()")
    raise ValueError(
        f"expected a Batch, a tensor or array [B, T, M], or a list of sequences [T, M], got {kind}"
    )


def _real(value: Any, name: str) -> Tensor:
    """A tensor, an array or nested lists as a floating-point tensor."""
    dtype = torch.get_default_dtype()
    if isinstance(value, Tensor):
        if value.is_complex():
            raise ValueError(f"{name} must hold real numbers, got {value.dtype}")
        return value if value.is_floating_point() else value.to(dtype)
    if isinstance(value, np.ma.MaskedArray):
        raise ValueError(f"{name} is a masked array: give its .data and a mask to Batch")
    try:
        array = np.asarray(value)
    except (TypeError, ValueError, RuntimeError) as error:  # nested lists of unequal lengths
        raise ValueError(f"{name} is not an array of numbers [time, features]") from error
    if array.dtype.kind not in "biuf":
        raise ValueError(
            f"{name} must hold real numbers, got {type(value).__name__} of {array.dtype}"
        )
    wide = np.float64 if dtype == torch.float64 else np.float32
    return torch.from_numpy(array.astype(wide)).to(dtype)


def collate(
    sequences: Sequence[Tensor],
    targets: Sequence[Tensor] | None = None,
    inputs: Sequence[Tensor] | None = None,
) -> Batch:
    """Pads sequences ``[T_i, M]`` of different lengths with zeros into one masked batch.

    Arguments:
        sequences: tensors that agree in all axes but the first.
        targets: one tensor a sequence, stacked into ``target``.
        inputs: one tensor ``[T_i, I]`` a sequence, padded into ``inputs``.

    Raises:
        ValueError: when there is no sequence, one is empty, no tensor or of another shape.
    """
    if len(sequences) == 0:
        raise ValueError("cannot collate an empty list of sequences")
    for name, parts, axis in (
        ("sequence", sequences, 1),
        ("target", () if targets is None else targets, 0),
        ("input", () if inputs is None else inputs, 1),
    ):
        for number, part in enumerate(parts):
            if not isinstance(part, Tensor):
                kind = type(part).__name__
                raise ValueError(f"{name} {number} is no tensor but {kind}: use torch.as_tensor")
            if part.dim() < axis or part.shape[axis:] != parts[0].shape[axis:]:
                raise ValueError(
                    f"{name} {number} has shape {tuple(part.shape)}, {name} 0 "
                    f"{tuple(parts[0].shape)}: all axes{' but the first' * axis} must agree"
                )
    lengths = torch.tensor([len(sequence) for sequence in sequences])
    if lengths.min() == 0:
        raise ValueError(f"sequence {int(lengths.argmin())} has no frame")
    if inputs is not None and [len(part) for part in inputs] != lengths.tolist():
        raise ValueError("inputs must have one tensor a sequence, with as many steps as it has")
    obs = torch.nn.utils.rnn.pad_sequence(list(sequences), batch_first=True)
    beside = None if inputs is None else torch.nn.utils.rnn.pad_sequence(list(inputs), True)
    mask = torch.arange(obs.shape[1])[None] < lengths[:, None]
    target = None if targets is None else torch.stack(list(targets))
    return Batch(obs=obs, mask=mask.to(obs.device), target=target, inputs=beside)
