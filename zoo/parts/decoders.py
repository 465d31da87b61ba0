"""Decoders: nets from a latent path to the natural parameters of every frame.

A user's own decoder is any ``nn.Module`` called as ``decoder(inputs [..., T, K], mask [B, T]) ->
[..., T, N]``. In a model with ``input_dim`` the inputs follow the step of the path, ``[..., T, K +
I]``. A decoder with ``causal = True`` also has the members of ``SteppedDecoder``: particle
filters need ``memory``, ``take`` and ``emit``, and an ``Autoregressive`` guide needs all of them.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor, nn

from ...inference.checks import check_number, check_sizes
from ..part import Described
from .checks import check_dropout
from .memory import CausalNet, Memory, Reader
from .nets import MLP

__all__ = ["BidirectionalDecoder", "CausalDecoder"]

MAX_LOG_SCALE = 2.0  # of a step: keeps the path of a new decoder bounded


class SteppedDecoder(Protocol):
    """The members of a causal decoder, which runs step by step."""

    @property
    def memory(self) -> CausalNet:
        """The recurrent net of the steps u_t, with output g_t."""
        ...

    def drift(self, remembered: Tensor, /) -> tuple[Tensor, Tensor]:
        """Mean and scale of a step given g_{t-1} ``[..., H]``, each ``[..., K]``."""
        ...

    def take(self, inputs: Tensor, remembered: Tensor, /) -> Tensor:
        """The step u_t of an innovation, given g_{t-1}; ``[..., K]``.

        In a model with ``input_dim`` the inputs follow both, ``[..., K + I]``.
        """
        ...

    def emit(self, remembered: Tensor, taken: Tensor, /) -> Tensor:
        """Natural parameters given g_t and u_t, ``[..., N]``."""
        ...

    def follow(self, inputs: Tensor, /) -> tuple[Tensor, Tensor, Tensor]:
        """g_{t-1}, g_t and u_t of a path or its innovations ``[..., T, K]``."""
        ...


class CausalDecoder(Described, nn.Module):
    """x_t given z_1 .. z_t: a recurrent net, then two layers that read its state and the last step.

        u_t = m(g_{t-1}) + s(g_{t-1}) e_t    g_t = f(u_t, g_{t-1})    natural_t = V r(W [g_t, u_t])

    With ``drift`` the decoder learns the mean m and the scale s of a step: white innovations e_t
    become the steps u_t of a nonlinear process. Without it u_t is the decoder's input, e_t or z_t.
    With inputs s_t, f and the layers read [u_t, s_t] in place of u_t.

    Arguments:
        dim: size ``K`` of the state.
        natural_dim: natural parameters of one frame, ``N``.
        hidden: units of the recurrent net.
        width: units of the layer before the last.
        cell: ``"gru"``, ``"lstm"`` or ``"tanh"``.
        dropout: probability that a unit of that layer is dropped.
        drift: learn m and s.
        input_dim: inputs a step, ``I``, which follow the path: ``[..., K + I]``.
    """

    causal = True

    def __init__(
        self,
        dim: int,
        natural_dim: int,
        hidden: int = 200,
        width: int = 200,
        cell: str = "gru",
        dropout: float = 0.0,
        drift: bool = True,
        input_dim: int = 0,
    ) -> None:
        super().__init__()
        check_sizes(dim=dim, natural_dim=natural_dim, hidden=hidden, width=width)
        check_number("input_dim", input_dim, 0)
        check_dropout(dropout=dropout)
        self.dim, self.input_dim = dim, input_dim
        self.memory = Memory(dim + input_dim, hidden, cell)
        self.steps = nn.Linear(hidden, 2 * dim) if drift else None
        if self.steps is not None:  # the drift begins at 0
            nn.init.zeros_(self.steps.bias)
            self.steps.weight.data *= 0.1
        self.emission = MLP([hidden + dim + input_dim, width, natural_dim], dropout=dropout)

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """The path or its innovations, ``[..., T, K]``, to natural parameters ``[..., T, N]``."""
        _, after, taken = self.follow(inputs)
        return self.emit(after, taken)

    def follow(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The memory's output before and after each step, and the steps u_t.

        Arguments:
            inputs: the path or its innovations, ``[..., T, K]``.

        Returns:
            ``[..., T, H]``, ``[..., T, H]`` and ``[..., T, K]``.
        """
        if self.steps is None:
            after = self.memory(inputs)
            first = self.memory.output(self.memory.initial(*inputs.shape[:-2], 1))
            return torch.cat((first, after[..., :-1, :]), -2), after, inputs
        state = self.memory.initial(*inputs.shape[:-2])
        before, after, steps = [], [], []
        for now in inputs.unbind(-2):
            before.append(self.memory.output(state))
            steps.append(self.take(now, before[-1]))
            state = self.memory.step(steps[-1], state)
            after.append(self.memory.output(state))
        return torch.stack(before, -2), torch.stack(after, -2), torch.stack(steps, -2)

    def drift(self, remembered: Tensor) -> tuple[Tensor, Tensor]:
        """m and s given the memory's output ``[..., H]``, each ``[..., K]``."""
        if self.steps is None:
            return remembered.new_zeros(()), remembered.new_ones(())
        drift, scale = self.steps(remembered).chunk(2, -1)
        return drift, torch.exp(MAX_LOG_SCALE * torch.tanh(scale))

    def take(self, inputs: Tensor, remembered: Tensor) -> Tensor:
        """The step u_t of an innovation, given the memory's output; ``[..., K]``."""
        drift, scale = self.drift(remembered)
        if not self.input_dim:
            return drift + scale * inputs
        steps, others = inputs[..., : self.dim], inputs[..., self.dim :]
        return torch.cat((drift + scale * steps, others), -1)

    def emit(self, remembered: Tensor, taken: Tensor) -> Tensor:
        """Natural parameters given the memory's output after a step and the step, ``[..., N]``."""
        return self.emission(torch.cat((remembered, taken), -1))


class BidirectionalDecoder(Described, nn.Module):
    """x_t given the whole path: a bidirectional recurrent net and a linear layer.

    Arguments:
        dim: size ``K`` of the state.
        natural_dim: natural parameters of one frame, ``N``.
        hidden: units of the recurrent net in each direction.
        cell: ``"gru"``, ``"lstm"`` or ``"tanh"``.
        dropout: probability that a unit of the recurrent net is dropped.

    Source: Bayer & Osendorfer, "Variational inference of latent state sequences using recurrent
    networks" (2014).
    """

    causal = False

    def __init__(
        self,
        dim: int,
        natural_dim: int,
        hidden: int = 200,
        cell: str = "gru",
        dropout: float = 0.0,
    ) -> None:
        super().__init__()
        check_sizes(dim=dim, natural_dim=natural_dim, hidden=hidden)
        check_dropout(dropout=dropout)
        self.reader = Reader(dim, hidden, "both", cell=cell)
        self.dropout = nn.Dropout(dropout)
        self.emission = nn.Linear(2 * hidden, natural_dim)

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """The path ``[..., B, T, K]`` to natural parameters ``[..., B, T, N]``; mask ``[B, T]``."""
        mask = mask.expand(inputs.shape[:-1]).reshape(-1, mask.shape[-1])
        features = self.reader(inputs.reshape(-1, *inputs.shape[-2:]), mask)
        return self.emission(self.dropout(features)).unflatten(0, inputs.shape[:-2])
