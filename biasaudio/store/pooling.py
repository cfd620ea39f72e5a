"""Pool frames to clips, block by block.

The frames of a clip may lie in any number of blocks, in any order.  A block is
reduced to one entry a clip, and the entries are added in float64: means as sums,
spreads around the clip's mean within a block by the rule of Chan, Golub and
LeVeque, so that features far from zero lose nothing.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio._validation import check_choice
from biasaudio.store.sums import members, sorted_max, sum_runs

__all__ = ["POOLS", "Part", "Pooler", "rows_not_finite"]

POOLS = ("mean", "max", "std", "mean+std")


@dataclass(frozen=True)
class Part:
    """Hold what one block of frames adds.

    Parameters
    ----------
    clips : np.ndarray of int [shape=(k,)]
        The clips with finite frames, each once.
    count : np.ndarray of int [shape=(k,)]
        How many frames.
    value : np.ndarray [shape=(k, n_features)]
        Their sum, or their maximum.
    square : np.ndarray [shape=(k, n_features)], optional
        The sum of the squared deviations from their mean.
    bad : np.ndarray of int
        Clips with frames that are NaN or Inf.
    """

    clips: NDArray[Any]
    count: NDArray[Any]
    value: NDArray[Any]
    square: NDArray[np.float64] | None
    bad: NDArray[Any]

    def select(self, kept: NDArray[np.bool_]) -> Part:
        """Return the part of some of its clips."""
        square = None if self.square is None else self.square[kept]
        return Part(self.clips[kept], self.count[kept], self.value[kept], square, self.bad)

    def renamed(self, rows: NDArray[Any]) -> Part:
        """Return the part with clip i called ``rows[i]``, without those below 0."""
        bad = rows[self.bad]
        part = replace(self, clips=rows[self.clips], bad=bad[bad >= 0])
        return part if (part.clips >= 0).all() else part.select(part.clips >= 0)


class Pooler:
    """Gather the frames of clips and return one vector a clip.

    Parameters
    ----------
    pool : str
        ``"mean"``, ``"max"``, ``"std"`` (population, 0 for a single frame) or
        ``"mean+std"`` (side by side, so twice as wide).
    n_clips, n_features : int
        The shape of the result; next to it, gathering takes 8 bytes a value
        (mean), 16 (std) or 4 (max).
    n_frames : np.ndarray of int [shape=(n_clips,)], optional
        How many frames the clips have.  The mean of a clip that comes in one
        block is then final at once, and takes nothing next to the result.
    out : np.ndarray [shape=(n_clips, n_features or 2 n_features), dtype=float32], optional
        Where the result goes.

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

    def __init__(
        self,
        pool: str,
        n_clips: int,
        n_features: int,
        *,
        n_frames: NDArray[Any] | None = None,
        out: NDArray[np.float32] | None = None,
    ) -> None:
        self.pool = check_choice(pool, "pool", POOLS)
        shape = (n_clips, n_features)
        self.count = np.zeros(n_clips, dtype=np.int64)
        self.is_bad = np.zeros(n_clips, dtype=bool)
        self._is_final = np.zeros(n_clips, dtype=bool)
        self._n_frames = n_frames
        self._needs_spread = "std" in pool
        width = n_features * len(pool.split("+"))
        self._result = np.empty((n_clips, width), dtype=np.float32) if out is None else out
        if pool == "max":
            self._max = np.full(shape, -np.inf, dtype=np.float32)
        else:
            # The system gives these pages on first use, so final means take none.
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
        used = rows >= 0
        if used.any():
            self.add(self.reduce(rows, X) if used.all() else self.reduce(rows[used], X[used]))

    def reduce(self, rows: NDArray[Any], X: NDArray[np.float32]) -> Part:
        """Return what a block of frames adds; may run in several threads.

        Parameters
        ----------
        rows : np.ndarray of int [shape=(n_frames,)]
            The clip of each frame, 0 or more.
        X : np.ndarray [shape=(n_frames, n_features), dtype=float32]
            Not changed.

        Returns
        -------
        Part
        """
        none = np.empty(0, dtype=np.intp)
        if self.pool == "mean":
            clips, count, total = sum_runs(rows, X)
            if len(np.unique(clips)) < len(clips):
                clips, local = np.unique(clips, return_inverse=True)
                count = np.bincount(local, weights=count).astype(np.intp)
                total = members(local) @ total
            # NaN and Inf go through a sum, so a look at each frame is not needed.
            if np.isfinite(total).all():
                return Part(clips, count, total, None, none)
        bad = rows_not_finite(X)
        names = np.unique(rows[bad])
        if len(names):
            rows, X = rows[~bad], X[~bad]
        clips, local = np.unique(rows, return_inverse=True)
        count = np.bincount(local)
        if self.pool == "max":
            order = np.argsort(local, kind="stable")
            return Part(clips, count, sorted_max(local[order], X[order]), None, names)
        work, of_clips = X.astype(np.float64), members(local)
        total = of_clips @ work
        if not self._needs_spread:
            return Part(clips, count, total, None, names)
        work -= (total / count[:, None])[local]
        np.square(work, out=work)
        return Part(clips, count, total, of_clips @ work, names)

    def add(self, part: Part) -> None:
        """Add what `reduce` returned.

        Parameters
        ----------
        part : Part
            Of this pool.
        """
        self.is_bad[part.bad] = True
        clips, n = part.clips, part.count[:, None]
        self.count[clips] += part.count
        if self.pool == "max":
            self._max[clips] = np.maximum(self._max[clips], part.value)
            return
        if part.square is not None:
            before = self.count[clips][:, None] - n
            gap = part.value / n - self._sum[clips] / np.maximum(before, 1)
            self._square[clips] += part.square + gap**2 * (before * n / (before + n))
        self._sum[clips] += part.value

    def finish(self, part: Part) -> Part:
        """Write the means of clips that are whole; may run in several threads.

        Parameters
        ----------
        part : Part
            Of this pool.

        Returns
        -------
        Part
            The clips that are not whole, to be added.
        """
        if self.pool != "mean" or self._n_frames is None:
            return part
        is_whole = part.count == self._n_frames[part.clips]
        if not is_whole.any():
            return part
        clips, count = part.clips[is_whole], part.count[is_whole]
        self._result[clips] = part.value[is_whole] / count[:, None]
        self.count[clips] = count
        self._is_final[clips] = True
        return part.select(~is_whole)

    def result(self) -> NDArray[np.float32]:
        """Return one vector a clip; clips without frames are NaN.

        Returns
        -------
        np.ndarray [shape=(n_clips, n_features or 2 n_features), dtype=float32]
        """
        result = self._result
        if self.pool == "max":
            result[:] = np.where(self.count[:, None] > 0, self._max, np.float32(np.nan))
            return result
        count = np.where(self.count > 0, self.count, np.nan)
        if "mean" in self.pool:
            # Row by row, as there is no room for a float64 copy of all.
            for i in np.flatnonzero(~self._is_final):
                result[i, : self._sum.shape[1]] = self._sum[i] / count[i]
        if self._needs_spread:
            for i in range(len(count)):
                result[i, -self._sum.shape[1] :] = np.sqrt(self._square[i] / count[i])
        return result


def rows_not_finite(X: NDArray[np.floating[Any]]) -> NDArray[np.bool_]:
    """Return which rows of X hold NaN or Inf [shape=(n,)]."""
    is_finite = np.isfinite(X)
    # Along axis 1 the same takes ten times as long.
    if is_finite.all():
        return np.zeros(len(X), dtype=bool)
    bad: NDArray[np.bool_] = ~is_finite.all(axis=1)
    return bad
