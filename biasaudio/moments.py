"""Counts, means and second moments of cells, from one pass over the data.

A cell is one combination of categories, such as (domain, genre, class).  The
numbers of a cell are additive: merging two parts adds them, leaving a fold out
subtracts it.  Every linear correction and every cross-fitted scatter follows
from them, so the data are read once.

The functions take and return arrays; nothing here knows about datasets.
"""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from biasaudio._validation import (
    check_categories,
    check_choice,
    check_features,
    check_sample_weight,
    name_some,
)
from biasaudio.errors import DataError, ParameterError

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["EVERY_ROW", "Cell", "Moments", "Rows", "centred_blocks", "rows_by_code"]

_Array = NDArray[np.float64]
_Floats = NDArray[np.floating[Any]]
Rows = slice | NDArray[np.intp]
EVERY_ROW = slice(None)
# Products of fewer rows cost more, a fifth for 1,024 of them: each is added in float64.
_BLOCK = 4096
# Blocks of the second cache, for what reads each number once.
_SMALL_BLOCK = 512


@dataclass(frozen=True)
class Cell:
    """Count, mean and scatter of a set of clips (mergeable sufficient statistics).

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
        """Cell of some rows, read in blocks, with products in ``dtype``.

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
        for place, Z in centred_blocks(X, rows, shift, dtype, _SMALL_BLOCK if diagonal else _BLOCK):
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
        """Cell with the variances only."""
        scatter = self.scatter if self.scatter.ndim == 1 else np.diag(self.scatter).copy()
        return Cell(self.n, self.mean, scatter, self.n_squared)

    @property
    def size(self) -> float:
        """How many clips of equal weight would tell as much (Kish 1965)."""
        return self.n**2 / self.n_squared

    def __add__(self, other: Cell) -> Cell:
        """Cell of both sets of clips (Chan, Golub and LeVeque 1979)."""
        n = self.n + other.n
        gap = other.mean - self.mean
        mean = self.mean + gap * (other.n / n)
        between = self._product(gap) * (self.n * other.n / n)
        scatter = self.scatter + other.scatter + between
        return Cell(n, mean, scatter, self.n_squared + other.n_squared)

    def __sub__(self, other: Cell) -> Cell:
        """Cell of the clips that are left when ``other`` is taken out."""
        n = self.n - other.n
        mean = (self.n * self.mean - other.n * other.mean) / n
        gap = other.mean - mean
        between = self._product(gap) * (n * other.n / self.n)
        scatter = self.scatter - other.scatter - between
        return Cell(n, mean, scatter, self.n_squared - other.n_squared)

    def __mul__(self, weight: float) -> Cell:
        """Cell of the same clips, each with so many times its weight."""
        return Cell(self.n * weight, self.mean, self.scatter * weight, self.n_squared * weight**2)

    def _product(self, gap: _Array) -> _Array:
        product: _Array = gap**2 if self.scatter.ndim == 1 else np.outer(gap, gap)
        return product


