"""Rules that need no gradient: each iteration changes the parameters in closed form."""

from __future__ import annotations

from typing import ClassVar, NoReturn

import torch
from torch import nn

from ...data import Batch
from .rule import LearningRule


class ClosedForm(LearningRule):
    """A rule with a loop of its own, which ``fit`` runs on all data as one batch.

    A subclass writes ``learn``.

    Attributes:
        figure: name of the number that ``learn`` gives for each iteration.
    """

    figure: ClassVar[str] = "loss"

    def learn(self, batch: Batch, progress: bool = False) -> list[float]:
        """Learns from one batch, and leaves the result in the network.

        Arguments:
            batch: all data.
            progress: show a progress bar.

        Returns:
            A number for every iteration, such as the log-likelihood.
        """
        raise NotImplementedError(f"{type(self).__name__} must define learn(batch, progress)")

    def gradients(self, batch: Batch) -> NoReturn:
        """Raises a ValueError: there are none."""
        raise ValueError(f"{type(self).__name__} learns in closed form and has no gradients")


class Average(ClosedForm):
    """Puts the mean of every value into ``net.mean``, over the real frames where it was seen.

    A value that was seen in no frame has the mean 0.

    Arguments:
        net: a network with a buffer ``mean``, ``[M]``, such as ``MeanFrame``.

    Raises:
        ValueError: for a network without one.
    """

    figure = "squared_error"

    def __init__(self, net: nn.Module) -> None:
        super().__init__(net)
        if "mean" not in dict(net.named_buffers(recurse=False)):
            self.refuse(net, "networks with a buffer mean (MeanFrame)", "has none")

    @torch.no_grad()
    def learn(self, batch: Batch, progress: bool = False) -> list[float]:
        """Learns in one iteration.

        Returns:
            The mean squared error of the mean, over the values seen.
        """
        frames, mean = batch.obs[batch.mask], self.net.get_buffer("mean")
        if batch.observed is None:
            mean.copy_(frames.mean(0))
            return [float((frames - mean).square().mean())]
        seen = batch.observed[batch.mask]
        mean.copy_(frames.sum(0) / seen.sum(0).clamp_min(1))  # a missing value is zero
        return [float((frames - mean)[seen].square().mean())]
