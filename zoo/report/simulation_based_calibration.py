"""Simulation-based calibration: is the guide the posterior on data of the model itself?"""

from __future__ import annotations

import math

from ...inference import FrameModel, sbc, simulator
from ...inference.diagnostics.sbc import SBC
from .context import Context, NotApplicable, Section
from .figures import figure, plot_histogram, save


def diagnose_simulation(context: Context) -> list[Section]:
    """Reports ranks of the true latents among samples from the guide."""
    context.need_latents()
    if context.answers:
        raise NotApplicable(
            "the guide of this net is its prior, for which ranks of latents are always uniform"
        )
    if getattr(getattr(context.net, "likelihood", None), "grey", False):
        raise NotApplicable("the model samples bits, and the guide learned on grey values")
    batch, sizes, fold = context.batch, context.sizes, isinstance(context.net, FrameModel)
    if fold:
        batch = batch.rows(slice(sizes.folded))
    steps = sizes.steps if fold else min(sizes.simulated_steps, int(batch.mask.sum(1).min()))
    batch = batch.window(0, steps)
    try:
        model = simulator(context.net, batch)
    except ValueError as why:
        raise NotApplicable(str(why)) from why
    each = batch.frames if fold else len(batch)
    rounds = math.ceil(sizes.simulated / each)
    found = sbc(model, rounds, sizes.predictions, context.seed)
    number = rounds * each
    latents = [name for name in found.pits if name != "log_likelihood"]
    values = {name: found.p_value(name) for name in found.pits}
    what = "frames" if fold else f"sequences of {steps} frames"
    said = [
        f"{number} {what} were simulated from the model, each with {sizes.predictions} samples."
    ]
    for name, value in values.items():
        tests = found.p_values()[name]
        some = f", the least of {tests.numel()} tests times their number" if tests.dim() else ""
        said.append(f"p-value of uniform ranks of `{name}`: {value:.2g}{some}.")
        if tests.dim():
            low = float((tests[~tests.isnan()] < 0.01).double().mean())
            said.append(f"Of the single tests of `{name}`, {low:.0%} have p < 0.01.")
    rank = float(found.pits["log_likelihood"].median())
    if values["log_likelihood"] <= 0.01 and abs(rank - 0.5) > 0.1:
        more, less = ("worse", "loses") if rank > 0.5 else ("better", "overstates")
        said.append(
            f"The median rank of `log_likelihood` is {rank:.2f}: samples from the guide explain "
            f"the data {more} than the true latents do. The guide {less} information about them."
        )
    good = all(value > 0.01 for value in values.values())
    said.append(
        "**Good**: samples from the guide do not differ from those of the posterior."
        if good
        else "**Bad**: the guide is not the model's posterior: "
        f"{', '.join(f'`{name}`' for name, value in values.items() if value <= 0.01)} failed. "
        "(It learned on real data, and data of the model may differ from those.)"
    )
    _plot_sbc(context, found, latents, number)
    return [
        Section(
            "Simulation-based calibration",
            "Is the guide the posterior on data of the model itself? Latents and data are sampled "
            "from the model. If the guide is the posterior, the rank of the true latents among "
            "samples from the guide is uniform. A trough means that the guide is too narrow, a "
            "hump that it is too wide, a slope that it is shifted. Where `log_likelihood` alone "
            "fails, latents are right on average over data, but not for each (the prior as a "
            "guide is an example).",
            said,
            "sbc.png",
            "good" if good else "bad",
        )
    ]


def _plot_sbc(context: Context, found: SBC, latents: list[str], number: int) -> None:
    canvas, axes = figure(len(found.pits))
    for axis, name in zip(axes, [*latents, *(n for n in found.pits if n not in latents)]):
        pits = found.pits[name]
        single = pits.dim() == 1
        plot_histogram(axis, pits.flatten(), 10, number if single else None)
        axis.set_title(name if single else f"{name}, all steps and dimensions", fontsize=10)
        axis.set(xlabel="rank of the truth", ylabel="fraction")
    save(canvas, context, "sbc.png")
