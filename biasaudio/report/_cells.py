"""A printed table, and how its cells are written."""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd

from biasaudio.report import _numbers as num

__all__ = ["DASH", "Cell", "Table", "auc_cell", "build", "count", "minus", "p_text", "points"]

DASH = "\N{EN DASH}"
# The text of a cell and its tone.
Cell = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Table:
    """A table as it is printed: text in every cell.

    Attributes
    ----------
    caption : str
        What the table shows, and how to read its cells.
    frame : pd.DataFrame
        Cells of text.  The index is (group of rows, row), the columns are
        (group of columns, column).  What follows the number in brackets is
        its interval or a remark.
    tones : pd.DataFrame
        The same shape: '', 'good', 'bad', 'warn' or 'quiet'; never the only
        place where a cell says something.
    stub : str
        What the row names are.
    """

    caption: str
    frame: pd.DataFrame
    tones: pd.DataFrame
    stub: str

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.frame)


def build(
    caption: str, stub: str, rows: dict[tuple[str, str], dict[tuple[str, str], Cell]]
) -> Table:
    """Build a table from rows of (text, tone) cells; absent cells get a dash."""
    titles = list(dict.fromkeys(group for group, _ in rows))
    rows = {key: rows[key] for title in titles for key in rows if key[0] == title}
    found = list(dict.fromkeys(column for row in rows.values() for column in row))
    tops = list(dict.fromkeys(top for top, _ in found))
    columns = [column for top in tops for column in found if column[0] == top]
    index = pd.MultiIndex.from_tuples(list(rows), names=["group", "row"]) if rows else None
    head = pd.MultiIndex.from_tuples(columns) if columns else None
    parts = [
        [[row.get(column, (DASH, "quiet"))[side] for column in columns] for row in rows.values()]
        for side in (0, 1)
    ]
    text, tones = (pd.DataFrame(part, index=index, columns=head, dtype=object) for part in parts)
    return Table(caption, text, tones, stub)


def minus(text: str) -> str:
    """Write minus signs as such."""
    return text.replace("-", "\N{MINUS SIGN}")


def auc_cell(value: float, low: float = math.nan, high: float = math.nan, tone: str = "") -> Cell:
    """Return the cell of a ROC-AUC with its interval."""
    if math.isnan(value):
        return DASH, "quiet"
    return f"{num.auc(value)} {num.interval(low, high)}".strip(), tone


def points(value: float) -> str:
    """Return a change in points."""
    return DASH if math.isnan(value) else minus(num.points(value))


def p_text(value: float) -> str:
    """Return a p value without its name."""
    if math.isnan(value):
        return DASH
    return num.p_value(value).removeprefix("p ").removeprefix("= ").replace("< ", "<")


def count(value: float) -> str:
    """Return a whole number."""
    return DASH if math.isnan(value) else f"{int(value):,}"
