"""How well each neuron is predicted."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch

from ...data import BatchLike
from ...inference import bits_per_neuron, bits_per_spike
from ...inference.diagnostics.values import Values
from .axes import INK, beside, channels_of, make_axes, palette, recording_of

if TYPE_CHECKING:  # matplotlib takes long to import
    from matplotlib.axes import Axes

MARKERS = ("o", "s", "^", "D", "v", "P", "X")
LABELS = 40  # most labels of an axis that can be read


def plot_neurons(
    rates: Mapping[str, Values],
    spikes: BatchLike,
    channels: Sequence[int] | None = None,
    ax: Axes | None = None,
) -> Axes:
    """Bits per spike of each neuron by each model, such as those of neurons that were held out.

    Zero is as good as the neuron's mean. The legend has the bits per spike of all neurons shown. A
    neuron without a spike has no bits: it is marked on the axis, as silent or as dead.

    Arguments:
        rates: expected counts of the same trials and channels by the name of a model,
            ``[N, T, M]``, such as those of ``inference.rates``.
        spikes: counts: a ``data.Recording``; an ``xarray.DataArray (trial, time, channel)``; or
            anything that ``data.as_batch`` takes.
        channels: numbers of the channels; all when left out.
        ax: where to plot; None makes a figure.

    Returns:
        The axes.

    Raises:
        ValueError: for no rates, rates of another shape, or counts without a single spike.
    """
    if not rates:
        raise ValueError("there are no rates to plot")
    recording, _ = recording_of(spikes)
    shown = channels_of(recording, channels)
    batch = recording.batch()
    seen = batch.seen[..., shown]
    rows = seen.flatten(1).any(1)  # trials in which any of these was seen
    part = type(batch)(batch.obs[rows][..., shown], batch.mask[rows], observed=seen[rows])
    bins = batch.obs.shape[1]
    at = np.arange(len(shown))
    ax = make_axes(ax, (max(4.5, 1.5 + 0.25 * len(shown)), 3.2), frame=False)
    ax.axhline(0, color=INK, lw=0.8, ls="--", label="mean of the neuron")
    for (name, values), colour, marker in zip(
        rates.items(), palette(len(rates)), MARKERS * (1 + len(rates) // len(MARKERS))
    ):
        found = torch.from_numpy(beside(recording, values, f"rates of {name!r}"))
        mine = found[rows, :bins][..., shown]
        bits, total = bits_per_neuron(mine, part).numpy(), bits_per_spike(mine, part)
        label = f"{name}: {total:.3f} bits per spike"
        ax.plot(at, bits, ls="", marker=marker, ms=5, color=colour, alpha=0.85, label=label)
    dead = ~seen.flatten(0, 1).any(0).numpy()
    silent = (part.obs.sum((0, 1)) == 0).numpy() & ~dead
    for which, marker, label in ((silent, "v", "no spike"), (dead, "x", "dead")):
        if which.any():
            how = {"color": INK, "transform": ax.get_xaxis_transform()}
            ax.plot(at[which], np.full(which.sum(), 0.04), ls="", marker=marker, label=label, **how)
    ticks = at[:: -(-len(at) // LABELS)]
    ax.set_xticks(
        ticks, [str(recording.channels[shown[tick]]) for tick in ticks], rotation=90, fontsize=8
    )
    ax.set(xlabel=recording.unit, ylabel="bits per spike")
    ax.legend(frameon=False, fontsize=8, loc="upper left", bbox_to_anchor=(1.01, 1))
    return ax
