"""Trained models on disk: safetensors and a JSON card, loaded without pickle and offline."""

from __future__ import annotations

import datetime
import itertools
import json
import math
import platform
from collections import defaultdict
from collections.abc import Iterable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from ..data.files import write_whole
from ..inference.rng import RandomStream
from . import recipes  # noqa: F401 (classes of the tables become known by name)
from .names import unknown
from .part import Part, describe
from .registry import PARTS, Class, read

SHIPPED = Path(__file__).parent / "weights"
WEIGHTS, CARD = "weights.safetensors", "card.json"


class ModelError(ValueError):
    """A model that is unknown, missing, or whose files are damaged."""


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

    Raises:
        ModelError: for a model that cannot be described as a class and its arguments, that was
            changed after it was built, or whose folder holds something else.

    Example:
        >>> prior = zoo.priors.AR1(8, coefficient=0.95)
        >>> net = zoo.VRAE(88, 8, zoo.likelihoods.Bernoulli(88), prior=prior)
        >>> zoo.save("models/slow", net)
        >>> zoo.load("models/slow")
    """
    folder = Path(folder)
    if folder.exists() and not folder.is_dir():
        raise ModelError(f"{folder} is a file: give a folder")
    if folder.is_dir() and any(folder.iterdir()) and not (folder / CARD).is_file():
        raise ModelError(f"the folder {folder} holds something else: give a new or an empty one")
    try:
        part = describe(model)
        configuration = {
            "model": part.to_json(),
            "data": None if data is None else describe(data).to_json(),
        }
        _check_rebuilt(model, part, configuration["model"])
    except (TypeError, ValueError, RuntimeError) as error:
        raise ModelError(f"{type(model).__name__} cannot be saved: {error}") from error
    card = {
        **({"name": name} if name else {}),
        "title": title,
        "note": note,
        **({"metric": metric, "unit": unit, "value": value} if metric else {}),
        "configuration": configuration,
        "date": datetime.date.today().isoformat(),
        "versions": versions(),
    }
    save_model(folder, model, card)


def versions() -> str:
    """The versions of what a model is computed with."""
    return (
        f"torch {torch.__version__}, pyro {version('pyro-ppl')}, python {platform.python_version()}"
    )


def _check_rebuilt(model: nn.Module, part: Part, content: dict[str, Any]) -> None:
    """Raises a ValueError unless a card's content builds the network again."""
    own = [each.cls for each in part.parts() if PARTS.get(each.name) is not each.cls]
    for cls in own:
        if cls.__name__ in PARTS:
            raise ValueError(f"seqzoo has another class called {cls.__name__}: rename yours")
    with RandomStream("cpu", "save"):
        rebuilt = read(content, own, model=True).build()
    for names in (_kinds, _shapes, _tied):
        before, after = names(model), names(rebuilt)
        wrong = [name for name in {**before, **after} if before.get(name) != after.get(name)]
        if wrong:
            raise ValueError(
                f"{wrong[0]} is not as its arguments build it: give parts to the constructor, "
                "each of its own, and exchange none afterwards"
            )


def _kinds(net: nn.Module) -> dict[str, Any]:
    """The class of every module, by its name."""
    return {name: type(each) for name, each in net.named_modules(remove_duplicate=False)}


def _shapes(net: nn.Module) -> dict[str, Any]:
    """The shape of every tensor of the state."""
    return {name: value.shape for name, value in net.state_dict().items()}


def _tied(net: nn.Module) -> dict[str, Any]:
    """The names that one tensor has, for every name of it."""
    names = defaultdict(list)
    for name, value in net.state_dict().items():
        names[value.data_ptr() if value.numel() else name].append(name)
    return {name: same for same in names.values() for name in same}


def save_model(folder: Path, net: nn.Module, card: dict[str, Any]) -> None:
    """Writes a network's weights and card into ``folder``, each whole or not at all."""
    seen, weights = set(), {}
    for name, value in net.state_dict().items():
        kept = value.detach().cpu().contiguous()
        weights[name] = kept.clone() if kept.data_ptr() in seen else kept  # two names, one tensor
        seen.add(kept.data_ptr())
    write_whole(folder / WEIGHTS, lambda part: save_file(weights, part))
    save_card(folder / CARD, card)


