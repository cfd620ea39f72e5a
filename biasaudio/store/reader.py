"""Read an embedding store: rows in blocks, or one vector per clip in one pass."""

from __future__ import annotations

import hashlib
import json
import os
import sys
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import lru_cache
from itertools import chain
from pathlib import Path
from typing import Any, TypeVar

import h5py
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasaudio._files import fingerprint_file
from biasaudio._validation import as_list, check_choice, check_count, did_you_mean, name_some
from biasaudio.datasets.table import ClipTable
from biasaudio.datasets.vectors import EmbeddingTable, JoinReport
from biasaudio.errors import DataError, ParameterError, StoreError
from biasaudio.store.clips import known_clips, stored_clips
from biasaudio.store.file import (
    CLIPS,
    Frames,
    Origin,
    check_finite,
    is_file_path,
    name_clips,
    not_finite,
    open_file,
    pairs_of,
    read_attribute,
    reading,
    tables_of,
)
from biasaudio.store.output import Vectors, encode, write_file
from biasaudio.store.parts import Pair, Parts, read_parts
from biasaudio.store.pooling import POOLS, pool_blocks

if sys.platform != "win32":
    import resource

__all__ = [
    "EmbeddingStore",
    "Snapshot",
    "contents",
    "exists",
    "live",
    "look",
    "open_parts",
    "pooled_files",
    "steadily",
    "unusable_pooled",
]

# How often reading begins again because files were merged in the meantime.
TRIES = 10
# Some systems let a process open no more than 256 files.
MANY_FILES = 64
_T = TypeVar("_T")

# ------------------------------------------------------------------ what a store has now


@dataclass(frozen=True)
class Snapshot:
    """What a store has at one time.

    Parameters
    ----------
    path : Path
    parts : Parts
    index : dict
        From (dataset, embedding) to the files that hold rows of it that count.
    tables : dict
        From a dataset to the files whose clip table of it counts.
    """

    path: Path
    parts: Parts
    index: dict[Pair, list[Path]]
    tables: dict[str, list[Path]]

    @property
    def files(self) -> list[Path]:
        """Files that count."""
        folder = self.path.parent if self.path.is_file() else self.path
        return [folder / name for name in self.parts.files]

    @property
    def datasets(self) -> list[str]:
        """Sorted names of the datasets that have vectors."""
        return sorted({dataset for dataset, _ in self.index})

    def clips(self, dataset: str) -> ClipTable | None:
        """Clip table of a dataset, None if there is none."""
        files = self.tables.get(dataset, [])
        return stored_clips(files, dataset, replace=self.parts.is_listed)

    def held(self, dataset: str) -> list[str]:
        """Embeddings of a dataset, or an error that says which datasets there are."""
        held = [embedding for name, embedding in self.index if name == dataset]
        if not held:
            raise StoreError(
                f"dataset {dataset!r} is not in {self.path}; choose from "
                f"{name_some(self.datasets, 20)}{did_you_mean(dataset, self.datasets)}"
            )
        return held

    def of(self, dataset: str, embedding: str) -> list[Path]:
        """Files of an embedding, or an error that says which embeddings there are."""
        held = self.held(dataset)
        if embedding not in held:
            raise StoreError(
                f"embedding {embedding!r} is not in {self.path} for dataset {dataset!r}; "
                f"choose from {name_some(held, 20)}{did_you_mean(embedding, held)}"
            )
        return self.index[dataset, embedding]


def stamp(file: Path) -> tuple[int, ...]:
    """What tells a file from another one of its name."""
    found = file.stat()
    return found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns


@lru_cache(4096)
def _held(file: Path, _: tuple[int, ...]) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """All (dataset, embedding) of a file, and the datasets that it has a clip table of."""
    with open_file(file) as handle:
        pairs, tables = pairs_of(handle, file), tables_of(handle, file)
        if not pairs and not tables:
            seen = name_some(f"/{name}" for name in handle) or "nothing"
            raise StoreError(
                f"{file} has no /<dataset>/<embedding>/{{features, keys}}; it holds {seen}; "
                "give a file in this layout, or write one with import_arrays"
            )
    return tuple(pairs), tuple(tables)


def held_by(file: Path) -> tuple[tuple[Pair, ...], tuple[str, ...]]:
    """What a file holds, looked at once as files never change."""
    try:
        return _held(file, stamp(file))
    except FileNotFoundError:
        raise
    except OSError as error:
        if isinstance(error, StoreError):
            raise
        raise StoreError(f"{file} cannot be read ({error.strerror}); check it") from error


