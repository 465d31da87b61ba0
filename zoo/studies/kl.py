"""The exact KL term of a trained VRAE or VOSP, and the one of Bayer & Osendorfer (2014).

See ``inference.paths.marginal_increments`` for the difference. It grows without limit where a
precise step follows a vague one: the marginal increments between them still have variance 1.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from ...data import Polyphonic
from ...inference.paths import LinearChain, kl_steps, marginal_increments, previous
from ...inference.rng import RandomStream
from .. import store
from ..models.path_model import PathModel
from ..pictures import save_figure
from ..recipes.music_task import FRAMES

FLOOR = math.log(2) / 2  # nats a step and dimension: no diagonal guide gets below, in the long run


class Divergences(NamedTuple):
    """Nats per frame on test data, all dimensions together.

    Arguments:
        exact: KL(q || p).
        marginal: the sum of the increments' marginal divergences.
        shared: ln((s_t² + s_{t-1}²) / s_t²) / 2, the information that increments
            share.
        likelihood: -log p(x | z), with one path sampled from the guide for each sequence.
        turning: correlation of ln s_t with ln s_{t-1}, see ``turning``; -1 where precise and vague
            steps take turns.
        dims: dimensions of the latent state.
    """

    exact: float
    marginal: float
    shared: float
    likelihood: float
    turning: float
    dims: int


def turning(log_spread: Tensor, mask: Tensor) -> Tensor:
    """The sums of c_t c_{t-1} and of c_t², where c is ln s less its mean in time; two values.

    Arguments:
        log_spread: ln s, ``[B, T, K]``.
        mask: True where a frame is real, ``[B, T]``.

    Returns:
        Both sums, over all sequences and dimensions: their quotient is the correlation.
    """
    real = mask[..., None]
    known = log_spread.masked_fill(~real, 0.0)
    mean = known.sum(1, keepdim=True) / real.sum(1, keepdim=True).clamp_min(1)
    centred = (known - mean).masked_fill(~real, 0.0).double()
    return torch.stack([(centred[:, 1:] * centred[:, :-1]).sum(), centred.square().sum()])


@torch.no_grad()
def measure_kl(name: str, seed: int = 0) -> Divergences:
    """Both divergences of a trained diagonal model, over the test split of its data.

    Arguments:
        name: the model.
        seed: seed of the sampled paths.

    Raises:
        ValueError: for a model whose guide is not a diagonal Gaussian, or its prior no Wiener
            process.
    """
    net = store.load(name)
    if not isinstance(net, PathModel):
        raise ValueError(f"{name} has no latent path: name a model such as jsb/vrae-published")
    rolls = Polyphonic(store.card_of(net)["configuration"]["data"]["name"], "test")
    totals, turns = torch.zeros(4, dtype=torch.float64), torch.zeros(2, dtype=torch.float64)
    stream = RandomStream("cpu", "kl", seed)
    for _, batch in rolls.batches(FRAMES):
        encoding = net.prepare(batch)
        q, p = encoding.belief, net.prior(batch.mask)
        chain = isinstance(q, LinearChain) and not isinstance(q.coefficient, torch.Tensor)
        if not chain or q.coefficient != 0:
            raise ValueError(f"{name} has no diagonal guide: name one such as jsb/vrae-published")
        variance = q.scale.square()
        shared = torch.log1p(previous(variance) / variance).sum(-1) / 2
        with stream:
            nll = -net.frames(q.rsample(), encoding).log_prob(batch.obs)
        terms = kl_steps(q, p), marginal_increments(q, p), shared, nll
        totals += torch.stack([term[batch.mask].sum().double() for term in terms])
        turns += turning(q.scale.log(), batch.mask)
    exact, marginal, shared, nll = (totals / rolls.frames).tolist()
    return Divergences(exact, marginal, shared, nll, float(turns[0] / turns[1]), net.latent_dim)


def plot_kl(found: Divergences, path: Path) -> None:
    """Left: both divergences of a diagonal guide of constant spread; right: the trained model's."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=(1.2, 1))
    s = np.linspace(0.15, 1.5, 200)
    left.plot(s, s**2 - 0.5 - np.log(s), label="exact KL", color="#1d3557")
    left.plot(s, s**2 - 0.5 - np.log(2 * s**2) / 2, label="marginal increments", color="#d1495b")
    left.axhline(FLOOR, color="grey", lw=0.8, ls="--")
    left.text(1.48, FLOOR + 0.03, "0.347", ha="right", color="grey", fontsize=9)
    left.set(xlabel="spread s of every z[t]", ylabel="nats a step and dimension", ylim=(-0.1, 2))
    left.legend(frameon=False, fontsize=9)
    left.set_title("means at rest", fontsize=10)
    kl = {"exact KL\n(a bound)": found.exact, "marginal\nincrements\n(no bound)": found.marginal}
    right.bar(list(kl), [found.likelihood] * 2, color="#adb5bd", label="-log p(x | z)")
    colours = ["#1d3557", "#d1495b"]
    bars = right.bar(list(kl), list(kl.values()), bottom=found.likelihood, color=colours)
    right.bar_label(bars, [f"{value:.1f}" for value in kl.values()], label_type="center", color="w")
    right.axhline(FLOOR * found.dims, color="grey", lw=0.8, ls="--")
    right.text(1.45, FLOOR * found.dims + 0.15, "floor of the exact KL", ha="right", fontsize=8)
    right.set_ylabel("nats per frame")
    right.legend(frameon=False, fontsize=9)
    right.set_title("a trained model, test data", fontsize=10)
    save_figure(figure, path)
