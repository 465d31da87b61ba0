"""Work that is recorded once for each shape of its inputs, and then replayed.

A small network leaves a machine idle between the many operations that Python starts one by one. On
a CPU a recording is one program (see ``tape``); on a GPU it is a CUDA graph, whose replay starts
all kernels at once. On other devices nothing is recorded.
"""

from __future__ import annotations

import functools
import warnings
from collections import Counter
from collections.abc import Callable, Hashable, Iterator, Sequence

import torch
from torch import Tensor, nn

from .tape import Recording, Results, Unrecordable

AFTER = 100  # calls of a shape after which a recording on a CPU is worth its time
WARM_UP = 3  # eager calls before a CUDA graph, in which libraries choose their kernels
MOST = 8  # recordings kept, each with memory of its own
PLAIN = bool, int, float, str  # attributes that a recording has built in
#: Packages whose classes are known to depend on nothing that a recording would miss.
KNOWN = __name__.partition(".")[0], "torch", "pyro"


class Captured:
    """A function of tensors, recorded for each shape.

    The function must depend on its inputs, on the network's parameters and buffers, and on plain
    attributes alone. It must not read a value back: no ``.item()``, no ``bool(tensor)``, no mask
    for an index. On a CPU a function that does is called as it is; ``tape.holds`` is a way around
    it. Random numbers are those that it draws when it is not recorded.

    Arguments:
        function: called with a key and with tensors, or None; returns tensors without a graph, or
            None.
        net: the network whose parameters and buffers it reads.
        owner: the object whose other plain attributes it reads.
        captured: True records at the first call, on a CPU or a CUDA device; None records on a CPU
            after ``AFTER`` calls of a shape, where all parts of the network are of the packages
            ``KNOWN``; False never records.
    """

    def __init__(
        self, function: Callable[..., Results], net: nn.Module, owner: object, captured: bool | None
    ) -> None:
        self.function, self.net, self.owner, self.captured = function, net, owner, captured
        self._state: Hashable = None
        self._calls: Counter[Hashable] = Counter()
        self._recordings: dict[Hashable, Recording | _Graph | None] = {}  # None: not recordable
        self._known = False
        self.refresh()

    def refresh(self) -> None:
        """Forgets all recordings if the network's attributes or the places of its tensors changed.

        Call it before the first of a series of calls in between which neither changes.
        """
        state = tuple(_state(self.net, self.owner))
        self._known = all(
            type(part).__module__.partition(".")[0] in KNOWN for part in self.net.modules()
        )
        if state != self._state:
            self._state, self._recordings = state, {}
            self._calls.clear()

    def records(self, device: str) -> bool:
        """Whether calls on such a device are ever recorded."""
        if self.captured is None:
            return self._known and device == "cpu"
        return self.captured and device in ("cpu", "cuda")

    def __call__(self, *inputs: Tensor | None, key: Hashable = ()) -> Results:
        """Calls the function, or replays its recording.

        Arguments:
            inputs: its arguments; None for one that is left out.
            key: all else that it depends on: whatever has another key has another recording.
        """
        device = next(value.device.type for value in inputs if value is not None)
        if not self.records(device):
            return self.function(key, *inputs)
        shapes = tuple(None if x is None else (x.shape, x.stride(), x.dtype) for x in inputs)
        place = key, shapes
        if place not in self._recordings:
            self._calls[place] += 1
            early = not self.captured and self._calls[place] <= AFTER
            if early or len(self._recordings) >= MOST:
                return self.function(key, *inputs)
            return self._record(place, key, inputs)
        found = self._recordings[place]
        results = None if found is None else found.replay(inputs)
        return self.function(key, *inputs) if results is None else results

    def _record(self, place: Hashable, key: Hashable, inputs: Sequence[Tensor | None]) -> Results:
        self._recordings[place] = None
        function = functools.partial(self.function, key)
        on_cpu = next(value for value in inputs if value is not None).device.type == "cpu"
        kind = Recording if on_cpu else _Graph
        try:
            found = self._recordings[place] = kind(function, inputs, self.net)
        except Unrecordable:
            return self.function(key, *inputs)
        except RuntimeError as error:
            if on_cpu or isinstance(error, torch.OutOfMemoryError):
                raise
            warnings.warn(f"no CUDA graph of it can be made: {error}", stacklevel=2)
            return self.function(key, *inputs)
        return found.first


def _state(net: nn.Module, owner: object) -> Iterator[Hashable]:
    """All that a recording takes for granted: where tensors are, and plain attributes."""
    for each in (*net.parameters(), *net.buffers()):
        here = each.device.type in ("cpu", "cuda")
        yield each.data_ptr() if here else None, each.requires_grad
    for each in (owner, *net.modules()):
        for name, value in vars(each).items():
            if isinstance(value, PLAIN) and name != "done":  # what is annealed is an input
                yield name, value


class _Graph:
    """A CUDA graph: fixed inputs, fixed results."""

    def __init__(
        self, function: Callable[..., Results], inputs: Sequence[Tensor | None], net: nn.Module
    ) -> None:
        self.inputs = [None if value is None else value.clone() for value in inputs]
        device = next(value.device for value in inputs if value is not None)
        state = torch.cuda.get_rng_state(device)
        stream = torch.cuda.Stream(device)
        stream.wait_stream(torch.cuda.current_stream(device))
        with torch.cuda.stream(stream):
            for _ in range(WARM_UP):
                function(*self.inputs)
        torch.cuda.current_stream(device).wait_stream(stream)
        torch.cuda.set_rng_state(state, device)  # the first replay draws what a plain call would
        self.graph = torch.cuda.CUDAGraph()
        try:
            with torch.cuda.graph(self.graph):
                self.results = function(*self.inputs)
        except RuntimeError:
            torch.cuda.set_rng_state(state, device)
            raise
        self.first = self.replay(inputs)

    def replay(self, inputs: Sequence[Tensor | None]) -> Results:
        """The results for other inputs, as tensors of their own."""
        _copy(self.inputs, inputs)
        self.graph.replay()
        own = [None if value is None else torch.empty_like(value) for value in self.results]
        _copy(own, self.results)
        return own


def _copy(fixed: Results, values: Results) -> None:
    """Copies all values in one launch."""
    pairs = [(a, b) for a, b in zip(fixed, values) if a is not None and b is not None]
    torch._foreach_copy_(  # pyright: ignore[reportPrivateImportUsage]
        [a for a, _ in pairs], [b for _, b in pairs]
    )
