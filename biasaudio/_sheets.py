"""Tables of anybody, csv and parquet: looked at before pandas reads them."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from numpy.typing import NDArray

from biasaudio._npz import decoded_limit
from biasaudio.errors import DataError

__all__ = ["MOST_COLUMNS", "check_csv", "check_texts", "read_parquet"]

MOST_COLUMNS = 10_000
# A csv file has a byte for each of its cells, but for some lines that are too short.
_CELLS_LEAST, _CELLS_TIMES = 2**18, 2
# What pandas and pyarrow raise on files that are damaged, or made to do harm.
_DAMAGE = (
    *(OSError, ValueError, LookupError, TypeError, ArithmeticError),
    *(AttributeError, RuntimeError, MemoryError),
)
_BLOCK = 2**20


def check_csv(path: Path) -> list[str]:
    """Return the names of the columns of a csv file, once it has been looked through.

    Raises
    ------
    DataError
        If it has too many columns or one of them twice, or more cells than a
        file of its size can mean.
    OSError, ValueError
        If it cannot be read, or is not text.
    """
    n_lines = _count_lines(path)
    try:
        with path.open(encoding="utf-8-sig", newline="") as stream:
            # pandas passes over lines of blanks too.
            rows = (row for row in csv.reader(stream) if len(row) > 1 or "".join(row).strip())
            names, first = next(rows, []), next(rows, [])
    except csv.Error as error:
        raise ValueError(str(error)) from error
    # pandas takes them for names of rows, in minutes if there are a million.
    if len(first) > len(names):
        raise ValueError("the rows have more fields than the header")
    _check_columns(path, names)
    size = path.stat().st_size
    if n_lines * len(names) > _CELLS_LEAST + _CELLS_TIMES * size:
        raise DataError(
            f"{path} has {n_lines} lines and {len(names)} columns, which its {size} bytes cannot "
            "fill; write all cells of each line"
        )
    return names


def read_parquet(path: Path) -> pd.DataFrame:
    """Return a parquet file, once what it says of its sizes has been looked at.

    Raises
    ------
    DataError
        If a column is nested or there twice, or it would take too much memory.
    ValueError
        If it cannot be read.
    ImportError
        If pyarrow is not installed.
    """
    from pyarrow import ArrowException

    try:
        _check_parquet(path)
        frame = pd.read_parquet(path)
        for i, dtype in enumerate(frame.dtypes):
            if dtype.kind not in "biufcmM":
                # Arrow looks for UTF-8 in a text only when it is used.
                frame.iloc[:, i].to_numpy(object)
    except (ArrowException, *_DAMAGE) as error:
        if isinstance(error, DataError):
            raise
        raise ValueError(str(error)) from error
    return frame


def _check_parquet(path: Path) -> None:
    from pyarrow.parquet import ParquetFile

    with ParquetFile(path) as file:
        said, schema = file.metadata, file.schema
        n_bytes = sum(said.row_group(i).total_byte_size for i in range(said.num_row_groups))
        columns = [schema.column(i) for i in range(said.num_columns)]
    nested = [column.path for column in columns if column.max_repetition_level]
    if nested:
        raise DataError(f"{path} has lists in {nested[0]!r}; give one column a feature")
    _check_columns(path, [column.path for column in columns])
    limit = decoded_limit(path.stat().st_size)
    n_bytes = max(n_bytes, 8 * said.num_rows * len(columns))
    if n_bytes > limit:
        raise DataError(
            f"{path} says {said.num_rows} rows and {len(columns)} columns, which take {n_bytes} "
            f"bytes of memory; a file of its size may take {limit}, so write it again"
        )


def _count_lines(path: Path) -> int:
    """Return the number of lines, or more, of a file that is text."""
    n_lines = 1
    with path.open("rb") as stream:
        while block := stream.read(_BLOCK):
            if b"\0" in block:
                raise ValueError("it has NUL bytes")
            n_lines += max(block.count(b"\n"), block.count(b"\r"))
    return n_lines


def _check_columns(path: Path, names: list[str]) -> None:
    if len(names) > MOST_COLUMNS:
        raise DataError(
            f"{path} has {len(names)} columns; at most {MOST_COLUMNS} are read of a table, give "
            "the vectors as npz"
        )
    seen: set[str] = set()
    for name in names:
        # Columns without a name get one each.
        if name and name in seen:
            raise DataError(f"{path} has the column {name!r} twice; give each column once")
        seen.add(name)


def check_texts(path: Path, columns: Mapping[str, NDArray[Any]]) -> None:
    """Refuse columns in which one long text would make all rows as long.

    Raises
    ------
    DataError
        With the column.
    """
    limit = decoded_limit(path.stat().st_size)
    for name, column in columns.items():
        if column.dtype.kind in "OT":
            longest = max(
                (len(text) for text in column.tolist() if isinstance(text, str)), default=0
            )
            # As numpy keeps texts, 4 bytes a character.
            if 4 * longest * len(column) > limit:
                raise DataError(
                    f"{path} has a text of {longest} characters in {name!r}; shorten it, or leave "
                    "the column out"
                )
