"""Generating nets: from a latent path to the natural parameters of every frame.

A user's own decoder is called as ``decoder(inputs [..., T, K], mask [B, T]) -> [..., T, N]``. One
that is causal may offer ``memory`` (a ``Memory`` of the inputs) and ``emit``, and can then be
stepped through by particles and read by an ``Autoregressive`` guide.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .memory import Memory, Reader
from .nets import MLP


class CausalDecoder(nn.Module):
    """x_t from z_1 .. z_t: a recurrent net, then two layers that see its state and z_t.

    Arguments:
        dim: size ``K`` of the state.
        natural_dim: natural parameters a frame, ``N``.
        hidden: units of the recurrent net.
        width: of the layer before the last.
        cell: of the recurrent net, see ``Memory``.
        dropout: of the recurrent net's output and of the layer before the last.
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
    ):
        super().__init__()
        self.memory = Memory(dim, hidden, cell)
        self.dropout = nn.Dropout(dropout)
        self.emission = MLP([hidden + dim, width, natural_dim], dropout=dropout)

    def forward(self, inputs: Tensor, mask: Tensor | None = None) -> Tensor:
        """Natural parameters, ``[..., T, N]``."""
        return self.emit(self.memory(inputs), inputs)

    def emit(self, remembered: Tensor, inputs: Tensor) -> Tensor:
        """From the memory's output after a step and that step's input, ``[..., N]``."""
        return self.emission(torch.cat((self.dropout(remembered), inputs), -1))


class BidirectionalDecoder(nn.Module):
    """x_t from the whole path, as in the paper.

    Arguments:
        dim, natural_dim, hidden, cell, dropout: see ``CausalDecoder``; ``hidden`` units each way.
    """

    causal = False
    memory = None

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
