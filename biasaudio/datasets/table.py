"""What is known about each clip.

A clip is known by its dataset and its ``clip_id``.  ``""`` means *not known* in
the columns split and genre.  Nothing of one group (a song, an artist) may
stand on both sides of a split; a clip without a group is a group of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from biasaudio._validation import did_you_mean, name_some
from biasaudio.errors import DataError, ParameterError

__all__ = ["COLUMNS", "ClipTable", "check_names", "row_numbers", "text_column"]

COLUMNS = ("dataset", "split", "genre", "group")
NEAR_EMPTY = 10
# In a store all names of a column take as much room as the longest.
LONGEST_TEXT = 1024


@dataclass(frozen=True, eq=False)
class ClipTable:
    """What is known about each clip.

    The frames are copied at construction; every method returns a new table.

    Attributes
    ----------
    frame : pd.DataFrame [shape=(n, 4)]
        Index ``clip_id``; columns dataset, split, genre, group.  ``""`` is not
        known; an empty group is replaced by the clip id.
    labels : pd.DataFrame [shape=(n, n_labels)]
        Bool, same index; False wherever a clip is not annotated.
    mask : pd.DataFrame [shape=(n, n_labels)]
        Bool, same index and columns; True where the clip is annotated.
    dropped : pd.DataFrame, optional
        Clips that were left out on purpose: clip_id, dataset, reason.

    Raises
    ------
    DataError
        If a clip id or dataset is missing, a clip is there twice, or the
        frames do not have the same rows and columns.

    Examples
    --------
    >>> clips = ClipTable.from_columns(["a", "b"], "demo", label=["cello", "flute"])
    >>> clips.label_names
    ['cello', 'flute']
    """

    frame: pd.DataFrame
    labels: pd.DataFrame
    mask: pd.DataFrame
    dropped: pd.DataFrame = field(default_factory=lambda: _dropped_frame(None))

    def __post_init__(self) -> None:
        """Copy and check the frames."""
        if sorted(map(str, self.frame.columns)) != sorted(COLUMNS):
            raise DataError(
                f"frame has the columns {list(self.frame.columns)}; give exactly {list(COLUMNS)}"
            )
        n = len(self.frame)
        ids = text_column(self.frame.index, "clip_id", n, required=True)
        index = pd.Index(ids, dtype=object, name="clip_id")
        texts = {
            name: text_column(self.frame[name].to_numpy(), name, n, required=name == "dataset")
            for name in COLUMNS
        }
        texts["group"] = np.where(texts["group"] == "", ids, texts["group"])
        frame = pd.DataFrame(
            {name: pd.Series(column, index=index, dtype=object) for name, column in texts.items()}
        )
        # A frame with a range index would be taken by position.
        if not np.array_equal(self.labels.index.to_numpy(), self.frame.index.to_numpy()):
            raise DataError("labels and frame do not have the same index; use labels.loc[clip_id]")
        labels, mask = _label_frames(self.labels.set_axis(index), self.mask.set_axis(index), index)
        self._set(frame, labels, mask, _dropped_frame(self.dropped))

    def _set(
        self, frame: pd.DataFrame, labels: pd.DataFrame, mask: pd.DataFrame, dropped: pd.DataFrame
    ) -> None:
        if not frame.index.is_unique:
            repeated = frame.reset_index().duplicated(["dataset", "clip_id"]).to_numpy()
            if repeated.any():
                raise DataError(
                    f"{repeated.sum()} clip id(s) are there more than once in one dataset: "
                    f"{name_some(frame.index[repeated].unique())}; give each clip one row"
                )
        parts = {"frame": frame, "labels": labels, "mask": mask, "dropped": dropped}
        # A frozen dataclass refuses plain assignment.
        for name, value in parts.items():
            object.__setattr__(self, name, value)

    @classmethod
    def _of_checked(
        cls, frame: pd.DataFrame, labels: pd.DataFrame, mask: pd.DataFrame, dropped: pd.DataFrame
    ) -> ClipTable:
        """Table of frames that come from another table: texts are not looked at again."""
        # That look takes most of the time of a store with 100,000 clips.
        table = object.__new__(cls)
        table._set(frame, labels, mask, dropped)
        return table

    @classmethod
    def from_columns(
        cls,
        clip_id: ArrayLike,
        dataset: Any,
        *,
        split: Any = "",
        genre: Any = "",
        group: Any = "",
        label: Any = None,
        labels: Any = None,
        mask: Any = None,
        dropped: pd.DataFrame | None = None,
    ) -> ClipTable:
        """Make a table from arrays.

        Parameters
        ----------
        clip_id : array_like [shape=(n,)]
            Names of the clips, unique within a dataset.
        dataset, split, genre, group : str or array_like [shape=(n,)]
            One value for all clips, or one per clip.
        label : array_like of str [shape=(n,)], optional
            One label per clip, annotated for all labels; ``""`` annotates none.
        labels : pd.DataFrame or dict of arrays [shape=(n, n_labels)], optional
            In place of ``label``: 0/1 columns; blank is not annotated.
        mask : pd.DataFrame or dict of arrays [shape=(n, n_labels)], optional
            True where a clip is annotated, if ``labels`` has no blanks.
        dropped : pd.DataFrame, optional
            Clips left out on purpose: clip_id, dataset, reason.

        Raises
        ------
        DataError
            If the lengths differ, values are missing, or a clip is repeated.
        ParameterError
            If both ``label`` and ``labels`` are given, or ``mask`` alone.
        """
        if label is not None and labels is not None:
            raise ParameterError("label and labels are both given; give one of them")
        if mask is not None and labels is None:
            raise ParameterError("mask is given without labels; give the labels that it masks")
        ids = np.asarray(clip_id)
        if ids.ndim != 1:
            raise DataError(f"clip_id has shape {ids.shape}; give a 1-d sequence of names")
        n = len(ids)
        ids = text_column(ids, "clip_id", n, required=True)
        index = pd.Index(ids, dtype=object, name="clip_id")
        values = {"dataset": dataset, "split": split, "genre": genre, "group": group}
        texts = {
            name: text_column(value, name, n, required=name == "dataset")
            for name, value in values.items()
        }
        texts["group"] = np.where(texts["group"] == "", ids, texts["group"])
        frame = pd.DataFrame(texts, index, dtype=object)
        if label is not None:
            known, annotated = _one_hot_frames(label, index)
        else:
            known, annotated = _label_frames({} if labels is None else labels, mask, index)
        return cls._of_checked(frame, known, annotated, _dropped_frame(dropped))

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.frame)

    def __repr__(self) -> str:
        """One line of counts."""
        n_genres = len(set(self.genre) - {""})
        return (
            f"ClipTable({len(self)} clips of {', '.join(self.datasets) or 'no dataset'}; "
            f"{self.labels.shape[1]} labels, {n_genres} genres, "
            f"{len(np.unique(self.group_id))} groups, {len(self.dropped)} dropped)"
        )

    @property
    def clip_id(self) -> NDArray[np.object_]:
        """Names of the clips [shape=(n,)]."""
        return self.frame.index.to_numpy(dtype=object)

    @property
    def dataset(self) -> NDArray[np.object_]:
        """Dataset of each clip [shape=(n,)]."""
        return self._column("dataset")

    @property
    def split(self) -> NDArray[np.object_]:
        """Part of each clip, such as train [shape=(n,)]."""
        return self._column("split")

    @property
    def genre(self) -> NDArray[np.object_]:
        """Genre of each clip, ``""`` if not known [shape=(n,)]."""
        return self._column("genre")

    @property
    def group(self) -> NDArray[np.object_]:
        """Song or artist of each clip [shape=(n,)]."""
        return self._column("group")

    def _column(self, name: str) -> NDArray[np.object_]:
        return self.frame[name].to_numpy(dtype=object, copy=True)

    @property
    def label_names(self) -> list[str]:
        """Names of the label columns."""
        return [str(name) for name in self.labels.columns]

    @property
    def group_id(self) -> NDArray[np.intp]:
        """Number unique to each (dataset, group) [shape=(n,)]."""
        dataset, _ = pd.factorize(self.dataset)
        group, names = pd.factorize(self.group)
        pair = dataset * (len(names) + 1) + group
        codes: NDArray[np.intp] = np.unique(pair, return_inverse=True)[1]
        return codes

    @property
    def datasets(self) -> list[str]:
        """Sorted names of the datasets."""
        return sorted(set(self.dataset))

    def select(self, rows: ArrayLike) -> ClipTable:
        """Select some clips.

        Parameters
        ----------
        rows : array_like
            A bool mask [shape=(n,)] or row numbers.
        """
        at = row_numbers(rows, len(self))
        frame, labels, mask = (part.iloc[at] for part in (self.frame, self.labels, self.mask))
        return ClipTable._of_checked(frame, labels, mask, self.dropped.copy())

    def with_labels(self, names: str | Iterable[str]) -> ClipTable:
        """Keep some label columns only.

        Parameters
        ----------
        names : str or iterable of str
            The labels to keep, in the order wanted.
        """
        kept = check_names(names, "label", self.label_names)
        frame, dropped = self.frame.copy(), self.dropped.copy()
        return ClipTable._of_checked(frame, self.labels[kept], self.mask[kept], dropped)

    def with_columns(self, **columns: Any) -> ClipTable:
        """Replace some columns.

        Parameters
        ----------
        **columns : str or array_like [shape=(n,)]
            New values of dataset, split, genre or group.
        """
        names = check_names(columns, "column", COLUMNS)
        texts = {name: text_column(columns[name], name, len(self)) for name in names}
        return ClipTable(self.frame.assign(**texts), self.labels, self.mask, self.dropped)

    @staticmethod
    def concat(tables: Sequence[ClipTable]) -> ClipTable:
        """Join the clips of all tables, one after the other.

        A label that a table does not have is not annotated for its clips.

        Parameters
        ----------
        tables : sequence of ClipTable
            At least one.
        """
        if not tables:
            raise ParameterError("tables is empty; give at least one ClipTable")
        names = list(dict.fromkeys(name for table in tables for name in table.label_names))
        labels, mask = (
            pd.concat(
                [getattr(each, part).reindex(columns=names, fill_value=False) for each in tables]
            )
            for part in ("labels", "mask")
        )
        dropped = pd.concat([table.dropped for table in tables]).drop_duplicates()
        frame = pd.concat([table.frame for table in tables])
        return ClipTable._of_checked(frame, labels, mask, dropped.reset_index(drop=True))

    def distribution(self, by: Sequence[str] = ("dataset", "split", "genre")) -> pd.DataFrame:
        """Count annotated and positive clips per cell, and name the thin cells.

        Parameters
        ----------
        by : sequence of str
            Columns that make a cell, next to the label.

        Returns
        -------
        pd.DataFrame
            The columns of ``by``, label, n_annotated, n_positive and note: ``""``,
            ``"empty"`` (no positive clip) or ``"near-empty"`` (fewer than 10).
            All combinations are there, also those without any clip.

        Raises
        ------
        ParameterError
            If ``by`` names another column.
        """
        by = check_names(by, "by", COLUMNS)
        return _count_cells(self.frame, self.labels, self.mask, by)


# ------------------------------------------------ columns of strangers, brought into one form


def text_column(values: Any, name: str, n: int, *, required: bool = False) -> NDArray[np.object_]:
    """Make one Python string per clip; a missing value becomes ``""``.

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
        text is too long or cannot be written to a file, or a required value is
        missing.
    """
    scalar = values is None or isinstance(values, (str, bytes, int, float, np.generic))
    array = np.full(1, values, dtype=object) if scalar else np.asarray(values)
    if array.shape != (n,) and not scalar:
        raise DataError(
            f"{name} has shape {array.shape}, but there are {n} clip ids; "
            "give one value for all clips or one per clip"
        )
    # A look at all is far quicker than a test of each.
    if array.dtype.kind == "U" or pd.api.types.infer_dtype(array, skipna=False) == "string":
        texts = array.astype(object)
    else:
        blank = np.asarray(pd.isna(array.astype(object)))
        texts = np.empty(len(array), dtype=object)
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
    _check_encodable(texts.tolist(), name)
    texts = texts.repeat(n) if scalar else texts
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
        # Beyond 2 ** 53 not every whole number is one, so that two ids could become one.
        if not value.is_integer() or abs(value) > 2**53:
            raise DataError(f"{name} holds the number {value!r}; give strings or whole numbers")
        return str(int(value))
    try:
        return str(value)
    except ValueError:
        # Python writes no whole number of more than 4,300 digits.
        raise DataError(
            f"{name} holds a {type(value).__name__} that is too long to be written; give strings"
        ) from None


def _check_encodable(texts: Sequence[str], name: str) -> None:
    """Refuse half a pair of surrogates, which no file and no terminal takes."""
    try:
        # A look at all is far quicker than a test of each.
        "".join(texts).encode("utf-8")
    except UnicodeEncodeError:
        bad = next(text for text in texts if any("\ud800" <= each <= "\udfff" for each in text))
        raise DataError(
            f"{name} holds {bad[:99]!r}, which is no valid Unicode and cannot be written to a "
            "file; give it another name"
        ) from None


def _one_hot_frames(label: Any, index: pd.Index[Any]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make labels and mask of one label per clip; ``""`` annotates nothing."""
    texts = text_column(label, "label", len(index))
    codes, names = pd.factorize(texts, sort=True)
    columns = [str(name) for name in names]
    labels = pd.DataFrame(codes[:, None] == np.arange(len(columns)), index=index, columns=columns)
    if "" in columns:
        labels = labels.drop(columns="")
    known = np.repeat((texts != "")[:, None], labels.shape[1], axis=1)
    return labels, pd.DataFrame(known, index=index, columns=labels.columns)


