"""Recurrent layers of torch, which on a CPU run by kernels of their own.

In the gradient of a step torch multiplies by the weights, and adds a small product to the gradient
of the weights. Here that of the weights is one product over all steps. A step keeps one product and
some elementwise operations, which numba compiles (see ``recurrences``). On other devices, without
numba, and under transforms of ``torch.func``, torch's own layers run. So do large ones.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional
from torch.nn.utils.rnn import PackedSequence

from ...inference import kernels

KERNELS = f"{__package__}.recurrences"
LARGE = 1e7  # multiplications that are worth threads
BLOCK = 4  # rows that a kernel multiplies at a time
CACHED = 4 << 20  # bytes of weights that stay near a core; torch is faster with more


class _ByKernel(nn.RNNBase):
    """A layer of torch, which comes after this class, with a kernel."""

    def forward(self, input: Any, hx: Tensor | None = None) -> tuple[Any, Tensor]:
        """See ``torch.nn.GRU``."""
        found = _all_layers(self, input, hx)
        return super().forward(input, hx) if found is None else found

    def loop(self) -> Callable[..., tuple[Tensor, Tensor]]:
        """Torch's own loop over steps."""
        raise NotImplementedError

    def by_kernel(self, number: int, inputs: Tensor, start: Tensor) -> Tensor | None:
        """``layer`` by the kernel; None where it cannot run."""
        raise NotImplementedError

    def layer(self, number: int, inputs: Tensor, start: Tensor) -> Tensor:
        """Outputs of one layer, forwards, ``[B, T, I] -> [B, T, H]``.

        Arguments:
            number: the layer.
            inputs: ``[B, T, I]``.
            start: its state before the first step, ``[B, H]``.
        """
        found = self.by_kernel(number, inputs, start)
        if found is not None:
            return found
        weights, first = _weights(self, number), start[None].contiguous()
        return self.loop()(inputs, first, weights, True, 1, 0.0, False, False, True)[0]


class GRU(_ByKernel, nn.GRU):
    """``torch.nn.GRU`` with the same arguments, weights and results to rounding.

    A gradient of its gradient raises a RuntimeError where a kernel has run.
    """

    def loop(self) -> Callable[..., tuple[Tensor, Tensor]]:
        return torch.gru

    def by_kernel(self, number: int, inputs: Tensor, start: Tensor) -> Tensor | None:
        return _by_kernel(_GRU, self, number, inputs, start)


class RNN(_ByKernel, nn.RNN):
    """``torch.nn.RNN``, likewise; a kernel runs where its nonlinearity is ``"tanh"``."""

    def loop(self) -> Callable[..., tuple[Tensor, Tensor]]:
        return torch.rnn_tanh if self.nonlinearity == "tanh" else torch.rnn_relu

    def by_kernel(self, number: int, inputs: Tensor, start: Tensor) -> Tensor | None:
        if self.nonlinearity != "tanh":
            return None
        return _by_kernel(_Tanh, self, number, inputs, start)


def _all_layers(net: _ByKernel, inputs: Any, start: Tensor | None) -> tuple[Tensor, Tensor] | None:
    """All layers of a net in one direction, by kernels, as ``nn.GRU.forward``; else None."""
    if isinstance(inputs, PackedSequence) or inputs.dim() != 3 or not inputs.numel():
        return None
    shape = net.num_layers, len(inputs), net.hidden_size
    unlike = inputs.shape[-1] != net.input_size or (start is not None and start.shape != shape)
    if unlike or net.bidirectional or not (net.batch_first and net.bias):
        return None  # torch says of the first two what is wrong
    states = inputs.new_zeros(shape) if start is None else start
    value, last = inputs, []
    for number in range(net.num_layers):
        if number and net.training and net.dropout:  # drawn as torch draws it, time first
            kept = functional.dropout(value.new_ones(value.transpose(0, 1).shape), net.dropout)
            value = value * kept.transpose(0, 1)
        found = net.by_kernel(number, value, states[number])
        if found is None:
            return None
        value = found
        last.append(value[:, -1])
    return value, torch.stack(last)


def _weights(net: nn.RNNBase, number: int) -> list[Tensor]:
    """W, V, b and c of a layer: W and b read inputs, V and c the state."""
    names = "weight_ih", "weight_hh", "bias_ih", "bias_hh"
    return [getattr(net, f"{name}_l{number}") for name in names]


