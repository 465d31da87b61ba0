"""Running a trained network over sequences."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..data import Batch
from .local import sweep
from .rule import Recurrent


class Filtered(NamedTuple):
    """The filtering distribution of the latent state: past and present only.

    Arguments:
        mean: ``[B, T, K]``.
        variance: ``[B, T, K]``.
    """

    mean: Tensor
    variance: Tensor


@torch.no_grad()
def run_filter(net: Recurrent, obs: Tensor, mask: Tensor | None = None) -> Tensor:
    """Statistics u_0 .. u_{T-1} of a recurrent network, ``[B, T, U]``.

    Arguments:
        net: a recurrent network.
        obs: ``[B, T, M]``.
        mask: True where a frame is real, ``[B, T]``.

    Raises:
        ValueError: when ``obs`` or ``mask`` is unfit, with a sentence that says why.
    """
    batch = Batch(obs, mask)
    net.check(batch.obs[batch.mask])
    return sweep(net, net.encode(batch.obs), net.initial(len(batch)), batch.mask)[:, 1:]
