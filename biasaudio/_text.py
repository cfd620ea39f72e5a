"""Text of strangers: shown without its control characters, and no formula in a spreadsheet."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["can_be_name", "csv_safe", "printable"]

# C0, DEL, C1, separators of lines, what turns the direction of writing, what is no character.
_UNSEEN = re.compile(
    r"[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff\ufeff\ufffe\uffff]"
)
# With one of these in front, a cell is a formula to a spreadsheet.
_FORMULA = ("=", "+", "-", "@", "\t", "\r")


def printable(text: str, keep: str = "") -> str:
    r"""Return a text in which control characters are written out.

    A name that comes from a file could otherwise clear the screen, hide a
    line, or turn the direction in which others are read.

    Parameters
    ----------
    text : str
    keep : str
        Characters that stay, such as the newlines between our own lines.

    Returns
    -------
    str

    Examples
    --------
    >>> print(printable("a\x1b[2J"))
    a\x1b[2J
    """

    def shown(found: re.Match[str]) -> str:
        char = found[0]
        if char in keep:
            return char
        return f"\\x{ord(char):02x}" if ord(char) < 0x100 else f"\\u{ord(char):04x}"

    return _UNSEEN.sub(shown, text)


def can_be_name(text: object) -> bool:
    """Say whether a text may name a dataset or an embedding: it becomes part of file names."""
    if not isinstance(text, str) or not text.isprintable() or text.strip() != text:
        return False
    return text != "" and not text.startswith((".", "__")) and not {"/", "\\"} & set(text)


def csv_safe(frame: pd.DataFrame) -> pd.DataFrame:
    """Return a table to be written as csv, in which no text is taken for a formula.

    A text that starts with ``=``, ``+``, ``-``, ``@``, a tab or a carriage
    return gets an apostrophe in front, also the name of a column.  Numbers
    stay as they are.

    Parameters
    ----------
    frame : pd.DataFrame

    Returns
    -------
    pd.DataFrame
    """

    def safe(value: object) -> object:
        return f"'{value}" if isinstance(value, str) and value.startswith(_FORMULA) else value

    changed = frame.copy()
    for i, dtype in enumerate(frame.dtypes):
        if dtype.kind not in "biufcmM":
            changed.isetitem(i, frame.iloc[:, i].map(safe).array)
    return changed.set_axis([safe(name) for name in frame.columns], axis=1)
