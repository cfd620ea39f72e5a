"""Write vectors and clip tables to a store, whole or not at all."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from biasaudio._validation import check_features, name_some
from biasaudio.datasets.table import ClipTable
from biasaudio.errors import DataError, StoreError
from biasaudio.store.change import Change, apply_changes, settled, writing
from biasaudio.store.clips import encode, merge_clips, read_clips
from biasaudio.store.content import Content, Origin
from biasaudio.store.frames import open_frames
from biasaudio.store.index import Index, already_there
from biasaudio.store.opening import open_store_file
from biasaudio.store.pooling import rows_not_finite
from biasaudio.store.schema import check_name, target_file

__all__ = ["import_arrays", "write_vectors"]


def import_arrays(
    path: str | os.PathLike[str],
    X: ArrayLike,
    clip: ArrayLike,
    *,
    dataset: str | ArrayLike,
    embedding: str = "embedding",
    split: str | ArrayLike = "",
    genre: str | ArrayLike = "",
    group: str | ArrayLike = "",
    label: ArrayLike | None = None,
    labels: pd.DataFrame | Mapping[str, ArrayLike] | None = None,
    mask: pd.DataFrame | Mapping[str, ArrayLike] | None = None,
    frame_clip: ArrayLike | None = None,
    overwrite: bool = False,
) -> Path:
    """Add the vectors of one embedding to a store, and what the clips are.

    Parameters
    ----------
    path : path-like
        An HDF5 file (``.h5``, ``.hdf5``; copied, extended and replaced, so the
        old file stays whole until the new one is), else a folder, to which one
        file a dataset is added.
    X : array_like [shape=(n_clips, d) or (n_frames, d)]
        Vectors, stored as float32.
    clip : array_like of str [shape=(n_clips,)]
        Ids of the clips, unique within a dataset.
    dataset : str or array_like of str [shape=(n_clips,)]
        Several datasets become several groups.
    embedding : str
        The name of the embedding.
    split, genre, group, label, labels, mask
        What is known of the clips; see `ClipTable.from_columns`.
    frame_clip : array_like of int [shape=(n_frames,)], optional
        If given, X holds frames, and this is the row of ``clip`` of each.
    overwrite : bool
        Replace the embedding where it exists, and let what is said of a clip
        here replace what the store says.

    Returns
    -------
    Path
        Of the store.

    Raises
    ------
    ParameterError
        If the embedding exists and ``overwrite`` is False, or a name is not
        allowed.
    DataError
        If lengths differ, ids are repeated, vectors have NaN or Inf, clips
        have no frames, or the clips contradict the store.
    StoreError
        If the file that is there is not a store, or cannot be written.

    Examples
    --------
    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = import_arrays(folder + "/demo.h5", [[1.0], [2.0]], ["a", "b"], dataset="demo")
    ...     path.name
    'demo.h5'
    """
    path = Path(path)
    check_name(embedding, "embedding")
    clips = ClipTable.from_columns(
        clip, dataset, split=split, genre=genre, group=group, label=label, labels=labels, mask=mask
    )
    for name in clips.datasets:
        check_name(name, "dataset")
    vectors, owner = _check_vectors(X, clips, frame_clip)
    return write_vectors(path, vectors, clips, owner, embedding=embedding, overwrite=overwrite)


def write_vectors(
    path: Path,
    vectors: Any,
    clips: ClipTable,
    owner: NDArray[np.intp],
    *,
    embedding: str,
    overwrite: bool,
    origins: Mapping[str, Origin | None] | None = None,
) -> Path:
    """Do what `import_arrays` does, with vectors that were checked.

    Parameters
    ----------
    path : Path
    vectors : array_like of float32 [shape=(n_frames, d)]
        Or what has this shape and gives rows by their numbers.
    clips : ClipTable
    owner : np.ndarray of int [shape=(n_frames,)]
        The clip of each row.
    embedding : str
    overwrite : bool
    origins : mapping, optional
        Where the vectors of a dataset come from.

    Returns
    -------
    Path
        Of the store.
    """
    keys = encode(clips.clip_id)
    with writing(path):
        index = settled(path)
        if not overwrite:
            _check_new(index, clips.datasets, embedding)
        changes = []
        for name in clips.datasets:
            old = index.get((name, embedding), ())
            target = target_file(path, name, embedding)
            # A part must never take the place of the file that it is merged into.
            target = target if target in old or not old else old[0]
            if not old and target.exists():
                _check_room(target, name, embedding)
            new = clips.select(clips.dataset == name)
            table = _merge_stored(index, (name, embedding), target, new, overwrite)
            rows = np.flatnonzero((clips.dataset == name)[owner])
            origin = None if origins is None else origins.get(name)
            parts = (name, embedding, vectors, rows, keys[owner[rows]], table, origin)
            changes.append(
                Change(target, Content(*parts), [file for file in old if file != target])
            )
        apply_changes(index, changes)
    return path


def _check_new(index: Index, datasets: Iterable[str], embedding: str) -> None:
    for pair in ((name, embedding) for name in datasets):
        if pair in index:
            raise already_there(embedding, pair[0], index[pair])


def _check_vectors(
    X: ArrayLike, clips: ClipTable, frame_clip: ArrayLike | None
) -> tuple[NDArray[np.float32], NDArray[np.intp]]:
    array = np.asarray(X)
    owner = np.arange(len(clips)) if frame_clip is None else _check_owner(frame_clip, clips)
    if array.ndim == 2 and len(array) != len(owner):
        what, way = ("clip ids", "a clip, or frames with frame_clip")
        if frame_clip is not None:
            what, way = ("values of frame_clip", "a value of frame_clip")
        raise DataError(
            f"X has {len(array)} rows, but there are {len(owner)} {what}; give one row {way}"
        )
    if array.dtype.kind in "fiub":
        # float64 beyond the range of float32 becomes Inf, which is named below.
        with np.errstate(over="ignore"):
            array = array.astype(np.float32, copy=False)
        bad = np.unique(owner[rows_not_finite(array)]) if array.ndim == 2 else owner[:0]
        if bad.size:
            raise DataError(
                f"X has NaN or Inf in {bad.size} of {len(clips)} clips: "
                f"{name_some(clips.clip_id[bad])}; remove these clips or compute them again"
            )
    return check_features(array).astype(np.float32, copy=False), owner


def _check_owner(frame_clip: ArrayLike, clips: ClipTable) -> NDArray[np.intp]:
    owner = np.asarray(frame_clip)
    n = len(clips)
    if owner.ndim != 1 or owner.dtype.kind not in "iu":
        raise DataError(
            f"frame_clip has shape {owner.shape} and dtype {owner.dtype}; "
            "give one whole number a frame, the row of its clip"
        )
    outside = owner[(owner < 0) | (owner >= n)]
    if outside.size:
        raise DataError(
            f"frame_clip holds {outside[0]}, but there are {n} clips; give rows from 0 to {n - 1}"
        )
    without = clips.clip_id[np.bincount(owner.astype(np.intp), minlength=n) == 0]
    if without.size:
        raise DataError(
            f"{without.size} clip(s) have no frame: {name_some(without)}; "
            "remove these clips or add their frames"
        )
    return owner.astype(np.intp)


def _check_room(target: Path, dataset: str, embedding: str) -> None:
    with open_store_file(target) as handle:
        found = handle.get(dataset)
        is_taken = found is not None and (isinstance(found, h5py.Dataset) or embedding in found)
    if is_taken:
        raise StoreError(
            f"{target} has something else than vectors at /{dataset}/{embedding} or above it; "
            "choose another name"
        )


def _merge_stored(
    index: Index,
    pair: tuple[str, str],
    target: Path,
    new: ClipTable,
    overwrite: bool,
) -> ClipTable:
    # What the file says of the dataset stays, unless the embedding that is
    # replaced was all that it held of it.
    others = [
        (key, file)
        for key, files in index.items()
        for file in files
        if key[0] == pair[0] and key != pair
    ]
    merged = new
    for file in dict.fromkeys(file for _, file in others):
        with open_store_file(file) as handle:
            stored = read_clips(handle, file, pair[0])
        if stored is None and file == target:
            names = [key[1] for key, other in others if other == file]
            stored = _bare_clips(file, pair[0], names)
        if stored is None:
            continue
        where = f"{file} (which overwrite=True replaces)" if file == target else str(file)
        both = merge_clips(stored, new, replace=overwrite and file == target, where=where)
        merged = both if file == target else merged
    return merged


def _bare_clips(path: Path, dataset: str, embeddings: Iterable[str]) -> ClipTable:
    # A published file has no clip table; one that named the new clips only would
    # make strangers of those that it has.
    names: dict[str, None] = {}
    for embedding in embeddings:
        with open_frames(path, dataset, embedding) as frames:
            names.update(dict.fromkeys(frames.read_keys().names))
    return ClipTable.from_columns(list(names), dataset)
