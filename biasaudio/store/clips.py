"""The clip table that a store may carry for each of its datasets."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasaudio._text import printable
from biasaudio.datasets.table import ClipTable
from biasaudio.errors import DataError, StoreError
from biasaudio.store.guard import MAX_NAME_BYTES, decode_texts, read_array
from biasaudio.store.index import Index
from biasaudio.store.opening import child, guard_read, open_store_file
from biasaudio.store.schema import CLIPS

__all__ = ["clips_from", "encode", "merge_clips", "read_clips", "stored_clips", "write_clips"]

TEXTS = ("clip_id", "split", "genre", "group")
LABELS = ("label_names", "labels", "mask")


def encode(texts: NDArray[Any]) -> NDArray[np.bytes_]:
    """Return strings as fixed-length UTF-8 bytes.

    Parameters
    ----------
    texts : np.ndarray of str [shape=(n,)]

    Returns
    -------
    np.ndarray [shape=(n,), dtype=S]

    Raises
    ------
    DataError
        If a string is longer than 4,096 bytes, or holds control characters.
    """
    for text in texts:
        if printable(text) != text or len(text.encode()) > MAX_NAME_BYTES:
            raise DataError(
                f"the name {text[:200]!r} has {len(text):,} characters; at most "
                f"{MAX_NAME_BYTES:,} bytes are kept, without NUL and other control characters, so "
                "shorten it or remove these"
            )
    return np.char.encode(texts.astype(str), "utf-8")


def write_clips(handle: h5py.File, dataset: str, clips: ClipTable) -> None:
    """Write the clip table of one dataset in place of the one that is there.

    Parameters
    ----------
    handle : h5py.File
        Open for writing.
    dataset : str
    clips : ClipTable
        Clips of this dataset only.
    """
    group = handle.require_group(dataset)
    # Not "in", which would follow a link that a stranger has put there.
    if group.get(CLIPS, getlink=True) is not None:
        del group[CLIPS]
    group = group.create_group(CLIPS)
    for name in TEXTS:
        group.create_dataset(name, data=encode(getattr(clips, name)), chunks=True, fletcher32=True)
    if clips.label_names:
        names = np.array(clips.label_names, dtype=object)
        group.create_dataset("label_names", data=encode(names), chunks=True, fletcher32=True)
        for name in ("labels", "mask"):
            table = getattr(clips, name).to_numpy(dtype=np.uint8)
            group.create_dataset(name, data=table, chunks=True, fletcher32=True)


def read_clips(handle: h5py.File, path: Path, dataset: str) -> ClipTable | None:
    """Read the clip table of one dataset.

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
    with guard_read(path, where):
        above = child(handle, dataset, path)
        group = None if above is None else child(above, CLIPS, path)
        if group is None:
            return None
        parts = {
            name: read_array(array, path)
            for name in (*TEXTS, *LABELS)
            if (array := child(group, name, path)) is not None
        }
    return clips_from(parts, path, dataset)


def clips_from(parts: Mapping[str, NDArray[Any]], path: Path, dataset: str) -> ClipTable:
    """Return the clip table of these arrays.

    Parameters
    ----------
    parts : mapping
        From the name of each array in the clip table.
    path : Path
        Of the file, for the message.
    dataset : str

    Returns
    -------
    ClipTable

    Raises
    ------
    StoreError
        If the table is incomplete, or its columns do not fit each other.
    """
    where = f"the clip table of dataset {dataset!r}"
    missing = [name for name in TEXTS if name not in parts]
    if missing:
        raise StoreError(f"{path}: {where} has no {missing[0]!r}; import the dataset again")
    lost = [name for name in LABELS if name not in parts]
    if 0 < len(lost) < len(LABELS):
        raise StoreError(
            f"{path}: {where} is damaged, as it has no {lost[0]!r}; import the dataset again"
        )
    labels, mask, above = None, None, f"/{dataset}/{CLIPS}"
    try:
        if "label_names" in parts:
            names = decode_texts(parts["label_names"], path, f"{above}/label_names")
            labels, mask = (
                pd.DataFrame(parts[name].astype(bool), columns=names) for name in ("labels", "mask")
            )
        texts: dict[str, Any] = {
            name: decode_texts(parts[name], path, f"{above}/{name}") for name in TEXTS
        }
        return ClipTable.from_columns(dataset=dataset, labels=labels, mask=mask, **texts)
    except (DataError, ValueError, KeyError, AttributeError, TypeError) as error:
        raise StoreError(
            f"{path}: {where} is damaged ({error}); import the dataset again"
        ) from error


def merge_clips(old: ClipTable, new: ClipTable, *, replace: bool, where: str) -> ClipTable:
    """Return the clips of both tables; what one leaves open the other fills.

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
    index = old.frame.index.union(new.frame.index, sort=False).rename("clip_id")
    a, b = (_known_texts(table).reindex(index, fill_value="") for table in (old, new))
    clash = (a != "") & (b != "") & (a != b)
    if not replace and clash.to_numpy().any():
        row, column = (int(at[0]) for at in np.nonzero(clash.to_numpy()))
        raise DataError(
            f"clip {index[row]!r} has {a.columns[column]} {b.iat[row, column]!r}, but "
            f"{a.iat[row, column]!r} in {where}; correct one of them"
        )
    names = list(dict.fromkeys([*old.label_names, *new.label_names]))
    (a_labels, a_mask), (b_labels, b_mask) = (
        [part.reindex(index=index, columns=names, fill_value=False) for part in parts]
        for parts in ((old.labels, old.mask), (new.labels, new.mask))
    )
    clash = a_mask & b_mask & (a_labels != b_labels)
    if not replace and clash.to_numpy().any():
        row, column = (int(at[0]) for at in np.nonzero(clash.to_numpy()))
        words = ("present", "absent") if b_labels.iat[row, column] else ("absent", "present")
        raise DataError(
            f"clip {index[row]!r} has label {names[column]!r} {words[0]}, but {words[1]} "
            f"in {where}; correct one of them"
        )
    # New labels take the place of a clip's old ones as a whole: of two one-hot
    # labels both would stay otherwise.
    if replace:
        a_mask = a_mask & ~b_mask.any(axis=1).to_numpy()[:, None]
    labels, mask = (a_labels & a_mask) | b_labels, a_mask | b_mask
    return ClipTable(b.where(b != "", a), labels, mask)


def _known_texts(clips: ClipTable) -> pd.DataFrame:
    # A clip without a group is its own group, which says nothing about it.
    return clips.frame.assign(group=np.where(clips.group == clips.clip_id, "", clips.group))


def stored_clips(index: Index, dataset: str) -> ClipTable | None:
    """Return the clip table of a dataset, merged over the files of a store.

    Parameters
    ----------
    index : dict
        From (dataset, embedding) to the files.
    dataset : str

    Returns
    -------
    ClipTable or None
        None if no file has one.

    Raises
    ------
    StoreError
        If one is damaged.
    DataError
        If two files contradict each other.
    """
    files = [file for (name, _), found in index.items() if name == dataset for file in found]
    tables = []
    for file in dict.fromkeys(files):
        with open_store_file(file) as handle:
            table = read_clips(handle, file, dataset)
        if table is not None:
            tables.append((file, table))
    if not tables:
        return None
    ids = np.concatenate([table.clip_id for _, table in tables])
    # Parts of one embedding have clips of their own, which need no comparison.
    if len(pd.unique(ids)) == len(ids):
        return ClipTable.concat([table for _, table in tables])
    merged = tables[0][1]
    for file, table in tables[1:]:
        merged = merge_clips(merged, table, replace=False, where=f"the files before {file}")
    return merged
