"""Trained models on disk: safetensors and a JSON card, loaded without pickle and offline."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from ..data.files import write_whole
from ..inference.rng import RandomStream

SHIPPED = Path(__file__).parent / "weights"
WEIGHTS, CARD = "weights.safetensors", "card.json"


class ModelError(ValueError):
    """A model that is unknown, missing, or whose files are damaged."""


def save_model(folder: Path, net: torch.nn.Module, card: dict[str, Any]) -> None:
    """Writes a network's weights and card into ``folder``, each whole or not at all."""
    weights = {name: value.detach().cpu().contiguous() for name, value in net.state_dict().items()}
    write_whole(folder / WEIGHTS, lambda part: save_file(weights, part))
    save_card(folder / CARD, card)


def save_card(path: Path, card: dict[str, Any]) -> None:
    """Writes one card."""
    text = json.dumps(card, indent=2, default=_plain) + "\n"
    write_whole(path, lambda part: part.write_text(text))


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
        known = ", ".join(shipped()) or "none yet"
        raise ModelError(f"no model called {name!r} comes with seqzoo: there are {known}")
    return load_card(SHIPPED / f"{name}.json")


def load(name: str | Path, device: torch.device | str = "cpu") -> torch.nn.Module:
    """A trained model, ready to use, without network access.

    Arguments:
        name: a shipped model, such as ``"ppc/refh"``, or a folder that ``seqzoo train`` wrote.
        device: where it shall live.

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
    elif folder.is_dir() and str(name) not in carded():
        raise ModelError(f"the folder {name} has no {CARD}: a run of `seqzoo train` ends with one")
    else:
        content, weights = card(str(name)), SHIPPED / f"{name}.safetensors"
        if not weights.is_file():
            raise ModelError(
                f"the weights of {name} do not come with seqzoo, only its card: "
                f"`seqzoo train {name}` makes some, and prints the folder to load"
            )
    with RandomStream("cpu", "load"):  # to build a network draws weights
        net = build(content)
    try:
        tensors = load_file(weights) if next(iter(net.state_dict()), None) else {}
    except FileNotFoundError as error:
        raise ModelError(f"the weights {weights} are missing: install or train again") from error
    except SafetensorError as error:
        raise ModelError(
            f"the weights {weights} are damaged or cut short ({error}): install or train again"
        ) from error
    try:
        net.load_state_dict(tensors)
    except RuntimeError as error:
        raise ModelError(f"{weights} does not fit the model on its card: {error}") from error
    net.card = content
    return net.eval().to(device)


def build(content: dict[str, Any]) -> torch.nn.Module:
    """The untrained network that a card describes."""
    from .recipes.part import Part

    try:
        return Part.from_json(content["configuration"]["model"]).build()
    except (KeyError, TypeError, ValueError) as error:
        raise ModelError(f"the card does not describe a model of this zoo: {error}") from error


def summarise(cards: list[dict[str, Any]]) -> dict[str, Any]:
    """One card for several seeds: mean, sd and n in place of each single value."""
    seconds = [content["wall_time_s"] for content in cards]
    further = cards[0].get("also", {})
    validated = [content.get("validation") for content in cards]
    return {
        **cards[0],
        **_spread([content["value"] for content in cards]),
        "also": {name: _spread([content["also"][name] for content in cards]) for name in further},
        "validation": None if None in validated else sum(validated) / len(validated),
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


def _plain(value):
    if isinstance(value, torch.Tensor):
        return value.tolist()
    raise TypeError(f"{type(value).__name__} cannot be written to a card")
