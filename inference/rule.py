"""What a learning rule is, and what a recurrent network must offer to be trained by one."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Protocol, runtime_checkable

from torch import Tensor, nn

from ..data import Batch

Metrics = dict[str, Tensor]


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