def _by_kernel(
    cell: type[_GRU | _Tanh], net: nn.RNNBase, number: int, inputs: Tensor, start: Tensor
) -> Tensor | None:
    """One layer by a kernel, with or without a graph."""
    given = w, v, b, c = _weights(net, number)
    if v.numel() * v.element_size() > CACHED or kernels.load(KERNELS) is None:
        return None
    if not kernels.readable(inputs, start, *given):
        return None
    if torch.is_grad_enabled() and any(each.requires_grad for each in (inputs, start, *given)):
        return cell.apply(inputs, start, w, v, b, c)
    return cell.run(inputs, start, w, v, b, c, keeps=False)[0]


class _GRU(torch.autograd.Function):
    """A layer, ``[B, T, I] -> [B, T, H]``, of ``_weights``."""

    @staticmethod
    def run(
        x: Tensor, start: Tensor, w: Tensor, v: Tensor, b: Tensor, c: Tensor, keeps: bool
    ) -> tuple[Tensor, ...]:
        """Outputs; gates and V h + c for the new state, which a gradient needs."""
        size = start.shape[-1]
        gates = functional.linear(x, w, b + functional.pad(c[: 2 * size], (0, size)))
        shape = *x.shape[:2], size
        out, fed = x.new_empty(shape), x.new_empty(shape if keeps else (len(x), 1, size))
        _by_rows("gru", (out, gates, fed, start), (v.t(), c[2 * size :]))
        return out, gates, fed

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, start: Tensor, w: Tensor, v: Tensor, b: Tensor, c: Tensor
    ) -> Tensor:
        out, gates, fed = _GRU.run(x, start, w, v, b, c, keeps=True)
        ctx.save_for_backward(x, start, w, v, out, gates, fed)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, start, w, v, out, gates, fed = ctx.saved_tensors
        drive, added, first = (each.new_empty(each.shape) for each in (gates, fed, start))
        given = drive, added, first, grad, out, start, gates, fed
        _by_rows("gru_gradient", given, (v,))
        drive, added = drive.flatten(0, 1), added.flatten(0, 1)
        two = 2 * start.shape[-1]  # r and z read one sum of the inputs and the state
        before, bias = _before(out, start), drive.sum(0)
        weight = torch.cat((drive[:, :two].t() @ before, added.t() @ before))
        biases = bias, torch.cat((bias[:two], added.sum(0)))
        found = (drive @ w).view_as(x) if ctx.needs_input_grad[0] else None
        return found, first, drive.t() @ x.flatten(0, 1), weight, *biases


class _Tanh(torch.autograd.Function):
    """A layer, likewise."""

    @staticmethod
    def run(
        x: Tensor, start: Tensor, w: Tensor, v: Tensor, b: Tensor, c: Tensor, keeps: bool
    ) -> tuple[Tensor, ...]:
        """Outputs, which are all that a gradient needs: they are kept in any case."""
        out = functional.linear(x, w, b + c)
        _by_rows("tanh", (out, start), (v.t(),))
        return (out,)

    @staticmethod
    def forward(
        ctx: Any, x: Tensor, start: Tensor, w: Tensor, v: Tensor, b: Tensor, c: Tensor
    ) -> Tensor:
        (out,) = _Tanh.run(x, start, w, v, b, c, keeps=True)
        ctx.save_for_backward(x, start, w, v, out)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        x, start, w, v, out = ctx.saved_tensors
        drive, first = out.new_empty(out.shape), start.new_empty(start.shape)
        _by_rows("tanh_gradient", (drive, first, grad, out), (v,))
        drive = drive.flatten(0, 1)
        weights = drive.t() @ x.flatten(0, 1), drive.t() @ _before(out, start)
        found = (drive @ w).view_as(x) if ctx.needs_input_grad[0] else None
        return found, first, *weights, drive.sum(0), drive.sum(0)


def _before(out: Tensor, start: Tensor) -> Tensor:
    """The state before each step, ``[B T, H]``."""
    return torch.cat((start[:, None], out[:, :-1]), 1).flatten(0, 1)


def _by_rows(name: str, each: tuple[Tensor, ...], shared: tuple[Tensor, ...]) -> None:
    """Runs a kernel on all rows; where they are much work, some on each of torch's threads.

    Arguments:
        name: the kernel, of which the first arguments have a first axis of rows.
        each: tensors of the rows.
        shared: the others, of which the first is a matrix that multiplies every step.
    """
    loop = getattr(kernels.load(KERNELS), name)
    rows, others = (
        [part.detach().contiguous().numpy() for part in some] for some in (each, shared)
    )
    number, work = len(each[0]), each[0].shape[1] * len(each[0]) * shared[0].numel()
    threads = min(torch.get_num_threads(), number // BLOCK) if work > LARGE else 1
    if threads < 2:
        loop(*rows, *others)
        return
    size = -(-number // threads // BLOCK) * BLOCK
    starts = range(0, number, size)
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(lambda at: loop(*(part[at : at + size] for part in rows), *others), starts))
