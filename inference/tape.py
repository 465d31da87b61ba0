"""Recordings on the CPU: the operations of a function of tensors, run again without Python.

A tape notes every operation of torch that a function runs, its gradient included, and becomes one
TorchScript program. A small network spends most of its time between the operations; the program
spends it in them. It calls the same kernels on the same numbers, so that its results are equal to
the last bit.
"""

from __future__ import annotations

import operator
import threading
import warnings
from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor, fx, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_iter, tree_map

#: Operations whose result, or its shape, Python decides by.
UNFIT = {torch.Tag.data_dependent_output, torch.Tag.dynamic_output_shape}
Results = Sequence[Tensor | None]


class Unrecordable(Exception):
    """A function does what no recording can repeat."""


def holds(condition: Tensor) -> bool:
    """``bool(condition)``, which a recording takes for granted and then checks.

    It is for a shortcut that is nearly always taken. A recording keeps the branch that was taken
    when it was made. A replay in which the condition turns out otherwise does not count.

    Arguments:
        condition: one truth value.
    """
    tape = getattr(_thread, "tape", None)
    return bool(condition) if tape is None else tape.suppose(condition)


def recording() -> bool:
    """Whether this thread makes a recording now."""
    return getattr(_thread, "tape", None) is not None


def nowhere(condition: Tensor) -> bool:
    """Whether a condition holds for no element; False on a GPU, which would have to wait.

    It is for a shortcut past work that then changes nothing.

    Arguments:
        condition: truth values.
    """
    return condition.device.type == "cpu" and holds(~condition.any())


class Recording:
    """A function of tensors as one program.

    Arguments:
        function: returns tensors, and None for some. It must depend on its inputs, on parameters
            and on buffers alone.
        inputs: inputs to record it with; None for one that is left out.
        net: the module whose parameters and buffers the function reads.

    Attributes:
        first: the results for these inputs.

    Raises:
        Unrecordable: when it reads a value back, indexes by a mask, reads other tensors, or calls
            an operation that TorchScript lacks.
    """

    def __init__(
        self, function: Callable[..., Results], inputs: Sequence[Tensor | None], net: nn.Module
    ) -> None:
        before = torch.get_rng_state()
        try:
            self._make(function, inputs, net, before)
        except Unrecordable:
            torch.set_rng_state(before)  # a plain call that follows draws what it always does
            raise

    def _make(
        self,
        function: Callable[..., Results],
        inputs: Sequence[Tensor | None],
        net: nn.Module,
        before: Tensor,
    ) -> None:
        given = [value for value in inputs if value is not None]
        with _Tape(given, net) as tape:
            self.first = function(*inputs)
        after = torch.get_rng_state()
        self.kept = [value is not None for value in self.first]
        self.supposed = [truth for _, truth in tape.supposed]
        conditions = [condition for condition, _ in tape.supposed]
        results = [value for value in self.first if value is not None]
        self.program = tape.program(given, results + conditions)
        torch.set_rng_state(before)
        again = self.replay(inputs)
        same = torch.equal(after, torch.get_rng_state())
        torch.set_rng_state(after)
        if again is None or not (same and _equal(again, self.first)):
            raise Unrecordable("a replay gives other numbers")

    def replay(self, inputs: Sequence[Tensor | None]) -> Results | None:
        """The results for other inputs; None where one of the conditions does not hold."""
        before = torch.get_rng_state() if self.supposed else None
        with torch.no_grad():
            found = iter(self.program(*(value for value in inputs if value is not None)))
        results = [next(found) if kept else None for kept in self.kept]
        if before is None or all(bool(now) == then for now, then in zip(found, self.supposed)):
            return results
        torch.set_rng_state(before)
        return None


_thread = threading.local()