def snapshot(path: Path, parts: Parts) -> Snapshot:
    """What a store has if ``parts`` are its parts."""
    found = Snapshot(path, parts, {}, {})
    index: dict[Pair, list[Path]] = {}
    for file in found.files:
        pairs, tables = held_by(file)
        for pair in pairs:
            if not parts.is_hidden(file.name, *pair):
                index.setdefault(pair, []).append(file)
        for dataset in tables:
            if not parts.is_hidden(file.name, dataset, CLIPS):
                found.tables.setdefault(dataset, []).append(file)
    found.index.update(sorted(index.items()))
    return found


def look(path: Path, *, may_be_missing: bool = False) -> Snapshot:
    """What a store has now; the lock must be held, or see `steadily`."""
    parts = read_parts(path, may_be_missing=may_be_missing)
    try:
        return snapshot(path, parts)
    except FileNotFoundError as error:
        raise _gone(error, path) from error


def exists(path: str | os.PathLike[str]) -> bool:
    """Whether a store with any embedding is there."""
    return bool(steadily(Path(path), lambda now: now.index, may_be_missing=True))


def steadily(path: Path, read: Callable[[Snapshot], _T], *, may_be_missing: bool = False) -> _T:
    """What ``read`` makes of a store, though files are added and merged meanwhile.

    A file that was listed may be gone when it is opened; then the list has changed,
    and reading begins again.
    """
    for left in range(TRIES)[::-1]:
        before = _state(path)
        try:
            return read(snapshot(path, read_parts(path, may_be_missing=may_be_missing)))
        except (FileNotFoundError, StoreError, DataError) as error:
            if left and _state(path) != before:
                continue
            if isinstance(error, FileNotFoundError):
                raise _gone(error, path) from error
            raise
    raise AssertionError


def _state(path: Path) -> Any:
    with suppress(StoreError, OSError):
        parts = read_parts(path, may_be_missing=True)
        folder = path.parent if path.is_file() else path
        return parts, None if parts.is_listed else [stamp(folder / each) for each in parts.files]
    return None


def _gone(error: FileNotFoundError, path: Path) -> StoreError:
    name = error.filename or path
    return StoreError(f"{name} belongs to the store, but is not there; check the path")


@contextmanager
def open_parts(files: Sequence[Path], pair: Pair) -> Iterator[list[Frames]]:
    """Open all files of one embedding of one dataset, which have the same width."""
    _allow_files(files)
    with ExitStack() as stack:
        parts = [Frames(stack.enter_context(open_file(each)), each, *pair) for each in files]
        _check_widths(parts)
        yield parts


def _allow_files(files: Sequence[Path]) -> None:
    """Let this process have so many more files open, as far as the system lets it."""
    if len(files) <= MANY_FILES or sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(2 * len(files) + 512, hard if hard != resource.RLIM_INFINITY else 2**20)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def _check_widths(parts: Iterable[Frames]) -> None:
    widths = {each.shape[1]: f"{each.path}:{each.where}" for each in parts}
    if len(widths) > 1:
        seen = " and ".join(f"{width} in {where}" for width, where in widths.items())
        raise StoreError(
            f"the features have different widths: {seen}; these are not the same embedding, "
            "so choose the datasets of one width with datasets=[...]"
        )


def live(parts: Sequence[Frames], *, is_listed: bool) -> list[NDArray[np.bool_]]:
    """Which clips of each part count: those that are in no later one.

    In a folder without a list no file is later than another, so there a clip that is
    in two of them is an error.
    """
    if len(parts) == 1:
        return [np.ones(len(parts[0].keys.names), bool)]
    owner: dict[str, Frames] = {}
    kept = []
    for frames in parts[::-1]:
        keep = np.array([name not in owner for name in frames.keys.names], bool)
        if not keep.all() and not is_listed:
            twice = frames.keys.names[~keep]
            raise StoreError(
                f"{len(twice)} clip(s) of {frames.where} are in both {frames.path} and "
                f"{owner[twice[0]].path}: {name_some(twice)}; run 'biasaudio store verify --repair'"
            )
        owner |= dict.fromkeys(frames.keys.names, frames)
        kept.append(keep)
    return kept[::-1]


