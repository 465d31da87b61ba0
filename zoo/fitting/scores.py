"""Scores of a trained model on data of one's own, one of each kind of ``inference.score``."""

from __future__ import annotations

from typing import NamedTuple

from ...data import Recording
from ...inference import Network, score
from ...inference.diagnostics.score import KINDS


class Figure(NamedTuple):
    """A score of ``inference.score``.

    Arguments:
        value: NaN where the model has none.
        unit: its unit.
        note: why the model has none.
    """

    value: float
    unit: str
    note: str = ""


def scores(
    net: Network, data: Recording, unit: str, held_out: float = 0.25, seed: int = 0
) -> dict[str, Figure]:
    """How well a model does on trials, by kind of ``inference.score``.

    Arguments:
        net: the trained network.
        data: trials that it was not trained on.
        unit: unit of predictions, ``"bits/spike"`` or ``"r2"``.
        held_out: fraction of the channels that are hidden.
        seed: seed of the choice of channels and of random draws.
    """
    found = {}
    for kind in KINDS:
        its = "nats/frame" if kind == "likelihood" else unit
        try:
            found[kind] = Figure(score(net, data, kind, its, held_out, seed=seed), its)
        except ValueError as error:
            found[kind] = Figure(float("nan"), its, str(error))
    return found
