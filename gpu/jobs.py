"""The jobs of ``run.py``, the most valuable first, with the seconds that each may take.

Whatever is timed has the card to itself. Trainings run side by side: networks of this size leave
a card idle, and several at once cost little more than one.
"""

from __future__ import annotations

import sys
from pathlib import Path

from run import ROOT, Job

MEASURE = ROOT / "gpu" / "measure.py"
#: T and B of ``seqzoo bench local``, and the seconds that each may take.
LOCAL = (
    *((1000, 8, 20), (1000, 40, 20), (1000, 400, 25)),
    *((10000, 8, 35), (10000, 40, 35), (10000, 400, 45)),
)
#: A recipe of each rule, and the epochs of its short training.
TRAININGS = {
    "ppc/rvae": 2,  # LocalELBO
    "ppc/rvae-bptt": 2,  # BPTT
    "ppc/refh": 2,  # ContrastiveDivergence
    "jsb/vrae": 4,  # SequenceELBO
    "onetomany-class-t20/stptt": 1,  # TargetPropagation
    "pianomidi-t50/ste": 1,  # StraightThrough
    "onetomany-regression-t30/bptt": 1,  # OutputBPTT
    "ppc/kf2": 1,  # EM, which has no epochs
}
FILMS = ("balls/rvae-map", "mnist/rvae-map")


def stages(device: str, out: Path) -> list[list[Job]]:
    """The jobs on a device: those of a stage run side by side, the stages one after the other.

    Arguments:
        device: ``"cuda"``.
        out: a folder; the films train in it.
    """

    def work(name: str, limit: float, *arguments: object, partial: bool = False) -> Job:
        words = [str(each) for each in arguments]
        command = [sys.executable, str(MEASURE), name.partition(" ")[0], device]
        return Job(name, [*command, *words], limit, partial)

    return [
        [work("tests", 100)],
        *([work(f"local T={T} B={B}", limit, T, B)] for T, B, limit in LOCAL),
        [work("online", 20, 200, 40)],
        [work("synchronisations", 25)],
        [work("music", 25)],
        [work("target", 25)],
        [work("frames", 30)],
        [
            *(work(f"train {name}", 60, name, epochs) for name, epochs in TRAININGS.items()),
            work("evaluate", 90, partial=True),
        ],
        [work(f"film {name}", 600, name, out / "films" / name, partial=True) for name in FILMS],
    ]
