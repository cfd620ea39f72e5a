"""Read an embedding store: frames in blocks, or clips pooled in one pass."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio._validation import check_choice, check_count, did_you_mean, name_some
from biasaudio.datasets.table import ClipTable, EmbeddingTable
from biasaudio.errors import ParameterError, StoreError
from biasaudio.store.cache import clear_cache
from biasaudio.store.clips import stored_clips
from biasaudio.store.frames import open_frames
from biasaudio.store.pooling import POOLS
from biasaudio.store.schema import fingerprint_file, index_files, list_files
from biasaudio.store.stream import Source, stream_blocks, stream_table

__all__ = ["EmbeddingStore"]


class EmbeddingStore:
    """Read the vectors and clip tables of one or more datasets.

    Files are opened for each call and closed after it, so a store can be sent
    to other processes and shows what was imported in the meantime.

    Parameters
    ----------
    path : path-like
        An HDF5 file with ``/<dataset>/<embedding>/{features, keys}``, such as
        the published ``embeddings.h5``, or a folder of such files.
    cache : bool
        Whether `table` keeps pooled vectors beside the store, and uses them again
        while the data are the same.

    Attributes
    ----------
    path : Path
    cache : bool

    Raises
    ------
    StoreError
        If the file is missing, empty, not HDF5 or in another layout, or if two
        files hold the same embedding of the same dataset.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from biasaudio.store import EmbeddingStore, import_arrays
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     X = np.eye(3, dtype=np.float32)
    ...     path = import_arrays(folder + "/demo.h5", X, ["a", "b", "c"], dataset="demo")
    ...     table = EmbeddingStore(path).table("embedding")
    >>> table.X.shape, list(table.clips.clip_id)
    ((3, 3), ['a', 'b', 'c'])
    """

    def __init__(self, path: str | os.PathLike[str], *, cache: bool = True) -> None:
        self.path = Path(path)
        self.cache = cache
        self._index()

    def __repr__(self) -> str:
        """Return the call that opens this store."""
        return f"EmbeddingStore({str(self.path)!r}{'' if self.cache else ', cache=False'})"

    def _index(self) -> dict[tuple[str, str], Path]:
        return index_files(list_files(self.path))

    @property
    def files(self) -> list[Path]:
        """Return the HDF5 files of the store, sorted by name."""
        return list_files(self.path)

    def datasets(self) -> list[str]:
        """Return the sorted names of the datasets."""
        return sorted({dataset for dataset, _ in self._index()})

    def embeddings(self, dataset: str | None = None) -> list[str]:
        """Return the sorted names of the embeddings of a dataset.

        Parameters
        ----------
        dataset : str, optional
            None means the embeddings that all datasets have.

        Returns
        -------
        list of str

        Raises
        ------
        StoreError
            If there is no such dataset.
        """
        index = self._index()
        names = {name for name, _ in index} if dataset is None else {dataset}
        return sorted(set.intersection(*(set(self._held(index, name)) for name in names)))

    def shape(self, dataset: str, embedding: str) -> tuple[int, int]:
        """Return the number of frames and of features.

        Parameters
        ----------
        dataset, embedding : str

        Returns
        -------
        tuple of int

        Raises
        ------
        StoreError
            If there is no such dataset or embedding, or its arrays do not fit.
        """
        file = self._file(self._index(), dataset, embedding)
        with open_frames(file, dataset, embedding) as frames:
            return frames.shape

    def blocks(
        self, dataset: str, embedding: str, *, rows: int | None = None
    ) -> Iterator[tuple[NDArray[np.object_], NDArray[np.float32]]]:
        """Iterate over the frames in the order of the file.

        Parameters
        ----------
        dataset, embedding : str
        rows : int, optional
            Frames a block, raised to whole chunks; by default 64 MB of them.

        Returns
        -------
        iterator of (keys, X)
            The clip of each frame [shape=(rows,), str], and the frames
            [shape=(rows, d), dtype=float32], a new array each time.

        Raises
        ------
        ParameterError
            If ``rows`` is not a whole number from 1 upwards.
        StoreError
            If there is no such embedding, or the file is damaged.
        DataError
            If a frame has NaN or Inf.
        """
        rows = None if rows is None else check_count(rows, "rows", 1)
        file = self._file(self._index(), dataset, embedding)
        return stream_blocks(file, dataset, embedding, rows)

    def clips(self, dataset: str | None = None) -> ClipTable | None:
        """Return the clip tables that are in the store.

        Parameters
        ----------
        dataset : str, optional
            None means all datasets that have a clip table.

        Returns
        -------
        ClipTable or None
            None where there is no clip table, as in the published file.

        Raises
        ------
        StoreError
            If there is no such dataset, or its clip table is damaged.
        DataError
            If two files of a folder contradict each other.
        """
        index = self._index()
        names = sorted({name for name, _ in index}) if dataset is None else [dataset]
        tables = []
        for name in names:
            self._held(index, name)
            table = stored_clips(index, name)
            if table is not None:
                tables.append(table)
        return ClipTable.concat(tables) if tables else None

    def table(
        self,
        embedding: str,
        clips: ClipTable | None = None,
        datasets: Sequence[str] | None = None,
        pool: str = "mean",
        *,
        missing: str = "raise",
        unknown: str = "raise",
        progress: bool = False,
        cache: bool | None = None,
    ) -> EmbeddingTable:
        """Pool the frames of each clip in one streaming pass.

        Memory is a few blocks of frames, and the result twice with the cache.  For a
        mean, at most 16 frames are summed in float32 and such sums in float64.

        Parameters
        ----------
        embedding : str
        clips : ClipTable, optional
            The clips that are wanted, and their order.  By default those in the
            store; where a dataset has none, its keys in order of appearance.
        datasets : sequence of str, optional
            By default those of ``clips``, else all in the store.
        pool : {"mean", "max", "std", "mean+std"}
            The spread is that of the population, so 0 for a single frame.
        missing, unknown : {"raise", "drop"}
            What to do about clips without vectors, and vectors without clips.
        progress : bool
            Show a bar on stderr.
        cache : bool, optional
            By default as the store was opened.

        Returns
        -------
        EmbeddingTable

        Raises
        ------
        ParameterError
            If an argument is not allowed.
        StoreError
            If a dataset or embedding is not in the store, or a file is damaged.
        DataError
            If clips and keys do not match, or a clip has NaN or Inf.
        """
        check_choice(pool, "pool", POOLS)
        check_choice(missing, "missing", ("raise", "drop"))
        check_choice(unknown, "unknown", ("raise", "drop"))
        if clips is not None and not isinstance(clips, ClipTable):
            raise ParameterError(
                f"clips is a {type(clips).__name__}; give a ClipTable, such as load_manifest(...)"
            )
        index = self._index()
        # A dataset is never left out in silence because it lacks the embedding.
        if datasets is None:
            datasets = sorted({name for name, _ in index}) if clips is None else clips.datasets
        names = [datasets] if isinstance(datasets, str) else list(dict.fromkeys(datasets))
        if not names:
            raise ParameterError(f"datasets is empty; choose from {name_some(self.datasets(), 20)}")
        without = [name for name in names if embedding not in self._held(index, name)]
        if without and len(without) < len(names):
            raise StoreError(
                f"embedding {embedding!r} is not there for dataset {name_some(without)}; "
                "leave it out with datasets=[...], or choose an embedding that all have"
            )
        sources = []
        for name in names:
            stored = stored_clips(index, name) if clips is None else None
            sources.append(Source(name, self._file(index, name, embedding), stored))
        options = {"pool": pool, "missing": missing, "unknown": unknown}
        cache = self.cache if cache is None else cache
        return stream_table(sources, embedding, clips, progress=progress, cache=cache, **options)

    def clear_cache(self) -> list[dict[str, Any]]:
        """Remove the pooled vectors that are kept beside the store.

        Returns
        -------
        list of dict
            Keys ``path`` and ``bytes`` of each file that was removed.
        """
        return clear_cache(self.path)

    def fingerprint(self) -> list[dict[str, Any]]:
        """Return path, size in bytes and sha256 of each file.

        Returns
        -------
        list of dict
            Keys ``path``, ``bytes`` and ``sha256``.
        """
        return [fingerprint_file(file) for file in self.files]

    def _held(self, index: dict[tuple[str, str], Path], dataset: str) -> list[str]:
        held = [embedding for name, embedding in index if name == dataset]
        if not held:
            there = sorted({name for name, _ in index})
            raise StoreError(
                f"dataset {dataset!r} is not in {self.path}; choose from "
                f"{name_some(there, 20)}{did_you_mean(dataset, there)}"
            )
        return held

    def _file(self, index: dict[tuple[str, str], Path], dataset: str, embedding: str) -> Path:
        held = self._held(index, dataset)
        if embedding not in held:
            raise StoreError(
                f"embedding {embedding!r} is not in {self.path} for dataset {dataset!r}; "
                f"choose from {name_some(held, 20)}{did_you_mean(embedding, held)}"
            )
        return index[dataset, embedding]
