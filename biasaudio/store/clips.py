"""The clip table that a store may carry for each of its datasets, and how two become one."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasaudio.datasets.table import ClipTable
from biasaudio.errors import DataError, StoreError
from biasaudio.store.file import CLIPS, member, need_array, open_file, read_texts, reading

__all__ = ["combine", "known_clips", "merge_clips", "read_clips", "stored_clips"]

TEXTS = ("clip_id", "split", "genre", "group")
LABELS = ("label_names", "labels", "mask")


def read_clips(handle: h5py.File, path: Path, dataset: str) -> ClipTable | None:
    """Clip table of one dataset of a file.

    Parameters
    ----------
    handle : h5py.File
    path : Path
        Of the file, for the message.
    dataset : str

    Returns
    -------
    ClipTable or None
        None where the dataset is not in the file or has no clip table.

    Raises
    ------
    StoreError
        If the table is incomplete, or its columns do not fit each other.
    """
    where = f"the clip table of dataset {dataset!r}"
    with reading(path, where):
        above = member(handle, dataset, path)
        group = member(above, CLIPS, path) if isinstance(above, h5py.Group) else None
        if group is None:
            return None
        there = [name for name in (*TEXTS, *LABELS) if member(group, name, path) is not None]
    missing = [name for name in TEXTS if name not in there]
    if missing:
        raise StoreError(f"{path}: {where} has no {missing[0]!r}; import the dataset again")
    lost = [name for name in LABELS if name not in there]
    if 0 < len(lost) < len(LABELS):
        raise StoreError(
            f"{path}: {where} is damaged, as it has no {lost[0]!r}; import the dataset again"
        )
    labels, mask = None, None
    try:
        if not lost:
            names = read_texts(group, "label_names", path)
            with reading(path, where):
                labels, mask = (
                    pd.DataFrame(need_array(group, name, path)[()].astype(bool), columns=names)
                    for name in ("labels", "mask")
                )
        texts: dict[str, Any] = {name: read_texts(group, name, path) for name in TEXTS}
        return ClipTable.from_columns(dataset=dataset, labels=labels, mask=mask, **texts)
    except StoreError:
        raise
    except (DataError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise StoreError(
            f"{path}: {where} is damaged ({error}); import the dataset again"
        ) from error


def merge_clips(old: ClipTable, new: ClipTable, *, replace: bool, where: str) -> ClipTable:
    """Clips of both tables; what one leaves open the other fills.

    Parameters
    ----------
    old, new : ClipTable
        Tables of one dataset, which may share clips.
    replace : bool
        Whether ``new`` wins where both say something else.
    where : str
        Where ``old`` comes from, for the message.

    Returns
    -------
    ClipTable
        Old clips first.

    Raises
    ------
    DataError
        If the tables contradict each other and ``replace`` is False.
    """
    index = old.frame.index
    if not index.equals(new.frame.index):
        index = index.union(new.frame.index, sort=False).rename("clip_id")
    a, b = (_texts_of(table, index) for table in (old, new))
    clash = np.asarray((a != "") & (b != "") & (a != b))
    if not replace and clash.any():
        row, column = (int(at[0]) for at in np.nonzero(clash))
        raise DataError(
            f"clip {index[row]!r} has {COLUMNS[column]} {b[row, column]!r}, but "
            f"{a[row, column]!r} in {where}; correct one of them"
        )
    names = list(dict.fromkeys([*old.label_names, *new.label_names]))
    (a_labels, a_mask), (b_labels, b_mask) = (
        [_answers_of(part, index, names) for part in (table.labels, table.mask)]
        for table in (old, new)
    )
    clash = a_mask & b_mask & (a_labels != b_labels)
    if not replace and clash.any():
        row, column = (int(at[0]) for at in np.nonzero(clash))
        words = ("present", "absent") if b_labels[row, column] else ("absent", "present")
        raise DataError(
            f"clip {index[row]!r} has label {names[column]!r} {words[0]}, but {words[1]} "
            f"in {where}; correct one of them"
        )
    # New labels take the place of a clip's old ones as a whole: of two one-hot
    # labels both would stay otherwise.
    if replace:
        a_mask = a_mask & ~np.asarray(b_mask.any(axis=1))[:, None]
    labels, mask = (a_labels & a_mask) | b_labels, a_mask | b_mask
    frame = pd.DataFrame(np.where(b != "", b, a), index, COLUMNS, dtype=object)
    return ClipTable(frame, pd.DataFrame(labels, index, names), pd.DataFrame(mask, index, names))


COLUMNS = ["dataset", "split", "genre", "group"]


def _texts_of(clips: ClipTable, index: pd.Index[Any]) -> NDArray[np.object_]:
    """What is known of each clip [shape=(n, 4)], in numpy, which is far faster than pandas."""
    # A clip without a group is its own group, which says nothing about it.
    group = np.where(clips.group == clips.clip_id, "", clips.group)
    found = np.column_stack([clips.dataset, clips.split, clips.genre, group])
    if clips.frame.index.equals(index):
        return found
    wider = np.full((len(index), len(COLUMNS)), "", dtype=object)
    wider[index.get_indexer(clips.frame.index)] = found
    return wider


def _answers_of(part: pd.DataFrame, index: pd.Index[Any], names: list[str]) -> NDArray[np.bool_]:
    if list(part.columns) != names or not part.index.equals(index):
        part = part.reindex(index=index, columns=names, fill_value=False)
    return part.to_numpy(dtype=bool)


def combine(tables: Mapping[Path, ClipTable], *, replace: bool) -> ClipTable | None:
    """One clip table of those of several files; None if there is none.

    Parameters
    ----------
    tables : mapping
        From the file to its table, all of one dataset.
    replace : bool
        Whether the later file wins, as in a store that lists its parts in order.
        In other folders files that contradict each other are an error.
    """
    merged: ClipTable | None = None
    before = Path()
    batch: list[ClipTable] = []
    seen: set[str] = set()
    for file, table in [*tables.items(), (Path(), None)]:
        ids = set() if table is None else set(table.clip_id)
        # Parts of one embedding have clips of their own, which need no comparison.
        if batch and (table is None or seen & ids):
            whole = batch[0] if len(batch) == 1 else ClipTable.concat(batch)
            if merged is not None:
                where = f"the files before {before}"
                whole = merge_clips(merged, whole, replace=replace, where=where)
            merged, batch, seen = whole, [], set()
        if table is not None:
            before = before if batch else file
            batch.append(table)
            seen |= ids
    return merged


def stored_clips(files: list[Path], dataset: str, *, replace: bool) -> ClipTable | None:
    """Clip table of a dataset, merged over these files; see `combine`."""
    tables = {}
    for file in files:
        with open_file(file) as handle:
            table = read_clips(handle, file, dataset)
        if table is not None:
            tables[file] = table
    return combine(tables, replace=replace)


def known_clips(table: ClipTable | None, names: NDArray[np.object_], dataset: str) -> ClipTable:
    """Just these clips: rows of the table, and rows that say nothing of clips it lacks.

    Parameters
    ----------
    table : ClipTable, optional
    names : array_like of str
    dataset : str
    """
    if table is None:
        return ClipTable.from_columns(names, dataset)
    wanted = pd.Index(names, dtype=object)
    held = table.select(table.frame.index.isin(wanted).nonzero()[0])
    others = wanted[~wanted.isin(table.frame.index)].unique()
    if not len(others):
        return held
    return ClipTable.concat([held, ClipTable.from_columns(others.to_numpy(object), dataset)])
