"""CUDA graphs: work that is recorded once for each shape of its inputs, and then replayed.

A small network leaves a GPU idle between the many kernels that Python launches one by one. A
replay launches them all at once. On other devices nothing is recorded.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor, nn

WARM_UP = 3  # eager calls before a recording, in which libraries choose their kernels
MOST = 8  # recordings kept, each with memory of its own


class Captured:
    """A function of tensors that sets gradients and returns tensors, recorded for each shape.

    The function must depend on its inputs through tensors alone, and must not wait for the device:
    no ``.item()``, no ``bool(tensor)``, no copy from the CPU. Its random numbers are those that it
    draws when it is not recorded.

    Arguments:
        function: the function.
        parameters: the parameters whose ``.grad`` it sets, from nothing.
    """

    def __init__(
        self,
        function: Callable[..., tuple[Tensor, ...]],
        parameters: Sequence[nn.Parameter] = (),
    ) -> None:
        self.function, self.parameters = function, list(parameters)
        self._recordings: dict[tuple[object, ...], _Recording] = {}

    def __call__(self, first: Tensor, *others: Tensor | None) -> tuple[Tensor, ...]:
        """Calls the function, or replays the recording of these shapes."""
        inputs = first, *others
        if first.device.type != "cuda":
            return self.function(*inputs)
        shapes = tuple(None if x is None else (x.shape, x.dtype, x.device) for x in inputs)
        places = tuple(parameter.data_ptr() for parameter in self.parameters)  # a net may move
        key = shapes + places
        found = self._recordings.get(key)
        if found is None:
            if len(self._recordings) >= MOST:
                return self.function(*inputs)
            found = self._recordings[key] = _Recording(self.function, self.parameters, inputs)
        return found.replay(inputs)


class _Recording:
    """One recording: fixed inputs, fixed outputs, fixed gradients."""

    def __init__(
        self,
        function: Callable[..., tuple[Tensor, ...]],
        parameters: list[nn.Parameter],
        inputs: Sequence[Tensor | None],
    ) -> None:
        self.parameters = parameters
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
        for parameter in parameters:
            parameter.grad = None
        self.graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(self.graph):
            self.outputs = function(*self.inputs)
        self.gradients = [parameter.grad for parameter in parameters]

    def replay(self, inputs: Sequence[Tensor | None]) -> tuple[Tensor, ...]:
        for fixed, value in zip(self.inputs, inputs):
            if fixed is not None and value is not None:
                fixed.copy_(value)
        self.graph.replay()
        for parameter, gradient in zip(self.parameters, self.gradients):
            parameter.grad = gradient
        return tuple(value.clone() for value in self.outputs)