# ------------------------------------------------------------------ the store


class EmbeddingStore:
    """Vectors and clip tables of one or more datasets.

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
        If the file is missing, empty, not HDF5 or in another layout.

    Notes
    -----
    Pooled vectors say of which inodes and times of change they were made, so that a cache
    that came along with a store of somebody else is never read in place of its vectors.

    Examples
    --------
    >>> import tempfile
    >>> import numpy as np
    >>> from biasaudio.store import EmbeddingStore, import_arrays
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     X = np.eye(3, dtype=np.float32)
    ...     path = import_arrays(folder + "/demo.h5", X, ["a", "b", "c"], dataset="demo")
    ...     table = EmbeddingStore(path).table()
    >>> table.X.shape, list(table.clips.clip_id)
    ((3, 3), ['a', 'b', 'c'])
    """

    def __init__(self, path: str | os.PathLike[str], *, cache: bool = True) -> None:
        self.path = Path(path)
        self.cache = cache
        if not steadily(self.path, lambda now: now.index):
            raise StoreError(
                f"{self.path} has no vectors; add some with 'biasaudio store import' or extract"
            )

    def __repr__(self) -> str:
        """Return the call that opens this store."""
        return f"EmbeddingStore({str(self.path)!r}{'' if self.cache else ', cache=False'})"

    @property
    def files(self) -> list[Path]:
        """HDF5 files of the store, in the order in which they were added."""
        return steadily(self.path, lambda now: now.files)

    def datasets(self) -> list[str]:
        """Sorted names of the datasets."""
        return steadily(self.path, lambda now: now.datasets)

    def embeddings(self, dataset: str | None = None) -> list[str]:
        """Sorted names of the embeddings of a dataset.

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

        def read(now: Snapshot) -> list[str]:
            names = now.datasets if dataset is None else [dataset]
            return sorted(set.intersection(*(set(now.held(name)) for name in names)))

        return steadily(self.path, read)

    def shape(self, dataset: str, embedding: str) -> tuple[int, int]:
        """Number of frames and of features.

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

        def read(now: Snapshot) -> tuple[int, int]:
            with open_parts(now.of(dataset, embedding), (dataset, embedding)) as parts:
                if len(parts) == 1:
                    return parts[0].shape
                kept = live(parts, is_listed=now.parts.is_listed)
                n = sum(int(keep[each.keys.codes].sum()) for each, keep in zip(parts, kept))
                return n, parts[0].shape[1]

        return steadily(self.path, read)

    def blocks(
        self, dataset: str, embedding: str, *, rows: int | None = None
    ) -> Iterator[tuple[NDArray[np.object_], NDArray[np.float32]]]:
        """Iterate over the frames in the order of the files.

        Parameters
        ----------
        dataset, embedding : str
        rows : int, optional
            Frames per block, raised to whole chunks; by default 8 MB of them.

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
        rows = 0 if rows is None else check_count(rows, "rows", 1)

        def begin(now: Snapshot) -> Iterator[tuple[NDArray[np.object_], NDArray[np.float32]]]:
            stream = stream_rows(now, (dataset, embedding), rows)
            # Once the first block is there, all files are open, and may be merged.
            return chain([next(stream)], stream)

        return steadily(self.path, begin)

    def clips(self, dataset: str | None = None) -> ClipTable | None:
        """Clip tables that are in the store.

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
            If two files of a folder without a list contradict each other.
        """

        def read(now: Snapshot) -> ClipTable | None:
            names = now.datasets if dataset is None else [dataset]
            for name in names:
                now.held(name)
            tables = [table for name in names if (table := now.clips(name)) is not None]
            return ClipTable.concat(tables) if tables else None

        return steadily(self.path, read)

    def table(
        self,
        embedding: str | None = None,
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

        Memory is a few blocks of frames, and the result.  For a mean, at most 16
        frames are summed in float32 and such sums in float64.

        Parameters
        ----------
        embedding : str, optional
            Needed if the store has several.
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
        join = {"missing": missing, "unknown": unknown}
        is_cached = self.cache if cache is None else cache

        def read(now: Snapshot) -> EmbeddingTable:
            asked = datasets if clips is None or datasets is not None else clips.datasets
            name = embedding or _only_embedding(now)
            names = _datasets_of(now, name, asked)
            with _bar(progress) as advance:
                return _table(now, name, names, clips, pool, join, advance, is_cached)

        return steadily(self.path, read)

    def origin(self, dataset: str, embedding: str) -> Origin | None:
        """Which model made an embedding, and of which audio.

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

        def read(now: Snapshot) -> Origin | None:
            found = []
            for file in now.of(dataset, embedding):
                with open_file(file) as handle:
                    found.append(Frames(handle, file, dataset, embedding).origin())
            return join_origins(found)

        return steadily(self.path, read)

    def clear_cache(self) -> list[dict[str, Any]]:
        """Remove the pooled vectors that are kept beside the store.

        Returns
        -------
        list of dict
            Keys ``path`` and ``bytes`` of each file that was removed.
        """
        removed = []
        for file in pooled_files(self.path):
            removed.append({"path": str(file), "bytes": file.stat().st_size})
            file.unlink(missing_ok=True)
        with suppress(OSError):
            _cache_folder(self.path).rmdir()
        return removed

    def fingerprint(self) -> list[dict[str, Any]]:
        """``path``, ``bytes`` and ``sha256`` of each file."""
        return [fingerprint_file(file) for file in self.files]


