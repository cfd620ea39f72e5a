"""The rows of several files as one array, in the order of their clips' names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio.datasets.table import ClipTable
from biasaudio.store.clips import encode
from biasaudio.store.content import Content, Origin
from biasaudio.store.frames import Frames
from biasaudio.store.stream import check_disjoint

__all__ = ["Gathered", "sort_clips"]

_Array = NDArray[Any]


def sort_clips(clips: ClipTable) -> ClipTable:
    """Return the clips in the order of their ids."""
    return clips.select(np.argsort(clips.clip_id.astype(str), kind="stable"))


class Gathered:
    """Give rows of open files by their numbers, reading them when they are asked for.

    Parameters
    ----------
    parts : sequence of Frames
    advance : callable
        Told how many rows were read.
    newer : sequence of Frames
        Their clips take the place of those of the same name in ``parts``.
    """

    def __init__(
        self,
        parts: Sequence[Frames],
        advance: Callable[[int], object] = lambda _: None,
        newer: Sequence[Frames] = (),
    ) -> None:
        self._parts, self._advance = [*parts, *newer], advance
        keys = [frames.read_keys() for frames in self._parts]
        for some in (slice(len(parts)), slice(len(parts), None)):
            check_disjoint(self._parts[some], [each.names for each in keys[some]])
        names = np.concatenate([each.names for each in keys]).astype(str)
        n_old = sum(len(each.names) for each in keys[: len(parts)])
        is_gone = np.isin(names, names[n_old:])
        is_gone[n_old:] = False
        rank = np.empty(len(names), dtype=np.intp)
        by_name = np.argsort(names, kind="stable")
        rank[by_name] = np.arange(len(names))
        first = np.cumsum([0, *(len(each.names) for each in keys)])
        owner = np.concatenate([rank[at + each.codes] for at, each in zip(first, keys)])
        # Where each row lies: the number of its file, and the row there.
        order = np.argsort(owner, kind="stable")
        order = order[~is_gone[by_name][owner[order]]]
        self._part = np.repeat(np.arange(len(keys)), [len(each.codes) for each in keys])[order]
        self._row = np.concatenate([np.arange(len(each.codes)) for each in keys])[order]
        left, self.owner = np.unique(owner[order], return_inverse=True)
        self.names = np.sort(names)[left].astype(object)
        self.shape = (len(self.owner), self._parts[0].shape[1])

    def __getitem__(self, rows: NDArray[np.intp]) -> _Array:
        """Return some rows, read in stretches."""
        part, row = self._part[rows], self._row[rows]
        out = np.empty((len(rows), self.shape[1]), dtype=np.float32)
        cuts = np.flatnonzero((np.diff(part) != 0) | (np.diff(row) != 1)) + 1
        for start, stop in pairwise([0, *cuts.tolist(), len(rows)]):
            frames, at = self._parts[part[start]], int(row[start])
            frames.read(at, at + stop - start, out[start:stop])
        self._advance(len(rows))
        return out

    def content(self, pair: tuple[str, str], clips: ClipTable, origin: Origin | None) -> Content:
        """Return what is to be written."""
        keys = encode(self.names)[self.owner]
        if origin is not None:
            sources = origin.sources.sort_values("clip_id", ignore_index=True)
            origin = Origin(origin.model, sources)
        return Content(*pair, self, np.arange(self.shape[0]), keys, clips, origin)
