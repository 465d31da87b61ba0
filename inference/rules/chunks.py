"""The gradient of a sum over the frames of a fold: chunk by chunk, and recorded."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn

from ..capture import Captured
from ..contracts import Fold
from ..tape import Results

FRAMES = 1024, 4096  # of a chunk on a CPU: fewer cost time, more of large frames its caches
VALUES = 1 << 17, 1 << 23  # in the frames of a chunk: on a CPU, and on a GPU

#: The loss of a chunk, given numbers by name, and all else that it depends on.
Loss = Callable[[Fold, Mapping[str, Tensor], Any], Tensor]


class ChunkedGradient:
    """The gradient of the mean of a loss over the frames of a fold.

    The graph of one chunk is held at a time. Where tensors of the fold have a graph of their own,
    the gradients of all chunks go back through it at the end, once.

    Arguments:
        net: the network whose ``.grad`` is filled.
        loss: the loss summed over the frames of a chunk.
        owner: the object whose plain attributes it reads (see ``Captured``).
        captured: see ``Captured``.
    """

    def __init__(self, net: nn.Module, loss: Loss, owner: object, captured: bool | None) -> None:
        self.net, self.loss = net, loss
        self.slopes = Captured(self._slopes, net, owner, captured)
        self.refresh()

    def refresh(self) -> None:
        """See ``Captured.refresh``; parameters may also be frozen or trained from now on."""
        self.net.zero_grad(set_to_none=True)  # of frozen parameters, too
        self.learning = [each for each in self.net.parameters() if each.requires_grad]
        self.slopes.refresh()

    def fill(
        self,
        fold: Fold,
        size: int | None,
        numbers: Mapping[str, float],
        settings: Callable[[], Hashable],
    ) -> Tensor:
        """Sets ``.grad``, and returns the mean loss.

        Arguments:
            fold: the frames, at least one.
            size: frames of a chunk; None takes as many as have ``VALUES`` values, within ``FRAMES``
                on a CPU.
            numbers: numbers by name that a recording reads anew.
            settings: all else that the loss of a chunk depends on, called for each chunk.
        """
        for parameter in self.learning:
            parameter.grad = None
        places = tuple(i for i, part in enumerate(fold) if part is not None and part.requires_grad)
        flat = fold.each(Tensor.detach)
        weight = flat.past.new_full((), 1 / fold.rows)
        given = [flat.past.new_full((), number) for number in numbers.values()]
        size = size or _size(fold)
        total, sent = torch.zeros((), device=fold.obs.device), []
        for start in range(0, fold.rows, size):
            chunk = flat if size >= fold.rows else flat.select(slice(start, start + size))
            key = places, tuple(numbers), settings()
            loss, *slopes = self.slopes(weight, *given, *chunk, key=key)
            assert loss is not None
            total += loss / fold.rows
            for parameter, slope in zip(self.learning, slopes):
                if slope is not None:
                    parameter.grad = slope if parameter.grad is None else parameter.grad.add_(slope)
            sent.append(slopes[len(slopes) - len(places) :])
        _send_back([part for part in fold if part is not None and part.requires_grad], sent)
        return total

    def _slopes(self, key: tuple[Any, ...], weight: Tensor, *given: Any) -> Results:
        """The loss of a chunk, and its gradients: of parameters, and of tensors of the fold."""
        places, names, settings = key
        numbers, parts = given[: len(names)], list(given[len(names) :])
        for place in places:
            parts[place] = parts[place].detach().requires_grad_()
        loss = self.loss(Fold(*parts), dict(zip(names, numbers)), settings)
        leaves = [*self.learning, *(parts[place] for place in places)]
        return loss.detach(), *torch.autograd.grad(loss, leaves, weight, allow_unused=True)


def _size(fold: Fold) -> int:
    """Frames of a chunk."""
    frame = max(fold.obs[0].numel(), fold.past[0].numel())
    (least, most), (few, many) = FRAMES, VALUES
    return max(least, many // frame) if fold.obs.is_cuda else min(most, max(least, few // frame))


def _send_back(sources: Sequence[Tensor], slopes: Sequence[Results]) -> None:
    """Sends the gradients of a fold's tensors, chunk by chunk, back through their graph."""
    whole = [
        (source, torch.cat(parts))
        for source, parts in zip(sources, zip(*slopes))
        if parts[0] is not None
    ]
    if whole:
        torch.autograd.backward([source for source, _ in whole], [slope for _, slope in whole])