def _label_frames(
    labels: Any, mask: Any, index: pd.Index[Any]
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Make bool labels and mask; blank values count as not annotated."""
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
                f"{name_some(wrong)}; give one value per clip"
            )
        columns = {str(key): np.asarray(column) for key, column in source.items()}
        # Before pandas, which raises an error of its own.
        _check_encodable(list(columns), f"the columns of {name}")
        frame = pd.DataFrame(columns, index=index)
    elif isinstance(source, pd.DataFrame):
        frame = source
    else:
        raise ParameterError(
            f"{name} is a {type(source).__name__}; give a DataFrame or a dict with one "
            "column of 0/1 per label"
        )
    if len(frame) != len(index):
        raise DataError(
            f"{name} has {len(frame)} rows, but there are {len(index)} clip ids; "
            "give one row per clip"
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
    _check_encodable(names, f"the columns of {name}")
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


def _dropped_frame(dropped: pd.DataFrame | None) -> pd.DataFrame:
    """Check the left-out clips, with columns clip_id, dataset, reason."""
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
    """Make row numbers in [0, n) of a bool mask or of integers."""
    array = np.asarray(rows)
    if array.dtype == bool:
        if array.shape != (n,):
            raise ParameterError(
                f"rows is a mask of shape {array.shape}, but there are {n} clips; "
                "give one bool per clip"
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
    """Make a list of ``names``, and say which is not among ``allowed``."""
    wanted = [names] if isinstance(names, str) else [str(each) for each in names]
    for each in wanted:
        if each not in allowed:
            there = name_some(allowed, limit=20) or "none"
            raise ParameterError(
                f"{name} {each!r} is not there; choose from {there}{did_you_mean(each, allowed)}"
            )
    return wanted


def _count_cells(
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
