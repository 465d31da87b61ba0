"""What a learning rule is, and what a recurrent network must offer to be trained by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NoReturn

from torch import Tensor, nn

from ...data import Batch
from ..contracts import TRAINED_BY

Metrics = dict[str, Tensor]


def check_network(rule, net: nn.Module, kind: str, names: Sequence[str]) -> None:
    """Raises a ValueError where a network has not what a rule uses; see ``refuse``."""
    missing = [name for name in names if not hasattr(net, name)]
    if missing:
        refuse(rule, net, kind, f"has no {', '.join(missing)}")


def refuse(rule, net: nn.Module, kind: str, why: str) -> NoReturn:
    """Raises the ValueError of a rule that is given a network it cannot train.

    Arguments:
        rule: the rule.
        net: the network.
        kind: what networks the rule trains.
        why: what the network has not, or does otherwise.
    """
    name = type(rule).__name__
    others = [other for names, other in TRAINED_BY if all(hasattr(net, each) for each in names)]
    hint = f"; {others[0]} trains it" if others and others[0] != name else ""
    raise ValueError(f"{name} trains {kind}: {type(net).__name__} {why}{hint}")


class LearningRule:
    """Fills ``.grad`` on a network's parameters; ``fit`` does everything else.

    A subclass writes ``gradients``. A rule that makes several updates of the parameters within
    one batch (one a time step, or one a minibatch of frames) also writes ``updates`` and ``count``.

    Arguments:
        net: the network whose gradients are filled.

    Attributes:
        reference: the network that gathers the statistics of the past. It is ``net`` itself,
            unless ``fit(average=...)`` points it at a running average of the weights.
        done: share of the run that is done, in [0, 1): ``fit`` keeps it, annealing rules read it.
    """

    def __init__(self, net: nn.Module):
        self.net = net
        self.reference = net
        self.done = 0.0

    def gradients(self, batch: Batch) -> Metrics:
        """Sets ``.grad`` from one batch.

        Returns:
            Detached scalars, among them ``loss`` (nats per frame) and ``frames``, the number of
            real frames behind it: the weight of this gradient in any average with others.
        """
        raise NotImplementedError(f"{type(self).__name__} must define gradients(batch)")

    def count(self, batch: Batch) -> int:
        """How many updates ``updates(batch)`` makes, from the batch's padded shape alone."""
        return 1

    def updates(self, batch: Batch) -> Iterator[Metrics]:
        """Sets ``.grad`` and yields its metrics; the caller steps the optimiser, then asks on."""
        yield self.gradients(batch)

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self.net).__name__})"


def anneal(value: float | Sequence[float], done: float) -> float:
    """A constant, or ``[first, last, share]``: from first to last, geometrically, over a share.

    Arguments:
        value: the constant, or the three numbers, all above 0.
        done: share of the run that is done.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(value, (int, float)):
        return float(value)
    if len(value) != 3 or min(value) <= 0:
        raise ValueError(f"give a number or [first, last, share], all above 0: got {value}")
    first, last, share = value
    return first * (last / first) ** min(1.0, done / share)