def join_origins(found: Sequence[Origin | None]) -> Origin | None:
    """What is said of all clips; what was said last of a clip counts."""
    known = [each for each in found if each is not None]
    if not known:
        return None
    models = [each.model for each in known]
    if any(model != models[0] for model in models):
        raise StoreError(
            f"files of one embedding were made by different models, {models[0]} and "
            f"{next(model for model in models if model != models[0])}; take one of them out"
        )
    both = pd.concat([each.sources for each in known], ignore_index=True)
    return Origin(models[0], both.drop_duplicates("clip_id", keep="last", ignore_index=True))


def _only_embedding(now: Snapshot) -> str:
    held = sorted({name for _, name in now.index})
    if len(held) > 1:
        raise ParameterError(
            f"{now.path} has several embeddings; choose one of {name_some(held, 20)}"
        )
    return held[0]


def _datasets_of(now: Snapshot, embedding: str, asked: Sequence[str] | None) -> list[str]:
    """The datasets that are asked for, by default all, if they have an embedding."""
    names = list(dict.fromkeys(now.datasets if asked is None else as_list(asked)))
    if not names:
        raise ParameterError(f"datasets is empty; choose from {name_some(now.datasets, 20)}")
    # A dataset is never left out in silence because it lacks the embedding.
    without = [name for name in names if embedding not in now.held(name)]
    if without and len(without) < len(names):
        raise StoreError(
            f"embedding {embedding!r} is not there for dataset {name_some(without)}; "
            "leave it out with datasets=[...], or choose an embedding that all have"
        )
    return names


def stream_rows(
    now: Snapshot, pair: Pair, rows: int = 0
) -> Iterator[tuple[NDArray[np.object_], NDArray[np.float32]]]:
    """Clips and rows of an embedding that count; see `EmbeddingStore.blocks`."""
    with open_parts(now.of(*pair), pair) as parts:
        for frames, keep in zip(parts, live(parts, is_listed=now.parts.is_listed), strict=True):
            for start, X in frames.blocks(rows):
                codes = frames.keys.codes[start : start + len(X)]
                kept = keep[codes]
                codes, X = codes[kept], X[kept]
                names = frames.keys.names[codes]
                bad = check_finite(X)
                if bad is not None:
                    found = name_clips(names[bad])
                    raise not_finite(frames, f"{bad.sum()} of the frames from {start}, of {found}")
                if len(X):
                    yield names, X


def contents(path: str | os.PathLike[str]) -> list[dict[str, Any]]:
    """Row of a listing for each embedding of each dataset of a store.

    Returns
    -------
    list of dict
        Keys dataset, embedding, frames, dims, clips, labels (blank where there is no
        clip table) and files.
    """

    def read(now: Snapshot) -> list[dict[str, Any]]:
        tables = {name: now.clips(name) for name in now.datasets}
        rows = []
        for pair, files in now.index.items():
            with open_parts(files, pair) as parts:
                kept = live(parts, is_listed=now.parts.is_listed) if len(parts) > 1 else []
                n = sum(int(keep[each.keys.codes].sum()) for each, keep in zip(parts, kept))
                row: dict[str, Any] = {"dataset": pair[0], "embedding": pair[1]}
                shape = parts[0].shape
            known = tables[pair[0]]
            row |= {"frames": n if kept else shape[0], "dims": shape[1]}
            row["clips"] = "" if known is None else len(known)
            row["labels"] = "" if known is None else len(known.label_names)
            rows.append(row | {"files": len(files)})
        return rows

    return steadily(Path(path), read)


