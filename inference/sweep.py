"""The two moves of a temporally local rule: sweep forwards without a graph, then fold time away.

*Sweep*: run the recognition network forwards and collect the statistics u_0 .. u_{T-1}.
*Fold*: treat the pairs (u_{t-1}, y_t) as independent data and take one gradient over all of them.
The backward pass is then as parallel as a feed-forward network's.

Source: Abdulsalam & Makin, "Learning recurrent models with temporally local rules" (2023).
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import torch
from torch import Tensor

from ..data import Batch
from .inputs import inputs_of, keyword

if TYPE_CHECKING:
    from .contracts import Recurrent


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

    The steps are the only serial computation in a local rule. A padded frame leaves the state as
    it was. Where values are missing, the network reads what it expects (``net.read``), so that time
    passes in a gap. Before anything was seen the state stays as it was, if ``net.waits``.

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
    features, statistics = net.encode(batch.obs, **keyword(inputs_of(net, batch))), [past]
    real = None if bool(batch.mask.all()) else batch.mask[..., None].unbind(1)
    # Without padding, no past is blank after the first frame: a network may have a quicker way.
    later = net.advance if real is None else net.step
    for t, frame in enumerate(features.unbind(1)):
        new = (later if t else net.step)(frame, statistics[-1])
        new = new if sample is None else sample(new)
        statistics.append(new if real is None else torch.where(real[t], new, statistics[-1]))
    return Swept(torch.stack(statistics, 1), features)


def _sweep_with_gaps(
    net: Recurrent,
    batch: Batch,
    observed: Tensor,
    past: Tensor,
    sample: Callable[[Tensor], Tensor] | None,
) -> Swept:
    """``sweep`` of sequences of which values are missing."""
    inputs, seen = inputs_of(net, batch), observed.flatten(2)
    obs, given = batch.obs, keyword(inputs)
    if getattr(net, "sees_missing", False):  # its encode is told, and expects whole frames alone
        obs = obs.masked_fill(~observed, 0.0)
        encode: Callable[..., Tensor] = net.encode
        features = list(encode(obs, observed, **given).unbind(1))
        lacking = batch.mask & ~seen.any(-1)
    else:
        features = list(net.encode(obs, **given).unbind(1))
        lacking = batch.mask & ~seen.all(-1)
    passes, statistics = batch.mask, [past]
    if net.waits:
        blank = net.initial(len(batch)).to(past.device)
        known = (past != blank).any(1, keepdim=True)  # something was seen in an earlier window
        passes = passes & (known | seen.any(-1).cummax(1).values)
    for t, lacks in enumerate(lacking.any(0).tolist()):
        if lacks:
            now = obs[:, t], observed[:, t], statistics[-1]
            features[t] = net.read(*now, **keyword(inputs, (slice(None), t)))
        new = net.step(features[t], statistics[-1])
        new = new if sample is None else sample(new)
        statistics.append(torch.where(passes[:, t, None], new, statistics[-1]))
    return Swept(torch.stack(statistics, 1), torch.stack(features, 1))


def compiled_sweep(net: Recurrent, batch: Batch, past: Tensor) -> Swept:
    """``sweep`` as one compiled scan: the same numbers, without Python between the steps.

    It falls back on ``sweep`` where frames are padded or values are missing.
    """
    if batch.obs.shape[1] < 2 or batch.observed is not None or not bool(batch.mask.all()):
        return sweep(net, batch, past)
    features = net.encode(batch.obs, **keyword(inputs_of(net, batch)))
    validate = torch.distributions.Distribution._validate_args
    first = net.step(features[:, 0], past)
    try:
        rest = _scan(net)(features[:, 1:].transpose(0, 1).contiguous(), first)
    finally:  # the compiler switches validation off for the whole process
        torch.distributions.Distribution.set_default_validate_args(validate)
    statistics = torch.cat((past[:, None], first[:, None], rest.transpose(0, 1)), 1)
    return Swept(statistics, features)


def check_compiles() -> None:
    """Raises a ValueError where torch is too old to compile a scan."""
    if torch.__version__ < "2.10":  # it compares as a version
        raise ValueError(
            f"a compiled sweep needs torch 2.10 or newer, this is {torch.__version__}: leave "
            "compiled=True out"
        )


@functools.lru_cache(maxsize=8)
def _scan(net: Recurrent) -> Callable[[Tensor, Tensor], Tensor]:
    from torch._higher_order_ops import scan

    def step(past: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        new = net.advance(frame, past)
        return new, new.clone()

    return torch.compile(lambda frames, past: scan(step, past, frames, dim=0)[1], fullgraph=True)
