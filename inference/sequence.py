"""Learning from whole sequences: the gradient that a local rule leaves out."""

from __future__ import annotations

from torch import nn

from .local import LocalELBO


class BPTT(LocalELBO):
    """Backpropagation through time: ``LocalELBO``'s loss, with u_{t-1}'s dependence kept.

    Only the recursion carries a graph through time; encoder, decoder and likelihoods are folded,
    as in the local rule. ``window`` truncates.

    Arguments:
        net: a directed ``Recurrent`` network with a Pyro model and guide.
        window: frames an update; ``None`` takes the whole sequence.
        particles, bound: see ``LocalELBO``.
    """

    def __init__(self, net: nn.Module, *, window: int | None = None, **how):
        super().__init__(net, window=window, through_time=True, **how)
