"""Agreement of clamped Gibbs chains."""

from __future__ import annotations

from ..models.rvae import RVAE
from ..studies.chains import DISAGREE, PROBES, Agreement, follow, has_chains, null, spreads
from .calibration import TOO_FEW
from .context import Context, NotApplicable, Section
from .figures import BLUE, RED, figure, legend_above, save

OF_A_GUIDE = (
    "Chains agree with one another. They sample the model only where the guide is its posterior "
    "(see k-hat, and simulation-based calibration, above)."
)


def diagnose_chains(context: Context) -> list[Section]:
    """Reports R-hat and the effective sample size of chains of the next frame."""
    how = context.chains
    if not has_chains(context.net):
        raise NotApplicable(f"{context.name} samples no frames by Gibbs chains")
    try:
        found = follow(context.net, context.batch.obs, how, context.seed)
    except ValueError as why:
        raise NotApplicable(str(why)) from why
    least, total = null(how, context.seed), how.num_chains * how.num_samples
    verdict = judged(found, least, context.paired)
    said = [
        f"{how.num_chains} chains from random starts, {how.num_warmup} steps, then "
        f"{how.num_samples} kept, at {len(found.rhat)} frames, each judged by the worst of "
        f"{PROBES} random directions.",
        f"R-hat: {_in_numbers(found)}.",
        f"Of as many independent samples: {_in_numbers(least)}. (The worst of {PROBES} is above 1 "
        f"by chance, hence the limit of {DISAGREE} and not of 1.01.)",
        f"Effective sample size: median {found.ess.median():.0f} of {total}.",
        _in_words(verdict, found, context.paired),
    ]
    if isinstance(context.net, RVAE):
        said.append(_spread(context))
    if found.still:
        said.insert(1, f"At {found.still} further frames chains did not move.")
    _plot(context, found, total)
    return [
        Section(
            "Clamped Gibbs chains",
            "Do chains of the next frame, given the same past, forget their starts? R-hat compares "
            "chains from random starts: 1 is agreement. The effective sample size is the number "
            "of independent samples that are worth as much."
            + " Chains of this model sample x[t] from its guide, so that their distribution need "
            "not be the model's prediction." * context.paired,
            said,
            "chains.png",
            verdict,
        )
    ]


def judged(found: Agreement, least: Agreement, guided: bool) -> str:
    """A verdict on chains.

    Arguments:
        found: agreement of the chains.
        least: agreement of as many independent samples.
        guided: whether the chains sample from a guide; they are fair at best.
    """
    if found.apart > 0.5:
        return "bad"
    if least.apart > 0.05:
        return TOO_FEW
    return "good" if found.apart <= 0.05 and not guided else "fair"


def _in_numbers(found: Agreement) -> str:
    return (
        f"median {found.rhat.median():.2f}, nine in ten below {found.rhat.quantile(0.9):.2f}; "
        f"{found.apart:.0%} of frames above {DISAGREE}"
    )


def _in_words(verdict: str, found: Agreement, guided: bool) -> str:
    said = {
        "good": "chains agree; their samples are predictions of the model.",
        "fair": "some chains disagree: take several, or let them run longer.",
        "bad": "most chains disagree: a prediction depends on the start of its chain. Start chains "
        "near the answer, take many, or let them run longer.",
        TOO_FEW: f"independent samples would be above {DISAGREE} as well: keep more steps "
        "(`--steps`).",
    }[verdict]
    if guided and verdict == "fair" and found.apart <= 0.05:
        said = OF_A_GUIDE[0].lower() + OF_A_GUIDE[1:]
    return f"**{verdict.capitalize()}**: {said}"


def _spread(context: Context) -> str:
    """The spread of an rVAE's chains beside that of its own posterior."""
    chains, model = spreads(context.net, context.batch.obs, context.chains, context.seed)
    ratio = chains / model
    low, high = f"{ratio.min():.2f}", f"{ratio.max():.2f}"
    between = low if low == high else f"{low} to {high}"
    return (
        f"By these chains the sd of x[t] given the past is {between} times that of the model's own "
        "p(x[t] | u[t-1]), the latter exact or by Laplace's approximation: 1 if they sampled "
        f"the model. (On average over latents, {chains.mean():.3f} and {model.mean():.3f}.)"
    )


def _plot(context: Context, found: Agreement, total: int) -> None:
    canvas, (left, right) = figure(2)
    left.hist(found.rhat.numpy(), bins=20, color=BLUE)
    left.axvline(
        DISAGREE, 0, 0.85, color=RED, ls="--", lw=1, label=f"{DISAGREE}: chains disagree above"
    )
    left.set(xlabel="R-hat of a frame's worst direction", ylabel="frames")
    legend_above(left)
    right.hist(found.ess.numpy(), bins=20, color=BLUE)
    right.axvline(total, 0, 0.85, color="black", lw=1, ls=":", label=f"{total} samples")
    right.set(xlabel="effective sample size", ylabel="frames", xlim=(0, None))
    legend_above(right)
    save(canvas, context, "chains.png")
