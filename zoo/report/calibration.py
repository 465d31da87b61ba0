"""Errors of calibration, their size by chance, and verdicts on them."""

from __future__ import annotations

import math
from typing import NamedTuple

from torch import Tensor

from ...inference import calibration_error, coverage

TOO_FEW = "too few to tell"
CHANCE = 0.33  # over sqrt(n): mean error of n independent values by chance
GOOD, FAIR = 0.02, 0.05  # limits of an error, in excess of chance
BINARY_NOTE = (
    "Values are bits: most of the PIT of a bit is random, so that this test finds large errors "
    "only."
)


class Calibration(NamedTuple):
    """How well predictions are calibrated.

    Arguments:
        values: number of PITs.
        number: number of independent ones among them, if the predictions are right.
        central: error of central intervals, which does not show a bias.
        sided: error of one-sided intervals, which shows a bias.
        half: fraction that the central 50 % interval covers.
        ninety: fraction that the central 90 % interval covers.
        mean: mean PIT; 0.5 where predictions are neither too high nor too low.
        mean_sd: standard deviation of that mean, of right predictions.
    """

    values: int
    number: int
    central: float
    sided: float
    half: float
    ninety: float
    mean: float
    mean_sd: float

    @property
    def chance(self) -> float:
        """Mean of either error, of right predictions."""
        return CHANCE / math.sqrt(self.number)

    @property
    def excess(self) -> float:
        """The larger error less twice the error by chance."""
        return max(self.central, self.sided) - 2 * self.chance

    @property
    def slope(self) -> int:
        """1 where values lie above predictions, -1 where below them, 0 where neither."""
        away = self.mean - 0.5
        return 0 if abs(away) <= 2.5 * self.mean_sd else 1 if away > 0 else -1


def measured(pits: Tensor, number: int) -> Calibration:
    """Measures the calibration of PITs.

    Arguments:
        pits: PITs of any shape; NaN does not count.
        number: number of independent ones among them.
    """
    values = int((~pits.isnan()).sum())
    central, sided = (calibration_error(pits, central=central) for central in (True, False))
    half, ninety = coverage(pits, (0.5, 0.9)).tolist()
    mean = float(pits.nanmean())
    spread = max(float((pits - mean).square().nanmean()), 1 / 12)
    mean_sd = math.sqrt(spread / number)
    return Calibration(values, number, central, sided, half, ninety, mean, mean_sd)


def verdict_of(excess: float, chance: float) -> str:
    """A verdict on an error of calibration.

    Arguments:
        excess: the error less twice the error by chance.
        chance: the error by chance.
    """
    if excess >= FAIR:
        return "bad"
    if 2 * chance > FAIR:
        return TOO_FEW
    return "good" if excess < GOOD else "fair"


def in_numbers(found: Calibration, values: str, units: str) -> list[str]:
    """The results as sentences.

    Arguments:
        found: the calibration.
        values: name of the values.
        units: name of the independent units.
    """
    lie = {1: "lie above", -1: "lie below", 0: "lie neither above nor below"}[found.slope]
    return [
        f"Over {found.values} {values}, coverage of central intervals is off by "
        f"{found.central:.3f} on average, and that of one-sided ones by {found.sided:.3f}. With "
        f"{found.number} {units} chance alone makes about {found.chance:.3f}. The verdict is on "
        "the excess over twice that.",
        f"The 50 % interval covers {found.half:.1%}, that of 90 % {found.ninety:.1%}.",
        f"The mean PIT is {found.mean:.3f} (0.5 if right, by chance within "
        f"{2.5 * found.mean_sd:.3f} of it): data {lie} predictions.",
    ]


def in_words(verdict: str, found: Calibration, what: str, units: str) -> str:
    """A verdict as a sentence."""
    start = f"**{verdict.capitalize()}**: "
    if verdict == "good":
        return f"{start}{what} are calibrated, as far as {found.number} {units} can tell."
    if verdict == TOO_FEW:
        enough = math.ceil((2 * CHANCE / FAIR) ** 2)
        return (
            f"{start}with {found.number} {units} this may be chance. Take {enough} or more "
            "(`--sequences`)."
        )
    wrong, most = [], 2 * found.chance + GOOD
    if found.central >= most:
        wrong.append(f"intervals of {what} {_width(found)}")
    if found.sided >= most and found.slope and abs(found.mean - 0.5) >= GOOD:
        wrong.append(f"{what} are too {'low' if found.slope > 0 else 'high'}")
    return f"{start}{'; '.join(wrong) or f'probabilities of {what} are off, see the figure'}."


def _width(found: Calibration) -> str:
    """The width of central intervals, in words that agree with the two fractions quoted."""
    half, ninety = (
        "enough" if abs(covered - level) <= found.chance else f"too {_much(covered > level)}"
        for covered, level in ((found.half, 0.5), (found.ninety, 0.9))
    )
    if half == ninety:
        return "are off in places" if half == "enough" else f"cover {half}"
    return f"cover {half} at 50 %, {ninety} at 90 %"


def _much(more: bool) -> str:
    return "much" if more else "little"
