"""Shrunk covariances, kept in the form that is cheap to solve with."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, pinvh

from biasaudio.errors import ParameterError
from biasaudio.moments import EVERY_ROW, Cell, Rows

__all__ = ["Group", "RoundingError", "ShrunkCovariance"]

_Array = NDArray[np.float64]
_Floats = NDArray[np.floating[Any]]
_BLOCK = 2048
# A feature that the others leave less of than this may be a multiple of them, but for rounding.
_LEAST_PIVOT = 1e-6
# What a solution from products of float32 may lack, as a share; how many passes over the clips it
# may take, where eight cost as much as products of float64; and which steps would take more.
_ENOUGH = 1e-8
_MOST_STEPS = 4
_SLOW = 0.03


class RoundingError(Exception):
    """Products in float32 are too coarse for this covariance; use float64."""


@dataclass(frozen=True)
class Group:
    """Hold one set of clips: its moments, and the clips where they are at hand.

    Attributes
    ----------
    cell : Cell
        With the full scatter, or with the variances only; then the clips are
        needed.
    X : np.ndarray [shape=(n, d)], optional
    weights : np.ndarray [shape=(m,)], optional
        Of the clips of this group.
    at : slice or np.ndarray of int [shape=(m,)]
        Which rows of X these are.
    is_rounded : bool
        Whether the products of the cell are of float32.
    """

    cell: Cell
    X: _Floats | None = None
    weights: _Array | None = None
    at: Rows = field(default_factory=lambda: EVERY_ROW)
    is_rounded: bool = False

    def rows(self) -> _Array:
        """Return the centred clips, so weighted that rows' rows is the covariance."""
        if self.X is None:
            raise ParameterError("the clips of this group are not at hand")
        Z: _Array = self.X[self.at] - self.cell.mean
        weights = 1.0 if self.weights is None else self.weights[:, None]
        Z *= np.sqrt(weights / self.cell.n)
        return Z


@dataclass(frozen=True)
class ShrunkCovariance:
    """Hold ``base + diag(ridge)``, where base is dense or ``root' root``.

    Attributes
    ----------
    base : np.ndarray [shape=(d, d) or (n, d)]
    ridge : np.ndarray [shape=(d,)]
    is_root : bool
        Whether base is a root with fewer rows than columns.
    rounded : tuple of (float, Group)
        Where base is made of float32 products: the clips, and the factor of
        their covariance in it.
    """

    base: _Array
    ridge: _Array
    is_root: bool
    rounded: tuple[tuple[float, Group], ...] = ()

    def dense(self) -> _Array:
        """Return the d x d matrix."""
        dense: _Array = self.base.T @ self.base if self.is_root else self.base.copy()
        dense.flat[:: len(dense) + 1] += self.ridge
        return dense

    def solve(self, B: _Array, *, pseudo: bool = False) -> _Array:
        """Return the inverse times B [shape=(d, m)].

        Parameters
        ----------
        B : np.ndarray [shape=(d, m)]
        pseudo : bool
            Take the pseudo-inverse where the matrix is singular.

        Raises
        ------
        np.linalg.LinAlgError
            If it is singular and ``pseudo`` is false.
        RoundingError
            If products of float32 are not enough to tell.

        Notes
        -----
        From a root R of n < d rows and the diagonal E, by the identity of
        Woodbury, in n x n:  E^-1 B - E^-1 R' (I + R E^-1 R')^-1 R E^-1 B.
        """
        if self.is_root and (self.ridge > 0).all():
            # A matrix times its own transpose costs half of any other product.
            scaled = self.base / np.sqrt(self.ridge)
            inner = scaled @ scaled.T
            inner.flat[:: len(inner) + 1] += 1
            rest = B / self.ridge[:, None]
            inside = cho_solve(cho_factor(inner, overwrite_a=True), self.base @ rest)
            solved: _Array = rest - (self.base.T @ inside) / self.ridge[:, None]
            return solved
        dense = self.dense()
        size = dense.diagonal().copy()
        try:
            # LAPACK overwrites what is in its own order.
            factor = cho_factor(dense.T, overwrite_a=True)
        except np.linalg.LinAlgError:
            if self.rounded:
                raise RoundingError from None
            if not pseudo:
                raise
            return pinvh(self.dense()) @ B
        solved = cho_solve(factor, B)
        return self._refined(solved, B, factor, size) if self.rounded else solved

    def _refined(self, solved: _Array, B: _Array, factor: Any, size: _Array) -> _Array:
        """Return the solution for the products in float64, a pass over the clips a step.

        Rounding moves the entries of a correlation by 3e-9, as measured on
        60,000 clips of 512 features.  At a condition of 1e6 the first step
        is 1e-3 of the solution and the next 2e-6; at 1e8 they do not shrink.
        """
        if (np.diag(factor[0]) ** 2 < _LEAST_PIVOT * size).any():
            raise RoundingError
        before, spread = 1.0, np.sqrt(size)[:, None]
        for _ in range(_MOST_STEPS):
            step = cho_solve(factor, B - self._product(solved))
            solved = solved + step
            # In the units of the features, and in those of their spread.
            change = max(_share(step, solved), _share(spread * step, spread * solved))
            # What the next step would be, if it shrinks as this one did.
            if change**2 < _ENOUGH * before:
                return solved
            if not change < _SLOW * before:
                break
            before = change
        raise RoundingError

    def _product(self, V: _Array) -> _Array:
        """Return the matrix times V, from the clips in float64."""
        total: _Array = self.ridge[:, None] * V
        X = self.rounded[0][1].X
        if X is None:
            raise RoundingError
        # In the order of the clips: to gather those of a group takes as long as the product.
        share, code = np.zeros(len(X)), np.zeros(len(X), dtype=np.intp)
        for k, (kept, group) in enumerate(self.rounded):
            share[group.at] = kept / group.cell.n * (1 if group.weights is None else group.weights)
            code[group.at] = k
        read = np.stack([group.cell.mean @ V for _, group in self.rounded])
        buffer = np.empty((_BLOCK, X.shape[1]))
        for start in range(0, len(X), _BLOCK):
            block = slice(start, start + _BLOCK)
            Z = buffer[: len(X[block])]
            np.copyto(Z, X[block])
            total += Z.T @ (share[block, None] * (Z @ V - read[code[block]]))
        return total


def _share(step: _Array, of: _Array) -> float:
    """Return the length of a step as a share of what it changes, the largest of the columns."""
    size = np.maximum(np.linalg.norm(of, axis=0), np.finfo(float).tiny)
    return float((np.linalg.norm(step, axis=0) / size).max(initial=0.0))
