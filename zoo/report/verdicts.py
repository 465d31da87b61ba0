"""Calibration in words."""

from __future__ import annotations

OF_BITS = (
    "Values are bits: most of a bit's PIT is drawn at random, so this test forgives much, and its "
    "histogram is flat unless rates are badly off."
)


def calibrated(error: float) -> str:
    """A verdict on an expected calibration error."""
    return "good" if error < 0.02 else "fair" if error < 0.05 else "bad"


def in_words(verdict: str, ninety: float, what: str) -> str:
    """A verdict as a sentence; ``ninety`` is the share that the 90 % interval covers."""
    if verdict == "good":
        return f"**Good**: {what} are calibrated."
    width = "too narrow" if ninety < 0.88 else "too wide" if ninety > 0.92 else "off in places"
    return f"**{verdict.capitalize()}**: intervals of {what} are {width}."
