"""One run of a recipe: training, checkpoints, the score on test data, weights and card.

A run trains in a folder of its own, and marks it. What it has finished there is recognised by the
card, and replaced only when asked.
"""

from __future__ import annotations

import datetime
import inspect
import os
import platform
import re
import time
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ...data import Dataset, RecordedTrials
from ...data.synthetic import Synthetic
from ...inference import fit
from ...inference.training.arguments import check_arguments
from ...inference.training.errors import TrainingError
from ...inference.training.optimizers import optimizer_of, schedule_of
from ...inference.training.state import Fit
from .. import folders
from ..part import Part
from ..plans.plan import starting_network
from ..recipes.recipe import Recipe
from ..store import holds_model, save_model, versions
from .finished import CHECKSUM, checksum
from .processes import Interrupted

CHECKPOINT, WARMUP = "checkpoint.pt", "warmup{}.pt"
_ANEW = "give another folder (--out), or start anew with --fresh"
#: What to do on the command line, for each name in ``training.errors.REMEDIES``.
COMMANDS = {
    "": "",
    "train": ": leave out --from-best and --changed",
    "last": ": leave out --from-best",
    "anew": f": {_ANEW}",
    "same": f": set what the run had, {_ANEW}",
    "changed": f": set what the run had, allow it by {{changed}}, {_ANEW}",
    "best": ". To go on: {train} --from-best --changed lr --set fit.lr=RATE, and --set as before",
    "on": ". To go on: {train} --changed lr --set fit.lr=RATE, and --set as before",
}
UNFINISHED = re.compile(r"checkpoint\.pt|warmup\d+\.pt")  # what a run removes when it has ended


def run(
    recipe: Recipe,
    seed: int,
    out: Path,
    device: str | None = None,
    resume: bool | str = True,
    progress: bool = True,
    overwrite: bool = False,
    changed: Sequence[str] = (),
) -> dict[str, Any]:
    """Trains one recipe with one seed, scores it on test data, and writes weights and card.

    Stopped at any point, it leaves in ``out`` what was finished there before, and a checkpoint.

    Arguments:
        recipe: the recipe.
        seed: seed of the weights, the training data, all noise, and the test data.
        out: folder for ``weights.safetensors``, ``card.json`` and, while training,
            ``checkpoint.pt``.
        device: where to train.
        resume: go on from the checkpoint in ``out``, or from its best epoch (``"best"``).
        progress: show a progress bar.
        overwrite: replace the finished run in ``out``, if there is one.
        changed: arguments of ``fit`` that may differ from the checkpoint's, see ``inference.fit``.

    Returns:
        The card.

    Raises:
        ValueError: where ``out`` holds a finished run, or files of someone else.
    """
    main = is_main_process()
    if main and holds_model(out) and not overwrite:
        raise ValueError(
            f"{out} holds a trained model: zoo.load({str(out)!r}) loads it. Give another folder "
            "(--out), or --overwrite to replace it"
        )
    with folders.claimed(out, UNFINISHED, holds_model) if main else nullcontext():
        try:
            net, card = _trained(recipe, seed, out, device, resume, progress, changed)
        except TrainingError as error:
            what = _command(error, recipe, seed, out)
            raise type(error)(f"{error.problem}{what}") from error
        if main:
            card = save_model(out, net, card, lambda: recipe.model.build().state_dict())
            for path in folders.files(out, UNFINISHED):
                path.unlink(missing_ok=True)
    return card


def _command(error: TrainingError, recipe: Recipe, seed: int, out: Path) -> str:
    """What to do about an error of ``fit``, in the words of the command line."""
    diverged = error.remedy in ("best", "on")
    if diverged and not (out / CHECKPOINT).is_file():
        return ". That was the warm-up: add --fresh and --set warmup.fit.lr=RATE"
    return COMMANDS[error.remedy].format(
        changed=" ".join(f"--changed {name}" for name in error.names),
        train=_again(recipe, seed, out),
    )


def is_recorded(recipe: Recipe) -> bool:
    """Whether a recipe is of a recording of the user's own, see ``runs.recording_recipes``."""
    return recipe.data is not None and recipe.data.builds(RecordedTrials)


def _curve(trained: Fit, recipe: Recipe) -> list[float]:
    """Validation losses in order; of a rule in closed form its figure, as a loss."""
    if recipe.by_gradient:
        return [each["validation"] for each in trained.history if "validation" in each]
    return [-value for each in trained.history for key, value in each.items() if key != "epoch"]


def _again(recipe: Recipe, seed: int, out: Path) -> str:
    """The command that trains a recipe, without further options."""
    where = f"--seed {seed} --out {out}"
    if recipe.data is not None and is_recorded(recipe):
        return f"seqzoo fit {recipe.data.arguments['path']} --model {recipe.title} {where}"
    return f"seqzoo train {recipe.name} {where}"


def _trained(
    recipe: Recipe,
    seed: int,
    out: Path,
    device: str | None,
    resume: bool | str,
    progress: bool,
    changed: Sequence[str],
) -> tuple[torch.nn.Module, dict[str, Any]]:
    """The network that ``run`` trains, and its card."""
    start = time.perf_counter()
    trained = train(recipe, seed, out, device, resume, progress, changed)
    seconds = time.perf_counter() - start
    net, best = trained.net.eval(), trained.best
    value, *also = recipe.task.measure(net, seed, "test").figures.tolist()
    card = {
        "name": recipe.name,
        "title": recipe.title,
        "metric": recipe.task.metric,
        "unit": recipe.task.unit,
        "value": value,
        "also": dict(zip(recipe.task.also, also)),
        "validation": None if best is None else best["validation"],
        "seed": seed,
        "configuration": recipe.configuration(),
        "epochs_run": len(trained.history),
        "wall_time_s": round(seconds, 1),
        **provenance(device),
    }
    if is_recorded(recipe):
        card["curve"] = _curve(trained, recipe)
    if trained.changes:  # the configuration is the last one
        card["changes"] = trained.changes
    return net, {**card, CHECKSUM: checksum(card)}


