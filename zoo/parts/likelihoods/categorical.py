"""One class of many, as the distribution of an output."""

from __future__ import annotations

import pyro.distributions as dist
import torch
from torch import Tensor, nn

from ....inference.checks import check_number
from ...part import Described


class Categorical(Described, nn.Module):
    """One of ``classes``, eta = log-odds up to a constant.

    Arguments:
        classes: number of classes, ``C``. A value is a whole number from 0 to C - 1.

    Raises:
        ValueError: for fewer than two classes.

    Source: Manchev & Spratling, "Learning multi-modal recurrent neural networks with target
    propagation" (2024), equation 2.
    """

    event_dim = 0

    def __init__(self, classes: int) -> None:
        super().__init__()
        check_number("classes", classes, 2)
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
        """A random class, ``[..., C] -> [...]``."""
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
