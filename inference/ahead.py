"""One step ahead: what a recurrent network expects before it has seen each frame."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from ..data import Batch
from .checks import check_frames, check_missing
from .inputs import at, inputs_of, keyword
from .sweep import Swept, sweep

if TYPE_CHECKING:
    from .contracts import Recurrent

FRAMES = 2000  # frames predicted at once: samples times frames times pixels must fit in memory


def swept(net: Recurrent, batch: Batch) -> Swept:
    """Statistics of a recurrent network over whole sequences, and features of the frames.

    Raises:
        ValueError: when a real frame is outside the support of the network's likelihood, or for
            missing values that it does not take.
    """
    check_missing(net, batch)
    check_frames(net, batch)
    return sweep(net, batch, net.initial(len(batch)).to(batch.obs.device))


def next_frames(
    net: Recurrent, batch: Batch, num_samples: int, options: Mapping[str, Any] | None = None
) -> Tensor:
    """Each frame as ``net.sample_next`` predicts it from those before, ``[S, B, T, M]``.

    Padding is zero.

    Arguments:
        net: the network.
        batch: the sequences.
        num_samples: ``S``.
        options: further arguments of ``net.sample_next``.
    """
    obs, mask = batch.obs, batch.mask
    statistics = swept(net, batch).statistics
    past = statistics[:, :-1][mask]
    filled = filled_frames(net, batch, statistics)
    previous = torch.cat((torch.zeros_like(obs[:, :1]), filled[:, :-1]), 1)[mask]
    predicted = obs.new_zeros(num_samples, *obs.shape)
    inputs, parts = at(inputs_of(net, batch), mask), []
    for start in range(0, len(past), FRAMES):
        some = slice(start, start + FRAMES)
        how = {**(options or {}), **keyword(inputs, some)}
        parts.append(net.sample_next(past[some], previous[some], num_samples, **how))
    predicted[:, mask] = torch.cat(parts, 1)
    return predicted


def filled_frames(net: Recurrent, batch: Batch, statistics: Tensor) -> Tensor:
    """The frames of a batch, ``[B, T, M]``, with those expected in place of missing values."""
    if batch.observed is None:
        return batch.obs
    filled, lacks = batch.obs.clone(), batch.mask & ~batch.observed.all(-1)
    given = keyword(inputs_of(net, batch), lacks)
    expected = net.expected_frame(statistics[:, :-1][lacks], **given)
    filled[lacks] = torch.where(batch.observed[lacks], filled[lacks], expected)
    return filled