def train(
    recipe: Recipe,
    seed: int,
    out: Path,
    device: str | None,
    resume: bool | str,
    progress: bool,
    changed: Sequence[str] = (),
) -> Fit:
    """The training of ``run``, whose arguments these are; test data are not looked at.

    Returns:
        The network and its history, as ``fit`` returns them; a row without a rule has none.
    """
    checkpoint = out / CHECKPOINT
    warm = recipe.warmup and not (resume and checkpoint.is_file())
    if warm:
        _check_later(recipe, _how(recipe, seed, out, resume, changed))
    torch.manual_seed(seed)
    if warm:
        net = _warmed_up(recipe, seed, out, device, bool(resume), progress)
    else:
        net = starting_network(recipe.model, seed) if is_recorded(recipe) else recipe.model.build()
    if recipe.rule is None:
        return Fit(net)
    if recipe.data is None:
        raise ValueError(f"{recipe.name} has a rule and no training data: give it data")
    data = _data(recipe.data, seed, device)
    rule = recipe.rule.build(net)
    how = _how(recipe, seed, out, resume, changed)
    trained = fit(rule, data, device=device, progress=progress, **how)
    if trained.interrupted:
        raise Interrupted("stopped; give the same command again to go on")
    return trained


def _data(part: Part, seed: int, device: str | None) -> Dataset:
    """The training data; synthetic ones are made on the device where they are used."""
    where = {"device": device} if device and part.builds(Synthetic) else {}
    return part.build(seed=seed, **where)


def _how(
    recipe: Recipe, seed: int, out: Path, resume: bool | str, changed: Sequence[str]
) -> dict[str, Any]:
    """Arguments of ``fit``; a rule in closed form takes none of them."""
    if not recipe.by_gradient:
        return {}

    def validate(subject: torch.nn.Module) -> Tensor:
        return recipe.task.measure(subject, seed, "validation").figures[0]

    return {
        "seed": seed,
        "validate": validate if recipe.validate else None,
        "checkpoint": out / CHECKPOINT,
        "resume": resume,
        "changed": changed,
        "identity": _identity(recipe),
        **recipe.fit,
    }


def _identity(recipe: Recipe) -> dict[str, Any]:
    """What decides the result besides the arguments of ``fit``, which it compares itself."""
    return {name: value for name, value in recipe.configuration().items() if name != "fit"}


def _check_later(recipe: Recipe, how: dict[str, Any]) -> None:
    """Refuses wrong settings of the training that follows a warm-up before the warm-up."""
    if recipe.rule is None or not recipe.by_gradient:
        return
    rule = recipe.rule.build(recipe.model.build())
    defaults = {name: each.default for name, each in inspect.signature(fit).parameters.items()}
    arguments = defaults | how
    check_arguments(arguments)
    optimizer_of(rule.net, arguments["optimizer"], arguments["lr"])
    schedule_of(arguments["schedule"])


def _warmed_up(
    recipe: Recipe, seed: int, out: Path, device: str | None, resume: bool, progress: bool
) -> torch.nn.Module:
    """The best, by its training loss, of several networks that were fitted briefly.

    Each leaves a checkpoint in ``out``, so that a run killed in its warm-up goes on there.
    """
    if recipe.rule is None or recipe.data is None:
        raise ValueError(f"{recipe.name} has a warm-up without a rule or without training data")
    data, tried = _data(recipe.data, seed, device), []
    for restart in range(recipe.warmup["restarts"]):
        torch.manual_seed(1000 * (seed + 1) + restart)
        rule = recipe.rule.build(recipe.model.build(), **recipe.warmup["rule"])
        trained = fit(
            rule,
            data,
            seed=restart,
            device=device,
            checkpoint=out / WARMUP.format(restart),
            resume=resume,
            identity={**_identity(recipe), "seed": seed},
            progress=progress,
            **recipe.warmup["fit"],
        )
        if trained.interrupted:
            raise Interrupted("stopped; give the same command again to go on")
        tried.append((trained.history[-1]["loss"], trained.net))
    return min(tried, key=lambda pair: pair[0])[1]


def is_main_process() -> bool:
    """True but in the other processes of ``torchrun``, which neither write nor speak."""
    return int(os.environ.get("RANK", "0")) == 0


def provenance(device: str | None = None) -> dict[str, str]:
    """When, on what, and with which versions."""
    return {
        "date": datetime.date.today().isoformat(),
        "hardware": hardware(device),
        "versions": versions(),
    }


def hardware(device: str | None = None) -> str:
    """The processor or the GPU that training ran on, in words."""
    if device and torch.device(device).type == "cuda":
        return torch.cuda.get_device_name(device)
    processor = platform.processor() or platform.machine()
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        names = [line.split(":")[1].strip() for line in lines if line.startswith("model name")]
        processor = names[0] if names else processor
    except OSError:
        pass
    return f"{processor}, {torch.get_num_threads()} CPU thread(s)"
