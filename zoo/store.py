"""Trained models on disk: safetensors and a JSON card, loaded without pickle and offline."""

from __future__ import annotations

import datetime
import itertools
import math
import platform
from collections import defaultdict
from collections.abc import Callable, Iterable
from contextlib import nullcontext
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import torch as safetensors
from torch import Tensor, nn

from ..inference.rng import RandomStream
from ..inference.training.arguments import check_device
from . import catalogue, folders, recipes  # noqa: F401 (classes of the tables become known by name)
from .budget import Budget
from .cards import ModelError, is_card, load_card, short
from .catalogue import card, carded, check_path
from .model_files import check_configuration, save_pair, tensors_of, weights_of
from .part import Part, describe
from .registry import PARTS, Class, read

WEIGHTS, CARD = "weights.safetensors", "card.json"
PRECISIONS = "float32", "float64"  # of weights whose card names no other


def save(
    folder: str | Path,
    model: nn.Module,
    *,
    name: str = "",
    title: str = "",
    note: str = "",
    metric: str = "",
    unit: str = "",
    value: float | None = None,
    data: object = None,
    training: dict[str, Any] | None = None,
) -> None:
    """Saves a model built of the zoo's classes, or of your own, without pickle.

    ``load`` gives it back, in another process, too. Nothing is written if it could not.

    Arguments:
        folder: where to write ``weights.safetensors`` and ``card.json``; an earlier model there is
            replaced.
        model: the network.
        name: the recipe that it belongs to, such as ``"ppc/rvae"``, if any: its task scores it.
        title, note: what it is, in words.
        metric, unit, value: a figure that it obtained.
        data: the data set that it was trained on, for ``seqzoo diagnose``.
        training: how it was trained, as plain data.

    Raises:
        ModelError: for a model that cannot be described as a class and its arguments, that was
            changed after it was built, or whose folder holds something else.

    Example:
        >>> prior = zoo.priors.AR1(8, coefficient=0.95)
        >>> net = zoo.VRAE(88, 8, zoo.likelihoods.Bernoulli(88), prior=prior)
        >>> zoo.save("models/slow", net)
        >>> zoo.load("models/slow")
    """
    folder = check_path(folder)
    try:
        folders.check(folder, folders.NONE, holds_model)
    except ValueError as error:
        raise ModelError(str(error)) from error
    try:
        part = describe(model)
        configuration = {
            "model": part.to_json(),
            "data": None if data is None else describe(data).to_json(),
        }
        rebuilt = _rebuilt(model, part, configuration["model"])
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{type(model).__name__} cannot be saved: {error}") from error
    card = {
        **({"name": name} if name else {}),
        "title": title,
        "note": note,
        **({"metric": metric, "unit": unit, "value": value} if metric else {}),
        "configuration": configuration,
        **({"training": training} if training else {}),
        "date": datetime.date.today().isoformat(),
        "versions": versions(),
    }
    save_model(folder, model, card, rebuilt.state_dict)


def versions() -> str:
    """The versions of what a model is computed with."""
    return (
        f"torch {torch.__version__}, pyro {version('pyro-ppl')}, python {platform.python_version()}"
    )


def _rebuilt(model: nn.Module, part: Part, content: dict[str, Any]) -> nn.Module:
    """The untrained network that a card's content builds.

    Raises:
        ValueError: when it is another than the model.
    """
    own = [each.cls for each in part.parts() if PARTS.get(each.name) is not each.cls]
    for cls in own:
        if cls.__name__ in PARTS:
            raise ValueError(f"seqzoo has another class called {cls.__name__}: rename yours")
    size = sum(value.nbytes for value in model.state_dict().values())
    with RandomStream("cpu", "save"), Budget(size):
        rebuilt = read(content, own, model=True).build()
    for names in (_kinds, _shapes, _tied):
        before, after = names(model), names(rebuilt)
        wrong = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        if wrong:
            raise ValueError(
                f"{wrong[0]} is not as its arguments build it: give parts to the constructor, "
                "each of its own, and exchange none afterwards"
            )
    return rebuilt


def _kinds(net: nn.Module) -> dict[str, Any]:
    """The class of every module, by its name."""
    return {name: type(each) for name, each in net.named_modules(remove_duplicate=False)}


def _shapes(net: nn.Module) -> dict[str, Any]:
    """The shape of every tensor of the state, and its dtype unless that is a floating one."""
    return {
        name: (value.shape, None if value.is_floating_point() else value.dtype)
        for name, value in net.state_dict().items()
    }


