"""Pool the frames of several datasets to one table, in one pass over the files."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from biasaudio._validation import name_some
from biasaudio.datasets.table import ClipTable, EmbeddingTable, JoinReport
from biasaudio.errors import StoreError
from biasaudio.store.frames import Frames, open_frames
from biasaudio.store.gather import ClipReader, lookup, not_finite
from biasaudio.store.pooling import rows_not_finite

if sys.platform != "win32":
    import resource

__all__ = ["Source", "check_disjoint", "open_parts", "stream_blocks", "stream_table"]

BLOCK_VALUES = 2**24
# A store that grows has a file for each commit until these are merged; some systems
# let a process open no more than 256.
MANY_FILES = 64


@dataclass(frozen=True)
class Source:
    """Say where the vectors of one dataset are.

    Parameters
    ----------
    dataset : str
    paths : tuple of Path
        The files that hold them, each clip whole in one of them.
    clips : ClipTable, optional
        The clip table in the store.
    """

    dataset: str
    paths: tuple[Path, ...]
    clips: ClipTable | None


def stream_blocks(
    paths: Sequence[Path], dataset: str, embedding: str, rows: int | None
) -> Iterator[tuple[NDArray[np.object_], NDArray[np.float32]]]:
    """Iterate over keys and frames of some files; see `EmbeddingStore.blocks`.

    Parameters
    ----------
    paths : sequence of Path
    dataset, embedding : str
    rows : int or None
        Frames a block; None stands for 64 MB of them.

    Yields
    ------
    keys : np.ndarray of str [shape=(<=rows,)]
    X : np.ndarray [shape=(<=rows, d), dtype=float32]

    Raises
    ------
    StoreError
        If a file is damaged.
    DataError
        If a frame has NaN or Inf.
    """
    with open_parts(paths, dataset, embedding) as parts:
        all_keys = [frames.read_keys() for frames in parts]
        check_disjoint(parts, [keys.names for keys in all_keys])
        for frames, keys in zip(parts, all_keys):
            for start, X in frames.blocks(rows or max(1, BLOCK_VALUES // frames.shape[1])):
                names = keys.names[keys.codes[start : start + len(X)]]
                bad = rows_not_finite(X)
                if bad.any():
                    found = name_some(dict.fromkeys(names[bad]))
                    raise not_finite(frames, f"{bad.sum()} of the frames from {start}, of {found}")
                yield names, X.copy()


@contextmanager
def open_parts(paths: Sequence[Path], dataset: str, embedding: str) -> Iterator[list[Frames]]:
    """Open all files of one embedding of one dataset, which have the same width.

    Parameters
    ----------
    paths : sequence of Path
    dataset, embedding : str

    Yields
    ------
    list of Frames

    Raises
    ------
    StoreError
        As `open_frames`, or if the widths differ.
    """
    _allow_files(paths)
    with ExitStack() as stack:
        parts = [stack.enter_context(open_frames(path, dataset, embedding)) for path in paths]
        _check_widths(parts)
        yield parts


def _allow_files(paths: Sequence[Path]) -> None:
    """Let this process have so many more files open, as far as the system lets it."""
    if len(paths) <= MANY_FILES or sys.platform == "win32":
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = min(2 * len(paths) + 512, hard if hard != resource.RLIM_INFINITY else 2**20)
    if soft != resource.RLIM_INFINITY and soft < wanted:
        with suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))


def check_disjoint(parts: Sequence[Frames], names: Sequence[NDArray[np.object_]]) -> None:
    """Refuse a clip that is in two files of one embedding.

    Parameters
    ----------
    parts : sequence of Frames
    names : sequence of np.ndarray of str
        The clips of each.

    Raises
    ------
    StoreError
        If there is one; it is named, and so are the files.
    """
    owner: dict[str, Frames] = {}
    for frames, here in zip(parts, names) if len(parts) > 1 else ():
        twice = [name for name in here if name in owner]
        if twice:
            raise StoreError(
                f"{len(twice)} clip(s) of {frames.where} are in both {owner[twice[0]].path} and "
                f"{frames.path}: {name_some(twice)}; run 'biasaudio store verify --repair'"
            )
        owner |= dict.fromkeys(here, frames)


def stream_table(
    sources: Sequence[Source],
    embedding: str,
    clips: ClipTable | None,
    *,
    pool: str,
    missing: str,
    unknown: str,
    progress: bool,
    cache: bool,
) -> EmbeddingTable:
    """Pool the frames of all sources; see `EmbeddingStore.table`.

    Parameters
    ----------
    sources : sequence of Source
        At least one, of different datasets.
    embedding : str
    clips : ClipTable, optional
        None means the clip tables of the sources, or else their keys.
    pool, missing, unknown : str
    progress, cache : bool

    Returns
    -------
    EmbeddingTable

    Raises
    ------
    StoreError
        If a file is damaged, or the datasets have different widths.
    DataError
        If clips and keys do not match, or a clip has NaN or Inf.
    """
    with ExitStack() as stack:
        _allow_files([path for source in sources for path in source.paths])
        groups = [
            stack.enter_context(open_parts(source.paths, source.dataset, embedding))
            for source in sources
        ]
        frames = [each for parts in groups for each in parts]
        _check_widths(frames)
        # A file of a growing store is soon merged with others.
        readers = [
            [ClipReader(each, pool, cache and len(parts) == 1) for each in parts]
            for parts in groups
        ]
        names = [_names_of(parts) for parts in readers]
        if clips is None:
            clips = _own_clips(sources, names)
        # What is missing is known before any vector is read.
        found = [
            _find(each, source.dataset, clips, missing, unknown)
            for source, each in zip(sources, names, strict=True)
        ]
        kept = np.sort(np.concatenate([place for place, _ in found]))
        d = frames[0].shape[1] * (2 if pool == "mean+std" else 1)
        X = np.empty((len(kept), d), dtype=np.float32)
        with _bar(sum(each.shape[0] for each in frames), progress) as advance:
            for parts, (place, _) in zip(readers, found, strict=True):
                for reader, mine in _split(parts, place, clips):
                    _read(reader, clips.clip_id[mine], np.searchsorted(kept, mine), X, advance)
    chosen = clips if len(kept) == len(clips) else clips.select(kept)
    return EmbeddingTable(X, chosen, embedding, _total([report for _, report in found]))


def _names_of(readers: Sequence[ClipReader]) -> NDArray[np.object_]:
    names = [reader.names for reader in readers]
    check_disjoint([reader.frames for reader in readers], names)
    return np.concatenate(names)


def _split(
    readers: Sequence[ClipReader], place: NDArray[np.intp], clips: ClipTable
) -> Iterator[tuple[ClipReader, NDArray[np.intp]]]:
    """Iterate over the files of one dataset, and the rows of the clips that each holds."""
    if len(readers) == 1:
        yield readers[0], place
        return
    for reader in readers:
        yield reader, place[lookup(reader.names, clips.clip_id[place]) >= 0]


def _read(
    reader: ClipReader,
    clip_id: NDArray[np.object_],
    rows: NDArray[np.intp],
    X: NDArray[np.float32],
    advance: Callable[[int], object],
) -> None:
    """Fill these rows of X with the vectors of these clips."""
    if not len(rows):
        advance(reader.frames.shape[0])
        return
    is_stretch = rows[-1] - rows[0] + 1 == len(rows)
    out = X[rows[0] : rows[-1] + 1] if is_stretch else np.empty((len(rows), X.shape[1]), X.dtype)
    reader.read(clip_id, out, advance)
    if not is_stretch:
        X[rows] = out


def _total(reports: Sequence[JoinReport]) -> JoinReport:
    first, rest = vars(reports[0]), reports[1:]
    return JoinReport(**{k: sum((vars(each)[k] for each in rest), v) for k, v in first.items()})


def _own_clips(sources: Sequence[Source], names: Sequence[NDArray[np.object_]]) -> ClipTable:
    pairs = list(zip(sources, names, strict=True))
    if all(source.clips is None for source in sources):
        dataset = np.repeat([source.dataset for source in sources], [len(each) for each in names])
        return ClipTable.from_columns(np.concatenate(names), dataset)
    return ClipTable.concat(
        [
            ClipTable.from_columns(each, source.dataset) if source.clips is None else source.clips
            for source, each in pairs
        ]
    )


def _check_widths(frames: Sequence[Frames]) -> None:
    widths = {each.shape[1]: f"{each.path}:{each.where}" for each in frames}
    if len(widths) > 1:
        seen = " and ".join(f"{width} in {where}" for width, where in widths.items())
        raise StoreError(
            f"the features have different widths: {seen}; these are not the same embedding, "
            "so choose the datasets of one width with datasets=[...]"
        )


def _find(
    names: NDArray[np.object_], dataset: str, clips: ClipTable, missing: str, unknown: str
) -> tuple[NDArray[np.intp], JoinReport]:
    """Return which rows of the clips have vectors, and what did not match."""
    rows = np.flatnonzero(clips.dataset == dataset)
    if len(rows) == len(names) and (lookup(names, clips.clip_id[rows]) >= 0).all():
        # A join makes a clip table, which takes a tenth of the time of all frames.
        return rows, JoinReport(len(rows))
    X = np.zeros((len(names), 1), dtype=np.float32)
    options = {"dataset": dataset, "missing": missing, "unknown": unknown}
    part = EmbeddingTable.join(X, names, clips, **options)
    report = part.report or JoinReport(len(rows))
    return rows[lookup(clips.clip_id[rows], part.clips.clip_id)], report


@contextmanager
def _bar(total: int, progress: bool) -> Iterator[Callable[[int], object]]:
    if not progress:
        yield lambda _: None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit=" frames", unit_scale=True, desc="pooling", leave=False) as bar:
        yield bar.update
