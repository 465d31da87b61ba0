"""k-hat of a guide, and the bound that rises with the number of its samples."""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor, nn

from ...inference import FrameModel, SequenceModel, good_khat
from ...inference.diagnostics.psis import smooth_weights
from ...inference.samples import spread_out
from .context import Context, Section
from .figures import BLUE, GREEN, RED, figure, legend_above, plot_khat_band, plot_sorted_khat, save
from .importance_weights import Weights, bounds, log_weights

HIGH = 0.7  # k-hat above which weighted samples should not be used
APART = 0.01  # nats between two bounds from which on the report mentions it
WIDE = 500  # values of a frame above which fewer sequences are weighed


def diagnose_guide(context: Context) -> list[Section]:
    """Reports k-hat and the importance-weighted bound, of the same weights."""
    context.need_latents()
    if isinstance(context.net, FrameModel) and context.batch.obs.shape[-1] > WIDE:
        context = context._replace(batch=context.batch.rows(slice(context.sizes.folded)))
    found = log_weights(context.net, context.batch, context.num_samples, context.seed)
    return [_khat(context, found), _bound(context, found)]


def _khat(context: Context, found: Weights) -> Section:
    limit = good_khat(context.num_samples)
    mask = context.batch.mask.cpu()
    what = "prior, which is the guide here," if context.answers else "guide"
    said: list[str] = []
    shapes: Tensor | None = None
    judged: Tensor | None = None  # k-hat of frames, or of sequences where frames have none
    if found.frames is not None:
        mask = ~found.frames[0].isnan()  # not padding, and something was seen
        smoothed = smooth_weights(found.frames[:, mask])
        shapes = spread_out(smoothed.khat, mask)
        said.append(_fractions("frames", smoothed.khat, limit))
        said.append(
            f"Of {context.num_samples} samples, "
            f"{smoothed.effective.median():.0f} are effective for a frame (median)."
        )
        judged = smoothed.khat
    if found.sequences is not None:
        smoothed = smooth_weights(found.sequences)
        said.append(_fractions("sequences", smoothed.khat, limit))
        said.append(
            f"Of {context.num_samples} samples, "
            f"{smoothed.effective.median():.1f} are effective for a sequence (median)."
        )
        whole = smoothed.khat
    else:
        assert shapes is not None  # weights are of sequences or of frames
        whole = shapes.nanmedian(1).values
        said.append(
            f"{context.name} is a model of single frames, so a sequence has no weights of its own: "
            f"the medians over the frames of each go from {whole.min():.2f} to {whole.max():.2f}."
        )
    cuts: dict[int, Tensor] = {}
    if shapes is None and not context.answers:
        for steps in (length for length in context.sizes.lengths if length < mask.shape[1]):
            batch = context.batch.window(0, steps)
            cut = log_weights(context.net, batch, context.num_samples, context.seed).sequences
            assert cut is not None  # as of the whole sequences
            cuts[steps] = smooth_weights(cut).khat
        cuts[mask.shape[1]] = whole
        middle = ", ".join(f"{float(k.median()):.2f} at {t}" for t, k in cuts.items())
        said.append(
            f"Frames share a latent path, so that none has weights of its own. Median k-hat of "
            f"sequences shortened to fewer frames: {middle}."
        )
    judged = whole if judged is None else judged
    bad = float(judged.gt(limit).double().mean())
    verdict = "good" if bad <= 0.05 else "fair" if float(judged.median()) <= HIGH else "bad"
    said.append(
        {
            "good": f"**Good**: importance weights of the {what} can be trusted nearly everywhere.",
            "fair": f"**Fair**: the {what} can be trusted in part, where k-hat is low.",
            "bad": f"**Bad**: weights of the {what} are too uneven: estimates from weighted "
            "samples should not be used, and the bounds below may be far off."
            + " That is common for paths of many dimensions, each of which may be well described."
            * (shapes is None),
        }[verdict]
    )

    label = "median of a sequence" if found.sequences is None else None
    _plot_khat(context, whole, limit, label, None if shapes is None else (shapes, mask), cuts)
    return Section(
        "k-hat of importance weights",
        f"How far can samples from the {what} replace those of the posterior? k-hat is the tail "
        f"of their importance weights: below {limit:.2f} weighted samples can be trusted if there "
        f"are {context.num_samples} of them; above {HIGH} they should not be. It is estimated from "
        f"these {context.num_samples} samples, and in many dimensions such estimates are too high "
        "at first. It compares the guide with the model's posterior, not the model with "
        "data, and in one or two dimensions it forgives half the variance.",
        said,
        "khat.png",
        verdict,
    )


