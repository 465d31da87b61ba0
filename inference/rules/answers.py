"""The base of rules for networks that answer a sequence: sweeps without a graph, recorded."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Sequence
from typing import Any, ClassVar

import torch
from torch import Tensor

from ..capture import Captured
from ..contracts import AnswerModel
from ..layers import DenseLayer, Layer, fill_grad
from ..tape import Results
from ..unrolling import Visited, in_paths, visit
from .rule import LearningRule

LARGE = 1 << 21  # numbers of a sweep on a CPU beside which Python takes no time


class AnswerRule(LearningRule):
    """A rule for an ``AnswerModel``; its sweeps are recorded where they ask autograd for nothing.

    Arguments:
        net: the network.
        captured: record the sweeps once for each shape, and replay them (see
            ``capture.Captured``). True records at the first update: on a CPU as one program, on a
            CUDA device as a CUDA graph. None records on a CPU after a hundred updates of a shape,
            where all parts of the network come with this package, torch or Pyro. Layers that are
            not dense are not recorded, nor are large sweeps on a CPU.
    """

    trains: ClassVar[type | tuple[type, ...]] = AnswerModel
    net: AnswerModel
    num_samples = 1

    def __init__(self, net: AnswerModel, *, captured: bool | None = None) -> None:
        super().__init__(net)
        self.captured = captured
        self._taught: Sequence[Layer] = ()  # by the update that is made
        self._recorded = Captured(self._swept, net, self, captured)

    def _layers(self) -> Sequence[Layer]:
        """The maps that the rule teaches, f first."""
        return (self.net.mean_layer(),)

    def _draw(self, mean: Tensor) -> Tensor:
        """h_t from its means, without a gradient."""
        return self.net.sample_units(mean)

    def _visit(self, drive: Tensor) -> Visited:
        """The course of the units, given the drive ``[T, 1, B, H]``; begins an update."""
        self._taught = self._layers()
        self._recorded.refresh()
        return Visited(*self._sweep(self._forwards, (), drive))

    def _forwards(self, key: Hashable, drive: Tensor) -> Sequence[Tensor]:
        """The parts of ``_visit``."""
        paths = in_paths(self.net, drive[:, 0], self.num_samples)
        return visit(self.net, paths, self._draw, self._taught[0])

    def _sweep(
        self,
        sweep: Callable[..., Sequence[Tensor]],
        key: Hashable,
        drive: Tensor,
        *others: Tensor | None,
    ) -> Sequence[Any]:
        """The results of a sweep; the gradients that it finds are added to ``.grad``.

        Arguments:
            sweep: a method, called with the key and the tensors.
            key: all else that it depends on.
            drive: ``[T, 1, B, H]``.
            others: other tensors.
        """
        numbers = drive.numel() * (self.num_samples if self.net.num_stochastic else 1)
        dense = all(isinstance(layer, DenseLayer) for layer in self._taught)  # others fill .grad
        place = sweep.__name__, key, *(layer.kinds for layer in self._taught)
        if dense and (drive.is_cuda or numbers <= LARGE):
            found = self._recorded(drive, *others, key=place)
        else:
            found = self._swept(place, drive, *others)
        parameters = [each for layer in self._taught for each in layer.parameters]
        split = len(found) - len(parameters)
        fill_grad(parameters, found[split:])
        return found[:split]

    @torch.no_grad()
    def _swept(self, place: tuple[Any, ...], *inputs: Tensor | None) -> Results:
        """The results of a sweep, then the gradients that its layers keep."""
        name, key, *_ = place
        for layer in self._taught:
            layer.forget()
        found = getattr(self, name)(key, *inputs)
        return *found, *(slope for layer in self._taught for slope in layer.slopes)
