"""Another embedding from one in a store: every row through a function."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasaudio._validation import name_some
from biasaudio.datasets.table import ClipTable
from biasaudio.errors import DataError, StoreError
from biasaudio.store.frames import Frames
from biasaudio.store.index import already_there, existing, index_files
from biasaudio.store.pooling import rows_not_finite
from biasaudio.store.reader import EmbeddingStore
from biasaudio.store.schema import check_name, is_file_path
from biasaudio.store.stream import open_parts
from biasaudio.store.writer import import_arrays, write_vectors

__all__ = ["derive_embedding"]

BLOCK_VALUES = 2**22
_Array = NDArray[Any]
Change = Callable[[_Array, ClipTable, NDArray[np.intp]], _Array]


def derive_embedding(
    source: EmbeddingStore,
    path: str | os.PathLike[str],
    change: Change,
    *,
    embedding: str,
    name: str,
    datasets: Sequence[str],
    pool: bool = False,
    overwrite: bool = False,
    advance: Callable[[int], object] = lambda _: None,
) -> Path:
    """Write an embedding whose rows are a function of those of another one.

    Rows are read and changed in blocks; between reading and writing they lie
    in a temporary file beside the new store, not in memory.

    Parameters
    ----------
    source : EmbeddingStore
    path : path-like
        Of the store to be written or added to, which may be the source.
    change : callable
        From rows (m, d), the clips, and the row of each one's clip in them
        (m,), to new rows (m, d').
    embedding, name : str
        What is read, and what the new one is called.
    datasets : sequence of str
    pool : bool
        Change and write the mean of each clip's frames, not the frames.
    overwrite : bool
        Replace an embedding of this name in the store.
    advance : callable
        Told how many rows were done.

    Returns
    -------
    Path
        Of the store.

    Raises
    ------
    ParameterError
        If the embedding is there and ``overwrite`` is False.
    StoreError
        If a file is damaged, or cannot be written.
    DataError
        If a row has NaN or Inf.
    """
    path = Path(path)
    check_name(name, "embedding")
    total = sum(source.shape(dataset, embedding)[0] for dataset in datasets)
    index, there = index_files(source.files), existing(path)
    for dataset in datasets:
        if (dataset, name) in there and not overwrite:
            raise already_there(name, dataset, there[dataset, name])
    if pool:
        table = source.table(embedding, datasets=datasets)
        X = change(table.X, table.clips, np.arange(len(table.X)))
        advance(len(X))
        return _import(path, X, table.clips, name, overwrite)
    folder = path.parent if is_file_path(path) else path
    is_new = not folder.exists()
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=".derive-", dir=folder) as scratch:
            rows = _Rows(Path(scratch, "rows.f4"), total)
            tables = []
            for dataset in datasets:
                with open_parts(index[dataset, embedding], dataset, embedding) as parts:
                    known = source.clips(dataset)
                    tables += [rows.add_all(frames, known, change, advance) for frames in parts]
            clips = ClipTable.concat(tables)
            return write_vectors(path, rows, clips, rows.owner, embedding=name, overwrite=overwrite)
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(
            f"{folder} cannot be written ({error.strerror or error}); check the folder, its "
            "permissions and the disk"
        ) from error
    finally:
        if is_new and folder.is_dir() and not any(folder.iterdir()):
            folder.rmdir()


class _Rows:
    """Gather changed rows in a file, of which only a block is in memory.

    Pages of a memory map would stay in memory as long as there is room.
    """

    def __init__(self, path: Path, total: int) -> None:
        self.path = path
        self.shape = (total, 0)
        self.owner = np.empty(total, dtype=np.intp)
        self.n = self.n_clips = 0

    def __getitem__(self, rows: NDArray[np.intp]) -> _Array:
        """Return rows that follow one another, as those of a dataset do."""
        d = self.shape[1]
        start, n = int(rows[0]), len(rows)
        found = np.fromfile(self.path, np.float32, n * d, offset=4 * d * start)
        return found.reshape(n, d)

    def add_all(
        self,
        frames: Frames,
        known: ClipTable | None,
        change: Change,
        advance: Callable[[int], object],
    ) -> ClipTable:
        """Add the rows of one dataset, and return its clips."""
        keys = frames.read_keys()
        clips = _clips(known, keys.names, frames.where.split("/")[1])
        owner = clips.frame.index.get_indexer(pd.Index(keys.names))[keys.codes]
        for start, X in frames.blocks(max(1, BLOCK_VALUES // frames.shape[1])):
            here = owner[start : start + len(X)]
            bad = rows_not_finite(X)
            if bad.any():
                names = name_some(dict.fromkeys(clips.clip_id[here[bad]]))
                raise DataError(
                    f"{frames.path}:{frames.where} has NaN or Inf in {bad.sum()} rows, of {names}; "
                    "leave these clips out or compute their vectors again"
                )
            self._add(change(X, clips, here), here, clips)
            advance(len(X))
        self.n_clips += len(clips)
        return clips

    def _add(self, X: _Array, owner: NDArray[np.intp], clips: ClipTable) -> None:
        self.shape = (len(self.owner), X.shape[1])
        with np.errstate(over="ignore"):
            X = np.ascontiguousarray(X, dtype=np.float32)
        bad = rows_not_finite(X)
        if bad.any():
            names = name_some(dict.fromkeys(clips.clip_id[owner[bad]]))
            raise DataError(
                f"the corrected vectors have NaN or Inf in {bad.sum()} rows, of {names}; leave "
                "these clips out or fit another correction"
            )
        with self.path.open("ab") as stream:
            X.tofile(stream)
        self.owner[self.n : self.n + len(X)] = self.n_clips + owner
        self.n += len(X)


def _clips(known: ClipTable | None, names: NDArray[np.object_], dataset: str) -> ClipTable:
    """Return the clips that have rows, as far as the store knows them."""
    if known is None:
        return ClipTable.from_columns(names, dataset)
    is_known = np.isin(names.astype(str), known.clip_id.astype(str))
    kept = known.select(known.frame.index.get_indexer(pd.Index(names[is_known])))
    if is_known.all():
        return kept
    return ClipTable.concat([kept, ClipTable.from_columns(names[~is_known], dataset)])


def _import(path: Path, X: Any, clips: ClipTable, name: str, overwrite: bool) -> Path:
    return import_arrays(
        path,
        X,
        clips.clip_id,
        dataset=clips.dataset,
        embedding=name,
        split=clips.split,
        genre=clips.genre,
        group=clips.group,
        labels=clips.labels,
        mask=clips.mask,
        overwrite=overwrite,
    )
