"""Aligned tables on standard output, by rich."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Sequence

from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDE = 10_000  # columns of a pipe or a file, where nothing is wrapped


def table(
    columns: Sequence[str], rows: Iterable[Sequence[str]], words: Sequence[int] = (0,)
) -> Table:
    """A table without lines, two spaces between its columns.

    Arguments:
        columns: the heads.
        rows: the cells of every row, as they are printed.
        words: numbers of the columns that hold words, aligned to the left. Numbers are aligned to
            the right.
    """
    found = Table(box=None, pad_edge=False, header_style="bold")
    for number, column in enumerate(columns):
        found.add_column(Text(column), justify="left" if number in words else "right")
    for row in rows:
        found.add_row(*map(Text, row))
    return found


def show(found: Table) -> None:
    """Prints a table: to the width of a terminal, or in full and without colours elsewhere."""
    terminal = sys.stdout.isatty()
    console = Console(force_terminal=terminal, width=None if terminal else WIDE, highlight=False)
    with console.capture() as captured:
        console.print(found)
    print("\n".join(line.rstrip() for line in captured.get().splitlines()), flush=True)
