"""Read a table of clips that somebody wrote for their own dataset."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasaudio._files import read_parquet
from biasaudio._validation import did_you_mean, name_some
from biasaudio.datasets._files import one_line, read_csv
from biasaudio.datasets.table import COLUMNS, ClipTable
from biasaudio.errors import DataError, ParameterError

__all__ = ["clip_table", "load_manifest", "read_rows"]

KNOWN = ("clip_id", *COLUMNS)
# One per clip and label; as bool tables these take half a gigabyte.
MAX_ANSWERS = 2**27
_ANSWERS = {"0": 0.0, "1": 1.0, "0.0": 0.0, "1.0": 1.0, "false": 0.0, "true": 1.0, "": np.nan}


def load_manifest(
    source: str | os.PathLike[str] | pd.DataFrame,
    *,
    dataset: str | None = None,
    label: str | None = None,
) -> ClipTable:
    """Read clips from a csv file, a parquet file or a DataFrame.

    Parameters
    ----------
    source : path or pd.DataFrame
        One row per clip.  Columns: ``clip_id``, the key of its vectors; where
        known ``dataset``, ``split``, ``group`` (song or artist) and ``genre``,
        blank where not known; and either one column ``label`` with one label
        per clip, or one column per label with 1 (there), 0 (not there) or blank (not
        annotated).
    dataset : str, optional
        The dataset of all clips, if there is no such column.
    label : str, optional
        The column that holds the one label, if it is not called ``label``.

    Returns
    -------
    ClipTable

    Raises
    ------
    DataError
        If the file cannot be read, has no clips, lacks a column, has one that
        is neither known nor 0/1/blank, or repeats a clip.
    ParameterError
        If the source is of another type, ``dataset`` or ``label`` does not go
        with the columns, or parquet cannot be read here.

    Examples
    --------
    >>> import pandas as pd
    >>> rows = pd.DataFrame({"clip_id": ["a", "b"], "cello": [1, 0], "flute": [None, 1]})
    >>> clips = load_manifest(rows, dataset="mine")
    >>> clips.mask["flute"].tolist()
    [False, True]
    """
    frame, name = read_rows(source)
    return clip_table(frame, name, dataset=dataset, label=label)


def clip_table(
    frame: pd.DataFrame, name: str, *, dataset: str | None = None, label: str | None = None
) -> ClipTable:
    """Make clips of the rows of a manifest, which messages call ``name``."""
    columns = list(frame.columns)
    if "clip_id" not in columns:
        raise DataError(
            f"{name} has no column 'clip_id'; it has {name_some(columns, limit=10) or 'none'}; "
            "name the column with the keys of the vectors clip_id"
        )
    if frame.empty:
        raise DataError(f"{name} has no rows; give at least one clip")
    _check_dataset(columns, dataset, name)
    # Every column that is left must be a label: one that is quietly ignored
    # could be a misspelt group, and songs would then straddle a split.
    one_label = _label_column(columns, label, name)
    others = [column for column in columns if column not in KNOWN and column != one_label]
    labels = _answer_columns(frame[others], name)
    if one_label and others:
        raise DataError(
            f"{name} has the label column {one_label!r} and 0/1 columns ({name_some(others)}); "
            "keep one of the two forms"
        )
    n_labels = frame[one_label].nunique() if one_label else 0
    if len(frame) * n_labels > MAX_ANSWERS:
        raise DataError(
            f"{name} has {n_labels} different labels for {len(frame)} clips, at most "
            f"{MAX_ANSWERS} answers are kept; give the column that holds the class, not a name"
        )
    given = [column for column in COLUMNS if column in columns]
    known: dict[str, Any] = {column: frame[column].to_numpy() for column in given}
    return ClipTable.from_columns(
        frame["clip_id"].to_numpy(),
        known.pop("dataset", dataset),
        **known,
        label=frame[one_label].to_numpy() if one_label else None,
        labels=None if one_label else labels,
    )


def read_rows(source: str | os.PathLike[str] | pd.DataFrame) -> tuple[pd.DataFrame, str]:
    """Return the rows of a manifest with a name in each column, and what to call it."""
    frame, name = _read(source)
    frame.columns = pd.Index([str(column) for column in frame.columns])
    counts = Counter(frame.columns)
    if len(counts) < len(frame.columns):
        twice = [column for column, count in counts.items() if count > 1]
        raise DataError(f"{name} has the column {name_some(twice)} more than once; keep one")
    if any(column.startswith("Unnamed: ") for column in counts):
        raise DataError(
            f"{name} has a column without a name; name or remove it "
            "(DataFrame.to_csv writes one unless index=False)"
        )
    return frame, name


def _read(source: str | os.PathLike[str] | pd.DataFrame) -> tuple[pd.DataFrame, str]:
    if isinstance(source, pd.DataFrame):
        return _with_ids(source), "the table"
    if not isinstance(source, (str, os.PathLike)):
        raise ParameterError(
            f"source is a {type(source).__name__}; give the path of a csv or parquet file, or a "
            "DataFrame with one row per clip"
        )
    path = Path(source)
    if not path.is_file():
        raise DataError(f"{str(path)!r} is not a file; give a csv or parquet file of clips")
    if path.suffix.lower() == ".csv":
        return read_csv(path), path.name
    if path.suffix.lower() not in (".parquet", ".pq"):
        raise DataError(
            f"{path.name!r} ends in {path.suffix!r}; give a .csv or .parquet file, or a DataFrame"
        )
    try:
        return _with_ids(read_parquet(path)), path.name
    except ImportError as error:
        raise ParameterError(
            f"{path.name!r} needs pyarrow, which cannot be imported here; "
            "run: python -m pip install pyarrow, or give a csv file"
        ) from error
    except ValueError as error:
        if isinstance(error, DataError):
            raise
        raise DataError(
            f"{str(path)!r} is not a parquet file that can be read ({one_line(error)}); "
            "write it again with DataFrame.to_parquet"
        ) from error


def _with_ids(frame: pd.DataFrame) -> pd.DataFrame:
    """Make a copy in which an index of clip ids has become a column."""
    has_ids = frame.index.name == "clip_id" and "clip_id" not in frame.columns
    return frame.reset_index(drop=not has_ids)


def _check_dataset(columns: list[str], dataset: str | None, name: str) -> None:
    if dataset is None and "dataset" not in columns:
        raise DataError(
            f"{name} has no column 'dataset'; add it, or say dataset=... if all clips are of one"
        )
    if dataset is not None and "dataset" in columns:
        raise ParameterError(
            f"dataset={dataset!r} is given, but {name} has a column 'dataset'; use one of the two"
        )


def _label_column(columns: list[str], label: str | None, name: str) -> str | None:
    if label is None:
        return "label" if "label" in columns else None
    if label in KNOWN:
        raise ParameterError(f"label={label!r} is a column of its own; name one with the labels")
    if label not in columns:
        raise ParameterError(
            f"label={label!r} is no column of {name}; it has {name_some(columns, limit=10)}"
            f"{did_you_mean(label, columns)}"
        )
    return label


def _answer_columns(frame: pd.DataFrame, name: str) -> dict[str, NDArray[Any]]:
    """Make each column 1, 0 or NaN, and name the first value that is another."""
    answers = {}
    for column in frame.columns:
        codes, values = pd.factorize(frame[column].to_numpy(dtype=object), use_na_sentinel=True)
        texts = [str(value).strip().lower() for value in values]
        wrong = [value for value, text in zip(values, texts, strict=True) if text not in _ANSWERS]
        if wrong:
            raise DataError(
                f"column {column!r} of {name} holds {wrong[0]!r}, so it is neither a known column "
                f"nor 0/1/blank{did_you_mean(column, (*KNOWN, 'label'))}; rename or remove it, "
                f"or say label={column!r} if it holds one label per clip"
            )
        answers[column] = np.array([*(_ANSWERS[text] for text in texts), np.nan])[codes]
    return answers
