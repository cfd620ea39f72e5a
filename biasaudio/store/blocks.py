"""Digests of the rows of each clip."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["BlockTable", "Digests", "digests_of_whole"]


@dataclass(frozen=True)
class BlockTable:
    """Say whose the rows of an embedding are, and what they must be.

    Parameters
    ----------
    clips : list of str
        The clip of each block; a block is a run of rows of one clip.
    rows : list of int
        Its number of rows.
    sha256 : list of str
        Of these rows, as float32, little-endian.
    """

    clips: list[str] = field(default_factory=list)
    rows: list[int] = field(default_factory=list)
    sha256: list[str] = field(default_factory=list)


def digests_of_whole(table: BlockTable) -> dict[str, str]:
    """Return the digest of each clip whose rows are one block."""
    n_blocks = Counter(table.clips)
    pairs = zip(table.clips, table.sha256)
    return {clip: sha256 for clip, sha256 in pairs if n_blocks[clip] == 1}


class Digests:
    """Take the digest of each block while rows go by.

    Parameters
    ----------
    names : sequence of str, optional
        The clips, if keys are given as their numbers; else keys are their names.
    """

    def __init__(self, names: Sequence[str] | None = None) -> None:
        self._names = names
        self._table = BlockTable()
        self._key: Any = None
        self._digest = hashlib.sha256()
        self._n = 0

    def update(self, keys: NDArray[Any], X: NDArray[np.float32]) -> None:
        """Add the rows that come next.

        Parameters
        ----------
        keys : np.ndarray of bytes or int [shape=(m,)]
        X : np.ndarray [shape=(m, d), dtype=float32]
        """
        data = np.ascontiguousarray(X, dtype="<f4").reshape(-1).data.cast("B")
        width = X.shape[1] * 4
        starts = [0, *(np.flatnonzero(keys[1:] != keys[:-1]) + 1).tolist(), len(keys)]
        for start, stop in pairwise(starts):
            if keys[start] != self._key:
                self._close()
                self._key = keys[start]
            self._digest.update(data[start * width : stop * width])
            self._n += stop - start

    def _close(self) -> None:
        if self._n:
            key = self._key
            self._table.clips.append(key.decode() if self._names is None else self._names[key])
            self._table.rows.append(self._n)
            self._table.sha256.append(self._digest.hexdigest())
        self._digest, self._n = hashlib.sha256(), 0

    def table(self) -> BlockTable:
        """Return the blocks of all rows so far."""
        self._close()
        return self._table
