"""Tasks: what a table measures, and how it is drawn."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor


class Scores(NamedTuple):
    """The scores of single sequences.

    Arguments:
        values: a row a sequence and a column a figure, ``[N, F]``; on validation data the first
            figure alone will do.
        weights: what each sequence counts, such as its frames, ``[N]``.
    """

    values: Tensor
    weights: Tensor

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
        score: ``score(model, seed, split, **how)``: ``Scores``, or plain values ``[N]`` or
            ``[N, 1 + len(also)]`` of sequences that count alike. ``how`` may change the protocol,
            where there is one.
        draw: ``draw(model, path, seed, **how)`` writes what ``model.sample(**how)`` generates.
        also: names of further figures, in the same unit.
        columns: where the figures stand in a table; ``(metric, *also)`` when left out. Figures of
            different rows share a column only where it has the same name.
    """

    metric: str
    unit: str
    score: Callable[..., Tensor | Scores]
    draw: Callable[..., None]
    also: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        object.__setattr__(self, "columns", self.columns or (self.metric, *self.also))

    def measure(self, model: torch.nn.Module, seed: int, split: str, **how) -> Scores:
        """Scores a model on the sequences of a split.

        Raises:
            ValueError: for a protocol ``how`` that the task or the model does not have.
        """
        try:
            scores = self.score(model, seed, split, **how)
        except TypeError as error:
            if how and "unexpected keyword" in str(error):
                name = type(model).__name__
                raise ValueError(f"{name} is not scored with {how}: {error}") from error
            raise
        if isinstance(scores, Scores):
            return scores
        return Scores(scores.reshape(len(scores), -1), torch.ones(len(scores)))


def device_of(model: torch.nn.Module) -> torch.device:
    """Where a network lives; the CPU where it has nothing that lives anywhere."""
    return next(iter(model.state_dict().values()), torch.empty(0)).device
