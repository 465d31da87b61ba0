"""The two moves of a temporally local rule: sweep forwards without a graph, then fold time away.

*Sweep*: run the recognition network forwards and collect the statistics u_0 .. u_{T-1}.
*Fold*: treat the pairs (u_{t-1}, y_t) as independent data and take one gradient over all of them.
The backward pass is then as parallel as a feed-forward network's.

Source: Abdulsalam & Makin, "Learning recurrent models with temporally local rules" (2023).
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from torch import Tensor

from .contracts import Recurrent


def sweep(
    net: Recurrent,
    features: Tensor,
    past: Tensor,
    mask: Tensor | None = None,
    sample: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Runs ``net.step`` through time. The only serial computation in a local rule.

    Arguments:
        net: the network.
        features: encoded observations, ``[B, T, F]``.
        past: statistics before the first frame, ``[B, U]``.
        mask: True where a frame is real, ``[B, T]``; a padded frame leaves the state as it was.
        sample: applied to u_t before the next step, such as ``torch.bernoulli``.

    Returns:
        Statistics ``[B, T + 1, U]``: entry ``t`` is u_{t-1}, the past of frame ``t``.
    """
    statistics = [past]
    real = None if mask is None or bool(mask.all()) else mask[..., None].unbind(1)
    # Without padding, no past is blank after the first frame: a network may have a quicker way.
    later = net.advance if real is None else net.step
    for t, frame in enumerate(features.unbind(1)):
        new = (later if t else net.step)(frame, statistics[-1])
        new = new if sample is None else sample(new)
        statistics.append(new if real is None else torch.where(real[t], new, statistics[-1]))
    return torch.stack(statistics, 1)


def compiled_sweep(
    net: Recurrent, features: Tensor, past: Tensor, mask: Tensor | None = None
) -> Tensor:
    """``sweep`` as one compiled scan: the same numbers, without Python between the steps."""
    if features.shape[1] < 2 or (mask is not None and not bool(mask.all())):
        return sweep(net, features, past, mask)
    validate = torch.distributions.Distribution._validate_args
    first = net.step(features[:, 0], past)
    rest = _scan(net)(features[:, 1:].transpose(0, 1).contiguous(), first)
    # The compiler switches validation off for the whole process: put it back.
    torch.distributions.Distribution.set_default_validate_args(validate)
    return torch.cat((past[:, None], first[:, None], rest.transpose(0, 1)), 1)


@functools.lru_cache(maxsize=8)
def _scan(net: Recurrent) -> Callable[[Tensor, Tensor], Tensor]:
    from torch._higher_order_ops import scan

    def step(past: Tensor, frame: Tensor) -> tuple[Tensor, Tensor]:
        new = net.advance(frame, past)
        return new, new.clone()

    return torch.compile(lambda frames, past: scan(step, past, frames, dim=0)[1], fullgraph=True)
