"""A small search for rates, widths and the like, by Optuna, on training and validation data."""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...data.files import write_whole
from .. import plain_json
from ..part import Part
from ..recipes import Recipe
from .run import hardware, train

if TYPE_CHECKING:  # an optional extra
    import optuna  # pyright: ignore[reportMissingImports]

SEED = 1000  # no seed that a table reports
Limits = tuple[float, float] | list[float | None]  # a range, or several choices


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
    storage: Path | None = None,
) -> list[Trial]:
    """Tries settings within ``recipe.search``; test data are never looked at.

    The recipe's own setting is the first trial.

    Arguments:
        recipe: the recipe.
        trials: how many, those that ``storage`` holds included.
        seed: seed of the search and of the training.
        device: where to train.
        say: told of every trial when it is done, first of those that ``storage`` holds.
        storage: a file of SQLite that keeps every trial; a search that was stopped goes on there.

    Returns:
        The trials, the best first.

    Raises:
        ValueError: for a recipe that has no ranges, when Optuna is not installed, or for a storage
            of another search.
    """
    if not recipe.search or not recipe.validate:
        raise ValueError(f"{recipe.name} names no ranges to search in: see its recipe")
    try:
        import optuna  # pyright: ignore[reportMissingImports]  # an optional extra
    except ImportError as error:
        raise ValueError("search needs Optuna: pip install 'seqzoo[search]'") from error
    optuna.logging.set_verbosity(optuna.logging.ERROR)
    ranges = _ranges(recipe)
    study = _study(recipe, trials, seed, storage)
    kept = [each for each in study.trials if each.state == optuna.trial.TrialState.COMPLETE]
    found = [Trial(each.user_attrs["changes"], _score(each.value)) for each in kept]
    for each in found:
        say(each)

    def objective(trial: optuna.Trial) -> float:
        chosen = {name: _suggested(trial, name, limits) for name, limits in ranges.items()}
        changes = _nested(recipe, chosen)
        score = _validation(recipe.override(changes), seed, device)
        trial.set_user_attr("changes", changes)
        found.append(Trial(changes, score))
        say(found[-1])
        return score

    if len(found) < trials:
        study.optimize(objective, n_trials=trials - len(found))
    return sorted(found, key=lambda trial: trial.score)


def grid(
    recipe: Recipe,
    settings: Sequence[dict[str, Any]],
    path: Path,
    seed: int = SEED,
    device: str | None = None,
    say: Callable[[Trial], None] = lambda trial: None,
) -> list[Trial]:
    """Tries every setting of a list once; test data are never looked at.

    Arguments:
        recipe: the recipe.
        settings: changes of the recipe, as ``Recipe.override`` takes them.
        path: a JSON file that keeps the trials, written after each; a search that was stopped goes
            on from there. Trials of other settings stay in it.
        seed: seed of the training.
        device: where to train.
        say: told of every trial when it is done, and of those that ``path`` holds.

    Returns:
        The trials, in the order of the settings.

    Raises:
        ValueError: for a setting that does not fit the recipe, or a file of another search.
    """
    plain = [plain_json.plain(_text(changes)) for changes in settings]
    found = _kept(recipe, path)
    for changes, text in zip(settings, plain):
        trial = next((each for each in found if each.changes == text), None)
        if trial is None:
            trial = Trial(text, _validation(recipe.override(changes), seed, device))
            found.append(trial)
            save(recipe, found, path, device)
        say(trial)
    tried = [each for each in found if each.changes in plain]
    return sorted(tried, key=lambda each: plain.index(each.changes))


def _kept(recipe: Recipe, path: Path) -> list[Trial]:
    """The trials in a file of ``save``."""
    if not path.is_file():
        return []
    content = plain_json.loads(path.read_bytes())
    if content.get("configuration") != plain_json.plain(recipe.configuration()):
        raise ValueError(f"{path} holds a search of other settings: give another folder")
    return [Trial(each, _score(each.pop("score"))) for each in content["trials"]]


def _text(changes: dict[str, Any]) -> dict[str, Any]:
    """Changes as data: parts are written as on the command line."""
    return {key: str(value) if isinstance(value, Part) else value for key, value in changes.items()}


