"""Pool frames to clips, block by block.

The frames of a clip may lie in any number of blocks, in any order.  Sums are
kept in float64; a spread is taken around the clip's mean within a block and the
blocks are merged by the rule of Chan, Golub and LeVeque, so that features far
from zero lose nothing.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from biasaudio._validation import check_choice

__all__ = ["POOLS", "Pooler", "rows_not_finite"]

POOLS = ("mean", "max", "std", "mean+std")


class Pooler:
    """Gather the frames of clips and return one vector a clip.

    Parameters
    ----------
    pool : str
        ``"mean"``, ``"max"``, ``"std"`` (population, 0 for a single frame) or
        ``"mean+std"`` (side by side, so twice as wide).
    n_clips, n_features : int
        The shape of the result; it takes 8 bytes a value (mean), 16 (std) or
        4 (max) while gathering.

    Attributes
    ----------
    count : np.ndarray [shape=(n_clips,), dtype=int64]
        Finite frames seen of each clip.
    is_bad : np.ndarray [shape=(n_clips,), dtype=bool]
        Clips with a frame that is NaN or Inf; such frames are left out.

    Raises
    ------
    ParameterError
        If ``pool`` is not known.

    References
    ----------
    T. F. Chan, G. H. Golub, R. J. LeVeque, "Algorithms for computing the
    sample variance", The American Statistician 37, 1983.

    Examples
    --------
    >>> import numpy as np
    >>> pooler = Pooler("mean", n_clips=2, n_features=1)
    >>> pooler.update(np.array([1, 0, 1]), np.array([[1.0], [5.0], [3.0]], dtype=np.float32))
    >>> pooler.result().ravel().tolist()
    [5.0, 2.0]
    """

    def __init__(self, pool: str, n_clips: int, n_features: int) -> None:
        self.pool = check_choice(pool, "pool", POOLS)
        shape = (n_clips, n_features)
        self.count = np.zeros(n_clips, dtype=np.int64)
        self.is_bad = np.zeros(n_clips, dtype=bool)
        self._needs_spread = "std" in pool
        if pool == "max":
            self._max = np.full(shape, -np.inf, dtype=np.float32)
        else:
            self._sum = np.zeros(shape)
        if self._needs_spread:
            self._square = np.zeros(shape)

    def update(self, rows: NDArray[Any], X: NDArray[np.float32]) -> None:
        """Add a block of frames.

        Parameters
        ----------
        rows : np.ndarray of int [shape=(n_frames,)]
            The clip of each frame; frames below 0 are left out.
        X : np.ndarray [shape=(n_frames, n_features), dtype=float32]
            Not changed.
        """
        bad = rows_not_finite(X)
        self.is_bad[rows[bad & (rows >= 0)]] = True
        used = (rows >= 0) & ~bad
        if not used.all():
            rows, X = rows[used], X[used]
        if len(rows) == 0:
            return
        clips, local = np.unique(rows, return_inverse=True)
        if self.pool == "max":
            order = np.argsort(local, kind="stable")
            self._max[clips] = np.maximum(self._max[clips], _sorted_max(local[order], X[order]))
        else:
            self._update_sums(clips, local, X)
        self.count[clips] += np.bincount(local)

    def _update_sums(
        self, clips: NDArray[Any], local: NDArray[np.intp], X: NDArray[np.float32]
    ) -> None:
        n = np.bincount(local)[:, None]
        members = sparse.csr_array(
            (np.ones(len(local)), (local, np.arange(len(local)))), shape=(len(clips), len(local))
        )
        work = X.astype(np.float64)
        total = members @ work
        if self._needs_spread:
            mean = total / n
            work -= mean[local]
            np.square(work, out=work)
            before = self.count[clips][:, None]
            gap = mean - self._sum[clips] / np.maximum(before, 1)
            self._square[clips] += members @ work + gap**2 * (before * n / (before + n))
        self._sum[clips] += total

    def result(self) -> NDArray[np.float32]:
        """Return one vector a clip; clips without frames are NaN.

        Returns
        -------
        np.ndarray [shape=(n_clips, n_features or 2 n_features), dtype=float32]
        """
        if self.pool == "max":
            return np.where(self.count[:, None] > 0, self._max, np.float32(np.nan))
        count = np.where(self.count > 0, self.count, np.nan)[:, None]
        d = self._sum.shape[1]
        result = np.empty((len(count), d * len(self.pool.split("+"))), dtype=np.float32)
        # Dividing straight into float32 spares a float64 copy of the whole result.
        if "mean" in self.pool:
            np.divide(self._sum, count, out=result[:, :d], casting="same_kind")
        if self._needs_spread:
            np.sqrt(self._square / count, out=result[:, -d:], casting="same_kind")
        return result


def _sorted_max(local: NDArray[np.intp], X: NDArray[np.float32]) -> NDArray[np.float32]:
    # Halving the frames of all clips at once takes log2(frames a clip) steps;
    # np.maximum.reduceat along axis 0 is five times slower.
    while True:
        first = np.flatnonzero(np.diff(local, prepend=-1))
        if len(first) == len(local):
            return X
        rank = np.arange(len(local)) - np.repeat(first, np.diff(first, append=len(local)))
        left = np.flatnonzero(rank % 2 == 0)
        right = np.minimum(left + 1, len(local) - 1)
        right = np.where(local[right] == local[left], right, left)
        X = np.maximum(X[left], X[right])
        local = local[left]


def rows_not_finite(X: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Return which rows of X hold NaN or Inf [shape=(n,)]."""
    is_finite = np.isfinite(X)
    # Along axis 1 the same takes ten times as long.
    if is_finite.all():
        return np.zeros(len(X), dtype=bool)
    bad: NDArray[np.bool_] = ~is_finite.all(axis=1)
    return bad
