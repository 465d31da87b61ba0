"""The two files of a model: its weights, and a card in JSON that has their checksum.

The two change in one step. New weights wait under a name of their own until the new card is in its
place, and then take the place of the earlier ones. A reader takes whichever of the two the card
names.
"""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors import torch as safetensors
from torch import Tensor

from ..data.files import write_whole
from . import plain_json
from .cards import LARGEST, ModelError, load_card, short

CHECKSUM = "weights_sha256"
SETTINGS = "configuration_sha256"  # of numbers that no shape of the weights depends on
WAITING = ".{}.new"  # the name of new weights until their card is written


def _sum(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def save_pair(path: Path, card_path: Path, weights: bytes, card: dict[str, Any]) -> dict[str, Any]:
    """Writes the two files of a model. A program killed at any point leaves one whole model.

    Returns:
        The card with the checksums of the weights and of its configuration.
    """
    card = {**card, CHECKSUM: _sum(weights), SETTINGS: _settings_sum(card)}
    text = _text(card)
    _settle(path, card_path)
    write_whole(_waiting(path), lambda part: part.write_bytes(weights))
    write_whole(card_path, lambda part: part.write_bytes(text))
    os.replace(_waiting(path), path)
    return card


def _settle(path: Path, card_path: Path) -> None:
    """Ends what an earlier program began: waiting weights that the card names take their place."""
    try:
        named = _checksum(load_card(card_path), card_path)
        if _sum(_waiting(path).read_bytes()) == named:
            os.replace(_waiting(path), path)
    except (OSError, ModelError):  # the usual case: nothing waits, or there is no card
        return


def _waiting(path: Path) -> Path:
    return path.with_name(WAITING.format(path.name))


def save_card(path: Path, card: dict[str, Any]) -> None:
    """Writes one card without weights.

    Raises:
        ModelError: for a card that is no data.
    """
    text = _text(card)
    write_whole(path, lambda part: part.write_bytes(text))


def _text(card: dict[str, Any]) -> bytes:
    try:
        text = (plain_json.dumps(card, indent=2) + "\n").encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"this cannot be written to a card: {error}") from error
    if len(text) > LARGEST:
        raise ModelError(f"the card would have {len(text)} bytes: give a model shorter arguments")
    return text


def _settings_sum(card: dict[str, Any]) -> str:
    """The checksum of a card's configuration, the same before it is written and after."""
    try:
        configuration = plain_json.plain(card.get("configuration"))
        text = json.dumps({"configuration": configuration}, sort_keys=True)
    except (TypeError, ValueError, RecursionError) as error:
        raise ModelError(f"this cannot be written to a card: {error}") from error
    return _sum(text.encode())


def check_configuration(card: dict[str, Any], path: Path) -> None:
    """Raises a ModelError for a configuration that was changed after the card was written."""
    if card.get(SETTINGS) != _settings_sum(card):
        raise ModelError(
            f"the configuration on the card of {path} is not the one that was saved: fetch or "
            "train the model again, or build another model in Python and zoo.save it"
        )


def _checksum(card: dict[str, Any], path: Path) -> str:
    named = card.get(CHECKSUM)
    if not isinstance(named, str):
        raise ModelError(
            f"the card of {path} has no checksum of its weights ({CHECKSUM}): fetch, save or train "
            "the model again"
        )
    return named


def weights_of(path: Path, card: dict[str, Any]) -> bytes:
    """The content of the file of weights that a card names.

    Raises:
        ModelError: when it is missing, or another than the card names.
    """
    checksum, there = _checksum(card, path), False
    for each in (path, _waiting(path)):
        if not each.is_file():
            continue
        there = True
        try:
            content = each.read_bytes()
        except (OSError, MemoryError) as error:
            raise ModelError(f"the weights {each} cannot be read: {error}") from error
        if _sum(content) == checksum:
            return content
    if not there:
        raise ModelError(f"the weights {path} are missing: install or train again")
    raise ModelError(
        f"the weights {path} are damaged or cut short, or those of another card: their checksum is "
        "not the one on the card. Install or train again"
    )


def tensors_of(weights: bytes, path: Path) -> dict[str, Tensor]:
    """The tensors in the content of a file.

    Raises:
        ModelError: when it holds none.
    """
    try:
        return safetensors.load(weights)
    except (SafetensorError, KeyError, ValueError, RuntimeError) as error:
        raise ModelError(f"{path} is no file of safetensors: {short(error)}") from error
