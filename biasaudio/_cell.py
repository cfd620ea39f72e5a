"""The numbers of one set of clips, which can be added and taken apart."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["EVERY_ROW", "Cell", "Rows", "centred_blocks", "rows_by_code"]

_Array = NDArray[np.float64]
_Floats = NDArray[np.floating[Any]]
Rows = slice | NDArray[np.intp]
EVERY_ROW = slice(None)
# Products of fewer rows cost more, a fifth for 1,024 of them: each is added in float64.
_BLOCK = 4096


@dataclass(frozen=True)
class Cell:
    """Hold the count, the mean and the centred scatter of one set of clips.

    Attributes
    ----------
    n : int or float
        Number of clips, or the sum of their weights.
    mean : np.ndarray [shape=(d,), dtype=float64]
    scatter : np.ndarray [shape=(d, d) or (d,), dtype=float64]
        Sum over the clips of ``(x - mean)(x - mean)'``, or its diagonal.
    n_squared : float, optional
        Sum of the squared weights; default n, which is right without weights.

    Examples
    --------
    >>> import numpy as np
    >>> a = Cell.of(np.array([[0.0], [2.0]]), dtype=np.float64)
    >>> b = Cell.of(np.array([[4.0]]), dtype=np.float64)
    >>> (a + b).n, float((a + b).mean[0]), float((a + b).scatter[0, 0])
    (3, 2.0, 8.0)
    """

    n: float
    mean: _Array
    scatter: _Array
    n_squared: float = -1.0

    def __post_init__(self) -> None:
        if self.n_squared < 0:
            object.__setattr__(self, "n_squared", float(self.n))

    @classmethod
    def of(
        cls,
        X: _Floats,
        weights: _Array | None = None,
        *,
        rows: Rows = EVERY_ROW,
        mean: _Array | None = None,
        dtype: DTypeLike = np.float32,
        diagonal: bool = False,
    ) -> Cell:
        """Return the cell of some rows, read in blocks, products in ``dtype``.

        Parameters
        ----------
        X : np.ndarray [shape=(n, d)]
        weights : np.ndarray [shape=(m,)], optional
            Of the rows that are read.
        rows : slice or np.ndarray of int [shape=(m,)]
        mean : np.ndarray [shape=(d,)], optional
            The mean of these rows where it is known, which saves a pass.
        dtype : dtype
        diagonal : bool
            Keep the variances only.

        Returns
        -------
        Cell
        """
        m = len(range(*rows.indices(len(X)))) if isinstance(rows, slice) else len(rows)
        n = m if weights is None else float(weights.sum())
        n_squared = m if weights is None else float(weights @ weights)
        if mean is None:
            mean = _mean(X, weights, rows)
        # Shifting by the mean before the product keeps the digits that features
        # stored as 0..255, or with means of 1000, would otherwise lose.
        shift, d = mean.astype(dtype), X.shape[1]
        scatter = np.zeros(d if diagonal else (d, d))
        product = np.empty(0 if diagonal else (d, d), dtype)
        for place, Z in centred_blocks(X, rows, shift, dtype, 512 if diagonal else _BLOCK):
            if weights is not None:
                Z *= np.sqrt(weights[place]).astype(dtype)[:, None]
            if diagonal:
                scatter += np.einsum("ij,ij->j", Z, Z, dtype=np.float64)
            else:
                scatter += np.matmul(Z.T, Z, out=product)
        rest = mean - shift
        if diagonal:
            scatter = np.maximum(scatter - n * rest**2, 0.0)
        elif rest.any():
            scatter -= n * np.outer(rest, rest)
        return cls(n, mean, scatter, n_squared)

    @property
    def covariance(self) -> _Array:
        """The biased covariance, ``scatter / n`` [shape=(d, d)]."""
        return self.scatter / self.n

    @property
    def variance(self) -> _Array:
        """The biased variance of each feature [shape=(d,)], never below zero."""
        diagonal = self.scatter if self.scatter.ndim == 1 else np.diag(self.scatter)
        variance: _Array = np.maximum(diagonal, 0.0) / self.n
        return variance

    def without_products(self) -> Cell:
        """Return the same with the variances only."""
        scatter = self.scatter if self.scatter.ndim == 1 else np.diag(self.scatter).copy()
        return Cell(self.n, self.mean, scatter, self.n_squared)

    @property
    def size(self) -> float:
        """How many clips of equal weight would tell as much (Kish 1965)."""
        return self.n**2 / self.n_squared

    def __add__(self, other: Cell) -> Cell:
        """Return the cell of both sets of clips (Chan, Golub and LeVeque 1979)."""
        n = self.n + other.n
        gap = other.mean - self.mean
        mean = self.mean + gap * (other.n / n)
        between = self._product(gap) * (self.n * other.n / n)
        scatter = self.scatter + other.scatter + between
        return Cell(n, mean, scatter, self.n_squared + other.n_squared)

    def __sub__(self, other: Cell) -> Cell:
        """Return the cell of the clips that are left when ``other`` is taken out."""
        n = self.n - other.n
        mean = (self.n * self.mean - other.n * other.mean) / n
        gap = other.mean - mean
        between = self._product(gap) * (n * other.n / self.n)
        scatter = self.scatter - other.scatter - between
        return Cell(n, mean, scatter, self.n_squared - other.n_squared)

    def __mul__(self, weight: float) -> Cell:
        """Return the cell of the same clips, each with so many times its weight."""
        return Cell(self.n * weight, self.mean, self.scatter * weight, self.n_squared * weight**2)

    def _product(self, gap: _Array) -> _Array:
        product: _Array = gap**2 if self.scatter.ndim == 1 else np.outer(gap, gap)
        return product


def centred_blocks(
    X: _Floats, rows: Rows, center: _Floats, dtype: DTypeLike, size: int = _BLOCK
) -> Iterator[tuple[slice, _Floats]]:
    """Yield the place of some rows among all that are read, and them about a centre.

    All blocks are in the same memory, one after the other.
    """
    dtype = np.dtype(dtype)
    index = None if isinstance(rows, slice) else rows
    source = X[rows] if index is None else X
    n = len(source) if index is None else len(index)
    buffer = np.empty((min(size, n), X.shape[1]), dtype)
    for start in range(0, n, size):
        place = slice(start, min(start + size, n))
        Z = buffer[: place.stop - start]
        if X.dtype != dtype:
            # To subtract numbers of two sizes takes longer than both.
            part = source[place] if index is None else X[index[place]]
            np.copyto(Z, part, casting="same_kind")
            Z -= center
        elif index is None:
            np.subtract(source[place], center, out=Z)
        else:
            # Without mode="clip" numpy takes the rows to another buffer first.
            np.take(X, index[place], axis=0, out=Z, mode="clip")
            Z -= center
        yield place, Z


def rows_by_code(codes: NDArray[np.intp], weights: _Array | None) -> Iterator[tuple[int, Rows]]:
    """Yield each code with its rows: a slice where they follow one another.

    Rows whose weight is zero are left out.
    """
    # numpy sorts numbers of 16 bits by radix, in a quarter of the time.
    small = codes.astype(np.min_scalar_type(codes.max(initial=0)))
    order = np.argsort(small, kind="stable")
    if weights is not None:
        order = order[weights[order] > 0]
    small = small[order]
    for rows in np.split(order, np.flatnonzero(small[1:] != small[:-1]) + 1):
        is_run = rows[-1] - rows[0] + 1 == len(rows)
        run = slice(int(rows[0]), int(rows[-1]) + 1)
        yield int(codes[rows[0]]), run if is_run else rows


def _mean(X: _Floats, weights: _Array | None, rows: Rows) -> _Array:
    total = np.zeros(X.shape[1])
    # Blocks of the second cache.  The first row keeps the digits of large means.
    first = X[rows][0] if isinstance(rows, slice) else X[rows[0]]
    shift = first.astype(np.float64)
    n = 0.0
    for place, Z in centred_blocks(X, rows, shift, np.float64, 512):
        w = np.ones(len(Z)) if weights is None else weights[place]
        total += w @ Z
        n += w.sum()
    mean: _Array = shift + total / n
    return mean
