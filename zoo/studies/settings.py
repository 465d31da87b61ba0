"""Which start and rates suit each rule for numbers, at each horizon, on validation data."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from ..recipes import one_to_many
from ..runs.search import SEED, grid

MAKERS = {"bptt": one_to_many.through_time, "tptt": one_to_many.targets}
LOOKS = 3  # at validation data in a training: the last epochs are the best


def choose(
    rule: str,
    steps: int,
    out: Path,
    only: Sequence[str] | None = None,
    seed: int = SEED,
    say: Callable[[str], None] = lambda line: None,
) -> dict[str, float]:
    """Trains a rule with settings of ``one_to_many.SETTINGS``.

    Arguments:
        rule: ``"bptt"`` or ``"tptt"``.
        steps: the horizon T.
        out: a folder for the trials, as ``seqzoo search`` writes them. Trials there are kept.
        only: names of settings to try; all of the rule when left out.
        seed: seed of the training. Each has files of its own.
        say: told of every setting that is done.

    Returns:
        Validation NLL in nats by the name of the setting, the best first.

    Raises:
        ValueError: for an unknown rule or setting, or a folder that holds another search.
    """
    if rule not in MAKERS:
        raise ValueError(f"rule must be {' or '.join(MAKERS)}, got {rule}")
    known = one_to_many.SETTINGS[rule]
    unknown = [name for name in only or () if name not in known]
    if unknown:
        raise ValueError(f"{rule} has no setting {unknown[0]!r}: it has {', '.join(known)}")
    settings = {name: known[name] for name in only or known}
    recipe = MAKERS[rule]("regression", steps, "latch")
    recipe = recipe.override({"fit.validate_every": recipe.fit["epochs"] // LOOKS})
    out.mkdir(parents=True, exist_ok=True)
    ending = "" if seed == SEED else f"-seed{seed}"
    path = out / f"{recipe.name.replace('/', '-')}{ending}.json"
    say(f"{recipe.name}, on validation data, in {path}:")
    names = iter(settings)
    trials = grid(
        recipe,
        list(settings.values()),
        path,
        seed,
        say=lambda trial: say(f"{trial.score:>9.4f}  {next(names)}"),
    )
    found = {name: trial.score for name, trial in zip(settings, trials, strict=True)}
    return dict(sorted(found.items(), key=lambda pair: pair[1]))
