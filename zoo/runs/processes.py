"""Processes that run jobs, and how they are stopped."""

from __future__ import annotations


class Interrupted(Exception):
    """A run that was stopped by hand and has left its checkpoint."""
