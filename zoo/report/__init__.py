"""A short report on a trained model: which of its statements can be trusted, with figures.

What is looked at follows from what a model has: a guide, Gibbs chains, answers, targets, a rule
with a counterpart. Whatever does not apply is left out, and the report says why.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from ...inference.contracts import AnswerModel
from ...inference.diagnostics.psis import check_enough
from .. import store
from ..recipes import RECIPES
from ..recipes.held_out import data_of, held_out
from ..studies.chains import Chains
from .answers import look_at_answers, reliability
from .chains import look_at_chains
from .draws import look_at_draws
from .guide import look_at_guide
from .predictions import look_at_predictions
from .rules import look_at_rules
from .simulation import look_at_simulation
from .subject import NotHere, Section, Sizes, Subject
from .targets import look_at_targets
from .weights import Weights, bounds, log_weights
from .writing import REPORT, check_folder, put_in_place, workshop, written

__all__ = [
    "LOOKS",
    "NUM_SAMPLES",
    "SEQUENCES",
    "Report",
    "Section",
    "Sizes",
    "Weights",
    "bounds",
    "log_weights",
    "reliability",
    "report",
]

SEQUENCES, NUM_SAMPLES = 20, 500
ANSWERS = 10  # times as many sequences of nets that give one answer each

LOOKS: dict[str, Callable[[Subject], list[Section]]] = {
    "k-hat and importance-weighted bound": look_at_guide,
    "Calibration of one-step predictions": look_at_predictions,
    "Simulation-based calibration": look_at_simulation,
    "Calibration of answers": look_at_answers,
    "Clamped Gibbs chains": look_at_chains,
    "Alignment of targets": look_at_targets,
    "Gradients of two rules along training": look_at_rules,
    "Draws, for ArviZ": look_at_draws,
}


class Report(NamedTuple):
    """What was found, and where it is written.

    Arguments:
        path: ``report.md``.
        sections: what applied.
        left_out: title and reason of what did not.
        files: everything that was written.
    """

    path: Path
    sections: list[Section]
    left_out: list[tuple[str, str]]
    files: list[Path]


def report(
    name: str | Path,
    out: Path,
    sequences: int = SEQUENCES,
    num_samples: int = NUM_SAMPLES,
    seed: int = 0,
    chains: Chains | None = None,
    training: bool = False,
    sizes: Sizes | None = None,
) -> Report:
    """Looks into a trained model on test data, and writes ``report.md`` and figures.

    They are made in a folder of their own and come to ``out`` all together at the end: a report
    that is interrupted, or fails, leaves what was there before.

    Arguments:
        name: a model that ships, or the folder of one.
        out: folder to write to; made if missing. An earlier report there goes, with its figures.
        sequences: test sequences; of nets that answer questions 10 times as many.
        num_samples: samples from the guide, at least 25.
        seed: of data and samples; the caller's random state is left alone.
        chains: how Gibbs chains are followed.
        training: train a fresh network for about half a minute, where its rule has a counterpart
            through time, and compare both rules' gradients along the way.
        sizes: how much the single looks take in.

    Raises:
        ValueError: for too few draws, an ``out`` that is a file, or a model that none of this
            applies to.
    """
    out = check_folder(out)
    check_enough(num_samples)
    if sequences < 1:
        raise ValueError(f"sequences must be at least 1, got {sequences}")
    net = store.load(name)
    sizes, data, answers = sizes or Sizes(), data_of(net.card), isinstance(net, AnswerModel)
    batch = held_out(data, sequences * (ANSWERS if answers else 1), seed, answers, sizes.steps)
    recipe = RECIPES.get(net.card.get("name"))
    limit = -recipe.limit if answers and recipe is not None and recipe.limit is not None else None
    how = sequences, num_samples, seed, chains or Chains(), sizes, training
    with workshop(out) as folder:
        subject = Subject(net, folder, *how, batch, data, answers, limit)
        sections, left_out = _looked(subject)
        if not sections:
            reasons = "; ".join(dict.fromkeys(why for _, why in left_out))
            raise ValueError(f"no diagnostic applies to {name}: {reasons}")
        (folder / REPORT).write_text(written(subject, sections, left_out))
        put_in_place(folder, out)
    files = [out / one.figure for one in sections if one.figure is not None]
    return Report(out / REPORT, sections, left_out, [out / REPORT, *files])


def _looked(subject: Subject) -> tuple[list[Section], list[tuple[str, str]]]:
    """What applies, and why the rest does not."""
    sections, left_out = [], []
    for title, look in LOOKS.items():
        try:
            sections += look(subject)
        except NotHere as why:
            left_out.append((title, str(why)))
    return sections, left_out
