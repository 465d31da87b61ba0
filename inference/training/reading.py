"""Checks of a checkpoint's content before anything of it is put back.

The checksum of the file says that the content is as it was written. These checks say that ``fit``
wrote it, and that it belongs to the run that is to go on from it.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Collection
from pathlib import Path
from typing import Any, NoReturn

import torch
from torch import Tensor, nn

from .errors import CheckpointError
from .fingerprint import Fingerprint, digest

#: Settings that a resumed run may change when asked to.
CHANGEABLE = ("clip", "epochs", "lr", "patience", "schedule", "validate_every")
SHOWN = 4  # differences that an error names
KINDS: dict[str, tuple[type, ...]] = {
    "settings": (dict,),
    "epoch": (int,),
    "since_best": (int,),
    "history": (list,),
    "changes": (list,),
    "best": (dict, type(None)),
    "best_weights": (dict, type(None)),
    "net": (dict,),
    "averaged": (dict, type(None)),
    "optimizer": (dict,),
    "random": (Tensor,),
}


def check_whole(saved: Any, path: str | Path) -> None:
    """Checks that the content is complete, and that its parts agree with one another.

    Raises:
        CheckpointError: when they do not.
    """
    if not isinstance(saved, dict):
        _refuse(path, "holds no dictionary")
    for name, kind in KINDS.items():
        if name not in saved:
            _refuse(path, f"lacks {name!r}")
        if not isinstance(saved[name], kind) or isinstance(saved[name], bool):
            _refuse(path, f"holds a {type(saved[name]).__name__} as {name!r}")
    settings = saved["settings"]
    if not all(isinstance(each, str) for pair in settings.items() for each in pair):
        _refuse(path, "holds settings that are no text")
    epoch, epochs = saved["epoch"], settings.get("epochs", "")
    if not (epochs.isdecimal() and 1 <= epoch <= int(epochs)):
        _refuse(path, f"is of epoch {epoch} of {epochs or 'unknown'}")
    if not all(_is_record(each, number) for number, each in enumerate(saved["history"])):
        _refuse(path, "holds a history of other records than an epoch's")
    if len(saved["history"]) != epoch:
        _refuse(path, f"holds a history of {len(saved['history'])} records after epoch {epoch}")
    _check_best(saved, path)
    if not all(
        isinstance(change, dict) and change.keys() == {"epoch", "setting", "before", "after"}
        for change in saved["changes"]
    ):
        _refuse(path, "holds changes of settings without what was changed")


def differences(
    saved: dict[str, Any], path: str | Path, settings: Fingerprint, changed: Collection[str]
) -> dict[str, tuple[str, str]]:
    """The settings that differ and may, ``{name: (before, now)}``.

    Arguments:
        saved: the content of the checkpoint.
        path: its file.
        settings: those of this run.
        changed: names among ``CHANGEABLE`` of settings that may differ.

    Raises:
        CheckpointError: when others differ; it says which, and how.
    """
    then: Fingerprint = saved["settings"]
    before = {
        name: settings.get(name, text) if _was_trained(saved, name, text) else text
        for name, text in then.items()
    }
    found = {
        name: (before.get(name, "not there"), settings.get(name, "not there"))
        for name in {**settings, **before}
        if before.get(name) != settings.get(name)
    }
    wrong = {name: pair for name, pair in found.items() if name.partition(".")[0] not in changed}
    if not wrong:
        return found
    shown = "; ".join(f"{name} was {a} and is {b}" for name, (a, b) in list(wrong.items())[:SHOWN])
    more = f"; {len(wrong) - SHOWN} more differ" if len(wrong) > SHOWN else ""
    roots = sorted({name.partition(".")[0] for name in wrong})
    may = set(roots) <= set(CHANGEABLE)
    raise CheckpointError(
        f"{path} is of another run: {shown}{more}", "changed" if may else "same", roots
    )


def check_weights(
    saved: dict[str, Any],
    path: str | Path,
    net: nn.Module,
    trained: nn.Module,
    averaged: nn.Module | None,
    optimizer: torch.optim.Optimizer,
) -> None:
    """Checks that the tensors fit the network and the optimizer of this run.

    Raises:
        CheckpointError: when they do not.
    """
    targets = {"net": net, "best_weights": trained, "averaged": averaged}
    if (saved["averaged"] is None) != (averaged is None):
        _refuse(path, "holds an average that was not asked for, or lacks one")
    for name, target in targets.items():
        if target is not None and saved[name] is not None:
            _check_state(path, name, saved[name], target)
    try:
        torch.Generator().set_state(saved["random"].cpu())
    except (RuntimeError, TypeError):
        _refuse(path, "holds no state of torch's random generator")
    if not _continues(optimizer, saved["optimizer"]):
        _refuse(path, "holds the state of another optimizer")


def _is_record(record: Any, epoch: int | None = None) -> bool:
    """Whether it is what ``fit`` notes of an epoch, or of a certain one."""
    return (
        isinstance(record, dict)
        and {"epoch", "lr", "loss"} <= record.keys()
        and all(isinstance(name, str) for name in record)
        and all(isinstance(value, (int, float)) for value in record.values())
        and isinstance(record["epoch"], int)
        and (epoch is None or record["epoch"] == epoch)
    )


def _check_best(saved: dict[str, Any], path: str | Path) -> None:
    """Checks the best epoch, and the validations since, against the history."""
    best, scored = saved["best"], [each for each in saved["history"] if "validation" in each]
    lowest = min((each["validation"] for each in scored), default=math.inf, key=_order)
    first = next((each for each in scored if each["validation"] == lowest < math.inf), None)
    if (best is None) != (first is None) or not (best is None or _is_record(best)):
        _refuse(path, "holds no best epoch of its history")
    for key in ("epoch", "validation"):
        if best is not None and first is not None and best.get(key) != first[key]:
            _refuse(path, "holds a best epoch that is not the best of its history")
    if (best is None) != (saved["best_weights"] is None):
        _refuse(path, "holds a best epoch without its weights, or weights without their epoch")
    since = len(scored) if first is None else len(scored) - scored.index(first) - 1
    if saved["since_best"] != since:
        _refuse(path, f"counts {saved['since_best']} validations since the best of {since}")


def _order(score: float) -> float:
    """The place of a score: NaN comes last."""
    return math.inf if math.isnan(score) else score


def _check_state(path: str | Path, name: str, kept: dict[str, Any], net: nn.Module) -> None:
    now = net.state_dict()
    parameters = {key for key, each in net.named_parameters() if each.requires_grad}
    if kept.keys() != now.keys():
        _refuse(path, f"holds other tensors as {name!r} than the network has")
    for key, value in now.items():
        found = kept[key]
        if not isinstance(found, Tensor) or found.layout != value.layout:
            _refuse(path, f"holds a {type(found).__name__} as {key} of {name!r}")
        if found.shape != value.shape or found.dtype != value.dtype:
            _refuse(path, f"holds {key} of {name!r} as {found.dtype} {list(found.shape)}")
        if key in parameters and not torch.isfinite(found).all():
            _refuse(path, f"holds values that are not finite in {key} of {name!r}")


def _continues(optimizer: torch.optim.Optimizer, kept: dict[str, Any]) -> bool:
    """Whether a copy of the optimizer can make a step from this state; torch itself checks little.

    A step without this state shows the tensors that the optimizer keeps.
    """
    try:
        trial = copy.deepcopy(optimizer)
        _step(trial)
    except Exception:  # an optimizer of a user's, which cannot be tried
        return True
    now = trial.state_dict()
    try:
        options = [group.keys() for group in kept["param_groups"]]
        if options != [group.keys() for group in now["param_groups"]]:
            return False
        for number, values in kept["state"].items():
            for key, value in now["state"][number].items():
                if isinstance(value, Tensor) and _kind(value) != _kind(values[key]):
                    return False
        trial.load_state_dict(copy.deepcopy(kept))
        return all(bool(torch.isfinite(member).all()) for member in _step(trial))
    except Exception:  # whatever an optimizer does with a state that is not its own
        return False


def _step(optimizer: torch.optim.Optimizer) -> list[Tensor]:
    """Steps along a gradient of zero, and gives the parameters."""
    members = [member for group in optimizer.param_groups for member in group["params"]]
    for member in members:
        member.grad = torch.zeros_like(member)
    optimizer.step()
    return members


def _kind(value: Any) -> object:
    """Shape and dtype of a tensor, or the type of another value."""
    return (value.shape, value.dtype) if isinstance(value, Tensor) else type(value)


def _was_trained(saved: dict[str, Any], name: str, then: str) -> bool:
    """Whether a setting is a buffer that training has changed: it tells no runs apart."""
    value = saved["net"].get(name.removeprefix("network."))
    hashed = name.startswith("network.") and "#" in then and isinstance(value, Tensor)
    return hashed and digest(value) != then


def _refuse(path: str | Path, what: str) -> NoReturn:
    raise CheckpointError(
        f"{path} {what} (it is as it was written, but fit writes no such checkpoint)", "anew"
    )
