"""The names that a file has, for an error about one that it lacks."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

MOST = 8  # names in a sentence


def instead(name: str, known: Iterable[str]) -> str:
    """The end of a sentence about a name that is not there: ``did you mean a?`` or all names.

    Arguments:
        name: the word.
        known: the names.
    """
    spelt = {each.casefold(): each for each in known}
    near = difflib.get_close_matches(name.casefold(), spelt)
    if near:
        return f"did you mean {' or '.join(spelt[each] for each in near)}?"
    more = ", ..." if len(spelt) > MOST else ""
    return f"it has {', '.join(list(spelt.values())[:MOST]) or 'none'}{more}"
