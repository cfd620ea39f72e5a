"""Counts, means and second moments of cells, from one pass over the data.

A cell is one combination of categories, such as (domain, genre, class).  The
numbers of a cell are additive: merging two parts adds them, leaving a fold out
subtracts it.  Every linear correction and every cross-fitted scatter follows
from them, so the data are read once.

The functions take and return arrays; nothing here knows about datasets.
"""

from __future__ import annotations

from collections.abc import Hashable, Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray

from biasaudio._cell import EVERY_ROW, Cell, Rows, centred_blocks, rows_by_code
from biasaudio._validation import (
    check_categories,
    check_choice,
    check_features,
    check_sample_weight,
    name_some,
)
from biasaudio.errors import DataError, ParameterError

__all__ = ["EVERY_ROW", "Cell", "Moments", "Rows", "centred_blocks", "rows_by_code"]

_Array = NDArray[np.float64]
_Floats = NDArray[np.floating[Any]]


class Moments:
    """Gather counts, means and scatters of cells, a block at a time.

    Parameters
    ----------
    dtype : dtype, default float32
        The precision of the products inside a block.  Sums are always kept
        in float64, and the mean of a cell is taken off first.  float32
        agrees with the direct float64 formula to 1e-6 of the scatter and
        costs half of float64, which agrees to 1e-12.
    scatter : {"full", "diagonal"}
        Keep all second moments, or the variances only, which costs d
        instead of d^2 a clip.

    Attributes
    ----------
    columns : tuple of str
        The names of the categories that make a cell.
    cells : dict of tuple to Cell
        The key is one value for each column.

    Notes
    -----
    Memory is ``8 d^2`` bytes a cell, ``8 d`` for variances only.  Cells are merged with

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
    ) -> Moments:
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
            Itself.

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
        """Return new moments of the clips of both.

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
        """Return new moments without the clips of ``other``, which are in here.

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
        """Return the moments of the cells whose columns have these values.

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
        """Return one merged cell for each value of ``column``, in sorted order."""
        i = self._place(column)
        merged: dict[Hashable, Cell] = {}
        for key in sorted(self.cells, key=lambda k: str(k[i])):
            cell = self.cells[key]
            merged[key[i]] = merged[key[i]] + cell if key[i] in merged else cell
        return merged

    def total(self) -> Cell:
        """Return the one cell of all clips.

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
        """Return the size in words."""
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
