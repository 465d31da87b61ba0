"""Alignment of the targets of target propagation with gradients."""

from __future__ import annotations

from ...inference import RandomStream, TargetPropagation, target_alignment
from .. import store
from ..recipes.task import device_of
from .context import Context, NotApplicable, Section
from .figures import BLUE, GREY, figure, legend_above, save


def diagnose_targets(context: Context) -> list[Section]:
    """Reports the cosine of targets and gradients at every step."""
    rule = context.rule
    if rule.name != TargetPropagation.__name__:
        raise NotApplicable(f"it was trained by {rule.name}, which sends no targets back")
    batch, seed = context.batch, context.seed
    found = target_alignment(rule.build(context.net), batch, seed)
    with RandomStream(device_of(context.net), "untrained", seed):
        fresh = store.build(store.card_of(context.net))
    before = target_alignment(rule.build(fresh), batch, seed)
    real = found[~found.isnan()]
    if not len(real):
        raise NotApplicable("no gradient arrives at any state, so there is nothing to align with")
    first, last, mean = float(real[0]), float(real[-1]), float(real.mean())
    said = [
        f"Cosine of targets and gradient: {last:.2f} at the answer, {first:.2f} at the first step, "
        f"{mean:.2f} on average. (A gradient arrives at {len(real)} of {len(found)} steps; in an "
        f"untrained network at {int((~before.isnan()).sum())}.)",
        "That is a fact about the two rules, and no judgement: a net may learn well from targets "
        "that are not its gradient. The gradient of saturated units vanishes, or comes from few "
        "sequences. A low cosine then says nothing about the targets.",
    ]
    canvas, (axis,) = figure(1)
    steps = range(1, len(found) + 1)
    axis.plot(steps, before, "o--", color=GREY, ms=3, label="before training")
    axis.plot(steps, found, "o-", color=BLUE, ms=4, label="trained")
    axis.axhline(0, color="black", lw=0.8)
    axis.set(xlabel="step t", ylabel="cosine of target and gradient", ylim=(-1.05, 1.05))
    axis.locator_params("x", integer=True)
    legend_above(axis)
    save(canvas, context, "targets.png")
    return [
        Section(
            "Alignment of targets",
            "Do targets ask for the same change of a state as its gradient? At each step: the "
            "cosine of the change of h[t] that targets ask for, and -dE/dh[t] by backpropagation.",
            said,
            "targets.png",
        )
    ]
