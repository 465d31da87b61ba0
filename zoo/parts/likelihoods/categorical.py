"""One class of many, as the distribution of an output.

It has the members of a likelihood that an output needs: ``natural_dim``, ``event_dim`` (the axes of
a value), ``distribution``, ``mean``, ``mode``, ``sample`` and ``check``.
"""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ...part import Described


class Categorical(Described, nn.Module):
    """One of ``classes``, eta = log-odds up to a constant (paper 003, equation 2).

    Arguments:
        classes: how many there are, ``C``. A value is a whole number from 0 to C - 1.
    """

    event_dim = 0

    def __init__(self, classes: int):
        super().__init__()
        if classes < 2:
            raise ValueError(f"a categorical output needs two classes or more, got {classes}")
        self.classes = self.natural_dim = classes

    def distribution(self, natural: Tensor) -> dist.TorchDistribution:
        """p(y | eta), ``[..., C]`` to values ``[...]``."""
        return dist.Categorical(logits=natural, validate_args=False)

    def mean(self, natural: Tensor) -> Tensor:
        """The probabilities of all classes, ``[..., C] -> [..., C]``."""
        return natural.softmax(-1)

    def mode(self, natural: Tensor) -> Tensor:
        """The likeliest class, ``[..., C] -> [...]``."""
        return natural.argmax(-1)

    def sample(self, natural: Tensor) -> Tensor:
        """A class, ``[..., C] -> [...]``."""
        return self.distribution(natural).sample()

    def check(self, value: Tensor) -> None:
        """Raises a ValueError for anything but whole numbers from 0 to C - 1."""
        if value.is_floating_point() or value.dtype == torch.bool:
            raise ValueError(f"classes must be whole numbers, got {value.dtype}: use .long()")
        if ((value < 0) | (value >= self.classes)).any():
            wrong = int(value[(value < 0) | (value >= self.classes)][0])
            raise ValueError(f"classes go from 0 to {self.classes - 1}, got {wrong}")

    def extra_repr(self) -> str:
        return str(self.classes)
