"""Names that were mistyped: a sentence with the nearest ones that are known."""

from __future__ import annotations

import difflib
from collections.abc import Collection


def nearest(name: str, known: Collection[str], most: int = 3) -> list[str]:
    """The known names that a word resembles, the nearest first.

    A name ``TABLE/ROW`` is also found by its row alone, however it is spelt.

    Arguments:
        name: the word.
        known: the names.
        most: how many at most.
    """
    word = name.casefold()
    rows = [each for each in known if each.casefold().rpartition("/")[2] == word]
    spelt: dict[str, str] = {}
    for each in known:
        spelt.setdefault(each.casefold(), each)
    near = [spelt[each] for each in difflib.get_close_matches(word, spelt, most)]
    return list(dict.fromkeys([*rows, *near]))[:most]


def unknown(kind: str, name: str, known: Collection[str]) -> str:
    """The sentence about an unknown recipe, model or table: ``no ... 'x': did you mean y?``"""
    where = "seqzoo list shows them all"
    where += ", and the folder of a run is one, too" if kind == "model" else ""
    return f"no {kind} called {name!r}: {instead(name, known, where)}"


def instead(name: str, known: Collection[str], otherwise: str) -> str:
    """The end of a sentence about an unknown name: ``did you mean a, b or c?``

    Arguments:
        name: the word.
        known: the names.
        otherwise: the end where no name is near.
    """
    *first, last = nearest(name, known) or [""]
    if not last:
        return otherwise
    return f"did you mean {', '.join(first)}{' or ' if first else ''}{last}?"
