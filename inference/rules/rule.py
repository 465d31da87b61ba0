"""The base class of learning rules, and how they refuse a network that they cannot train."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import ClassVar, NamedTuple, NoReturn

from torch import Tensor, nn

from ...data import Batch
from ..contracts import (
    AnswerModel,
    EnergyModel,
    FrameModel,
    LinearSystem,
    Recurrent,
    SequenceModel,
    missing,
)

Metrics = dict[str, Tensor]


class Kind(NamedTuple):
    """A kind of network: its name in a sentence, and the rule that trains it, where one does."""

    name: str
    rule: str = ""


KINDS: dict[type, Kind] = {
    AnswerModel: Kind("an AnswerModel (SRN, MDRNN)", "StraightThrough"),
    EnergyModel: Kind("an EnergyModel (REFH, TRBM, RTRBM)", "ContrastiveDivergence"),
    FrameModel: Kind("a FrameModel (RVAE, TVAE)", "LocalELBO"),
    LinearSystem: Kind("a LinearSystem (LGDS)", "EM"),
    SequenceModel: Kind("a SequenceModel (VRAE, VOSP, RNN)", "SequenceELBO"),
    Recurrent: Kind("a Recurrent network"),
}


class LearningRule:
    """Fills ``.grad`` on a network's parameters; ``fit`` does everything else.

    A subclass writes ``gradients``. A rule that makes several updates of the parameters within
    one batch (one a time step, or one a minibatch of frames) also writes ``updates`` and ``count``.

    Arguments:
        net: the network whose gradients are filled.

    Attributes:
        trains: the kind of network that the rule trains, see ``inference.contracts``, or several.
        reference: the network that gathers the statistics of the past. It is ``net`` itself,
            unless ``fit(average=...)`` points it at a running average of the weights.
        done: fraction of the run that is done, in [0, 1): ``fit`` keeps it, annealing rules read
            it.

    Raises:
        ValueError: for a network of another kind, or one that lacks methods of its kind.
    """

    trains: ClassVar[type | tuple[type, ...]] = nn.Module
    net: nn.Module
    reference: nn.Module

    def __init__(self, net: nn.Module) -> None:
        self._check_kind(net)
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
        """Sets ``.grad`` and yields its metrics; the caller steps the optimizer, then asks on."""
        yield self.gradients(batch)

    def refuse(self, net: nn.Module, wanted: str, found: str) -> NoReturn:
        """Raises the ValueError of a network that this rule cannot train.

        Arguments:
            net: the network.
            wanted: the networks that the rule trains, such as ``"networks with parameters"``.
            found: the predicate of a sentence about the network, such as ``"has none"``.
        """
        rule, kind = type(self).__name__, kind_of(net)
        other = kind.rule if kind is not None else ""
        hint = f": {other} trains it" if other and other != rule else ""
        raise ValueError(f"{rule} trains {wanted}, and {type(net).__name__} {found}{hint}")

    def _check_kind(self, net: nn.Module) -> None:
        kinds = self.trains if isinstance(self.trains, tuple) else (self.trains,)
        wanted = " or ".join(KINDS.get(kind, Kind(f"a {kind.__name__}")).name for kind in kinds)
        if not isinstance(net, kinds):
            kind = kind_of(net)
            plain = f"inherits none of the kinds in inference.contracts: see {kinds[0].__name__}"
            self.refuse(net, wanted, plain if kind is None else f"is {kind.name.split(' (')[0]}")
        for kind in kinds:
            if isinstance(net, kind) and (names := missing(net, kind)):
                self.refuse(net, wanted, f"must define {', '.join(names)}")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({type(self.net).__name__})"


def kind_of(net: nn.Module) -> Kind | None:
    """The most special kind of a network; None where it is of none."""
    return next((KINDS[base] for base in type(net).__mro__ if base in KINDS), None)


def anneal(value: float | Sequence[float], done: float) -> float:
    """A constant, or ``[first, last, fraction]``: from first to last, geometrically.

    Arguments:
        value: the constant, or the three numbers, all above 0: the value at the start, the value
            at the end, and the fraction of the run after which the end is reached.
        done: fraction of the run that is done.

    Raises:
        ValueError: for anything else.
    """
    if isinstance(value, (int, float)):
        return float(value)
    if len(value) != 3 or min(value) <= 0:
        raise ValueError(f"give a number or [first, last, fraction], all above 0: got {value}")
    first, last, fraction = value
    return first * (last / first) ** min(1.0, done / fraction)
