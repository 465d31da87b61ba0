"""Calibration in numbers and in words, and how much of it may be chance."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from ...inference import calibration_error, coverage

TOO_FEW = "too few to tell"
CHANCE = 0.33  # over sqrt(n): the error that chance makes of n independent values
GOOD, FAIR = 0.02, 0.05  # errors below which a calibration is so, on top of what chance makes
BINARY_NOTE = (
    "Values are bits: most of a bit's PIT is drawn at random, so this test forgives much, and its "
    "histogram is flat unless rates are badly off."
)


class Calibration(NamedTuple):
    """How well what was claimed holds.

    Arguments:
        values: PITs that there are.
        number: independent ones among them, if the predictions are right.
        central: error of central intervals, which does not see a bias.
        sided: error of one-sided intervals, which does.
        half, ninety: share that the central 50 % and 90 % intervals cover.
        mean: mean PIT; 0.5 where predictions are neither too high nor too low.
        wobble: standard deviation of that mean.
    """

    values: int
    number: int
    central: float
    sided: float
    half: float
    ninety: float
    mean: float
    wobble: float

    @property
    def chance(self) -> float:
        """Either error of right predictions, on average."""
        return CHANCE / math.sqrt(self.number)

    @property
    def excess(self) -> float:
        """What the worse error has above twice of what chance makes."""
        return max(self.central, self.sided) - 2 * self.chance

    @property
    def slope(self) -> int:
        """1 where what came lies above what was predicted, -1 where below, 0 where neither."""
        away = self.mean - 0.5
        return 0 if abs(away) <= 2.5 * self.wobble else 1 if away > 0 else -1


def measured(pits: Tensor, number: int) -> Calibration:
    """Both errors of PITs, of which so many are independent; NaN does not count."""
    values = int((~pits.isnan()).sum())
    central, sided = (calibration_error(pits, central=central) for central in (True, False))
    half, ninety = coverage(pits, (0.5, 0.9)).tolist()
    mean = float(pits.nanmean())
    spread = max(float((pits - mean).square().nanmean()), 1 / 12)
    wobble = math.sqrt(spread / number)
    return Calibration(values, number, central, sided, half, ninety, mean, wobble)


def verdict_of(excess: float, chance: float) -> str:
    """A verdict on an error: on what exceeds twice of what chance makes."""
    if excess >= FAIR:
        return "bad"
    if 2 * chance > FAIR:
        return TOO_FEW
    return "good" if excess < GOOD else "fair"


def in_numbers(found: Calibration, values: str, units: str) -> list[str]:
    """What was measured, a sentence each; ``units`` are what is independent."""
    lies = {1: "lies above", -1: "lies below", 0: "lies neither above nor below"}[found.slope]
    return [
        f"Over {found.values} {values}, coverage of central intervals is off by "
        f"{found.central:.3f} on average and that of one-sided ones by {found.sided:.3f}; of "
        f"{found.number} {units} chance alone makes about {found.chance:.3f}, and the verdict "
        "counts what exceeds twice that.",
        f"The 50 % interval covers {found.half:.1%}, that of 90 % {found.ninety:.1%}.",
        f"The mean PIT is {found.mean:.3f} (0.5 if right, by chance within "
        f"{2.5 * found.wobble:.3f} of it): what came {lies} what was predicted.",
    ]


def in_words(verdict: str, found: Calibration, what: str, units: str) -> str:
    """A verdict as a sentence."""
    start = f"**{verdict.capitalize()}**: "
    if verdict == "good":
        return f"{start}{what} are calibrated, as far as {found.number} {units} can tell."
    if verdict == TOO_FEW:
        enough = math.ceil((2 * CHANCE / FAIR) ** 2)
        return (
            f"{start}of {found.number} {units} chance alone could make this. Take {enough} or more "
            "(`--sequences`)."
        )
    wrong, most = [], 2 * found.chance + GOOD
    if found.central >= most:
        wrong.append(f"intervals of {what} {_width(found)}")
    if found.sided >= most and found.slope and abs(found.mean - 0.5) >= GOOD:
        wrong.append(f"{what} are too {'low' if found.slope > 0 else 'high'}")
    return f"{start}{'; '.join(wrong) or f'probabilities of {what} are off, see the figure'}."


def _width(found: Calibration) -> str:
    """What central intervals cover, in words that agree with the two shares that are quoted."""
    half, ninety = (
        "enough" if abs(share - level) <= found.chance else f"too {_much(share > level)}"
        for share, level in ((found.half, 0.5), (found.ninety, 0.9))
    )
    if half == ninety:
        return "are off in places" if half == "enough" else f"cover {half}"
    return f"cover {half} at 50 %, {ninety} at 90 %"


def _much(more: bool) -> str:
    return "much" if more else "little"
