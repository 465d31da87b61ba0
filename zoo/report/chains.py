"""Do clamped Gibbs chains agree?"""

from __future__ import annotations

import torch

from ...data import generator
from ...inference import clamped_gibbs, convergence, run_filter
from ...inference.rule import Recurrent
from ..film_diagnostics import DISAGREE
from .drawing import BLUE, RED, figure, legend_above, save
from .subject import NotHere, Section, Subject


def look_at_chains(subject: Subject) -> list[Section]:
    net, how = subject.net, subject.chains
    if not (hasattr(net, "gibbs") and isinstance(net, Recurrent)):
        raise NotHere(f"{subject.name} samples no frames by Gibbs chains")
    obs = subject.batch.obs
    with torch.no_grad():
        past = run_filter(net, obs)[:, obs.shape[1] // 4 :].flatten(0, 1)
    order = torch.randperm(len(past), generator=generator(subject.seed, "frames"))
    past = past[order[: how.frames]]
    followed = clamped_gibbs(net, past, how.chains, how.draws, how.burn, seed=subject.seed)
    found = convergence(followed)
    rhat, ess = found.rhat.amax(-1), found.ess.amin(-1)
    moved = ~rhat.isnan()
    rhat, ess, total = rhat[moved], ess[moved], how.chains * how.draws
    if not len(rhat):
        raise NotHere("its chains did not move, so that R-hat is undefined")
    apart = float((rhat > DISAGREE).double().mean())
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
    if not moved.all():
        said.insert(1, f"At {int((~moved).sum())} further frames chains did not move at all.")
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