def _tied(net: nn.Module) -> dict[str, Any]:
    """The names that one tensor has, for every name of it."""
    names = defaultdict(list)
    for name, value in net.state_dict().items():
        names[value.data_ptr() if value.numel() else name].append(name)
    return {name: same for same in names.values() for name in same}


def save_model(
    folder: Path,
    net: nn.Module,
    card: dict[str, Any],
    built: Callable[[], dict[str, Tensor]] = dict,
) -> dict[str, Any]:
    """Writes a network's weights and card into ``folder``, both or neither.

    Arguments:
        folder: where to write.
        net: the network.
        card: its card.
        built: gives the state of such a network before training: only where that is infinite or
            NaN, such as in a mask, may the weights be.

    Returns:
        The card with the checksum of the weights.

    Raises:
        ModelError: for weights that ``load`` would refuse, or a card that is no data.
    """
    seen, weights = set(), {}
    for name, value in net.state_dict().items():
        kept = value.detach().cpu().contiguous()
        weights[name] = kept.clone() if kept.data_ptr() in seen else kept  # two names, one tensor
        seen.add(kept.data_ptr())
    _check_finite(weights, built, f"this {type(net).__name__} cannot be saved")
    special = _precisions(weights) - {*PRECISIONS}
    card = {**card, **({"precisions": sorted(special)} if special else {})}
    return save_pair(folder / WEIGHTS, folder / CARD, safetensors.save(weights), card)


def holds_model(folder: Path) -> bool:
    """Whether the files of a folder are those of a saved model, damaged ones included."""
    card = folder / CARD
    return is_card(card) or (card.is_file() and (folder / WEIGHTS).is_file())


def load(
    name: str | Path, device: torch.device | str = "cpu", classes: Iterable[Class] = ()
) -> nn.Module:
    """A trained model, ready to use, without network access.

    Arguments:
        name: a shipped model, such as ``"ppc/refh"``, a folder that ``save`` or ``seqzoo train``
            wrote, or the path of a model that ``seqzoo reproduce --ship`` wrote, without ending.
        device: where it shall live.
        classes: classes of your own that it is built of. A card imports nothing.

    Returns:
        The network in evaluation mode, with its card as ``net.card``.

    Raises:
        ModelError: for an unknown name or device; for damaged, truncated or foreign files; for
            weights that are not those of the card, or not finite.

    Example:
        >>> zoo.load("ppc/refh").reconstruct(data.PPC(1, 100, seed=5).obs).shape
        torch.Size([1, 100, 15])
    """
    device, (content, path) = _device(device), _find(name)
    weights = weights_of(path, content)
    tensors = tensors_of(weights, path)
    with RandomStream("cpu", "load"):  # to build a network draws weights
        net = build(content, classes, len(weights))
    _check_fit(net, tensors, content, path)
    check_configuration(content, path)
    try:
        _cast(net, tensors)
        net.load_state_dict(tensors)
    except (RuntimeError, TypeError) as error:
        raise ModelError(f"{path} does not fit the model on its card: {short(error)}") from error
    vars(net)["card"] = content
    return net.eval().to(device)


def _device(device: torch.device | str) -> torch.device:
    """A device of this machine.

    Raises:
        ModelError: for another.
    """
    try:
        if not isinstance(device, (str, torch.device)):
            raise TypeError("it is neither text nor a torch.device")
        where = torch.device(device)
        check_device(where)
    except (RuntimeError, TypeError, ValueError) as error:
        why = str(error).splitlines()[0]
        raise ModelError(f"no device {device!r} for a model ({why}): give 'cpu'") from error
    return where


def _find(name: str | Path) -> tuple[dict[str, Any], Path]:
    """The card of a model, and the file of its weights."""
    folder, beside = check_path(name), Path(f"{name}.json")
    try:
        if (folder / CARD).is_file():
            return load_card(folder / CARD), folder / WEIGHTS
        if str(name) not in carded() and beside.is_file():
            return load_card(beside), Path(f"{name}.safetensors")
        if folder.is_dir() and str(name) not in carded():
            raise ModelError(
                f"the folder {name} has no {CARD}: `zoo.save` and `seqzoo train` write one"
            )
    except OSError as error:
        raise ModelError(f"{str(name)[:200]!r} cannot be read: {error.strerror}") from error
    content, path = card(str(name)), catalogue.SHIPPED / f"{name}.safetensors"
    if not path.is_file():
        raise ModelError(
            f"the weights of {name} do not come with seqzoo, only its card: "
            f"`seqzoo train {name}` makes some, and prints the folder to load"
        )
    return content, path


