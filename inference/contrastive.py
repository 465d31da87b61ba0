"""Contrastive divergence for recurrent harmoniums, with or without the gradient through time."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from .local import Fold, FoldedRule


class ContrastiveDivergence(FoldedRule):
    """CD-k on a fold: lower the free energy of the data, raise that of k Gibbs steps away.

    The positive and the negative phase of all frames run as one batch. For an rEFH both y_t and
    u_{t-1} are data, and both are resampled; for a TRBM u_{t-1} is clamped. The gradient is that
    of F(data) - F(negative), hidden units summed out exactly in both terms.

    The RTRBM is a TRBM whose u_{t-1} keeps its dependence on the parameters: with
    ``through_time`` the free-energy difference is also differentiated along the recursion, which
    is the recursive term of Sutskever, Hinton & Taylor (2009).

    Arguments:
        net: a harmonium with ``free_energy`` and ``gibbs``.
        k: Gibbs steps of the negative phase.
        through_time: ``None`` follows ``net.through_time`` (True for the RTRBM alone).
        sample_past: while training, let u_{t-1} be a sample of the hidden units and not their
            means. The means are what the model filters with in either case.
        window, minibatch, compiled: see ``FoldedRule``. ``window=1`` is the online form.
    """

    def __init__(
        self,
        net: nn.Module,
        *,
        k: int = 1,
        through_time: bool | None = None,
        sample_past: bool = False,
        **how,
    ):
        follow = net.through_time if through_time is None else through_time
        super().__init__(net, through_time=follow, **how)
        if k < 1:
            raise ValueError(f"k must be at least 1, got {k}")
        if sample_past and (follow or self.compiled):
            raise ValueError("sample_past goes with neither through_time nor a compiled sweep")
        self.k, self.draw = k, net.draw if sample_past else None

    def loss(self, fold: Fold) -> Tensor:
        with torch.no_grad():
            obs, past = self.net.gibbs(fold.obs, fold.past, self.k)
        if self.net.clamps_past:
            past = fold.past  # the same tensor, graph and all
        both = self.net.free_energy(torch.cat((fold.obs, obs)), torch.cat((fold.past, past)))
        data, negative = both.chunk(2)
        return (data - negative).sum()
