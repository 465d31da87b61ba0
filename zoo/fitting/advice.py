"""What a learning curve says, and which change to try."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from ..plans.plan import Plan
from ..signature import accepted

HALF = 0.5  # of a run: what was gained since then tells whether it ended too early
STILL = 0.1  # of all that was gained: more than so much in the second half is too early
WORSE = 0.1  # of all that was gained: so much lost since the best epoch is overfitting
USELESS = 0.01  # bits per spike, or R²: a model below it predicts no better than the mean


class Advice(NamedTuple):
    """What to know about a run.

    Arguments:
        kind: ``"useless"``, ``"past"``, ``"falling"`` or ``"overfits"``.
        text: a sentence with the change to try.
    """

    kind: str
    text: str


def advice_on(score: float, curve: Sequence[float], plan: Plan) -> list[Advice]:
    """Advice on a run.

    Arguments:
        score: see ``of_score``.
        curve: see ``of_curve``.
        plan: what was trained.
    """
    return of_score(score) + of_curve(curve, plan.by_gradient, plan.updates)


def of_curve(scores: Sequence[float], by_gradient: bool, updates: int = 0) -> list[Advice]:
    """Advice on a curve of validation scores, the lower the better.

    Arguments:
        scores: one for each validation, in order.
        by_gradient: whether the rule needs gradients.
        updates: steps of the optimizer in the whole run.
    """
    if len(scores) < 4:
        return []
    best = min(scores)
    gained = scores[0] - best
    if gained <= 0:
        return [Advice("overfits", "it was best before it learned: try a tenth of the rate")]
    middle = min(scores[: max(1, int(len(scores) * HALF))])
    if middle - best > STILL * gained and scores.index(best) >= 0.8 * len(scores) - 1:
        more = f"updates={2 * updates}" if by_gradient else "more iterations"
        rate = ", or twice the rate" if by_gradient else ""
        return [Advice("falling", f"the loss was still falling: try {more}{rate}")]
    if scores[-1] - best > WORSE * gained and scores.index(best) < 0.7 * len(scores):
        text = "it got worse on validation data after its best epoch, which is kept: more trials, "
        text += "fewer latents or a narrower model would help, more updates would not"
        return [Advice("overfits", text)]
    return []


def of_score(score: float) -> list[Advice]:
    """Advice on the predictions of the next bin on validation data.

    Arguments:
        score: bits per spike or R².
    """
    if score > USELESS:
        return []
    text = "it predicts no better than the mean of each channel: try more updates, another rate, "
    text += "or fewer latents; see docs/it_does_not_learn.md"
    return [Advice("useless", text)]


def of_past(score: float, past: float, unit: str, plan: Plan) -> list[Advice]:
    """Advice where each channel's own past predicts the next bin better than the model.

    Traces of an indicator that decays slowly are of this kind: see ``zoo.parts.private``.

    Arguments:
        score: of the model on validation data, bits per spike or R².
        past: that of ``OwnPast``.
        unit: ``"bits/spike"`` or ``"r2"``.
        plan: what was trained.
    """
    if score > past:
        return []
    text = f"each channel's own past, smoothed, predicts better ({past:.3f}): "
    known, private = accepted(plan.model.cls), plan.model.arguments.get("private")
    if unit != "r2" or private:
        text += "see docs/it_does_not_learn.md"
    elif "private" in known:
        text += "try {'model.private': True}, a state of its own for each channel"
    elif not plan.by_gradient:
        text += "try a latent_dim of the number of channels or more"
    else:
        text += "take 'gru' or 'vosp' with {'model.private': True}"
    return [Advice("past", text)]
