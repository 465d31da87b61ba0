"""Rules that need no gradient: they bring their own loop in place of ``fit``."""

from __future__ import annotations

import torch
from torch import nn

from ...data import Batch
from .rule import LearningRule


class ClosedForm(LearningRule):
    """What ``EM`` and ``Average`` share: ``rule(net).fit(batch)`` learns from one batch."""

    def fit(self, batch: Batch, progress: bool = False) -> list[float]:
        """Learns from one batch.

        Returns:
            A figure for every iteration, such as the log-likelihood.
        """
        raise NotImplementedError(f"{type(self).__name__} must define fit(batch)")


class Average(ClosedForm):
    """Puts the mean of all real frames into ``net.mean``.

    Arguments:
        net: a network with a buffer ``mean``, ``[M]``, such as ``MeanFrame``.

    Raises:
        ValueError: for a network without one.
    """

    def __init__(self, net: nn.Module):
        if "mean" not in dict(net.named_buffers(recurse=False)):
            self.refuse(net, "networks with a buffer mean (MeanFrame)", "has none")
        super().__init__(net)

    @torch.no_grad()
    def fit(self, batch: Batch, progress: bool = False) -> list[float]:
        """Returns the mean squared error of the mean."""
        frames = batch.obs[batch.mask]
        self.net.mean.copy_(frames.mean(0))
        return [float((frames - self.net.mean).square().mean())]
