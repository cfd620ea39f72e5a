"""Bring the columns of a clip table into one form, and name what is wrong."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasaudio._validation import did_you_mean, name_some
from biasaudio.errors import DataError, ParameterError

__all__ = [
    "check_names",
    "count_cells",
    "dropped_frame",
    "label_frames",
    "one_hot_frames",
    "row_numbers",
    "text_column",
]

NEAR_EMPTY = 10
# In a store all names of a column take as much room as the longest.
LONGEST_TEXT = 1024


def text_column(values: Any, name: str, n: int, *, required: bool = False) -> NDArray[np.object_]:
    """Return one Python string a clip; a missing value becomes ``""``.

    Parameters
    ----------
    values : scalar or array_like [shape=(n,)]
        Strings, bytes in UTF-8 or whole numbers; a scalar stands for all clips.
    name : str
        What the column is called in the messages.
    n : int
        The number of clips.
    required : bool
        Refuse missing values.

    Raises
    ------
    DataError
        If the length differs, bytes are not UTF-8, a value is a fraction, a
        text is too long, or a required value is missing.
    """
    scalar = values is None or isinstance(values, (str, bytes, int, float, np.generic))
    array = np.full(n, values, dtype=object) if scalar else np.asarray(values)
    if array.shape != (n,):
        raise DataError(
            f"{name} has shape {array.shape}, but there are {n} clip ids; "
            "give one value for all clips or one a clip"
        )
    # A look at all is far quicker than a test of each.
    if array.dtype.kind == "U" or pd.api.types.infer_dtype(array, skipna=False) == "string":
        texts = array.astype(object)
    else:
        blank = np.asarray(pd.isna(array.astype(object)))
        texts = np.empty(n, dtype=object)
        texts[:] = [
            "" if is_blank else _text(value, name)
            for value, is_blank in zip(array.tolist(), blank.tolist(), strict=True)
        ]
    longest = max(map(len, texts.tolist()), default=0)
    if longest > LONGEST_TEXT:
        raise DataError(
            f"{name} has a text of {longest} characters; at most {LONGEST_TEXT} are kept of each "
            "clip, so shorten it"
        )
    if required and (texts == "").any():
        rows = np.flatnonzero(texts == "")
        raise DataError(
            f"{name} is missing for {rows.size} of {n} clips, first at row {rows[0]}; "
            f"give every clip a {name} or leave these clips out"
        )
    return texts


def _text(value: Any, name: str) -> str:
    if isinstance(value, bytes):
        try:
            return value.decode("utf-8")
        except UnicodeDecodeError:
            raise DataError(
                f"{name} holds the bytes {value!r}, which are not UTF-8; decode them to str first"
            ) from None
    # A column of ids with blanks comes out of a csv as floats.
    if isinstance(value, float):
        if not value.is_integer():
            raise DataError(f"{name} holds the number {value!r}; give strings or whole numbers")
        return str(int(value))
    return str(value)


def one_hot_frames(label: Any, index: pd.Index[Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return labels and mask from one label a clip; ``""`` annotates nothing."""
    texts = text_column(label, "label", len(index))
    codes, names = pd.factorize(texts, sort=True)
    columns = [str(name) for name in names]
    labels = pd.DataFrame(codes[:, None] == np.arange(len(columns)), index=index, columns=columns)
    if "" in columns:
        labels = labels.drop(columns="")
    known = np.repeat((texts != "")[:, None], labels.shape[1], axis=1)
    return labels, pd.DataFrame(known, index=index, columns=labels.columns)


