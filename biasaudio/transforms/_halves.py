"""The domain means of random halves of the clips."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["Halves"]

_Array = NDArray[np.float64]
_Codes = NDArray[np.intp]
_Floats = NDArray[np.floating[Any]]
_BLOCK = 4096


class Halves:
    """Gather the domain means of many random halves of the clips.

    Parameters
    ----------
    n_halves : int
    seed : int

    Notes
    -----
    Whether a clip (or its group) is in a half is a draw of its own, in the
    order in which clips come, so that batches give what all clips at once do.
    """

    def __init__(self, n_halves: int, seed: int) -> None:
        self._rng = np.random.default_rng(seed)
        self._n = n_halves
        self._center: _Array | None = None
        self._sums: dict[Any, tuple[_Array, _Array]] = {}

    def update(
        self, X: _Floats, names: NDArray[Any], weights: _Array | None, groups: _Codes | None = None
    ) -> Halves:
        """Add clips of the domains ``names`` [shape=(n,)]."""
        if self._center is None:
            self._center = X[:_BLOCK].mean(axis=0, dtype=np.float64)
        units = np.arange(len(X)) if groups is None else groups
        is_in = (self._rng.random((int(units.max()) + 1, self._n)) < 0.5)[units]
        for name in np.unique(names).tolist():
            rows = np.flatnonzero(names == name)
            count, total = self._sums.get(
                name, (np.zeros(self._n), np.zeros((self._n, X.shape[1])))
            )
            for start in range(0, len(rows), _BLOCK):
                block = rows[start : start + _BLOCK]
                share = is_in[block] * (1.0 if weights is None else weights[block, None])
                count = count + share.sum(axis=0)
                total = total + share.T @ (X[block] - self._center)
            self._sums[name] = count, total
        return self

    def gaps(self) -> _Array:
        """Return what tells the means apart in each half [shape=(n_halves, k - 1, d)].

        Zero where a half has no clip of some domain.
        """
        counts = np.stack([count for count, _ in self._sums.values()])
        sums = np.stack([total for _, total in self._sums.values()])
        means = sums / np.where(counts > 0, counts, 1)[:, :, None]
        is_whole = np.all(counts > 0, axis=0)
        gaps: _Array = np.moveaxis(means[1:] - means[0], 0, 1) * np.reshape(is_whole, (-1, 1, 1))
        return gaps
