"""A report on a trained model: which of its statements can be trusted, with figures.

The diagnostics depend on the model: a guide, Gibbs chains, answers, targets, a rule with a
counterpart. The report leaves out the others, and says why.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple, cast

from ...data import Dataset
from ...inference.checks import check_number
from ...inference.contracts import AnswerModel
from ...inference.diagnostics.psis import check_enough
from .. import store
from ..recipes import RECIPES
from ..recipes.held_out import data_of
from ..studies.chains import Chains
from .answers import diagnose_answers, reliability
from .chains import diagnose_chains
from .context import Context, NotApplicable, Section, Sizes
from .export import export_samples
from .gradient_alignment import diagnose_rules
from .importance_sampling import diagnose_guide
from .importance_weights import Weights, bounds, log_weights
from .markdown import REPORT, check_folder, put_in_place, workshop, written
from .predictions import diagnose_predictions
from .simulation_based_calibration import diagnose_simulation
from .target_alignment import diagnose_targets

__all__ = [
    "DIAGNOSTICS",
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
ANSWERS = 10  # factor of the number of sequences where a net gives one answer to each

DIAGNOSTICS: dict[str, Callable[[Context], list[Section]]] = {
    "k-hat and importance-weighted bound": diagnose_guide,
    "Calibration of one-step predictions": diagnose_predictions,
    "Simulation-based calibration": diagnose_simulation,
    "Calibration of answers": diagnose_answers,
    "Clamped Gibbs chains": diagnose_chains,
    "Alignment of targets": diagnose_targets,
    "Gradients of two rules along training": diagnose_rules,
    "Posterior samples for ArviZ": export_samples,
}


class Report(NamedTuple):
    """The results of a report, and its files.

    Arguments:
        path: ``report.md``.
        sections: the diagnostics that apply.
        left_out: title and reason of each diagnostic that does not apply.
        files: all files of the report.
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
    data: Dataset | None = None,
) -> Report:
    """Diagnoses a trained model on test data, and writes ``report.md`` and figures.

    The files are made in a temporary folder and moved to ``out`` at the end. A report that is
    interrupted, or fails, leaves an earlier one as it is.

    Arguments:
        name: a model that ships, or the folder of one.
        out: folder to write to, made if missing. The files of an earlier report there are
            removed; a folder that holds something else is refused.
        sequences: number of test sequences; 10 times as many for nets that answer questions.
        num_samples: samples from the guide, at least 25.
        seed: seed of data and samples. The caller's random state does not change.
        chains: number and length of Gibbs chains.
        training: train a fresh network for about half a minute, where its rule has a counterpart
            through time, and compare the gradients of both rules along the way.
        sizes: sizes of the single diagnostics.
        data: the training data of the model, in place of those that its card names.

    Raises:
        ValueError: for too few samples, an ``out`` that is a file or holds something else, or a
            model to which no diagnostic applies.
    """
    out = check_folder(out)
    check_enough(num_samples, seed=seed)
    check_number("sequences", sequences)
    net = store.load(name)
    card = store.card_of(net)
    sizes, answers = sizes or Sizes(), isinstance(net, AnswerModel)
    if data is None:
        data = cast(Dataset, data_of(card).build(seed=seed))
    batch = data.held_out(sequences * (ANSWERS if answers else 1), seed, steps=sizes.steps)
    recipe = RECIPES.get(card.get("name", ""))
    limit = -recipe.limit if answers and recipe is not None and recipe.limit is not None else None
    how = sequences, num_samples, seed, chains or Chains(), sizes, training
    with workshop(out) as folder:
        context = Context(net, folder, *how, batch, data, answers, limit)
        sections, left_out = _run(context)
        if not sections:
            reasons = "; ".join(dict.fromkeys(why for _, why in left_out))
            raise ValueError(f"no diagnostic applies to {name}: {reasons}")
        (folder / REPORT).write_text(written(context, sections, left_out), encoding="utf-8")
        put_in_place(folder, out)
    files = [out / one.figure for one in sections if one.figure is not None]
    return Report(out / REPORT, sections, left_out, [out / REPORT, *files])


def _run(context: Context) -> tuple[list[Section], list[tuple[str, str]]]:
    """The sections that apply, and the reasons why others do not."""
    sections, left_out = [], []
    for title, diagnose in DIAGNOSTICS.items():
        try:
            sections += diagnose(context)
        except NotApplicable as why:
            left_out.append((title, str(why)))
    return sections, left_out