def _check_fit(
    net: nn.Module, tensors: dict[str, Tensor], content: dict[str, Any], path: Path
) -> None:
    """Raises a ModelError for weights of other names, shapes or kinds, or that are not finite."""
    built, wrong = net.state_dict(), f"{path} does not fit the model on its card"
    for name in sorted(built.keys() ^ tensors.keys()):
        where = "the model" if name in built else "the file"
        raise ModelError(f"{wrong}: {where} alone has {name!r}")
    named = content.get("precisions", [])
    allowed = {*PRECISIONS, *(named if isinstance(named, list) else [])}
    for name, value in built.items():
        found = tensors[name]
        if found.shape != value.shape:
            shapes = f"{[*found.shape]}, and the model {[*value.shape]}"
            raise ModelError(f"{wrong}: {name!r} has the shape {shapes}")
        same = found.dtype == value.dtype
        if value.is_floating_point() and found.is_floating_point():
            same = same or _kind(found) in allowed
        if not same:
            raise ModelError(f"{wrong}: {name!r} is {_kind(found)}, and the model {_kind(value)}")
    _check_finite(tensors, lambda: built, f"{path} is not used")


def _check_finite(
    tensors: dict[str, Tensor], built: Callable[[], dict[str, Tensor]], wrong: str
) -> None:
    """Raises a ModelError for NaN, or for infinity where an untrained network has none."""
    for name, value in tensors.items():
        bad = ~_wide(value).isfinite()
        if bad.any():
            before = built().get(name)
            if before is None or (bad & (_wide(value) != _wide(before))).any():
                raise ModelError(f"{wrong}: {name!r} holds NaN or infinity: the training diverged")


def _wide(value: Tensor) -> Tensor:
    """Numbers that torch compares; it does not compare all those of eight bits."""
    return value.float() if value.is_floating_point() and value.itemsize < 4 else value


def _precisions(tensors: dict[str, Tensor]) -> set[str]:
    return {_kind(value) for value in tensors.values() if value.is_floating_point()}


def _kind(value: Tensor) -> str:
    return str(value.dtype).removeprefix("torch.")


def card_of(net: nn.Module) -> dict[str, Any]:
    """The card of a network that ``load`` returned.

    Raises:
        ModelError: for a network that was not loaded.
    """
    content = vars(net).get("card")
    if content is None:
        raise ModelError(f"this {type(net).__name__} has no card: load it with zoo.load")
    return content


def build(
    content: dict[str, Any], classes: Iterable[Class] = (), weights: int | None = None
) -> nn.Module:
    """The untrained network that a card describes.

    Arguments:
        content: the card.
        classes: see ``load``.
        weights: size of the file of its weights (bytes), which bounds the memory that the network
            may take. None sets no bound.

    Raises:
        ModelError: where it describes none, or one of unknown classes, or one far larger than its
            weights.
    """
    try:
        part = read(content["configuration"]["model"], classes, model=True)
        with nullcontext() if weights is None else Budget(weights):
            net = part.build()
    except Exception as error:  # whatever a class does when it is given what a card says
        why = short(error) or type(error).__name__
        raise ModelError(f"the card does not describe a model of this zoo: {why}") from error
    if not isinstance(net, nn.Module):
        raise ModelError(f"the card does not describe a model of this zoo, but a {type(net)}")
    return net


def _cast(net: nn.Module, tensors: dict[str, Tensor]) -> None:
    """Gives the tensors of a network the dtypes that were saved: it may be one in float64."""
    for name, value in itertools.chain(net.named_parameters(), net.named_buffers()):
        if name in tensors and tensors[name].dtype != value.dtype:
            value.data = value.data.to(tensors[name].dtype)


def summarise(cards: list[dict[str, Any]]) -> dict[str, Any]:
    """One card for several seeds: mean, sd and n in place of each single value."""
    seconds = [content["wall_time_s"] for content in cards]
    further = cards[0].get("also", {})
    validated = [value for content in cards if (value := content.get("validation")) is not None]
    return {
        **cards[0],
        **_spread([content["value"] for content in cards]),
        "also": {name: _spread([content["also"][name] for content in cards]) for name in further},
        "validation": sum(validated) / len(validated) if len(validated) == len(cards) else None,
        "n": len(cards),
        "seeds": [content["seed"] for content in cards],
        "wall_time_s": round(sum(seconds) / len(seconds), 1),
    }


def _spread(values: list[float]) -> dict[str, Any]:
    mean = sum(values) / len(values)
    spread = math.sqrt(sum((v - mean) ** 2 for v in values) / max(len(values) - 1, 1))
    return {"value": mean, "sd": spread if len(values) > 1 else None, "values": values}
