"""From the rows of each clip to one vector.

The rows of a clip may lie in any number of blocks, in any order.  A block is reduced to
one entry per clip by sparse products, and entries are added in float64.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from biasaudio.store.file import check_finite

__all__ = ["POOLS", "pool_blocks"]

POOLS = ("mean", "max", "std", "mean+std")
# So many rows are summed in float32, such sums in float64: as exact as float64 to a few
# units in the last place of float32, and twice as fast.
GROUP = 16
_Array = NDArray[Any]


def pool_blocks(
    blocks: Iterable[tuple[int, _Array]],
    codes: NDArray[np.integer[Any]],
    rows: NDArray[np.intp],
    out: NDArray[np.float32],
    how: str,
) -> NDArray[np.intp]:
    r"""Fill rows of a table with the vectors of clips.

    Parameters
    ----------
    blocks : iterable of (first row, rows [shape=(m, d)])
    codes : np.ndarray of int [shape=(n_rows,)]
        The clip of each row.
    rows : np.ndarray of int [shape=(n_clips,)]
        The row of ``out`` of each clip; clips below 0 are not wanted.
    out : np.ndarray [shape=(n, d or 2 d), dtype=float32]
    how : str
        One of `POOLS`; the spread is that of the population, so 0 for a single row.

    Returns
    -------
    np.ndarray of int
        Wanted clips with NaN or Inf, whose rows of ``out`` mean nothing.

    Notes
    -----
    Spreads are taken around the mean of the rows within a block and put together by
    the rule of Chan, Golub and LeVeque (1983),

    .. math:: S = S_a + S_b + (\bar{x}_a - \bar{x}_b)^2 \, n_a n_b / (n_a + n_b)

    so that features far from zero lose nothing.
    """
    total = np.bincount(codes, minlength=len(rows))
    bad = np.zeros(len(rows), bool)
    is_copy = total.max(initial=0) <= 1 and how in ("mean", "max")
    state = None if is_copy else _State(len(rows), out.shape[1], how)
    for start, X in blocks:
        here = codes[start : start + len(X)]
        wanted = rows[here] >= 0
        if not wanted.any():
            continue
        wrong = check_finite(X)
        if wrong is not None:
            bad[here[wrong & wanted]] = True
            # Such rows are left out: the clip is refused in any case.
            X, here, wanted = X[~wrong], here[~wrong], wanted[~wrong]
            if not len(X):
                continue
        if state is None:
            at = rows[here[wanted]]
            X = X if wanted.all() else X[wanted]
            if (np.diff(at) == 1).all():
                # As most often; a copy of a whole is three times as fast as one row by row.
                out[at[0] : at[0] + len(at)] = X
            else:
                out[at] = X
            continue
        clips, local = np.unique(here, return_inverse=True)
        count = np.bincount(local)
        if how == "mean":
            # A clip that is whole in this block is done, and takes no place in the state.
            sums = _sums(X, local, count)
            whole = (count == total[clips]) & (rows[clips] >= 0)
            out[rows[clips[whole]]] = sums[whole] / count[whole, None]
            state.add(clips[~whole], sums[~whole], count[~whole])
        elif how == "max":
            state.add(clips, _maxima(X, local, count), count)
        else:
            # In float64, as spreads are small differences of what may be large.
            X = X.astype(np.float64)
            sums = _sums(X, local, count)
            spread = _sums(np.square(X - (sums / count[:, None])[local]), local, count)
            state.add(clips, sums, count, spread)
    if state is not None:
        left = np.flatnonzero((state.seen > 0) & (rows >= 0))
        out[rows[left]] = state.result(left)
    return np.flatnonzero(bad)


class _State:
    """What was seen of each clip; pages of zeros take no memory before they are used."""

    def __init__(self, n_clips: int, width: int, how: str) -> None:
        d = width // 2 if how == "mean+std" else width
        self.how, self.seen = how, np.zeros(n_clips, np.intp)
        self.value = np.zeros((n_clips, d))
        self.spread = np.zeros((n_clips, d)) if "std" in how else None

    def add(
        self, clips: _Array, value: _Array, count: _Array, spread: _Array | None = None
    ) -> None:
        """Add what one block has of some clips, each of them once."""
        if self.how == "max":
            before = np.where(self.seen[clips, None] > 0, self.value[clips], -np.inf)
            self.value[clips] = np.maximum(before, value)
        else:
            if self.spread is not None and spread is not None:
                n, before = count[:, None], self.seen[clips][:, None]
                gap = value / n - self.value[clips] / np.maximum(before, 1)
                self.spread[clips] += spread + gap**2 * (before * n / (before + n))
            self.value[clips] += value
        self.seen[clips] += count

    def result(self, clips: _Array) -> _Array:
        """Vectors of some clips."""
        n = self.seen[clips, None]
        if self.how == "max":
            return self.value[clips]
        mean = self.value[clips] / n
        if self.spread is None:
            return mean
        std = np.sqrt(self.spread[clips] / n)
        return std if self.how == "std" else np.hstack([mean, std])


def _sums(X: _Array, local: _Array, count: _Array) -> NDArray[np.float64]:
    """Sums of the rows of each clip [shape=(n_clips, d)], as two sparse products."""
    order = np.arange(len(X))
    if (local[1:] < local[:-1]).any():
        order = np.argsort(local, kind="stable")
    # Group k of a clip begins GROUP * k rows behind its first row.
    groups = -(-count // GROUP)
    ends = np.cumsum(groups)
    first = np.repeat(np.cumsum(count) - count - GROUP * (ends - groups), groups)
    edges = np.append(first + GROUP * np.arange(ends[-1]), len(X))
    ones = np.ones(len(X), X.dtype)
    parts = sparse.csr_array((ones, order, edges), (ends[-1], len(X))) @ X
    if X.dtype != np.float64 and check_finite(parts) is not None:
        # Finite values, whose sum is too large for float32.
        return _sums(X.astype(np.float64), local, count)
    ones, columns = np.ones(len(parts)), np.arange(len(parts))
    shape = (len(count), len(parts))
    found: NDArray[np.float64] = (
        sparse.csr_array((ones, columns, np.append(0, ends)), shape) @ parts
    )
    return found


def _maxima(X: _Array, local: _Array, count: _Array) -> _Array:
    if (local[1:] < local[:-1]).any():
        X = X[np.argsort(local, kind="stable")]
    found: _Array = np.maximum.reduceat(X, np.cumsum(count) - count, axis=0)
    return found
