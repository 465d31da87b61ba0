"""The card of a model: JSON with its configuration, its figures, and where they come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import plain_json

LARGEST = 1 << 24  # bytes of a card


class ModelError(ValueError):
    """A model that is unknown, missing, or whose files are damaged."""


def load_card(path: Path) -> dict[str, Any]:
    """Reads one card. It may begin with a byte-order mark, as some editors write it.

    Raises:
        ModelError: when it is missing or damaged.
    """
    try:
        if not path.is_file():
            raise ModelError(f"there is no card at {path}")
        if path.stat().st_size > LARGEST:
            raise ModelError(f"{path} is no card: it has {path.stat().st_size} bytes")
        content = plain_json.loads(path.read_bytes())
    except OSError as error:
        raise ModelError(f"the card {path} cannot be read: {error.strerror}") from error
    except ModelError:
        raise
    except ValueError as error:
        raise ModelError(
            f"the card {path} is damaged ({short(error)}): fetch or train the model again"
        ) from error
    if not isinstance(content, dict):
        raise ModelError(f"the card {path} is damaged: fetch or train the model again")
    return content


def is_card(path: Path) -> bool:
    """Whether a file is the card of a model."""
    try:
        return "model" in load_card(path)["configuration"]
    except (ModelError, KeyError, TypeError):
        return False


def short(error: Exception) -> str:
    """The message of an error, which may quote a whole card."""
    text = " ".join(str(error).split())
    return text if len(text) <= 300 else f"{text[:300]} ..."
