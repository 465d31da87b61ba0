"""The two moves of a temporally local rule: sweep forwards without a graph, then fold time away.

*Sweep*: run the recognition network forwards and collect the statistics u_0 .. u_{T-1}.
*Fold*: treat the pairs (u_{t-1}, y_t) as independent data and take one gradient over all of them.
The backward pass is then as parallel as a feed-forward network's.

Source: Abdulsalam & Makin, "Learning recurrent models with temporally local rules" (2023).
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..data import Batch
from .inputs import inputs_of, keyword

if TYPE_CHECKING:
    from .contracts import Recurrent


FEW = 2  # steps that a kernel's call would take longer than


class Swept(NamedTuple):
    """The result of a sweep.

    Arguments:
        statistics: ``[B, T + 1, U]``: entry ``t`` is u_{t-1}, the past of frame ``t``.
        features: of every frame as the network read it, ``[B, T, F]``.
    """

    statistics: Tensor
    features: Tensor


def sweep(
    net: Recurrent,
    batch: Batch,
    past: Tensor,
    sample: Callable[[Tensor], Tensor] | None = None,
    shown: Tensor | None = None,
) -> Swept:
    """Runs ``net.encode`` for all frames, then ``net.step`` through time.

    The steps are the only serial computation in a local rule; ``net.scan`` runs them in one call
    where the network has a kernel. A padded frame leaves the state as it was. Where values are
    missing, the network reads what it expects (``net.read``), so that time passes in a gap. Before
    anything was seen the state stays as it was, if ``net.waits``.

    Arguments:
        net: the network.
        batch: the sequences.
        past: statistics before the first frame, ``[B, U]``.
        sample: applied to u_t before the next step, such as ``torch.bernoulli``.
        shown: True where the network is shown a value, ``[B, T, M]``; None shows all that were
            observed (see ``Recurrent.shown``).
    """
    observed = batch.observed if shown is None else shown
    if observed is not None:
        return _sweep_with_gaps(net, batch, observed, past, sample)
    features = net.encode(batch.obs, **keyword(inputs_of(net, batch)))
    statistics = run_steps(net, features, past, batch.mask, batch.whole, sample)
    return Swept(statistics, features)


def _sweep_with_gaps(
    net: Recurrent,
    batch: Batch,
    observed: Tensor,
    past: Tensor,
    sample: Callable[[Tensor], Tensor] | None,
) -> Swept:
    """``sweep`` of sequences of which values are missing: in runs that begin where some lack."""
    inputs, seen = inputs_of(net, batch), observed.flatten(2)
    obs, given = batch.obs, keyword(inputs)
    if getattr(net, "sees_missing", False):  # its encode is told, and expects whole frames alone
        obs = obs.masked_fill(~observed, 0.0)
        encode: Callable[..., Tensor] = net.encode
        features = encode(obs, observed, **given)
        lacking = batch.mask & ~seen.any(-1)
    else:
        features = net.encode(obs, **given)
        lacking = batch.mask & ~seen.all(-1)
    passes = batch.mask
    if net.waits:
        blank = net.initial(len(batch)).to(past.device)
        known = (past != blank).any(1, keepdim=True)  # something was seen in an earlier window
        passes = passes & (known | seen.any(-1).cummax(1).values)
    lacks, waits = torch.stack((lacking.any(0), ~passes.all(0))).tolist()
    starts = [t for t, lack in enumerate(lacks) if lack or not t]
    read, statistics = [], [past[:, None]]
    for start, stop in itertools.pairwise((*starts, len(lacks))):
        run, last = features[:, start:stop], statistics[-1][:, -1]
        if lacks[start]:
            now = obs[:, start], observed[:, start], last
            first = net.read(*now, **keyword(inputs, (slice(None), start)))
            run = torch.cat((first[:, None], run[:, 1:]), 1)
        read.append(run)
        always, some = not any(waits[start:stop]), passes[:, start:stop]
        statistics.append(run_steps(net, run, last, some, always, sample)[:, 1:])
    return Swept(torch.cat(statistics, 1), torch.cat(read, 1))


def run_steps(
    net: Recurrent,
    features: Tensor,
    past: Tensor,
    passes: Tensor,
    always: bool,
    sample: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """The past and the statistics after each frame, ``[B, T + 1, U]``; see ``Recurrent.scan``.

    ``always`` says that ``passes`` is True throughout.
    """
    few = features.shape[1] <= FEW
    scanned = None if few or sample is not None else net.scan(features, past, passes)
    if scanned is not None:
        return scanned
    statistics = [past]
    # Where every frame counts, no past is blank after the first: a network may have a quicker way.
    later = net.advance if always else net.step
    for t, (frame, real) in enumerate(zip(features.unbind(1), passes[..., None].unbind(1))):
        new = (later if t else net.step)(frame, statistics[-1])
        new = new if sample is None else sample(new)
        statistics.append(new if always else torch.where(real, new, statistics[-1]))
    return torch.stack(statistics, 1)
