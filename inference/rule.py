"""What a learning rule is, and what a recurrent network must offer to be trained by one."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NoReturn, Protocol, runtime_checkable

from torch import Tensor, nn

from ..data import Batch

Metrics = dict[str, Tensor]

# What rules use of a network.
RECURRENT = ("check", "encode", "step", "initial")  # a sweep, see ``Recurrent``
PAIR = ("model", "guide")  # a Pyro pair
ANSWERS = ("read", "at_every_step", "rest", "drive", "mean", "log_score", "bits")
SYSTEM = ("measure", "guess", "assign")  # a linear-Gaussian one

# What tells a kind of network, and a rule that trains it: the first that fits.
TRAINED_BY = (
    ((*ANSWERS, "straight"), "StraightThrough"),
    ((*RECURRENT, "free_energy", "gibbs"), "ContrastiveDivergence"),
    (SYSTEM, "EM"),
    ((*PAIR, "read"), "SequenceELBO"),
    ((*RECURRENT, *PAIR), "LocalELBO"),
    (PAIR, "SequenceELBO"),
)


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


@runtime_checkable
class Recurrent(Protocol):
    """A network whose only serial part is ``step``; the sweep runs it, the fold does the rest.

    * ``check(obs)`` raises a ValueError where ``obs`` is outside the support of the likelihood;
    * ``encode(obs [..., M]) -> [..., F]`` sees each frame alone, so it runs for all at once;
    * ``step(features [B, F], past [B, U]) -> [B, U]`` is the recursion u_t = f(y_t, u_{t-1});
    * ``initial(rows) -> [B, U]`` is u before the first frame.

    It may also have ``advance(features, past)``: ``step`` for when no past is the initial one.
    """

    def check(self, obs: Tensor) -> None: ...

    def encode(self, obs: Tensor) -> Tensor: ...

    def step(self, features: Tensor, past: Tensor) -> Tensor: ...

    def initial(self, rows: int) -> Tensor: ...


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
