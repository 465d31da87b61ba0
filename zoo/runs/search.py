"""A small search for learning rates and the like, by Optuna, on training and validation data."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

from ...data.files import write_whole
from .. import plain_json
from ..recipes import Recipe
from .run import hardware, train

SEED = 1000  # no seed that a table reports


class Trial(NamedTuple):
    """A setting, and its best validation score in training (infinite: training diverged)."""

    changes: dict[str, Any]
    score: float


def search(
    recipe: Recipe,
    trials: int,
    seed: int = SEED,
    device: str | None = None,
    say: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Tries settings within ``recipe.search``; test data are never looked at.

    The recipe's own setting is the first trial.

    Arguments:
        recipe: the recipe.
        trials: how many.
        seed: seed of the search and of the training.
        device: where to train.
        say: told of every trial when it is done.

    Returns:
        The trials, the best first.

    Raises:
        ValueError: for a recipe that has no ranges, or when Optuna is not installed.
    """
    if not recipe.search or not recipe.validate:
        raise ValueError(f"{recipe.name} names no ranges to search in: see its recipe")
    try:
        import optuna  # pyright: ignore[reportMissingImports]  # an optional extra
    except ImportError as error:
        raise ValueError("search needs Optuna: pip install 'seqzoo[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    found: list[Trial] = []

    def objective(trial: optuna.Trial) -> float:
        chosen = {
            name: trial.suggest_float(name, *limits, log=True)
            for name, limits in _flat(recipe.search).items()
        }
        changes = _nested(recipe, chosen)
        with tempfile.TemporaryDirectory() as folder:
            try:
                changed = recipe.override(changes)
                best = train(changed, seed, Path(folder), device, False, False).best
                score = math.inf if best is None else best["validation"]
            except FloatingPointError:
                score = math.inf
        found.append(Trial(changes, score))
        say(found[-1])
        return score

    sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=max(4, trials // 3))
    study = optuna.create_study(sampler=sampler)
    study.enqueue_trial({name: _current(recipe, name) for name in _flat(recipe.search)})
    study.optimize(objective, n_trials=trials)
    return sorted(found, key=lambda trial: trial.score)


def save(recipe: Recipe, trials: list[Trial], path: Path, device: str | None = None) -> None:
    """Writes trials as JSON, the best first; the score of one that diverged is null."""
    content = {
        "recipe": recipe.name,
        "hardware": hardware(device),
        "ranges": _flat(recipe.search),
        "configuration": recipe.configuration(),
        "trials": [
            {**trial.changes, "score": trial.score}
            for trial in sorted(trials, key=lambda trial: trial.score)
        ],
    }
    text = plain_json.dumps(content, indent=1) + "\n"
    write_whole(path, lambda part: part.write_text(text, encoding="utf-8"))


def _flat(ranges: dict[str, Any]) -> dict[str, tuple[float, float]]:
    """``{"fit.lr": {"": a, "back.": b}}`` as ``{"fit.lr[]": a, "fit.lr[back.]": b}``."""
    return {
        f"{path}[{prefix}]" if isinstance(limits, dict) else path: pair
        for path, limits in ranges.items()
        for prefix, pair in (limits.items() if isinstance(limits, dict) else [("", limits)])
    }


def _nested(recipe: Recipe, chosen: dict[str, float]) -> dict[str, Any]:
    """The inverse of ``_flat``: overrides of a recipe, numbers rounded to three digits."""
    changes: dict[str, Any] = {}
    for name, value in chosen.items():
        path, _, prefix = name.partition("[")
        rounded = float(f"{value:.3g}")
        if prefix:
            changes.setdefault(path, dict(recipe.fit["lr"]))[prefix[:-1]] = rounded
        else:
            changes[path] = rounded
    return changes


def _current(recipe: Recipe, name: str) -> float:
    """The value in a recipe of a setting that the search names."""
    path, _, prefix = name.partition("[")
    field, key = path.split(".")
    value = recipe.fit[key] if field == "fit" else getattr(recipe, field).arguments[key]
    try:
        return float(value[prefix[:-1]] if prefix else value)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{recipe.name}: the ranges of {path} do not fit {value!r}: they are {recipe.search}"
        ) from error