# ------------------------------------------------------------------ pooling


@dataclass
class _Group:
    """The open files of one dataset, and what was pooled of it before."""

    dataset: str
    parts: list[Frames]
    kept: list[NDArray[np.bool_]]
    pooled: _Pooled | None
    names: NDArray[np.object_]


def _table(
    now: Snapshot,
    embedding: str,
    datasets: Sequence[str],
    clips: ClipTable | None,
    pool: str,
    join: dict[str, Any],
    advance: Callable[[int, int], object],
    is_cached: bool,
) -> EmbeddingTable:
    with ExitStack() as stack:
        groups = []
        for name in datasets:
            parts = stack.enter_context(open_parts(now.of(name, embedding), (name, embedding)))
            kept = live(parts, is_listed=now.parts.is_listed)
            names = np.concatenate([p.keys.names[keep] for p, keep in zip(parts, kept)])
            # Where clips have one row each, pooling is as fast as reading what was pooled.
            is_worth_it = is_cached and sum(each.shape[0] for each in parts) >= 2 * len(names)
            pooled = _Pooled(now, (name, embedding), pool) if is_worth_it else None
            groups.append(_Group(name, parts, kept, pooled, names))
        _check_widths(each for group in groups for each in group.parts)
        if clips is None:
            clips = _own_clips(now, groups)
        # What is missing is known before any vector is read.
        found = [_find(group.names, group.dataset, clips, **join) for group in groups]
        kept_rows = np.sort(np.concatenate([place for place, _ in found]))
        d = groups[0].parts[0].shape[1] * (2 if pool == "mean+std" else 1)
        X = np.empty((len(kept_rows), d), dtype=np.float32)
        total = sum(each.shape[0] for group in groups for each in group.parts)
        for group, (place, _) in zip(groups, found, strict=True):
            rows = np.searchsorted(kept_rows, place)
            _fill(group, clips.clip_id[place], rows, X, pool, lambda n: advance(n, total))
    chosen = clips if len(kept_rows) == len(clips) else clips.select(kept_rows)
    return EmbeddingTable(X, chosen, embedding, _total([report for _, report in found]))


def _own_clips(now: Snapshot, groups: Sequence[_Group]) -> ClipTable:
    tables = [(group, now.clips(group.dataset)) for group in groups]
    found = [
        known_clips(None, group.names, group.dataset) if table is None else table
        for group, table in tables
    ]
    return found[0] if len(found) == 1 else ClipTable.concat(found)


def _find(
    names: NDArray[np.object_], dataset: str, clips: ClipTable, missing: str, unknown: str
) -> tuple[NDArray[np.intp], JoinReport]:
    """Rows of the clips that have vectors, and what did not match."""
    rows = np.flatnonzero(clips.dataset == dataset)
    wanted = clips.clip_id[rows]
    if len(rows) == len(names) and set(names) == set(wanted):
        # A join makes a clip table, which takes a tenth of the time of all frames.
        return rows, JoinReport(len(rows))
    X = np.zeros((len(names), 1), dtype=np.float32)
    part = EmbeddingTable.join(X, names, clips, dataset=dataset, missing=missing, unknown=unknown)
    report = part.report or JoinReport(len(rows))
    return rows[pd.Index(part.clips.clip_id).get_indexer(pd.Index(wanted)) >= 0], report


def _fill(
    group: _Group,
    clip_id: NDArray[np.object_],
    rows: NDArray[np.intp],
    X: NDArray[np.float32],
    pool: str,
    advance: Callable[[int], object],
) -> None:
    """Fill these rows of X with the vectors of these clips."""
    wanted = pd.Series(rows, index=pd.Index(clip_id, dtype=object))
    before = None if group.pooled is None else group.pooled.read()
    if before is not None:
        names, vectors = before
        at = wanted.index.get_indexer(pd.Index(names, dtype=object))
        X[rows[at[at >= 0]]] = vectors[at >= 0]
        advance(sum(each.shape[0] for each in group.parts))
        return
    for frames, keep in zip(group.parts, group.kept, strict=True):
        at = wanted.index.get_indexer(pd.Index(frames.keys.names, dtype=object))
        places = np.where(keep & (at >= 0), rows[at] if len(rows) else -1, -1)

        def blocks(frames: Frames = frames) -> Iterator[tuple[int, NDArray[np.float32]]]:
            for start, block in frames.blocks():
                yield start, block
                advance(len(block))

        if (places < 0).all():
            advance(frames.shape[0])
            continue
        bad = pool_blocks(blocks(), frames.keys.codes, places, X, pool)
        if len(bad):
            found = name_some(frames.keys.names[bad])
            raise not_finite(frames, f"{len(bad)} of {len(keep)} clips: {found}")
    if group.pooled is not None and len(clip_id) == len(group.names):
        group.pooled.write(clip_id, X[rows])