def _plot_khat(
    context: Context,
    whole: Tensor,
    limit: float,
    label: str | None,
    frames: tuple[Tensor, Tensor] | None,
    cuts: dict[int, Tensor],
) -> None:
    """Plots k-hat of sequences, of frames (given with their mask), and of shortened sequences."""
    canvas, axes = figure(1 + 2 * (frames is not None) + bool(cuts))
    plot_sorted_khat(axes[0], whole, limit, label)
    if frames is not None:
        shapes, mask = frames
        shown = shapes[mask].numpy()
        axes[1].hist(shown[np.isfinite(shown)], bins=30, color=BLUE)
        axes[1].axvline(limit, color=RED, ls="--", lw=1)
        axes[1].set(xlabel="k-hat of a frame", ylabel="frames")
        plot_khat_band(axes[2], range(shapes.shape[1]), shapes, limit, "-")
        axes[2].set(xlabel="frame t", ylabel="k-hat")
        legend_above(axes[2])
    if cuts:
        plot_khat_band(axes[-1], list(cuts), torch.stack(list(cuts.values()), 1), limit, "o-")
        axes[-1].set(xlabel="frames of a sequence, from its start", ylabel="k-hat")
        legend_above(axes[-1])
    save(canvas, context, "khat.png")


def _fractions(what: str, khat: Tensor, limit: float) -> str:
    low = int((khat <= limit).sum())
    return (
        f"k-hat is below {limit:.2f} for {low} of {khat.numel()} {what} "
        f"(median {khat.median():.2f}, largest {khat.max():.2f})."
    )


def _bound(context: Context, found: Weights) -> Section:
    batch, frames = context.batch, found.frames
    weights = found.sequences if frames is None else frames[:, ~frames[0].isnan()]
    assert weights is not None  # weights are of sequences or of frames
    each = len(batch) if context.answers else batch.frames
    unit = "nats an answer" if context.answers else "nats a frame"
    few = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000)
    numbers = [number for number in few if 2 * number <= len(weights)] + [len(weights)]
    curve = bounds(weights, numbers) / each
    smooth = smooth_weights(weights)
    smoothed = float(smooth.bound.sum()) / each
    first, last = float(curve[0]), float(curve[-1])
    rising = last - float(curve[-2])
    name = "ELBO" if not context.answers else "bound of one path"
    said = [
        f"The {name} is {first:.3f} {unit}; with {numbers[-1]} samples the bound is {last:.3f}, "
        f"{last - first:.3f} higher.",
        f"From {numbers[-2]} to {numbers[-1]} samples it changed by {rising:+.4f}. Smoothed "
        f"(PSIS), the {numbers[-1]} samples give {smoothed:.3f}.",
    ]
    uneven = float((smooth.khat > good_khat(len(weights))).double().mean()) > 0.05
    if uneven and abs(smoothed - last) >= APART:
        said.append(
            "Those two differ, and k-hat is high: take the one that is not smoothed. It is a bound "
            "on average over samples; the smoothed one is no bound."
        )
    if context.limit is not None:
        said.append(f"No network can exceed {context.limit:.3f} on average (all data, not these).")
    if found.sequences is None:
        said.append(
            "It is the bound of a frame together with the statistics u of the frames before it."
        )
    size = abs(rising)
    verdict = "good" if size < 0.01 else "fair" if size < 0.1 else "bad"
    said.append(
        {
            "good": "**Good**: it has levelled off. (Where k-hat is high, that proves nothing.)",
            "fair": "**Fair**: it still rises a little; log p(x) lies above.",
            "bad": "**Bad**: it still rises, so that log p(x) is well above."
            + " Take `inference.particle_bound`." * _causal(context.net),
        }[verdict]
    )
    canvas, (axis,) = figure(1)
    axis.plot(numbers, curve, "o-", color=BLUE, ms=4, label="importance-weighted bound")
    axis.plot(numbers[-1], smoothed, "*", ms=11, color=GREEN, label="smoothed (PSIS)")
    if context.limit is not None:
        axis.axhline(context.limit, color="black", lw=1, label="limit of any net")
    axis.set(xscale="log", xlabel="samples M", ylabel=unit)
    axis.legend(frameon=False, fontsize=8)
    save(canvas, context, "bound.png")
    return Section(
        "Importance-weighted bound",
        "How much log-likelihood does the guide lose? A bound that rises with the number of "
        "samples shows that the guide is not the posterior, and how far off it is at least.",
        said,
        "bound.png",
        verdict,
    )


def _causal(net: nn.Module) -> bool:
    """Whether particles can be stepped through a model."""
    return isinstance(net, SequenceModel) and net.causal