class _Tape(TorchDispatchMode):
    """Notes the operations of a function as a graph."""

    def __init__(self, inputs: Sequence[Tensor], net: nn.Module) -> None:
        super().__init__()
        self.graph, self.held = fx.Graph(), nn.Module()
        self.nodes: dict[int, fx.Node] = {}
        self.alive: list[Tensor] = []  # an id is that of one tensor for as long as it lives
        self.known = {id(value) for value in (*net.parameters(), *net.buffers())}
        self.supposed: list[tuple[Tensor, bool]] = []
        self.paused = False
        for number, value in enumerate(inputs):
            self._note(value, self.graph.placeholder(f"input_{number}"))

    def __enter__(self) -> _Tape:
        _thread.tape = self
        return super().__enter__()

    def __exit__(self, *error: Any) -> None:
        _thread.tape = None
        super().__exit__(*error)

    def suppose(self, condition: Tensor) -> bool:
        """The truth of a condition, which becomes a result of the graph."""
        self.paused = True
        truth = bool(condition)
        self.paused = False
        self.supposed.append((condition, truth))
        return truth

    def __torch_dispatch__(
        self, function: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        kwargs = kwargs or {}
        if self.paused:
            return function(*args, **kwargs)
        if _waits(function, args):
            raise Unrecordable(f"Python decides by the values of tensors in {function}")
        if function is torch.ops.aten.lift_fresh.default and args[0].numel() <= 1:
            self._hold(args[0])  # torch.tensor(a number)
        noted = tree_map(self._node, (args, kwargs))
        out = function(*args, **kwargs)
        node = self.graph.call_function(function, *noted)
        if isinstance(out, Tensor):
            self._note(out, node)
        elif isinstance(out, (list, tuple)):
            for index, each in enumerate(out):
                self._note(each, self.graph.call_function(operator.getitem, (node, index)))
        return out

    def _note(self, value: Tensor, node: fx.Node) -> None:
        self.nodes[id(value)] = node
        self.alive.append(value)

    def _node(self, value: Any) -> Any:
        """The node of a tensor; anything else as it is."""
        if not isinstance(value, Tensor):
            return value
        if id(value) not in self.nodes:
            if id(value) not in self.known:
                raise Unrecordable("it reads a tensor that is no parameter, buffer or input")
            self._hold(value)
        return self.nodes[id(value)]

    def _hold(self, value: Tensor) -> None:
        """Holds a tensor from outside, which the program reads anew each time."""
        name = f"held_{len(self.alive)}"
        self.paused = True
        self.held.register_buffer(name, value.detach())
        self.paused = False
        self._note(value, self.graph.get_attr(name))

    def program(self, inputs: Sequence[Tensor], results: Sequence[Tensor]) -> Callable[..., Any]:
        """The graph as one TorchScript program."""
        self.graph.output(tuple(self._node(value) for value in results))
        module = fx.GraphModule(self.held, self.graph)
        with torch.no_grad(), warnings.catch_warnings():
            # torch advises its compiler instead, which Pyro's distributions do not go through
            warnings.simplefilter("ignore")
            try:
                traced = torch.jit.trace(module, tuple(inputs), check_trace=False)
            except RuntimeError as error:  # the gradient of a convolution, for one
                raise Unrecordable(str(error)) from error
        return cast("Callable[..., Any]", traced)


def _waits(function: Any, args: tuple[Any, ...]) -> bool:
    """Whether Python needs values of tensors to go on after an operation."""
    packet = function.overloadpacket
    if packet is torch.ops.aten.index:  # by numbers, or by a mask
        return any(
            isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8)
            for index in tree_iter(args[1])
        )
    return packet is torch.ops.aten.is_nonzero or bool(UNFIT.intersection(function.tags))


def _equal(one: Results, other: Results) -> bool:
    """Whether tensors are equal to the last bit, NaN included."""
    return all(
        a is b or (a is not None and b is not None and torch.equal(a.nan_to_num(), b.nan_to_num()))
        for a, b in zip(one, other)
    )
