"""Simulation-based calibration: is the guide the posterior of the model, data aside?"""

from __future__ import annotations

import math

from ...inference import SBC, FrameModel, sbc, simulator
from .context import Context, NotApplicable, Section
from .figures import figure, plot_histogram, save


def diagnose_simulation(context: Context) -> list[Section]:
    context.need_latents()
    if context.answers:
        raise NotApplicable(
            "the guide of this net is its prior, by which ranks of latents are uniform whatever "
            "the posterior is"
        )
    if getattr(getattr(context.net, "likelihood", None), "grey", False):
        raise NotApplicable(
            "the model draws bits and the guide reads grey values: it would be misled"
        )
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
    said = [f"{number} {what} were simulated from the model, each with {sizes.predictions} draws."]
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
            f"The median place of `log_likelihood` is {rank:.2f}: draws of the guide explain the "
            f"data {more} than the true latents do, so it {less} some of what data tell of them."
        )
    good = all(value > 0.01 for value in values.values())
    said.append(
        "**Good**: nothing tells the guide's draws from those of the posterior."
        if good
        else "**Bad**: the guide is not the model's posterior: "
        f"{', '.join(f'`{name}`' for name, value in values.items() if value <= 0.01)} failed. "
        "(It learned on data, and what the model makes up may lie outside of those.)"
    )
    _plot_sbc(context, found, latents, number)
    return [
        Section(
            "Simulation-based calibration",
            "Is the guide the posterior of the model, data aside? Latents and data are drawn from "
            "the model, and the rank of the true latents among draws of the guide is uniform if "
            "so. A trough is a guide too narrow, a hump one too wide, a slope one that is shifted;"
            " where `log_likelihood` alone fails, single latents are right on average over data, "
            "but not for each (the prior as a guide looks so).",
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
        axis.set(xlabel="rank of the truth", ylabel="share")
    save(canvas, context, "sbc.png")
