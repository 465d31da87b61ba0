"""Tasks: what a table measures, and how samples of its models are written."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn

from ..names import instead
from ..signature import accepted, fitting


class Stateful(Protocol):
    """A network as ``device_of`` sees it."""

    def state_dict(self) -> dict[str, Any]:
        """Its tensors by name."""
        ...


class Reconstructs(Stateful, Protocol):
    """A network that gives the mean of every frame."""

    def reconstruct(self, obs: Tensor) -> Tensor:
        """Means, ``[B, T, M]``."""
        ...


class Scores(NamedTuple):
    """The scores of single sequences.

    Arguments:
        values: a row a sequence and a column a figure, ``[N, F]``; on validation data the first
            figure alone will do.
        weights: what each sequence counts, such as its frames, ``[N]``.
        notes: sentences on the scores that whoever reads them should know.
    """

    values: Tensor
    weights: Tensor
    notes: tuple[str, ...] = ()

    @property
    def figures(self) -> Tensor:
        """The weighted means, ``[F]``."""
        weights = self.weights[:, None].to(self.values)
        return (self.values * weights).sum(0) / weights.sum()


@dataclass(frozen=True)
class Task:
    """What a table measures.

    Attributes:
        metric: name of the score; on validation data, the lower the better.
        unit: its unit; empty where the names of the figures have theirs.
        score: ``score(model, seed, split, **protocol)``: ``Scores``, or plain values ``[N]`` or
            ``[N, 1 + len(also)]`` of sequences that count alike.
        write_samples: ``write_samples(model, path, seed, direction)`` writes sequences that a model
            generates, in a direction of time, where it has two.
        also: names of further figures, in the same unit.
        columns: where the figures stand in a table; ``(metric, *also)`` when left out. Figures of
            different rows share a column only where it has the same name.
    """

    metric: str
    unit: str
    score: Callable[..., Tensor | Scores]
    write_samples: Callable[..., None]
    also: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", self.columns or (self.metric, *self.also))

    def measure(
        self, model: nn.Module, seed: int, split: str, protocol: Mapping[str, Any] | None = None
    ) -> Scores:
        """Scores a model on the sequences of a split.

        Arguments:
            model: the network.
            seed: seed of the data, where they are made, and of random numbers.
            split: ``"validation"`` or ``"test"``.
            protocol: further arguments of ``score``, which change how a model is scored.

        Raises:
            ValueError: for a protocol that the task or the model does not have.
        """
        how = protocol_for(self.score, model, 3, protocol or {})
        scores = self.score(model, seed, split, **how)
        if isinstance(scores, Scores):
            return scores
        return Scores(scores.reshape(len(scores), -1), torch.ones(len(scores)))


def protocol_for(
    function: Callable[..., Any],
    model: nn.Module,
    given: int,
    protocol: Mapping[str, Any],
    also: Sequence[str] = (),
) -> dict[str, Any]:
    """A protocol as a function takes it.

    Arguments:
        function: the function, such as ``score`` or a verb of the model that it calls.
        model: the model, for the message.
        given: how many of its arguments, the first ones, the caller gives itself.
        protocol: further ones.
        also: names that the caller takes itself, for the message.

    Returns:
        The protocol, its values of the types of the arguments.

    Raises:
        ValueError: for an argument that the function does not take from a protocol, or a value of
            another type.
    """
    parameters = inspect.signature(function).parameters
    free = [name for name in list(parameters)[given:] if name in accepted(function)]
    passes = any(each.kind is each.VAR_KEYWORD for each in parameters.values())
    inner = function.func if isinstance(function, functools.partial) else function
    taken = set(inspect.signature(inner).parameters) - set(free)
    found = {}
    for name, value in protocol.items():
        if name in free:
            found[name] = fitting(function, name, value, name)
        elif passes and name not in taken:
            found[name] = value  # for a function that this one calls, and that checks it
        else:
            known = [*also, *free]
            near = instead(name, known, f"it takes {', '.join(known) or 'no protocol'}")
            raise ValueError(f"{type(model).__name__} is not scored with {name}: {near}")
    return found


def device_of(model: Stateful) -> torch.device:
    """Where a network lives; the CPU where it has nothing that lives anywhere."""
    return next(iter(model.state_dict().values()), torch.empty(0)).device
