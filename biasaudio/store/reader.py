"""Read an embedding store: frames in blocks, or clips pooled in one pass."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio._validation import check_choice, check_count
from biasaudio.datasets.table import ClipTable, EmbeddingTable
from biasaudio.errors import ParameterError
from biasaudio.store.cache import clear_cache
from biasaudio.store.clips import stored_clips
from biasaudio.store.content import Origin, read_origin
from biasaudio.store.index import Index, datasets_of, files_of, held_of, index_now, read_steadily
from biasaudio.store.pooling import POOLS
from biasaudio.store.schema import fingerprint_file, list_files
from biasaudio.store.stream import Source, open_parts, stream_blocks, stream_table

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
        index_now(self.path)

    def __repr__(self) -> str:
        """Return the call that opens this store."""
        return f"EmbeddingStore({str(self.path)!r}{'' if self.cache else ', cache=False'})"

    @property
    def files(self) -> list[Path]:
        """Return the HDF5 files of the store, sorted by name."""
        return list_files(self.path)

    def datasets(self) -> list[str]:
        """Return the sorted names of the datasets."""
        return sorted({dataset for dataset, _ in index_now(self.path)})

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
        index = index_now(self.path)
        names = {name for name, _ in index} if dataset is None else {dataset}
        return sorted(set.intersection(*(set(held_of(index, self.path, name)) for name in names)))

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

        def read(index: Index) -> tuple[int, int]:
            files = files_of(index, self.path, dataset, embedding)
            with open_parts(files, dataset, embedding) as parts:
                return sum(frames.shape[0] for frames in parts), parts[0].shape[1]

        return read_steadily(self.path, read)

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

        def begin(index: Index) -> Iterator[tuple[NDArray[np.object_], NDArray[np.float32]]]:
            files = files_of(index, self.path, dataset, embedding)
            stream = stream_blocks(files, dataset, embedding, rows)
            # Once the first block is there, all files are open, and may be merged.
            return chain([next(stream)], stream)

        return read_steadily(self.path, begin, is_checked=True)

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

        def read(index: Index) -> ClipTable | None:
            names = sorted({name for name, _ in index}) if dataset is None else [dataset]
            for name in names:
                held_of(index, self.path, name)
            tables = [table for name in names if (table := stored_clips(index, name)) is not None]
            return ClipTable.concat(tables) if tables else None

        return read_steadily(self.path, read)

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
        options: dict[str, Any] = {"pool": pool, "missing": missing, "unknown": unknown}
        options |= {"progress": progress, "cache": self.cache if cache is None else cache}

        def read(index: Index) -> EmbeddingTable:
            asked = datasets if clips is None or datasets is not None else clips.datasets
            sources = []
            for name in datasets_of(index, self.path, embedding, asked):
                stored = stored_clips(index, name) if clips is None else None
                sources.append(Source(name, files_of(index, self.path, name, embedding), stored))
            return stream_table(sources, embedding, clips, **options)

        return read_steadily(self.path, read, is_checked=True)

    def origin(self, dataset: str, embedding: str) -> Origin | None:
        """Return which model made an embedding, and of which audio.

        Parameters
        ----------
        dataset, embedding : str

        Returns
        -------
        Origin or None
            None where the store does not say, as after an import.

        Raises
        ------
        StoreError
            If there is no such embedding, or a file is damaged.
        """

        def read(index: Index) -> Origin | None:
            files = files_of(index, self.path, dataset, embedding)
            return Origin.concat([read_origin(file, dataset, embedding) for file in files])

        return read_steadily(self.path, read)

    def clear_cache(self) -> list[dict[str, Any]]:
        """Remove the pooled vectors that are kept beside the store.

        Returns
        -------
        list of dict
            Keys ``path`` and ``bytes`` of each file that was removed.
        """
        return clear_cache(self.path)

    def fingerprint(self) -> list[dict[str, Any]]:
        """Return ``path``, ``bytes`` and ``sha256`` of each file."""
        return [fingerprint_file(file) for file in self.files]
