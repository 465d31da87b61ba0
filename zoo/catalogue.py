"""What comes with the package, from its files alone: to import the recipes takes seconds."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import plain_json
from .cards import ModelError, load_card
from .names import unknown

SHIPPED = Path(__file__).parent / "weights"
#: What the cards do not tell: the recipes in order, and the collections of tables. ``make docs``
#: writes it from the recipes.
INDEX = SHIPPED / "recipes.json"


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
    if str(check_path(name)) not in carded():
        raise ModelError(unknown("model", name, carded()))
    return load_card(SHIPPED / f"{name}.json")


def recipes() -> dict[str, dict[str, Any]]:
    """Unit and published figure of every recipe of the zoo, by name, in order."""
    return plain_json.loads(INDEX.read_bytes())["recipes"]


def tables() -> list[str]:
    """Names of the zoo's tables and collections."""
    names = dict.fromkeys(name.partition("/")[0] for name in recipes())
    return [*names, *plain_json.loads(INDEX.read_bytes())["collections"]]


def check_path(name: str | Path) -> Path:
    """A path.

    Raises:
        ModelError: for what is none.
    """
    if not isinstance(name, (str, Path)) or not str(name) or "\0" in str(name):
        raise ModelError(f"a model has a name, such as 'ppc/refh', or a folder: got {name!r}")
    return Path(name)


def _names(ending: str) -> list[str]:
    return sorted(f"{path.parent.name}/{path.stem}" for path in SHIPPED.glob(f"*/*.{ending}"))
