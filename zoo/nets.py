"""Feed-forward nets that models are built from."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "tanh": nn.Tanh,
    "elu": nn.ELU,
    "silu": nn.SiLU,
    "sigmoid": nn.Sigmoid,
    "linear": nn.Identity,
}


def activation(name: str) -> nn.Module:
    """An activation by name.

    Raises:
        ValueError: for a name not in ``ACTIVATIONS``.
    """
    if name not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {', '.join(ACTIVATIONS)}, got {name!r}")
    return ACTIVATIONS[name]()


class MLP(nn.Sequential):
    """Fully connected layers with an activation after each but the last.

    Arguments:
        sizes: width of the input, of every hidden layer, and of the output.
        nonlinearity: a name in ``ACTIVATIONS``.
        last: activation after the last layer.
        skip: add a linear map from input to output.

    Example:
        >>> MLP([15, 64, 64, 10])(torch.zeros(2, 15)).shape
        torch.Size([2, 10])
    """

    def __init__(
        self,
        sizes: Sequence[int],
        nonlinearity: str = "relu",
        last: str = "linear",
        skip: bool = False,
    ):
        layers: list[nn.Module] = []
        for number, (inputs, outputs) in enumerate(itertools.pairwise(sizes), start=2):
            layers += [nn.Linear(inputs, outputs)]
            layers += [activation(last if number == len(sizes) else nonlinearity)]
        super().__init__(*layers)
        self.skip = nn.Linear(sizes[0], sizes[-1], bias=False) if skip else None

    def forward(self, value: torch.Tensor) -> torch.Tensor:
        out = value
        for name, layer in self._modules.items():
            if name != "skip" and layer is not None:
                out = layer(out)
        return out if self.skip is None else out + self.skip(value)
