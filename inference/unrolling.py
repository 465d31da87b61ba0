"""Networks that answer an input sequence: the sweep over it, and the loss at the answer.

Their recursion is h_t ~ units with means f(x_t, h_{t-1}); the rules in ``target`` and
``through_time`` train them.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from ..data import Batch
from .checks import check_samples
from .contracts import AnswerModel
from .layers import Layer


def in_paths(net: AnswerModel, drive: Tensor, num_samples: int) -> Tensor:
    """The drive of ``num_samples`` paths of each sequence, ``[T, B, H] -> [T, M, B, H]``.

    A network without stochastic units has one path.

    Raises:
        ValueError: for less than one sample.
    """
    check_samples(num_samples)
    return drive[:, None].expand(-1, num_samples if net.num_stochastic else 1, -1, -1)


def unroll(
    net: AnswerModel, drive: Tensor, choose: Callable[[Tensor], Tensor] | None = None
) -> Tensor:
    """Runs the recursion over whole sequences, from units at rest.

    Time is the first axis here, so that a step is one block of memory.

    Arguments:
        net: the network.
        drive: input to the units from each frame, ``[T, ..., H]``.
        choose: h_t from its means, ``net.sample_units`` when left out.

    Returns:
        h_0 .. h_T, ``[T + 1, ..., H]``.
    """
    choose = choose or net.sample_units
    if not torch.is_grad_enabled():
        return visit(net, drive, choose).states
    states = [net.rest().expand_as(drive[0])]
    for frame in drive:
        states.append(choose(net.mean(frame, states[-1])))
    return torch.stack(states)


class Visited(NamedTuple):
    """The course of the units over whole sequences, without a graph.

    Arguments:
        states: h_0 .. h_T, ``[T + 1, ..., H]``.
        means: those of h_1 .. h_T, ``[T, ..., H]``; the same memory where nothing is sampled.
    """

    states: Tensor
    means: Tensor


@torch.no_grad()
def visit(
    net: AnswerModel,
    drive: Tensor,
    choose: Callable[[Tensor], Tensor] | None = None,
    layer: Layer | None = None,
) -> Visited:
    """``unroll`` without a graph, and the means that it met; ``layer`` is ``mean_layer``."""
    choose, layer = choose or net.sample_units, layer or net.mean_layer()
    first = net.rest().expand_as(drive[0])
    states = first.new_empty((len(drive) + 1, *first.shape))
    states[0] = first
    before, *later = states.unbind()
    means, kept = states[1:], later
    for t, (frame, after) in enumerate(zip(drive.unbind(), later)):
        mean = layer(frame, before, out=kept[t])
        chosen = choose(mean)
        if chosen is not mean and kept is later:  # from now on means have memory of their own
            means = torch.empty_like(means)
            kept = means.unbind()
            kept[t].copy_(mean)
        if chosen is not after:
            after.copy_(chosen)
        before = after
    return Visited(states, means)


BLOCK = 1 << 17  # numbers of a folded batch at a time


def blocks(rows: Tensor) -> list[slice]:
    """The folded batch ``[T, M, B, H]`` in runs of steps that stay in a processor's cache.

    A block's gradients add up to the whole's; a GPU takes the whole at once.
    """
    size = len(rows) if rows.is_cuda else max(1, BLOCK // max(1, rows[0].numel()))
    starts = range(0, len(rows), size)
    return [slice(start, min(start + size, len(rows))) for start in starts]


def by_time(net: AnswerModel, slopes: Tensor, batch: Batch) -> dict[int, Tensor]:
    """Gradients by the states that ``answering`` gives, for each time of an answer.

    Arguments:
        net: the network.
        slopes: the gradient by the result of ``answering``.
        batch: the batch.

    Returns:
        ``[M, B, H]`` each, zero for sequences without an answer at that time.
    """
    if net.at_every_step(batch):
        return dict(enumerate(slopes))
    if batch.whole:
        return {batch.obs.shape[1] - 1: slopes}
    last, ends = batch.mask.sum(1) - 1, (batch.host.mask.sum(1) - 1).unique().tolist()
    return {t: slopes.masked_fill((last != t)[:, None], 0.0) for t in ends}


def answering(net: AnswerModel, states: Tensor, batch: Batch) -> Tensor:
    """The states that answers are read from.

    Arguments:
        net: the network.
        states: h_1 .. h_T, ``[T, M, B, H]``.
        batch: the batch they were unrolled on.

    Returns:
        ``[T, M, B, H]`` with an answer at every step, else those of each sequence's last real
        step, ``[M, B, H]``.
    """
    return states if net.at_every_step(batch) else last_real(states.movedim(0, -2), batch)


def last_real(states: Tensor, batch: Batch) -> Tensor:
    """Each sequence's state at its last real step, ``[..., B, T, H] -> [..., B, H]``."""
    if batch.whole:
        return states[..., -1, :]
    last = (batch.mask.sum(1) - 1)[:, None, None].expand(*states.shape[:-2], 1, states.shape[-1])
    return states.gather(-2, last).squeeze(-2)


def score_of(net: AnswerModel, states: Tensor, batch: Batch) -> Tensor:
    """The log-probability of each sequence's answers, summed over the steps asked; ``[B]``, nats.

    No answer is asked in padding, or at a step of whose input nothing was seen.

    Arguments:
        net: the network.
        states: the result of ``answering``.
        batch: the batch.

    Raises:
        ValueError: for a batch without a target.
    """
    if batch.target is None:
        raise ValueError("the batch has no target, so there is nothing to score")
    if not net.at_every_step(batch):
        return net.log_score(states, batch.target)
    scores = net.log_score(states, batch.target.transpose(0, 1))
    return scores.masked_fill(~batch.observed_frames.T, 0.0).sum(0)


def answer_states(net: AnswerModel, batch: Batch, num_samples: int) -> Tensor:
    """The states that answers are read from, on random paths from torch's global random state.

    Arguments:
        net: the network.
        batch: the input sequences.
        num_samples: paths ``M`` of each sequence.

    Returns:
        ``[T, M, B, H]`` with an answer at every step, otherwise ``[M, B, H]``.
    """
    drive = in_paths(net, net.drive(batch.obs.transpose(0, 1)), num_samples)
    return answering(net, unroll(net, drive)[1:], batch)


def loss_of(net: AnswerModel, states: Tensor, batch: Batch) -> tuple[Tensor, Tensor]:
    """The negative log-probability of all answers, in nats, and how many there are."""
    asked = batch.observed_frames if net.at_every_step(batch) else batch.mask.any(1)
    return -score_of(net, states, batch).sum(), asked.sum()
