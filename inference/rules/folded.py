"""Rules whose loss is a sum over frames that share nothing but the statistics of the past."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence

import torch
from torch import Tensor

from ...data import Batch
from ..capture import Captured
from ..checks import check_missing, check_number
from ..contracts import Fold, Recurrent
from ..sweep import Swept, sweep
from .rule import LearningRule, Metrics, anneal

CHUNKS = 1024, 8192  # smaller ones cost time, larger ones memory and then time, too


class FoldedRule(LearningRule):
    """A rule whose loss is a sum over frames that share nothing but u_{t-1}.

    Subclasses write ``loss(fold)``. Frames of which nothing was seen are not in the fold. With
    ``through_time`` the statistics keep their dependence on the parameters, and the same loss is
    trained by backpropagation through time.

    Arguments:
        net: the network.
        window: frames an update; ``None`` takes the whole sequence, 1 is the online form, whose
            memory does not grow with T. The state is carried, without its graph, from one window
            to the next.
        minibatch: folded frames an update, drawn in random order from the whole window; ``None``
            takes them all at once.
        drop_past: fraction of the frames that are shown without their past, so that a network
            learns how to start: of a thousand frames only one is a first one.
            ``[first, last, fraction]`` anneals it (see ``rule.anneal``).
        through_time: let the gradient flow into u_{t-1}.
        chunk: folded frames whose graph is held at a time. Memory is bounded, which no gradient
            through time can have. The gradient is the same in expectation: chunks draw their noise
            one after the other, so that another size draws other numbers. ``None`` takes a third
            of a fold, within ``CHUNKS``.
        captured: on a CUDA device, record the gradient of a fold as a CUDA graph, once for each
            shape, and replay it. The parts of the network must not wait for the device. A fold of
            which values are missing or hidden is not recorded.

    Raises:
        ValueError: for numbers out of range, options that exclude one another, or a network
            that is not ``Recurrent``.
    """

    trains = Recurrent
    net: Recurrent
    reference: Recurrent
    #: Applied to u_t before the next step of the sweep; None leaves it as it is.
    sample: Callable[[Tensor], Tensor] | None = None

    def __init__(
        self,
        net: Recurrent,
        *,
        window: int | None = None,
        minibatch: int | None = None,
        drop_past: float | Sequence[float] = 0.0,
        through_time: bool = False,
        chunk: int | None = None,
        captured: bool = False,
    ) -> None:
        super().__init__(net)
        for name, value in (("window", window), ("minibatch", minibatch), ("chunk", chunk)):
            if value is not None:
                check_number(name, value)
        if through_time and minibatch is not None:
            raise ValueError("minibatch cuts frames out of time: it cannot go with through_time")
        if through_time and captured:
            raise ValueError("captured records one fold at a time: it cannot go with through_time")
        if not 0 <= anneal(drop_past, 0.0) <= 1 or not 0 <= anneal(drop_past, 1.0) <= 1:
            raise ValueError(f"drop_past is a fraction in [0, 1], got {drop_past}")
        self.window, self.minibatch, self.chunk = window, minibatch, chunk
        self.drop_past = drop_past
        self.through_time, self.captured = through_time, captured
        self._numbers: dict[str, Tensor] = {}  # annealed numbers that a recording reads
        self._recorded = Captured(self._gradient_at, list(net.parameters()))

    def loss(self, fold: Fold) -> Tensor:
        """The loss summed over the frames of a fold (nats)."""
        raise NotImplementedError(f"{type(self).__name__} must define loss(fold)")

    def gradients(self, batch: Batch) -> Metrics:
        """One gradient from the whole batch as a single window and a single fold."""
        self._check(batch)
        fold, _ = self._fold(batch, self.net.initial(len(batch)))
        return self._backward(fold)

    def count(self, batch: Batch) -> int:
        """Windows, times the minibatches that each has room for, padding included."""
        return sum(self._minibatches(part) for part in self._windows(batch))

    def updates(self, batch: Batch) -> Iterator[Metrics]:
        """One update a window, or one a minibatch of each window's frames."""
        self._check(batch)
        past = self.net.initial(len(batch))
        for part in self._windows(batch):
            fold, past = self._fold(part, past)
            if self.minibatch is None:
                yield self._backward(fold)
                continue
            order = torch.randperm(fold.rows, device=part.obs.device)
            for index in order.tensor_split(self._minibatches(part)):
                yield self._backward(fold.select(index))

    def _windows(self, batch: Batch) -> Iterator[Batch]:
        steps = batch.obs.shape[1]
        for start in range(0, steps, self.window or steps):
            yield batch.window(start, start + (self.window or steps))

    def _minibatches(self, part: Batch) -> int:
        return 1 if self.minibatch is None else math.ceil(part.mask.numel() / self.minibatch)

    def _check(self, batch: Batch, frames: int = 1000) -> None:
        """Checks the data before the first update, some frames at a time: no copy of them all."""
        check_missing(self.net, batch)
        for start in range(0, batch.obs.shape[1], frames):
            part = batch.window(start, start + frames)
            if part.mask.any():
                self.net.check(part.obs if part.mask.all() else part.obs[part.mask])

    def _fold(self, part: Batch, past: Tensor) -> tuple[Fold, Tensor]:
        """The frames seen of one window, and the state that the next window starts from."""
        shown = self.net.shown(part)
        if self.through_time:
            statistics, features = sweep(self.net, part, past, shown=shown)
            fold = Fold.of(part, statistics[:, :-1], features, statistics[:, 1:], shown)
        else:
            statistics = self._sweep(part, past, shown).statistics
            fold = Fold.of(part, statistics[:, :-1], shown=shown)
        return fold, statistics[:, -1].detach()

    @torch.no_grad()
    def _sweep(self, part: Batch, past: Tensor, shown: Tensor | None) -> Swept:
        return sweep(self.reference, part, past, self.sample, shown)

    def _chunk(self, rows: int) -> int:
        """Frames whose graph is held at a time: all of them, where the graph runs through time."""
        if self.through_time:
            return max(rows, 1)
        low, high = CHUNKS
        return self.chunk or min(high, max(low, math.ceil(rows / 3)))

    def _backward(self, fold: Fold) -> Metrics:
        """Sets ``.grad`` to the mean over the frames of a fold."""
        missing = fold.observed is not None or fold.shown is not None
        if self.captured and fold.rows and not missing:
            numbers = [anneal(value, self.done) for value in self.annealed().values()]
            (total,) = self._recorded(fold.past.new_tensor(numbers), *fold)
        else:
            total = self._gradient(fold)
        return {"loss": total, "frames": total.new_tensor(fold.rows)}

    def annealed(self) -> dict[str, float | Sequence[float]]:
        """The numbers that may change while a rule trains, by name."""
        return {"drop_past": self.drop_past}

    def now(self, name: str) -> float | Tensor:
        """One of them as it is now: a tensor, where a recording must read it anew."""
        found = self._numbers.get(name)
        return anneal(self.annealed()[name], self.done) if found is None else found

    def _gradient_at(self, numbers: Tensor, *fold: Tensor) -> tuple[Tensor, ...]:
        """``_gradient`` at given values of the annealed numbers."""
        self._numbers = dict(zip(self.annealed(), numbers.unbind()))
        try:
            return (self._gradient(Fold(*fold)),)
        finally:
            self._numbers = {}

    def _gradient(self, fold: Fold) -> Tensor:
        """Sets ``.grad``; the mean loss."""
        self.net.zero_grad(set_to_none=True)
        total = torch.zeros((), device=fold.obs.device)
        if self.drop_past and fold.rows:
            lost = torch.rand(fold.rows, 1, device=fold.past.device) < self.now("drop_past")
            past = torch.where(lost, self.net.initial(fold.rows), fold.past)
            fold = fold._replace(past=past, present=None)
            if (
                fold.observed is not None or fold.shown is not None
            ):  # read with the past that was dropped
                fold = fold._replace(features=None)
        size = self._chunk(fold.rows)
        for start in range(0, fold.rows, size):  # no turn at all once every sequence has ended
            loss = self.loss(fold.select(slice(start, start + size))) / fold.rows
            loss.backward()
            total += loss.detach()
        return total