def label_frames(labels: Any, mask: Any, index: pd.Index[Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return bool labels and mask; blank values count as not annotated."""
    values, blank = _bool_frame(labels, "labels", index)
    if mask is None:
        return values, ~blank
    known, no_answer = _bool_frame(mask, "mask", index)
    if list(known.columns) != list(values.columns):
        other = sorted(set(map(str, known.columns)) ^ set(map(str, values.columns)))
        what = f"differ in {name_some(other)}" if other else "are in another order"
        raise DataError(f"the columns of labels and mask {what}; give both the same columns")
    annotated = known & ~no_answer & ~blank
    return values & annotated, annotated


def _bool_frame(source: Any, name: str, index: pd.Index[Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    if isinstance(source, Mapping):
        lengths = {str(key): np.shape(column) for key, column in source.items()}
        wrong = [f"{key} {shape}" for key, shape in lengths.items() if shape != (len(index),)]
        if wrong:
            raise DataError(
                f"{name} has columns of another length than the {len(index)} clip ids: "
                f"{name_some(wrong)}; give one value a clip"
            )
        columns = {str(key): np.asarray(column) for key, column in source.items()}
        frame = pd.DataFrame(columns, index=index)
    elif isinstance(source, pd.DataFrame):
        frame = source
    else:
        raise ParameterError(
            f"{name} is a {type(source).__name__}; give a DataFrame or a dict with one "
            "column of 0/1 a label"
        )
    if len(frame) != len(index):
        raise DataError(
            f"{name} has {len(frame)} rows, but there are {len(index)} clip ids; "
            "give one row a clip"
        )
    by_position = isinstance(frame.index, pd.RangeIndex)
    if not by_position and not np.array_equal(frame.index.to_numpy(), index.to_numpy()):
        raise DataError(
            f"the index of {name} is not the clip ids in their order; "
            f"use {name}.loc[clip_id] or reset_index(drop=True)"
        )
    names = [str(column) for column in frame.columns]
    if len(set(names)) < len(names):
        twice = sorted({each for each in names if names.count(each) > 1})
        raise DataError(
            f"{name} has the column {name_some(twice)} more than once; give each label one column"
        )
    values = np.zeros(frame.shape, dtype=bool)
    blank = np.zeros(frame.shape, dtype=bool)
    for i, column in enumerate(names):
        values[:, i], blank[:, i] = _bool_column(frame.iloc[:, i], column, name)
    return (
        pd.DataFrame(values, index=index, columns=names),
        pd.DataFrame(blank, index=index, columns=names),
    )


def _bool_column(
    column: pd.Series[Any], label: str, name: str
) -> tuple[NDArray[np.bool_], NDArray[np.bool_]]:
    if column.dtype == bool:
        return column.to_numpy(dtype=bool), np.zeros(len(column), dtype=bool)
    blank = column.isna().to_numpy(dtype=bool)
    known = column[~blank]
    is_binary = known.isin([0, 1, True, False]).to_numpy(dtype=bool)
    if not is_binary.all():
        seen = known[~is_binary].tolist()[0]
        raise DataError(
            f"{name} column {label!r} holds {seen!r}; give 0, 1 or blank (not annotated)"
        )
    values = np.zeros(len(column), dtype=bool)
    values[~blank] = known.to_numpy(dtype=bool)
    return values, blank


def dropped_frame(dropped: pd.DataFrame | None) -> pd.DataFrame:
    """Return the left-out clips with columns clip_id, dataset, reason."""
    columns = ["clip_id", "dataset", "reason"]
    if dropped is None:
        return pd.DataFrame({name: pd.Series([], dtype=object) for name in columns})
    if list(dropped.columns) != columns:
        raise DataError(f"dropped has the columns {list(dropped.columns)}; give exactly {columns}")
    n = len(dropped)
    return pd.DataFrame(
        {
            name: pd.Series(text_column(dropped[name].to_numpy(), name, n), dtype=object)
            for name in columns
        }
    )


def row_numbers(rows: Any, n: int) -> NDArray[np.intp]:
    """Return row numbers in [0, n) from a bool mask or from integers."""
    array = np.asarray(rows)
    if array.dtype == bool:
        if array.shape != (n,):
            raise ParameterError(
                f"rows is a mask of shape {array.shape}, but there are {n} clips; "
                "give one bool a clip"
            )
        return np.flatnonzero(array)
    if array.size == 0:
        return np.empty(0, dtype=np.intp)
    if array.dtype.kind not in "iu" or array.ndim != 1:
        raise ParameterError(
            f"rows has dtype {array.dtype} and shape {array.shape}; "
            "give a 1-d bool mask or 1-d row numbers"
        )
    if array.min() < -n or array.max() >= n:
        bad = array[(array < -n) | (array >= n)]
        raise ParameterError(f"row {bad[0]} is not there; there are {n} clips, so 0 to {n - 1}")
    return np.where(array < 0, array + n, array).astype(np.intp)


def check_names(names: str | Iterable[str], name: str, allowed: Sequence[str]) -> list[str]:
    """Return ``names`` as a list, and say which is not among ``allowed``."""
    wanted = [names] if isinstance(names, str) else [str(each) for each in names]
    for each in wanted:
        if each not in allowed:
            there = name_some(allowed, limit=20) or "none"
            raise ParameterError(
                f"{name} {each!r} is not there; choose from {there}{did_you_mean(each, allowed)}"
            )
    return wanted


def count_cells(
    frame: pd.DataFrame, labels: pd.DataFrame, mask: pd.DataFrame, by: Sequence[str]
) -> pd.DataFrame:
    """Count annotated and positive clips in every cell of ``by`` x label."""
    names = [*by, "label", "n_annotated", "n_positive", "note"]
    coded = [pd.factorize(frame[column].to_numpy(), sort=True) for column in by]
    shape = tuple(len(values) for _, values in coded)
    if labels.shape[1] == 0 or 0 in shape:
        return pd.DataFrame({name: pd.Series([], dtype=object) for name in names})
    size = int(np.prod(shape))
    cell = np.ravel_multi_index([codes for codes, _ in coded], shape)
    n_clips = np.bincount(cell, minlength=size)
    counts = [
        [np.bincount(cell, weights=column, minlength=size) for column in table.to_numpy(float).T]
        for table in (mask, labels)
    ]
    annotated, positive = (np.stack(count, axis=1).astype(int) for count in counts)
    grid = np.unravel_index(np.arange(size), shape)
    columns = {
        column: np.asarray(values, dtype=object)[at]
        for column, (_, values), at in zip(by, coded, grid, strict=True)
    }
    # "" is not a genre or a split that a dataset could lack: such a cell only
    # stands where there are clips in it.
    unknown = np.zeros(size, dtype=bool)
    for values in columns.values():
        unknown |= values == ""
    keep = ~unknown | (n_clips > 0)
    n_labels = labels.shape[1]
    n_positive = positive[keep].ravel()
    table = pd.DataFrame(
        {
            column: pd.Series(np.repeat(values[keep], n_labels), dtype=object)
            for column, values in columns.items()
        }
    )
    table["label"] = pd.Series(list(labels.columns) * int(keep.sum()), dtype=object)
    table["n_annotated"] = annotated[keep].ravel()
    table["n_positive"] = n_positive
    note = np.select([n_positive == 0, n_positive < NEAR_EMPTY], ["empty", "near-empty"], "")
    table["note"] = pd.Series(note.astype(object), dtype=object)
    return table[names]
