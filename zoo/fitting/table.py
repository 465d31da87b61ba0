"""A small table that prints, and shows in a notebook."""

from __future__ import annotations

import html
from collections.abc import Sequence
from typing import Any


class Table:
    """Rows of values by column.

    Arguments:
        rows: one dict a row, with the same keys; None where there is no value.
        notes: sentences below the table.

    Attributes:
        columns: names of the columns.
    """

    def __init__(self, rows: Sequence[dict[str, Any]], notes: Sequence[str] = ()) -> None:
        self.rows, self.notes = list(rows), list(notes)
        self.columns = list(self.rows[0]) if self.rows else []

    def column(self, name: str) -> list[Any]:
        """The values of a column, from the first row on.

        Raises:
            ValueError: for an unknown column.
        """
        if name not in self.columns:
            raise ValueError(f"no column {name!r}: there are {', '.join(self.columns)}")
        return [row[name] for row in self.rows]

    def _cells(self) -> list[list[str]]:
        return [[_shown(row[name]) for name in self.columns] for row in self.rows]

    def __str__(self) -> str:
        cells = [self.columns, *self._cells()]
        widths = [max(len(row[i]) for row in cells) for i in range(len(self.columns))]
        right = [
            i > 0 and any(isinstance(row[name], int | float) for row in self.rows)
            for i, name in enumerate(self.columns)
        ]
        lines = [
            "  ".join(
                cell.rjust(width) if to_right else cell.ljust(width)
                for cell, width, to_right in zip(row, widths, right)
            ).rstrip()
            for row in cells
        ]
        return "\n".join([*lines, *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        def line(cells: list[str], tag: str) -> str:
            inner = "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)
            return f"<tr>{inner}</tr>"

        body = "".join(line(cells, "td") for cells in self._cells())
        notes = "".join(f"<p>{html.escape(note)}</p>" for note in self.notes)
        return f"<table>{line(self.columns, 'th')}{body}</table>{notes}"


def _shown(value: Any) -> str:
    if value is None:
        return "-"
    if isinstance(value, float):
        return (
            f"{value:.0f}"
            if abs(value) >= 100
            else f"{value:.3g}"
            if abs(value) >= 10
            else f"{value:.3f}"
        )
    return f"{value:,}" if isinstance(value, int) else str(value)
