"""Errors of a training run: each says what is wrong, and then what to do."""

from __future__ import annotations

from collections.abc import Collection

#: What to do, in the arguments of ``fit``.
REMEDIES = {
    "": "",
    "train": ": train without resume first",
    "last": ": go on from its last epoch with resume=True",
    "anew": ": name another file, or start anew with resume=False",
    "same": ": set what the run had, name another file, or start anew with resume=False",
    "changed": (
        ": set what the run had, allow it by changed={names}, name another file, or start anew "
        "with resume=False"
    ),
    "best": ". To go on from the checkpoint, give resume='best' and changed={names}",
    "on": ". To go on from the checkpoint, give resume=True and changed={names}",
}


class TrainingError(Exception):
    """An error of a training run.

    Arguments:
        problem: what is wrong.
        remedy: what to do, a name in ``REMEDIES``. A program whose users do not call ``fit`` says
            it in words of its own.
        names: arguments of ``fit`` that the remedy is about.
    """

    def __init__(self, problem: str, remedy: str = "", names: Collection[str] = ()) -> None:
        super().__init__(problem + REMEDIES[remedy].format(names=list(names)))
        self.problem, self.remedy, self.names = problem, remedy, list(names)


class CheckpointError(TrainingError, ValueError):
    """A checkpoint that is missing, damaged, or of another run."""


class Unscored(TrainingError, ValueError):
    """A network that ``validate`` cannot score, often because it diverges."""


class Diverged(TrainingError, FloatingPointError):
    """A loss or weights that are no longer finite."""