def _study(recipe: Recipe, trials: int, seed: int, storage: Path | None) -> optuna.Study:
    """A study that starts from the recipe's own setting, or goes on from what its storage holds."""
    import optuna  # pyright: ignore[reportMissingImports]

    configuration = plain_json.plain({"seed": seed, **recipe.configuration()})
    how: dict[str, Any] = {}
    if storage is not None:
        storage.parent.mkdir(parents=True, exist_ok=True)
        how = {"storage": f"sqlite:///{storage}", "study_name": "search", "load_if_exists": True}
    try:
        study = optuna.create_study(**how)
    except Exception as error:  # of SQLAlchemy, and of several kinds
        raise ValueError(f"{storage} holds no search: give another file or folder") from error
    before = study.trials
    if before and study.user_attrs.get("configuration") != configuration:
        raise ValueError(f"{storage} holds a search of other settings: give another folder")
    study.set_user_attr("configuration", configuration)
    study.sampler = optuna.samplers.TPESampler(  # other draws than those before
        seed=seed + len(before), n_startup_trials=max(4, trials // 3)
    )
    again = [{name: _current(recipe, name) for name in _flat(recipe.search)}]
    known, states = [], optuna.trial.TrialState
    for trial in before:
        if trial.state == states.RUNNING:  # the program ended in it
            study.tell(trial.number, state=states.FAIL)
        if trial.state in (states.RUNNING, states.FAIL):
            again.append(trial.params)
        else:
            known.append(trial.params or trial.system_attrs.get("fixed_params"))
    for params in again:
        if params and params not in known:
            study.enqueue_trial(params)
            known.append(params)
    return study


def _suggested(trial: optuna.Trial, name: str, limits: Limits) -> Any:
    """One of several choices; or a number on a logarithmic scale, whole between whole limits."""
    if isinstance(limits, list):
        return trial.suggest_categorical(name, limits)
    low, high = limits
    if isinstance(low, int) and isinstance(high, int):
        return trial.suggest_int(name, low, high, log=True)
    return trial.suggest_float(name, low, high, log=True)


def _validation(recipe: Recipe, seed: int, device: str | None) -> float:
    """The best validation score of a training; of a rule in closed form that of its result.

    It is infinite where training diverged.
    """
    with tempfile.TemporaryDirectory() as folder:
        try:
            trained = train(recipe, seed, Path(folder), device, False, False)
        except FloatingPointError:
            return math.inf
    if trained.best is not None:
        return trained.best["validation"]
    if recipe.by_gradient:
        return math.inf
    return float(recipe.task.measure(trained.net.eval(), seed, "validation").figures[0])


def _score(value: float | None) -> float:
    return math.inf if value is None else value


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


def _ranges(recipe: Recipe) -> dict[str, Limits]:
    """Where a search looks, by the name of the setting; the recipe's own is among its choices."""
    found = _flat(recipe.search)
    for name, limits in found.items():
        if isinstance(limits, list) and (own := _current(recipe, name)) not in limits:
            found[name] = [own, *limits]
    return found


def _flat(ranges: dict[str, Any]) -> dict[str, Limits]:
    """``{"fit.lr": {"": a, "back.": b}}`` as ``{"fit.lr[]": a, "fit.lr[back.]": b}``."""
    return {
        f"{path}[{prefix}]" if isinstance(limits, dict) else path: pair
        for path, limits in ranges.items()
        for prefix, pair in (limits.items() if isinstance(limits, dict) else [("", limits)])
    }


def _nested(recipe: Recipe, chosen: dict[str, Any]) -> dict[str, Any]:
    """The inverse of ``_flat``: overrides of a recipe, real numbers rounded to three digits."""
    changes: dict[str, Any] = {}
    for name, value in chosen.items():
        path, _, prefix = name.partition("[")
        rounded = float(f"{value:.3g}") if isinstance(value, float) else value
        if prefix:
            changes.setdefault(path, dict(recipe.fit["lr"]))[prefix[:-1]] = rounded
        else:
            changes[path] = rounded
    return changes


def _current(recipe: Recipe, name: str) -> Any:
    """The value in a recipe of a setting that the search names."""
    path, _, prefix = name.partition("[")
    field, *keys = path.split(".")
    value: Any = getattr(recipe, field)
    try:
        for key in keys:
            value = value.arguments[key] if isinstance(value, Part) else value[key]
        number = value[prefix[:-1]] if prefix else value
        return number if number is None or isinstance(number, int) else float(number)
    except (KeyError, TypeError) as error:
        raise ValueError(
            f"{recipe.name}: the ranges of {path} do not fit {value!r}: they are {recipe.search}"
        ) from error