class Moments:
    """Counts, means and scatters of cells, gathered a block at a time.

    Parameters
    ----------
    dtype : dtype, default float32
        The precision of the products inside a block.  Sums are always kept
        in float64, and the mean of a cell is taken off first.  float32
        agrees with the direct float64 formula to 1e-6 of the scatter and
        costs half of float64, which agrees to 1e-12.
    scatter : {"full", "diagonal"}
        Keep all second moments, or the variances only, which costs d
        instead of d^2 per clip.

    Attributes
    ----------
    columns : tuple of str
        The names of the categories that make a cell.
    cells : dict of tuple to Cell
        The key is one value for each column.

    Notes
    -----
    Memory is ``8 d^2`` bytes per cell, ``8 d`` for variances only.  Cells are merged with

        n = n_a + n_b,  S = S_a + S_b + (n_a n_b / n) g g',  g = m_b - m_a

    and taken apart by the same equation solved for ``S_a``.

    References
    ----------
    Chan, Golub, LeVeque: Updating formulae and a pairwise algorithm for
    computing sample variances. Stanford STAN-CS-79-773, 1979.

    Examples
    --------
    >>> from biasaudio.datasets.synthetic import make_domains
    >>> table, _ = make_domains(n=60, d=4, random_state=0)
    >>> moments = Moments().update(table.X, domain=table.clips.dataset)
    >>> sorted(moments.cells), moments.n
    ([('a',), ('b',)], 60)
    """

    def __init__(self, *, dtype: DTypeLike = np.float32, scatter: str = "full") -> None:
        self.dtype = np.dtype(dtype)
        if self.dtype not in (np.float32, np.float64):
            raise ParameterError(f"dtype={dtype!r} is not allowed; choose float32 or float64")
        self.scatter = check_choice(scatter, "scatter", ("full", "diagonal"))
        self.columns: tuple[str, ...] = ()
        self.cells: dict[tuple[Hashable, ...], Cell] = {}

    def update(
        self, X: ArrayLike, *, sample_weight: ArrayLike | None = None, **cells: ArrayLike
    ) -> Self:
        """Add clips, read in blocks.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
            Feature vectors, finite.
        sample_weight : array_like [shape=(n,)], optional
            What each clip counts for, 0 or more; default 1.
        **cells : array_like [shape=(n,)]
            One category for each clip and column, as in ``domain=...,
            genre=...``.  Without any, all clips are one cell.

        Returns
        -------
        Moments
            This object.

        Raises
        ------
        DataError
            If shapes disagree, values are missing or not finite.
        ParameterError
            If the columns differ from those of the first call.
        """
        X = check_features(X, n_features=self.n_features or None, owner="Moments")
        self._check_columns(tuple(cells))
        parts = {name: check_categories(v, name, len(X)) for name, v in cells.items()}
        weights = None if sample_weight is None else check_sample_weight(sample_weight, len(X))
        sizes = [len(values) for values, _ in parts.values()]
        codes = np.zeros(len(X), dtype=np.intp)
        if parts:
            codes = np.ravel_multi_index([place for _, place in parts.values()], sizes)
        for code, rows in rows_by_code(codes, weights):
            places = np.unravel_index(code, sizes) if parts else ()
            key = tuple(values[i].item() for (values, _), i in zip(parts.values(), places))
            part = None if weights is None else weights[rows]
            self._add(key, self._cell(X, part, rows))
        return self

    def merge(self, other: Moments) -> Moments:
        """Moments of the clips of both; neither changes.

        Raises
        ------
        ParameterError
            If the columns differ, or one keeps the variances only.
        """
        result = self._copy()
        result._check_columns(other.columns)
        if other.scatter != self.scatter:
            raise ParameterError(
                f"moments with scatter={self.scatter!r} cannot take in {other.scatter!r} ones; "
                "make both with the same scatter"
            )
        for key, cell in other.cells.items():
            result._add(key, cell)
        return result

    def subtract(self, other: Moments) -> Moments:
        """Moments without the clips of ``other``, which must be in here.

        Raises
        ------
        DataError
            If ``other`` holds a cell, or more clips of one, than there are.
        """
        result = self._copy()
        result._check_columns(other.columns)
        for key, cell in other.cells.items():
            there = result.cells[key].n if key in result.cells else 0
            # Weights add up to rounding only.
            if cell.n > there * (1 + 1e-9):
                raise DataError(
                    f"cell {key} has {there} clips, so {cell.n} cannot be taken out; "
                    "subtract only moments of clips that were added"
                )
            if cell.n >= there * (1 - 1e-9):
                del result.cells[key]
            else:
                result.cells[key] = result.cells[key] - cell
        return result

    def select(self, **cells: Hashable) -> Moments:
        """Moments of the cells whose columns have these values.

        Raises
        ------
        ParameterError
            If a column is unknown.
        DataError
            If no cell has these values.
        """
        where = {self._place(name): value for name, value in cells.items()}
        result = self._copy()
        result.cells = {
            key: cell
            for key, cell in self.cells.items()
            if all(key[i] == value for i, value in where.items())
        }
        if not result.cells:
            raise DataError(f"no clips with {cells}; there are {name_some(self.cells)}")
        return result

    def by(self, column: str) -> dict[Hashable, Cell]:
        """One merged cell for each value of ``column``, in sorted order."""
        i = self._place(column)
        merged: dict[Hashable, Cell] = {}
        for key in sorted(self.cells, key=lambda k: str(k[i])):
            cell = self.cells[key]
            merged[key[i]] = merged[key[i]] + cell if key[i] in merged else cell
        return merged

    def total(self) -> Cell:
        """Cell of all clips.

        Raises
        ------
        DataError
            If there are no clips.
        """
        cells = iter(self.cells.values())
        first = next(cells, None)
        if first is None:
            raise DataError("these moments hold no clips; call update first")
        return sum(cells, start=first)

    @property
    def n(self) -> float:
        """Number of clips, or the sum of their weights."""
        return sum(cell.n for cell in self.cells.values())

    @property
    def n_features(self) -> int:
        """Width of the vectors, 0 before the first update."""
        return next((len(cell.mean) for cell in self.cells.values()), 0)

    @property
    def counts(self) -> Mapping[tuple[Hashable, ...], float]:
        """Number of clips of each cell, or the sum of their weights."""
        return {key: cell.n for key, cell in self.cells.items()}

    def __repr__(self) -> str:
        """Size in words."""
        return (
            f"Moments(n={self.n}, n_features={self.n_features}, "
            f"columns={self.columns}, cells={len(self.cells)})"
        )

    def _add(self, key: tuple[Hashable, ...], cell: Cell) -> None:
        self.cells[key] = self.cells[key] + cell if key in self.cells else cell

    def _cell(self, X: _Floats, weights: _Array | None, rows: Rows) -> Cell:
        is_diagonal = self.scatter == "diagonal"
        return Cell.of(X, weights, rows=rows, dtype=self.dtype, diagonal=is_diagonal)

    def _place(self, column: str) -> int:
        if column not in self.columns:
            raise ParameterError(
                f"no column {column!r}; these moments have {name_some(self.columns, 9)}"
            )
        return self.columns.index(column)

    def _check_columns(self, columns: tuple[str, ...]) -> None:
        if not self.cells:
            self.columns = columns
        elif columns != self.columns:
            raise ParameterError(
                f"cells are made of {columns}, but these moments of {self.columns}; "
                "give the same columns in the same order"
            )

    def _copy(self) -> Moments:
        copy = Moments(dtype=self.dtype, scatter=self.scatter)
        copy.columns, copy.cells = self.columns, dict(self.cells)
        return copy


def centred_blocks(
    X: _Floats, rows: Rows, center: _Floats, dtype: DTypeLike, size: int = _BLOCK
) -> Iterator[tuple[slice, _Floats]]:
    """Blocks of rows about a centre, each with its place among all that are read.

    All blocks share one piece of memory: a block is gone once the next is asked for.
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
    """Each code with its rows: a slice where they follow one another.

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
    # Shifting by the first row keeps the digits of large means.
    first = X[rows][0] if isinstance(rows, slice) else X[rows[0]]
    shift = first.astype(np.float64)
    n = 0.0
    for place, Z in centred_blocks(X, rows, shift, np.float64, _SMALL_BLOCK):
        w = np.ones(len(Z)) if weights is None else weights[place]
        total += w @ Z
        n += w.sum()
    mean: _Array = shift + total / n
    return mean
