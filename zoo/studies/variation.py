"""How the score of a recipe depends on one field, and on how its models are scored."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from .. import store
from ..recipes import Recipe
from ..runs import reproduce
from ..runs.finished import place


class Varied(NamedTuple):
    """A recipe with one field changed, trained with some seeds.

    Arguments:
        changes: what was changed in training, ``{"rule.noise": 0.1}``, and in scoring.
        values: the test figure of each seed, in the unit of the recipe.
        validation: the best validation figure of each seed; None where training had none.
    """

    changes: dict[str, Any]
    values: list[float]
    validation: list[float | None]

    @property
    def spread(self) -> tuple[float, float | None]:
        """Mean and sd of the test figure over seeds; one seed has no sd."""
        sd = statistics.stdev(self.values) if len(self.values) > 1 else None
        return statistics.mean(self.values), sd


def vary(
    recipe: Recipe,
    field: str,
    choices: Sequence[Any],
    seeds: int,
    out: Path,
    jobs: int = 1,
    device: str | None = None,
    protocol: Mapping[str, Sequence[Any]] | None = None,
    say: Callable[[str], None] = lambda line: None,
) -> list[Varied]:
    """Trains a recipe with each value of a field. Finished runs in ``out`` are kept.

    Arguments:
        recipe: the recipe.
        field: the field, as ``Recipe.override`` takes it.
        choices: its values.
        seeds: number of training seeds.
        out: folder of the runs; each value has a folder in it.
        jobs: runs at a time.
        device: where to train.
        protocol: a way to score and its values, such as ``{"num_samples": [1, 20]}``; every
            network is scored in each. As the task says when left out.
        say: told of every run that is done.

    Returns:
        A result for each value of the field, and within it for each way to score.

    Raises:
        ValueError: for a field or value that the recipe does not take, no value, or several ways.
    """
    ways = dict(protocol or {})
    if not choices or not all(ways.values()):
        raise ValueError(f"give one value or more, such as {field}=[1,2]")
    if len(ways) > 1:
        raise ValueError(f"vary one way to score at a time, got {', '.join(ways)}")
    changed = [({field: value}, recipe.override({field: value})) for value in choices]
    found = []
    for changes, one in changed:
        folder = place(out, False, changes)
        cards = reproduce.reproduce([one], list(range(seeds)), folder, jobs, device, say)[one.name]
        validation = [card["validation"] for card in cards]
        if not ways:
            found.append(Varied(changes, [card["value"] for card in cards], validation))
            continue
        nets = [store.load(folder / one.name / f"seed{card['seed']}") for card in cards]
        for name, values in ways.items():
            for value in values:
                scored = [
                    float(one.task.measure(net, seed, "test", {name: value}).figures[0])
                    for seed, net in enumerate(nets)
                ]
                found.append(Varied({**changes, name: value}, scored, validation))
    return found
