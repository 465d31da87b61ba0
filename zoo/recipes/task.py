"""Tasks: what a table measures, and how samples of its models are written."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple, Protocol

import torch
from torch import Tensor, nn


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
        metric: name of the score, the lower the better.
        unit: its unit.
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
        protocol = protocol or {}
        check_protocol(self.score, model, (model, seed, split), protocol)
        scores = self.score(model, seed, split, **protocol)
        if isinstance(scores, Scores):
            return scores
        return Scores(scores.reshape(len(scores), -1), torch.ones(len(scores)))


def check_protocol(
    function: Callable[..., Any],
    model: nn.Module,
    positional: Sequence[Any],
    protocol: Mapping[str, Any],
) -> None:
    """Raises a ValueError where a function does not take a protocol.

    Arguments:
        function: the function, such as ``score`` or a verb of the model that it calls.
        model: the model, for the message.
        positional: the arguments before the protocol.
        protocol: keyword arguments.
    """
    try:
        inspect.signature(function).bind(*positional, **protocol)
    except TypeError as error:
        name, given = type(model).__name__, ", ".join(protocol)
        raise ValueError(f"{name} is not scored with {given}: {error}") from error


def device_of(model: Stateful) -> torch.device:
    """Where a network lives; the CPU where it has nothing that lives anywhere."""
    return next(iter(model.state_dict().values()), torch.empty(0)).device
