"""From the frames of one source, or the cache, to one vector a clip."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from queue import SimpleQueue
from typing import TypeVar

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from biasaudio._validation import name_some
from biasaudio.errors import DataError
from biasaudio.store.cache import Pooled, data_fingerprint, load_pooled, save_pooled
from biasaudio.store.frames import Frames
from biasaudio.store.pooling import Part, Pooler

__all__ = ["ClipReader", "lookup", "not_finite"]

# Blocks of 8 MB stay in the processor's cache between reading and pooling.
BLOCK_VALUES = 2**21
# Reading and sums let go of the interpreter; more threads would wait for the memory.
THREADS = min(4, os.cpu_count() or 1)

# All clips are pooled and kept where one in so many is wanted: the published study
# asks for 47 % of OpenMIC.
ONE_IN = 4

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class ClipReader:
    """Read the vectors of the clips of one source, from the cache or from its frames."""

    def __init__(self, frames: Frames, pool: str, cache: bool) -> None:
        self.frames, self.pool, self.cache = frames, pool, cache
        self.pooled = load_pooled(frames, pool) if cache else None
        if self.pooled is None:
            self.keys = frames.read_keys()
        self.names = self.keys.names if self.pooled is None else self.pooled.names

    def read(
        self,
        clip_id: NDArray[np.object_],
        out: NDArray[np.float32],
        advance: Callable[[int], object],
    ) -> None:
        """Fill ``out`` with one vector a clip; keep those of all clips if that pays."""
        at, n_clips, n_frames = lookup(self.names, clip_id), len(self.names), self.frames.shape[0]
        pooled = self.pooled
        if pooled is not None:
            advance(n_frames)
        elif self.cache and n_clips <= ONE_IN * len(at) and 2 * n_clips <= n_frames:
            pooled = self._pool_all(out.shape[1], advance)
        if pooled is None:
            is_bad = self._pool(at, out, advance)
        else:
            np.take(pooled.X, at, axis=0, out=out, mode="clip")
            is_bad = pooled.is_bad[at]
        if is_bad.any():
            which = f"{is_bad.sum()} of {len(clip_id)} clips: {name_some(clip_id[is_bad])}"
            raise not_finite(self.frames, which)

    def _pool_all(self, width: int, advance: Callable[[int], object]) -> Pooled | None:
        """Pool all clips and keep them; None where a change of them would not be seen."""
        fingerprint = data_fingerprint(self.frames)
        if fingerprint is None:
            return None
        X = np.empty((len(self.names), width), dtype=np.float32)
        pooled = Pooled(self.names, X, self._pool(np.arange(len(X)), X, advance))
        save_pooled(self.frames, self.pool, pooled, fingerprint)
        return pooled

    def _pool(
        self, at: NDArray[np.intp], out: NDArray[np.float32], advance: Callable[[int], object]
    ) -> NDArray[np.bool_]:
        """Fill ``out`` with the clips of these positions, and return which are bad."""
        frames, keys, (n_frames, n_features) = self.frames, self.keys, self.frames.shape
        row_of_key = np.full(len(self.names), -1, dtype=np.int32)
        row_of_key[at] = np.arange(len(at))
        pooler = Pooler(self.pool, len(at), n_features, n_frames=keys.n_frames()[at], out=out)
        is_wanted = row_of_key >= 0
        spans = [
            (start, stop)
            for start, stop in frames.spans(max(1, BLOCK_VALUES // n_features), keys.starts)
            if is_wanted[keys.codes[start:stop]].any()
        ]
        buffers: SimpleQueue[NDArray[np.float32]] = SimpleQueue()
        for _ in range(THREADS):
            longest = max(stop - start for start, stop in spans)
            buffers.put(np.empty((longest, n_features), dtype=np.float32))

        def reduce(span: tuple[int, int]) -> Part:
            buffer = buffers.get()
            try:
                # All clips of a block are pooled, so that those that are wanted have
                # the same bytes with other ones as without.
                part = pooler.reduce(keys.codes[slice(*span)], frames.read(*span, buffer))
                return pooler.finish(part.renamed(row_of_key))
            finally:
                buffers.put(buffer)

        for (start, stop), part in zip(spans, _in_threads(reduce, spans), strict=True):
            pooler.add(part)
            advance(stop - start)
        advance(n_frames - sum(stop - start for start, stop in spans))
        pooler.result()
        return pooler.is_bad


def _in_threads(function: Callable[[_Item], _Result], items: Iterable[_Item]) -> Iterator[_Result]:
    """Iterate over the results in order, a few of them ahead."""
    with ThreadPoolExecutor(THREADS) as pool:
        waiting: deque[Future[_Result]] = deque()
        for item in items:
            waiting.append(pool.submit(function, item))
            if len(waiting) > THREADS:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()


def lookup(names: NDArray[np.object_], wanted: NDArray[np.object_]) -> NDArray[np.intp]:
    """Return where the wanted names are, -1 for those that are not there."""
    return pd.Index(names, dtype=object).get_indexer(pd.Index(wanted, dtype=object))


def not_finite(frames: Frames, which: str) -> DataError:
    """Return the error that names clips or frames with NaN or Inf."""
    return DataError(
        f"{frames.path}:{frames.where} has NaN or Inf in {which}; leave these clips out or "
        "compute their vectors again"
    )
