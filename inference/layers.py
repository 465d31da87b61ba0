"""Maps y = F(x, h) inside a network, and how a rule that is local in time teaches them.

``Layer`` takes any function and asks autograd for its gradient. ``DenseLayer`` is
y = f(x + W h + b), of an f whose derivative follows from y. Its gradient needs neither a graph nor
x + W h + b itself: where y is known, nothing is computed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Sequence

import torch
from torch import Tensor, nn

Pull = Callable[[Tensor], Tensor]
Slope = Callable[[Tensor, Tensor], None]


class Layer:
    """A map y = F(x, h) of a network, taught by autograd.

    It is called where torch builds no graph (``torch.no_grad``).

    Arguments:
        function: F, of x ``[..., 1 or M, B, H]`` and h ``[..., M, B, H]``.

    Attributes:
        parameters: those whose gradient is kept in ``slopes``; autograd fills ``.grad`` of others.
        slopes: their gradients so far; None where there is none.
        kinds: all else that the values depend on.
    """

    parameters: tuple[Tensor, ...] = ()
    slopes: Sequence[Tensor | None] = ()
    kinds: tuple[Hashable, ...] = ()

    def __init__(self, function: Callable[[Tensor, Tensor], Tensor]) -> None:
        self.function = function

    def forget(self) -> None:
        """Drops the gradients kept so far."""

    def __call__(self, drive: Tensor, past: Tensor, out: Tensor | None = None) -> Tensor:
        """y, ``[..., M, B, H]``; written into ``out`` where it is given."""
        found = self.function(drive, past)
        return found if out is None else out.copy_(found)

    def teach(
        self, drive: Tensor, past: Tensor, value: Tensor | None = None
    ) -> tuple[Tensor, Pull]:
        """y, and a function that adds to the gradients of the parameters.

        Arguments:
            drive: x, ``[..., 1, B, H]``.
            past: h, ``[..., M, B, H]``.
            value: y, where it is known.

        Returns:
            y, ``[..., M, B, H]``; and the function. It is called once, with the
            gradient of a loss by y, which it may overwrite, and returns that by x.
        """
        heard = drive.detach().requires_grad_()
        with torch.enable_grad():
            found = self.function(heard, past)

        def pull(gradient: Tensor) -> Tensor:
            found.backward(gradient)
            return torch.zeros_like(heard) if heard.grad is None else heard.grad

        return found.detach(), pull


# f in place, and its derivative times a gradient in place, from the values of f.


def _sigmoid(gradient: Tensor, value: Tensor) -> None:
    gradient.mul_(value)
    gradient.addcmul_(gradient, value, value=-1)  # g y (1 - y)


def _tanh(gradient: Tensor, value: Tensor) -> None:
    gradient.addcmul_(gradient * value, value, value=-1)


def _relu(gradient: Tensor, value: Tensor) -> None:
    gradient.mul_(value > 0)


def _linear(gradient: Tensor, value: Tensor) -> None:
    """Leaves the gradient as it is."""


KNOWN: dict[type[nn.Module], tuple[Callable, Slope]] = {
    nn.Sigmoid: (torch.sigmoid_, _sigmoid),
    nn.Tanh: (torch.tanh_, _tanh),
    nn.ReLU: (torch.relu_, _relu),
    nn.Identity: (lambda values: values, _linear),
}


class DenseLayer(Layer):
    """y = f(x + W h + b), with its gradient written out; made by ``DenseLayer.of``.

    Arguments:
        linear: W and b.
        functions: f of consecutive units: how many, and a module of a type in ``KNOWN``.
    """

    def __init__(self, linear: nn.Linear, functions: Sequence[tuple[int, nn.Module]]) -> None:
        self.parameters = linear.weight, linear.bias
        self.forget()
        self.kinds = kinds = tuple((size, type(module)) for size, module in functions if size)
        start = 0
        self.pieces: list[tuple[slice | None, Callable, Slope]] = []
        if len({kind for _, kind in kinds}) == 1:
            self.pieces.append((None, *KNOWN[kinds[0][1]]))
            return
        for size, kind in kinds:
            self.pieces.append((slice(start, start + size), *KNOWN[kind]))
            start += size

    @classmethod
    def of(cls, linear: nn.Module, functions: Sequence[tuple[int, nn.Module]]) -> DenseLayer | None:
        """The layer; None where its parts do more than their plain types do."""
        if not _plain(linear, nn.Linear) or not all(_plain(module) for _, module in functions):
            return None
        assert isinstance(linear, nn.Linear)
        return None if linear.bias is None else cls(linear, functions)

    def __call__(self, drive: Tensor, past: Tensor, out: Tensor | None = None) -> Tensor:
        found = past.new_empty(past.shape) if out is None else out
        weight, bias = self.parameters
        torch.addmm(bias, _rows(past), weight.t(), out=found.view(-1, len(weight)))
        found.add_(drive)
        for where, apply, _ in self.pieces:
            apply(found if where is None else found[..., where])
        return found

    def teach(
        self, drive: Tensor, past: Tensor, value: Tensor | None = None
    ) -> tuple[Tensor, Pull]:
        known = self(drive, past) if value is None else value
        return known, lambda gradient: self.add(self.inward(gradient, known), past)

    def forget(self) -> None:
        self.slopes = [None, None]

    def inward(self, gradient: Tensor, value: Tensor) -> Tensor:
        """The gradient by x + W h + b in place of that by y, ``[..., M, B, H]``."""
        for where, _, slope in self.pieces:
            if where is None:
                slope(gradient, value)
            else:
                slope(gradient[..., where], value[..., where])
        return gradient

    def back(self, gradient: Tensor, out: Tensor) -> Tensor:
        """The gradient by h, of that by x + W h + b; ``[..., M, B, H]``, written into ``out``."""
        torch.mm(_rows(gradient), self.parameters[0], out=out.view(-1, out.shape[-1]))
        return out

    def add(self, gradient: Tensor, past: Tensor) -> Tensor:
        """Adds to ``slopes``; returns the gradient by x, ``[..., 1, B, H]``.

        Arguments:
            gradient: that by x + W h + b, ``[..., M, B, H]``.
            past: h, ``[..., M, B, H]``.
        """
        by_drive = gradient if gradient.shape[-3] == 1 else gradient.sum(-3, keepdim=True)
        (weight, bias), (by_weight, by_bias) = self.parameters, self.slopes
        if weight.requires_grad:
            left, right = _rows(gradient).t(), _rows(past)
            by_weight = left @ right if by_weight is None else by_weight.addmm_(left, right)
        if bias.requires_grad:
            change = _rows(by_drive).sum(0)
            by_bias = change if by_bias is None else by_bias.add_(change)
        self.slopes = [by_weight, by_bias]
        return by_drive


def fill_grad(parameters: Iterable[Tensor], slopes: Iterable[Tensor | None]) -> None:
    """Adds gradients to ``.grad``."""
    for parameter, slope in zip(parameters, slopes, strict=True):
        if slope is not None:
            parameter.grad = slope if parameter.grad is None else parameter.grad + slope


def _rows(values: Tensor) -> Tensor:
    return values.flatten(0, -2)


def _plain(module: nn.Module, kind: type[nn.Module] | None = None) -> bool:
    """Whether a module of a known type has no hook, and its tensors are parameters without one."""
    hooks = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    tensors = [getattr(module, name, None) for name in ("weight", "bias")]
    return (
        (type(module) is kind if kind else type(module) in KNOWN)
        and "forward" not in vars(module)
        and not any(getattr(module, name) for name in hooks)
        and all(isinstance(part, nn.Parameter) for part in tensors if part is not None)
        and not any(part._backward_hooks for part in tensors if part is not None)
        and not any(part._post_accumulate_grad_hooks for part in tensors if part is not None)
    )
