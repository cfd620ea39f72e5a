"""Pool the frames of several datasets to one table, in one pass over the files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
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

__all__ = ["Source", "stream_blocks", "stream_table"]

BLOCK_VALUES = 2**24


@dataclass(frozen=True)
class Source:
    """Say where the vectors of one dataset are.

    Parameters
    ----------
    dataset : str
    path : Path
        The file that holds them.
    clips : ClipTable, optional
        The clip table in the store.
    """

    dataset: str
    path: Path
    clips: ClipTable | None


def stream_blocks(
    path: Path, dataset: str, embedding: str, rows: int | None
) -> Iterator[tuple[NDArray[np.object_], NDArray[np.float32]]]:
    """Iterate over keys and frames of a file; see `EmbeddingStore.blocks`.

    Parameters
    ----------
    path : Path
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
        If the file is damaged.
    DataError
        If a frame has NaN or Inf.
    """
    with open_frames(path, dataset, embedding) as frames:
        keys = frames.read_keys()
        for start, X in frames.blocks(rows or max(1, BLOCK_VALUES // frames.shape[1])):
            names = keys.names[keys.codes[start : start + len(X)]]
            bad = rows_not_finite(X)
            if bad.any():
                found = name_some(dict.fromkeys(names[bad]))
                raise not_finite(frames, f"{bad.sum()} of the frames from {start}, of {found}")
            yield names, X.copy()


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
        frames = [
            stack.enter_context(open_frames(source.path, source.dataset, embedding))
            for source in sources
        ]
        _check_widths(frames)
        readers = [ClipReader(each, pool, cache) for each in frames]
        if clips is None:
            clips = _own_clips(sources, [reader.names for reader in readers])
        # What is missing is known before any vector is read.
        found = [
            _find(reader.names, source.dataset, clips, missing, unknown)
            for source, reader in zip(sources, readers, strict=True)
        ]
        places = [place for place, _ in found]
        kept = np.sort(np.concatenate(places))
        d = frames[0].shape[1] * (2 if pool == "mean+std" else 1)
        X = np.empty((len(kept), d), dtype=np.float32)
        with _bar(sum(each.shape[0] for each in frames), progress) as advance:
            for reader, place in zip(readers, places, strict=True):
                rows = np.searchsorted(kept, place)
                is_stretch = rows[-1] - rows[0] + 1 == len(rows)
                out = X[rows[0] : rows[-1] + 1] if is_stretch else np.empty((len(rows), d), X.dtype)
                reader.read(clips.clip_id[place], out, advance)
                if not is_stretch:
                    X[rows] = out
    chosen = clips if len(kept) == len(clips) else clips.select(kept)
    return EmbeddingTable(X, chosen, embedding, _total([report for _, report in found]))


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
