"""What is known about each clip.

A clip is known by its dataset and its ``clip_id``.  ``""`` means *not known* in
the columns split and genre.  Nothing of one group (a song, an artist) may
stand on both sides of a split; a clip without a group is a group of its own.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from biasaudio._validation import name_some
from biasaudio.datasets import _columns
from biasaudio.errors import DataError, ParameterError

__all__ = ["ClipTable"]

COLUMNS = ("dataset", "split", "genre", "group")


@dataclass(frozen=True, eq=False)
class ClipTable:
    """Hold what is known about each clip.

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
    dropped: pd.DataFrame = field(default_factory=lambda: _columns.dropped_frame(None))

    def __post_init__(self) -> None:
        """Copy and check the frames."""
        if sorted(map(str, self.frame.columns)) != sorted(COLUMNS):
            raise DataError(
                f"frame has the columns {list(self.frame.columns)}; give exactly {list(COLUMNS)}"
            )
        n = len(self.frame)
        ids = _columns.text_column(self.frame.index, "clip_id", n, required=True)
        index = pd.Index(ids, dtype=object, name="clip_id")
        texts = {
            name: _columns.text_column(
                self.frame[name].to_numpy(), name, n, required=name == "dataset"
            )
            for name in COLUMNS
        }
        texts["group"] = np.where(texts["group"] == "", ids, texts["group"])
        frame = pd.DataFrame(
            {name: pd.Series(column, index=index, dtype=object) for name, column in texts.items()}
        )
        # A frame with a range index would be taken by position.
        if not np.array_equal(self.labels.index.to_numpy(), self.frame.index.to_numpy()):
            raise DataError("labels and frame do not have the same index; use labels.loc[clip_id]")
        labels, mask = _columns.label_frames(
            self.labels.set_axis(index), self.mask.set_axis(index), index
        )
        repeated = frame.reset_index().duplicated(["dataset", "clip_id"]).to_numpy()
        if repeated.any():
            raise DataError(
                f"{repeated.sum()} clip id(s) are there more than once in one dataset: "
                f"{name_some(pd.unique(ids[repeated]))}; give each clip one row"
            )
        dropped = _columns.dropped_frame(self.dropped)
        parts = {"frame": frame, "labels": labels, "mask": mask, "dropped": dropped}
        # A frozen dataclass refuses plain assignment.
        for name, value in parts.items():
            object.__setattr__(self, name, value)

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
            One value for all clips, or one a clip.
        label : array_like of str [shape=(n,)], optional
            One label a clip, annotated for all labels; ``""`` annotates none.
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
        index = pd.Index(_columns.text_column(ids, "clip_id", n), dtype=object, name="clip_id")
        values = {"dataset": dataset, "split": split, "genre": genre, "group": group}
        frame = pd.DataFrame(
            {
                name: pd.Series(_columns.text_column(value, name, n), index=index, dtype=object)
                for name, value in values.items()
            }
        )
        if label is not None:
            known, annotated = _columns.one_hot_frames(label, index)
        else:
            known, annotated = _columns.label_frames({} if labels is None else labels, mask, index)
        return cls(frame, known, annotated, _columns.dropped_frame(dropped))

    def __len__(self) -> int:
        """Return the number of clips."""
        return len(self.frame)

    def __repr__(self) -> str:
        """Return one line of counts."""
        n_genres = len(set(self.genre) - {""})
        return (
            f"ClipTable({len(self)} clips of {', '.join(self.datasets) or 'no dataset'}; "
            f"{self.labels.shape[1]} labels, {n_genres} genres, "
            f"{len(np.unique(self.group_id))} groups, {len(self.dropped)} dropped)"
        )

    @property
    def clip_id(self) -> NDArray[np.object_]:
        """Return the names of the clips [shape=(n,)]."""
        return self.frame.index.to_numpy(dtype=object)

    @property
    def dataset(self) -> NDArray[np.object_]:
        """Return the dataset of each clip [shape=(n,)]."""
        return self._column("dataset")

    @property
    def split(self) -> NDArray[np.object_]:
        """Return the part of each clip, such as train [shape=(n,)]."""
        return self._column("split")

    @property
    def genre(self) -> NDArray[np.object_]:
        """Return the genre of each clip, ``""`` if not known [shape=(n,)]."""
        return self._column("genre")

    @property
    def group(self) -> NDArray[np.object_]:
        """Return the song or artist of each clip [shape=(n,)]."""
        return self._column("group")

    def _column(self, name: str) -> NDArray[np.object_]:
        return self.frame[name].to_numpy(dtype=object, copy=True)

    @property
    def label_names(self) -> list[str]:
        """Return the names of the label columns."""
        return [str(name) for name in self.labels.columns]

    @property
    def group_id(self) -> NDArray[np.intp]:
        """Return a number unique to each (dataset, group) [shape=(n,)]."""
        dataset, _ = pd.factorize(self.dataset)
        group, names = pd.factorize(self.group)
        pair = dataset * (len(names) + 1) + group
        codes: NDArray[np.intp] = np.unique(pair, return_inverse=True)[1]
        return codes

    @property
    def datasets(self) -> list[str]:
        """Return the sorted names of the datasets."""
        return sorted(set(self.dataset))

    def select(self, rows: ArrayLike) -> ClipTable:
        """Return the table of some clips.

        Parameters
        ----------
        rows : array_like
            A bool mask [shape=(n,)] or row numbers.
        """
        at = _columns.row_numbers(rows, len(self))
        return ClipTable(
            self.frame.iloc[at], self.labels.iloc[at], self.mask.iloc[at], self.dropped
        )

    def with_labels(self, names: str | Iterable[str]) -> ClipTable:
        """Return the table with these label columns only.

        Parameters
        ----------
        names : str or iterable of str
            The labels to keep, in the order wanted.
        """
        kept = _columns.check_names(names, "label", self.label_names)
        return ClipTable(self.frame, self.labels[kept], self.mask[kept], self.dropped)

    def with_columns(self, **columns: Any) -> ClipTable:
        """Return the table with some columns replaced.

        Parameters
        ----------
        **columns : str or array_like [shape=(n,)]
            New values of dataset, split, genre or group.
        """
        names = _columns.check_names(columns, "column", COLUMNS)
        texts = {name: _columns.text_column(columns[name], name, len(self)) for name in names}
        return ClipTable(self.frame.assign(**texts), self.labels, self.mask, self.dropped)

    @staticmethod
    def concat(tables: Sequence[ClipTable]) -> ClipTable:
        """Return the clips of all tables, one after the other.

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
        return ClipTable(pd.concat([table.frame for table in tables]), labels, mask, dropped)

    def distribution(self, by: Sequence[str] = ("dataset", "split", "genre")) -> pd.DataFrame:
        """Count annotated and positive clips a cell, and name the thin cells.

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
        by = _columns.check_names(by, "by", COLUMNS)
        return _columns.count_cells(self.frame, self.labels, self.mask, by)
