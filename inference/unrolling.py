"""Networks that answer an input sequence: the sweep over it, and the loss at the answer.

Their recursion is h_t ~ units with means f(x_t, h_{t-1}); the rules in ``target`` and
``through_time`` train them.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..data import Batch
from .checks import check_samples
from .contracts import AnswerModel


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
    first = net.rest().expand_as(drive[0])
    if torch.is_grad_enabled():
        states = [first]
        for frame in drive:
            states.append(choose(net.mean(frame, states[-1])))
        return torch.stack(states)
    whole = first.new_empty((len(drive) + 1, *first.shape))
    whole[0] = first
    for t, frame in enumerate(drive):
        whole[t + 1] = choose(net.mean(frame, whole[t]))
    return whole


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
