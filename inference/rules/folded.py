"""Rules whose loss is a sum over frames that share nothing but the statistics of the past."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from ...data import Batch
from ..checks import check_frames, check_missing, check_number
from ..contracts import Fold, Recurrent
from ..recorded_sweep import RecordedSweep
from ..sweep import Swept, sweep
from .chunks import ChunkedGradient
from .rule import LearningRule, Metrics, anneal


def recordable(loss: Callable[..., Tensor]) -> Callable[..., Tensor]:
    """Marks a rule's ``loss`` as one that may be recorded without being asked (see ``captured``).

    It depends on the fold, on the network, on plain attributes of the rule and on ``now``, and on
    nothing else that changes.
    """
    vars(loss)["recordable"] = True
    return loss


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
        chunk: folded frames whose graph is held at a time. The gradient is the same in
            expectation: chunks draw their noise one after the other, so that another size draws
            other numbers. ``None`` takes some thousands on a CPU, far more on a GPU (see
            ``chunks``), and all frames with ``through_time``.
        captured: record the gradient of a chunk once for each shape, and replay it (see
            ``capture.Captured``). True records at the first chunk: on a CPU as one program, on a
            CUDA device as a CUDA graph, for which the network's parts must not wait for the device.
            None records on a CPU after a hundred chunks of a shape, where the rule's loss is
            ``recordable`` and all parts of the network come with this package, torch or Pyro. A
            chunk that cannot be recorded is computed as it is.

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
        captured: bool | None = None,
    ) -> None:
        super().__init__(net)
        for name, value in (("window", window), ("minibatch", minibatch), ("chunk", chunk)):
            if value is not None:
                check_number(name, value)
        if through_time and minibatch is not None:
            raise ValueError("minibatch cuts frames out of time: it cannot go with through_time")
        if not 0 <= anneal(drop_past, 0.0) <= 1 or not 0 <= anneal(drop_past, 1.0) <= 1:
            raise ValueError(f"drop_past is a fraction in [0, 1], got {drop_past}")
        self.window, self.minibatch, self.chunk = window, minibatch, chunk
        self.drop_past = drop_past
        self.through_time, self.captured = through_time, captured
        self._numbers: Mapping[str, Tensor] = {}  # annealed numbers that a recording reads
        self._chosen: tuple[int, ...] = ()
        if captured is None and not hasattr(type(self).loss, "recordable"):
            captured = False
        self._gradient = ChunkedGradient(net, self._loss_at, self, captured)
        self._recorded_sweep = RecordedSweep(net, self, captured)

    def loss(self, fold: Fold) -> Tensor:
        """The loss summed over the frames of a fold (nats)."""
        raise NotImplementedError(f"{type(self).__name__} must define loss(fold)")

    def gradients(self, batch: Batch) -> Metrics:
        """One gradient from the whole batch as a single window and a single fold."""
        self._begin(batch)
        fold, _ = self._fold(batch, self.net.initial(len(batch)))
        return self._backward(fold)

    def count(self, batch: Batch) -> int:
        """Windows, times the minibatches that each has room for, padding included."""
        return sum(self._minibatches(part) for part in self._windows(batch))

    def updates(self, batch: Batch) -> Iterator[Metrics]:
        """One update a window, or one a minibatch of each window's frames."""
        self._begin(batch)
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

    def _begin(self, batch: Batch) -> None:
        """Checks the data before the first update."""
        self._gradient.refresh()
        self._recorded_sweep.refresh(self.reference)
        check_missing(self.net, batch)
        check_frames(self.net, batch)

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
        plain = self.sample is None and shown is None
        found = self._recorded_sweep(part, past) if plain else None
        return sweep(self.reference, part, past, self.sample, shown) if found is None else found

    def annealed(self) -> dict[str, float | Sequence[float]]:
        """The numbers in the loss that may change while a rule trains, by name."""
        return {}

    def now(self, name: str) -> float | Tensor:
        """One of them as it is now: a tensor, where a recording must read it anew."""
        found = self._numbers.get(name)
        return anneal(self.annealed()[name], self.done) if found is None else found

    def _settings(self) -> tuple[int, ...]:
        """Whole numbers, anew for each chunk, that its loss reads as ``self._chosen``."""
        return ()

    def _backward(self, fold: Fold) -> Metrics:
        """Sets ``.grad`` to the mean over the frames of a fold."""
        if not fold.rows:  # every sequence has ended
            self.net.zero_grad(set_to_none=True)
            return {"loss": fold.past.new_zeros(()), "frames": fold.past.new_zeros(())}
        annealed = self.annealed().items()
        varying = {name: anneal(value, self.done) for name, value in annealed if _varies(value)}
        fixed = tuple(value for _, value in annealed if not _varies(value))
        fold = self._without_past(fold)
        size = self.chunk or (fold.rows if self.through_time else None)  # the graph is held anyway
        total = self._gradient.fill(fold, size, varying, lambda: (self._settings(), fixed))
        return {"loss": total, "frames": total.new_full((), fold.rows)}

    def _loss_at(self, fold: Fold, numbers: Mapping[str, Tensor], settings: Any) -> Tensor:
        """``loss`` at these values of what varies."""
        self._numbers, (self._chosen, _) = numbers, settings
        try:
            return self.loss(fold)
        finally:
            self._numbers, self._chosen = {}, ()

    def _without_past(self, fold: Fold) -> Fold:
        """The fold, some of whose frames lost their past (see ``drop_past``)."""
        if not self.drop_past:
            return fold
        drop = anneal(self.drop_past, self.done)
        lost = torch.rand(fold.rows, 1, device=fold.past.device) < drop
        past = torch.where(lost, self.net.initial(fold.rows), fold.past)
        reads = fold.observed is not None or fold.shown is not None  # with the past that was lost
        features = None if reads else fold.features
        return fold._replace(past=past, present=None, features=features)


def _varies(value: float | Sequence[float]) -> bool:
    return not isinstance(value, (int, float))
