"""Generating nets: from a latent path to the natural parameters of every frame.

A user's own decoder is called as ``decoder(inputs [..., T, K], mask [B, T]) -> [..., T, N]``. One
that is causal may be stepped through by particles: it says ``causal = True`` and offers what
``CausalDecoder`` does, ``memory``, ``take`` and ``emit``; an ``Autoregressive`` guide needs its
``follow`` and ``drift``, too.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from ..part import Described
from .memory import Memory, Reader
from .nets import MLP

__all__ = ["BidirectionalDecoder", "CausalDecoder"]

MAX_LOG_SCALE = 2.0  # of a step: a half-trained decoder must not run away


class CausalDecoder(Described, nn.Module):
    """x_t from z_1 .. z_t: a recurrent net, then two layers that see its state and the last step.

        u_t = m(g_{t-1}) + s(g_{t-1}) e_t    g_t = f(u_t, g_{t-1})    natural_t = V r(W [g_t, u_t])

    With ``drift`` the decoder decides where a step of the path takes it, and how far: white
    innovations e_t become the steps u_t of a nonlinear process, whose law is learned. Without it
    u_t = e_t (or z_t, whatever the decoder sees).

    Arguments:
        dim: size ``K`` of the state.
        natural_dim: natural parameters a frame, ``N``.
        hidden: units of the recurrent net.
        width: of the layer before the last.
        cell: of the recurrent net, see ``Memory``.
        dropout: of the layer before the last.
        drift: learn m and s.
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
    ):
        super().__init__()
        self.memory = Memory(dim, hidden, cell)
        self.steps = nn.Linear(hidden, 2 * dim) if drift else None
        if drift:  # begins as no drift at all
            nn.init.zeros_(self.steps.bias)
            self.steps.weight.data *= 0.1
        self.emission = MLP([hidden + dim, width, natural_dim], dropout=dropout)

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """The path or its innovations, ``[..., T, K]``, to natural parameters ``[..., T, N]``."""
        _, after, taken = self.follow(inputs)
        return self.emit(after, taken)

    def follow(self, inputs: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """The memory's output before and after each step, and the steps u_t, ``[..., T, *]``."""
        if self.steps is None:
            after = self.memory(inputs)
            first = self.memory.output(self.memory.initial(*inputs.shape[:-2], 1))
            return torch.cat((first, after[..., :-1, :]), -2), after, inputs
        state, trail = self.memory.initial(*inputs.shape[:-2]), []
        for now in inputs.unbind(-2):
            before = self.memory.output(state)
            taken = self.take(now, before)
            state = self.memory.step(taken, state)
            trail.append((before, self.memory.output(state), taken))
        return tuple(torch.stack(parts, -2) for parts in zip(*trail))

    def drift(self, remembered: Tensor) -> tuple[Tensor, Tensor]:
        """m and s at a memory's output, each ``[..., K]``."""
        if self.steps is None:
            return remembered.new_zeros(()), remembered.new_ones(())
        drift, scale = self.steps(remembered).chunk(2, -1)
        return drift, torch.exp(MAX_LOG_SCALE * torch.tanh(scale))

    def take(self, inputs: Tensor, remembered: Tensor) -> Tensor:
        """The step u_t that an innovation makes where the memory stands, ``[..., K]``."""
        drift, scale = self.drift(remembered)
        return drift + scale * inputs

    def emit(self, remembered: Tensor, taken: Tensor) -> Tensor:
        """From the memory's output after a step and the step itself, ``[..., N]``."""
        return self.emission(torch.cat((remembered, taken), -1))


class BidirectionalDecoder(Described, nn.Module):
    """x_t from the whole path, as in the paper.

    Arguments:
        dim, natural_dim, hidden, cell, dropout: see ``CausalDecoder``; ``hidden`` units each way.
    """

    causal = False

    def __init__(
        self,
        dim: int,
        natural_dim: int,
        hidden: int = 200,
        cell: str = "gru",
        dropout: float = 0.0,
    ):
        super().__init__()
        self.reader = Reader(dim, hidden, "both", cell=cell)
        self.dropout = nn.Dropout(dropout)
        self.emission = nn.Linear(2 * hidden, natural_dim)

    def forward(self, inputs: Tensor, mask: Tensor) -> Tensor:
        """Natural parameters, ``[..., T, N]``."""
        mask = mask.expand(inputs.shape[:-1]).reshape(-1, mask.shape[-1])
        features = self.reader(inputs.reshape(-1, *inputs.shape[-2:]), mask)
        return self.emission(self.dropout(features)).unflatten(0, inputs.shape[:-2])