def _total(reports: Sequence[JoinReport]) -> JoinReport:
    first, rest = vars(reports[0]), reports[1:]
    return JoinReport(**{k: sum((vars(each)[k] for each in rest), v) for k, v in first.items()})


@contextmanager
def _bar(progress: bool) -> Iterator[Callable[[int, int], object]]:
    if not progress:
        yield lambda _, __: None
        return
    from tqdm import tqdm

    bars: list[tqdm[Any]] = []

    def advance(n: int, total: int) -> None:
        # Not before there is something to read: a refusal is one line.
        if not bars:
            bars.append(
                tqdm(total=total, unit=" frames", unit_scale=True, desc="pooling", leave=False)
            )
        bars[0].update(n)

    try:
        yield advance
    finally:
        for bar in bars:
            bar.close()


# ------------------------------------------------------------------ what was pooled before


def _cache_folder(path: Path) -> Path:
    return path.with_name(f"{path.name}.pooled") if is_file_path(path) else path / ".pooled"


def pooled_files(path: Path) -> list[Path]:
    """Pooled vectors beside a store, and what writing some has left."""
    folder = _cache_folder(path)
    found = sorted(folder.iterdir()) if folder.is_dir() and not folder.is_symlink() else []
    return [each for each in found if each.is_file() and each.name.endswith((".h5", ".h5.partial"))]


class _Pooled:
    """Vectors that were pooled before: a file in the layout of the store, beside it.

    It is of files with these inodes and times of change, which no archive can carry:
    one that came with the store of somebody else is passed over.
    """

    def __init__(self, now: Snapshot, pair: Pair, pool: str) -> None:
        self.pair, self.path = pair, _cache_folder(now.path) / f"{pair[0]}.{pair[1]}.{pool}.h5"
        files = [[file.name, *stamp(file)] for file in now.index[pair]]
        about = json.dumps([*pair, pool, files, now.parts.hidden])
        self.made_of = hashlib.sha256(about.encode()).hexdigest().encode()

    def read(self) -> tuple[NDArray[np.object_], NDArray[np.float32]] | None:
        """Clips and their vectors, None if there are none that can be used."""
        with suppress(StoreError, FileNotFoundError), open_file(self.path) as handle:
            with reading(self.path, "what it is of"):
                if read_attribute(handle, "made_of") != self.made_of:
                    return None
            frames = Frames(handle, self.path, *self.pair)
            X = np.empty(frames.shape, np.float32)
            for start, block in frames.blocks():
                X[start : start + len(block)] = block
            return frames.keys.names, X
        return None

    def write(self, names: NDArray[np.object_], X: NDArray[np.float32]) -> None:
        """Keep the vectors; where that cannot be there is no cache."""

        def sign(handle: h5py.File) -> None:
            handle.attrs["made_of"] = np.bytes_(self.made_of)

        # Readers hold no lock, so two may write the same at once.
        folder = self.path.parent
        own = folder / f"{uuid.uuid4().hex}.h5"
        with suppress(StoreError, DataError, OSError):
            if folder.is_symlink():
                return  # Of somebody who wants a file to be written elsewhere.
            folder.mkdir(exist_ok=True)
            write_file(own, [Vectors(*self.pair, encode(names), [X])], {}, copy=sign)
            os.replace(own, self.path)


def unusable_pooled(now: Snapshot) -> list[Path]:
    """Pooled vectors beside a store that are never read: of other files, or damaged."""
    made = [_Pooled(now, pair, pool) for pair in now.index for pool in POOLS]
    usable = {each.path for each in made if each.path.is_file() and each.read() is not None}
    return [each for each in pooled_files(now.path) if each not in usable]
