"""Do clamped Gibbs chains agree?"""

from __future__ import annotations

from ..chains import DISAGREE, follow, has_chains
from .drawing import BLUE, RED, figure, legend_above, save
from .subject import NotHere, Section, Subject


def look_at_chains(subject: Subject) -> list[Section]:
    how = subject.chains
    if not has_chains(subject.net):
        raise NotHere(f"{subject.name} samples no frames by Gibbs chains")
    try:
        found = follow(subject.net, subject.batch.obs, how, subject.seed)
    except ValueError as why:
        raise NotHere(str(why)) from why
    rhat, ess, apart, total = found.rhat, found.ess, found.apart, how.chains * how.draws
    verdict = "good" if apart <= 0.05 else "fair" if apart <= 0.5 else "bad"
    said = [
        f"{how.chains} chains from random starts, {how.burn} steps, then {how.draws} kept, at "
        f"{len(rhat)} frames, each judged by the worst of eight random directions.",
        f"R-hat: median {rhat.median():.2f}, nine in ten below {rhat.quantile(0.9):.2f}; "
        f"{apart:.0%} of frames above {DISAGREE}.",
        f"Effective sample size: median {ess.median():.0f} of {total}.",
        {
            "good": "**Good**: chains agree; what they draw can be taken for the model's "
            "prediction.",
            "fair": "**Fair**: some chains disagree: take several, or let them run longer.",
            "bad": "**Bad**: most chains disagree: a prediction depends on where its chain began. "
            "Start chains near the answer, take many, or run them longer.",
        }[verdict],
    ]
    if found.still:
        said.insert(1, f"At {found.still} further frames chains did not move at all.")
    canvas, (left, right) = figure(2)
    left.hist(rhat.numpy(), bins=20, color=BLUE)
    left.axvline(
        DISAGREE, 0, 0.85, color=RED, ls="--", lw=1, label=f"{DISAGREE}: chains disagree above"
    )
    left.set(xlabel="R-hat of a frame's worst direction", ylabel="frames")
    legend_above(left)
    right.hist(ess.numpy(), bins=20, color=BLUE)
    right.axvline(total, 0, 0.85, color="black", lw=1, ls=":", label=f"{total} draws")
    right.set(xlabel="effective sample size", ylabel="frames", xlim=(0, None))
    legend_above(right)
    save(canvas, subject, "chains.png")
    return [
        Section(
            "Clamped Gibbs chains",
            "Do chains of the next frame, given the same past, forget where they began? R-hat "
            "compares chains from random starts: 1 is agreement. The effective sample size says "
            "what their draws are worth in independent ones.",
            said,
            "chains.png",
            verdict,
        )
    ]