def save_card(path: Path, card: dict[str, Any]) -> None:
    """Writes one card."""
    text = json.dumps(card, indent=2, default=_plain) + "\n"

    def write_text(part: Path) -> None:
        part.write_text(text)

    write_whole(path, write_text)


def load_card(path: Path) -> dict[str, Any]:
    """Reads one card.

    Raises:
        ModelError: when it is missing or damaged.
    """
    if not path.is_file():
        raise ModelError(f"there is no card at {path}")
    try:
        content = json.loads(path.read_text())
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise ModelError(f"the card {path} is damaged: fetch or train the model again") from error
    if not isinstance(content, dict):
        raise ModelError(f"the card {path} is damaged: fetch or train the model again")
    return content


def shipped() -> list[str]:
    """Names of the models whose weights come with the package."""
    return _names("safetensors")


def carded() -> list[str]:
    """Names of the models whose cards come with the package, with or without weights."""
    return _names("json")


def card(name: str) -> dict[str, Any]:
    """The card of a shipped model: configuration, metric, seeds, hardware, and what differs.

    Raises:
        ModelError: for an unknown name.
    """
    if name not in carded():
        raise ModelError(unknown("model", name, carded()))
    return load_card(SHIPPED / f"{name}.json")


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
        ModelError: for an unknown name, or damaged, truncated or foreign files.

    Example:
        >>> zoo.load("ppc/refh").reconstruct(data.PPC(1, 100, seed=5).obs).shape
        torch.Size([1, 100, 15])
    """
    folder = Path(name)
    if (folder / CARD).is_file():
        content, weights = load_card(folder / CARD), folder / WEIGHTS
    elif str(name) not in carded() and (beside := Path(f"{name}.json")).is_file():
        content, weights = load_card(beside), Path(f"{name}.safetensors")
    elif folder.is_dir() and str(name) not in carded():
        raise ModelError(
            f"the folder {name} has no {CARD}: `zoo.save` and `seqzoo train` write one"
        )
    else:
        content, weights = card(str(name)), SHIPPED / f"{name}.safetensors"
        if not weights.is_file():
            raise ModelError(
                f"the weights of {name} do not come with seqzoo, only its card: "
                f"`seqzoo train {name}` makes some, and prints the folder to load"
            )
    with RandomStream("cpu", "load"):  # to build a network draws weights
        net = build(content, classes)
    try:
        tensors = load_file(weights) if next(iter(net.state_dict()), None) else {}
    except FileNotFoundError as error:
        raise ModelError(f"the weights {weights} are missing: install or train again") from error
    except SafetensorError as error:
        raise ModelError(
            f"the weights {weights} are damaged or cut short ({error}): install or train again"
        ) from error
    _cast(net, tensors)
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(f"{weights} does not fit the model on its card: {error}") from error
    vars(net)["card"] = content
    return net.eval().to(device)


def card_of(net: nn.Module) -> dict[str, Any]:
    """The card of a network that ``load`` returned.

    Raises:
        ModelError: for a network that was not loaded.
    """
    content = vars(net).get("card")
    if content is None:
        raise ModelError(f"this {type(net).__name__} has no card: load it with zoo.load")
    return content


def build(content: dict[str, Any], classes: Iterable[Class] = ()) -> nn.Module:
    """The untrained network that a card describes.

    Raises:
        ModelError: where it describes none, or one of unknown classes.
    """
    try:
        net = read(content["configuration"]["model"], classes, model=True).build()
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the card does not describe a model of this zoo: {error}") from error
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


def _names(ending: str) -> list[str]:
    return sorted(f"{path.parent.name}/{path.stem}" for path in SHIPPED.glob(f"*/*.{ending}"))


def _plain(value: object) -> object:
    if isinstance(value, torch.Tensor):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written to a card")
