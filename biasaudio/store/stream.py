"""Pool the frames of several datasets to one table, in one pass over the files."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasaudio._validation import name_some
from biasaudio.datasets.table import ClipTable, EmbeddingTable
from biasaudio.errors import DataError, StoreError
from biasaudio.store.frames import Frames, Keys, open_frames
from biasaudio.store.pooling import Pooler, rows_not_finite

__all__ = ["Source", "stream_blocks", "stream_table"]

# Blocks of 4 MB stay in the processor's cache between reading and pooling.
BLOCK_VALUES = 2**20


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
    path: Path, dataset: str, embedding: str, rows: int
) -> Iterator[tuple[NDArray[np.object_], NDArray[np.float32]]]:
    """Iterate over keys and frames of a file; see `EmbeddingStore.blocks`.

    Parameters
    ----------
    path : Path
    dataset, embedding : str
    rows : int
        Frames a block.

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
        for start, X in frames.blocks(rows):
            names = keys.names[keys.codes[start : start + len(X)]]
            bad = rows_not_finite(X)
            if bad.any():
                found = name_some(dict.fromkeys(names[bad]))
                raise _not_finite(frames, f"{bad.sum()} of the frames from {start}, of {found}")
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
    progress : bool

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
        keys = [each.read_keys() for each in frames]
        if clips is None:
            clips = ClipTable.concat(
                [_own_clips(*pair) for pair in zip(sources, keys, strict=True)]
            )
        # Only the clip tables are joined here, so that what is missing is known
        # before any vector is read.
        parts = [
            EmbeddingTable.join(
                np.zeros((len(each.names), 1), dtype=np.float32),
                each.names,
                clips,
                embedding=embedding,
                dataset=source.dataset,
                missing=missing,
                unknown=unknown,
            )
            for source, each in zip(sources, keys, strict=True)
        ]
        places = [_positions(clips, part.clips) for part in parts]
        kept = np.sort(np.concatenate(places))
        d = frames[0].shape[1] * (2 if pool == "mean+std" else 1)
        X = np.empty((len(kept), d), dtype=np.float32)
        with _bar(sum(each.shape[0] for each in frames), progress) as advance:
            for each, key, part, place in zip(frames, keys, parts, places, strict=True):
                pooled = _pool_frames(each, key, part.clips.clip_id, pool, advance)
                X[np.searchsorted(kept, place)] = pooled
    chosen = clips if len(kept) == len(clips) else clips.select(kept)
    return EmbeddingTable(X, chosen, embedding, EmbeddingTable.concat(parts).report)


def _own_clips(source: Source, keys: Keys) -> ClipTable:
    if source.clips is not None:
        return source.clips
    return ClipTable.from_columns(keys.names, source.dataset)


def _check_widths(frames: Sequence[Frames]) -> None:
    widths = {each.shape[1]: f"{each.path}:{each.where}" for each in frames}
    if len(widths) > 1:
        seen = " and ".join(f"{width} in {where}" for width, where in widths.items())
        raise StoreError(
            f"the features have different widths: {seen}; these are not the same embedding, "
            "so choose the datasets of one width with datasets=[...]"
        )


def _positions(clips: ClipTable, part: ClipTable) -> NDArray[np.intp]:
    rows = np.flatnonzero(clips.dataset == part.dataset[0])
    return rows[_lookup(clips.clip_id[rows], part.clip_id)]


def _lookup(names: NDArray[np.object_], wanted: NDArray[np.object_]) -> NDArray[np.intp]:
    return pd.Index(names, dtype=object).get_indexer(pd.Index(wanted, dtype=object))


def _pool_frames(
    frames: Frames,
    keys: Keys,
    clip_id: NDArray[np.object_],
    pool: str,
    advance: Callable[[int], object],
) -> NDArray[np.float32]:
    # Frames of clips that are not wanted keep -1, and are skipped.
    row_of_key = np.full(len(keys.names), -1, dtype=np.int32)
    row_of_key[_lookup(keys.names, clip_id)] = np.arange(len(clip_id))
    rows = row_of_key[keys.codes]
    n_frames, n_features = frames.shape
    pooler = Pooler(pool, len(clip_id), n_features)
    done = 0
    for start, X in frames.blocks(max(1, BLOCK_VALUES // n_features), skip=rows < 0):
        pooler.update(rows[start : start + len(X)], X)
        advance(start + len(X) - done)
        done = start + len(X)
    advance(n_frames - done)
    if pooler.is_bad.any():
        names = clip_id[pooler.is_bad]
        raise _not_finite(frames, f"{len(names)} of {len(clip_id)} clips: {name_some(names)}")
    return pooler.result()


def _not_finite(frames: Frames, which: str) -> DataError:
    return DataError(
        f"{frames.path}:{frames.where} has NaN or Inf in {which}; leave these clips out or "
        "compute their vectors again"
    )


@contextmanager
def _bar(total: int, progress: bool) -> Iterator[Callable[[int], object]]:
    if not progress:
        yield lambda _: None
        return
    from tqdm import tqdm

    with tqdm(total=total, unit=" frames", unit_scale=True, desc="pooling", leave=False) as bar:
        yield bar.update
