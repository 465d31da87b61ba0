"""Trackers of balls and digits in film, and measures of how they move."""

from .balls import measure_balls, track_balls
from .digits import measure_digits, track_digits
from .motion import Motion

__all__ = ["Motion", "measure_balls", "measure_digits", "track_balls", "track_digits"]
