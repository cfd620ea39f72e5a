"""What is to be erased, as covariances of the features with it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio._validation import check_categories
from biasaudio.errors import DataError
from biasaudio.moments import Cell
from biasaudio.transforms._directions import domain_means

__all__ = ["Concepts", "find_concepts", "from_cells", "from_clips", "read_columns"]

_Array = NDArray[np.float64]
_BLOCK = 4096
# Clips that were corrected before differ by a few roundings: no concept to erase again.
_ROUNDING = 4


@dataclass(frozen=True)
class Concepts:
    """Hold the covariances of x with what is erased and with what is kept.

    Attributes
    ----------
    mean : np.ndarray [shape=(d,)]
    erased : np.ndarray [shape=(d, r)]
        An orthonormal basis of the covariances with the domain and the
        continuous nuisances, given the preserved columns.
    preserved : np.ndarray [shape=(d, m)]
        An orthonormal basis of the covariances with the preserved columns.
    """

    mean: _Array
    erased: _Array
    preserved: _Array


def from_cells(cells: Sequence[Cell]) -> Concepts:
    """Return the concepts of domains alone, from the moments of each."""
    weights = np.array([cell.n for cell in cells])
    means = np.stack([cell.mean for cell in cells])
    squares = np.stack([cell.variance + cell.mean**2 for cell in cells]).sum(axis=1)
    size = np.sqrt(weights @ squares / weights.sum())
    return _between(means, weights, _ROUNDING * np.finfo(np.float64).eps * size)


def find_concepts(
    X: NDArray[np.floating[Any]],
    codes: NDArray[np.intp],
    nuisance: ArrayLike | None,
    preserve: ArrayLike | None,
    weights: _Array | None,
) -> Concepts:
    """Return the concepts of domains, nuisances and what is to be preserved, from clips.

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]
    codes : np.ndarray of int [shape=(n,)]
        The domain of each clip; only zeros for none.
    nuisance, preserve : array_like, optional
        As in ``LEACE.fit``.
    weights : np.ndarray [shape=(n,)], optional

    Returns
    -------
    Concepts
    """
    n, k = len(codes), int(codes.max()) + 1
    if nuisance is None and preserve is None:
        counts = np.bincount(codes, weights).astype(np.float64)
        return _between(domain_means(X, codes, weights), counts, _rounding(X))
    erased = [np.zeros((n, 0)) if k == 1 else np.eye(k)[codes]]
    kept = np.zeros((n, 0))
    if nuisance is not None:
        erased.append(read_columns(nuisance, "nuisance", n, categories=False))
    if preserve is not None:
        kept = read_columns(preserve, "preserve", n, categories=True)
    return from_clips(X, np.concatenate(erased, axis=1), kept, weights)


def _between(means: _Array, weights: _Array, least: float) -> Concepts:
    mean = weights @ means / weights.sum()
    return Concepts(mean, _basis((means - mean).T, least), np.zeros((len(mean), 0)))


def _rounding(X: NDArray[np.floating[Any]]) -> float:
    """Return the size of differences that are nothing but rounding."""
    some = X[:: len(X) // 1024 + 1].astype(np.float64)
    size = np.sqrt(np.mean(np.einsum("ij,ij->i", some, some)))
    return float(_ROUNDING * np.finfo(X.dtype).eps * size)


def from_clips(
    X: NDArray[np.floating[Any]], Z: _Array, preserve: _Array, weights: _Array | None
) -> Concepts:
    """Return the concepts of the columns Z given the columns ``preserve``.

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]
    Z : np.ndarray [shape=(n, k)]
        One-hot domains, continuous nuisances.
    preserve : np.ndarray [shape=(n, m)]
        May have no column.
    weights : np.ndarray [shape=(n,)], optional

    Returns
    -------
    Concepts

    Notes
    -----
    Z is replaced by what a least-squares fit on ``preserve`` leaves of it
    (Frisch, Waugh, Lovell), so that a covariance with it is the partial one.
    """
    w = np.ones(len(X)) if weights is None else weights
    w = w / w.sum()
    Z, kept = _standardised(Z, w), _standardised(preserve, w)
    if kept.shape[1]:
        root = np.sqrt(w)[:, None]
        fitted = np.linalg.lstsq(root * kept, root * Z, rcond=None)[0]
        left = Z - kept @ fitted
        # What the preserved columns tell exactly leaves rounding, not a concept.
        Z = np.where(np.sqrt(w @ left**2) > 1e-6, left, 0.0)
    # Products with centred columns do not depend on the shift, which is there for the digits.
    shift, least = X[:_BLOCK].mean(axis=0, dtype=np.float64), _rounding(X)
    columns = w[:, None] * np.c_[Z, kept, np.ones(len(X))]
    products = np.zeros((columns.shape[1], X.shape[1]))
    for start in range(0, len(X), _BLOCK):
        block = X[start : start + _BLOCK].astype(np.float64)
        block -= shift
        products += columns[start : start + _BLOCK].T @ block
    k = Z.shape[1]
    erased, preserved = (_basis(part.T, least) for part in (products[:k], products[k:-1]))
    return Concepts(shift + products[-1], erased, preserved)


def _standardised(columns: _Array, w: _Array) -> _Array:
    """Return centred columns of variance one; a constant column is left out."""
    centred = columns - w @ columns
    spread = np.sqrt(w @ centred**2)
    varies = spread > 1e-12 * (1 + np.abs(columns).max(axis=0, initial=0.0))
    standard: _Array = centred[:, varies] / spread[varies]
    return standard


def _basis(covariances: _Array, least: float, tolerance: float = 1e-8) -> _Array:
    """Return an orthonormal basis [shape=(d, r)] of what is more than rounding."""
    basis, sizes, _ = np.linalg.svd(covariances, full_matrices=False)
    kept: _Array = basis[:, sizes > max(tolerance * sizes.max(initial=0.0), least)]
    return kept


def read_columns(values: ArrayLike, name: str, n: int, *, categories: bool) -> _Array:
    """Return numbers or categories as columns of numbers [shape=(n, m)].

    Parameters
    ----------
    values : array_like [shape=(n,) or (n, m)]
    name : str
        What the argument is called in the message.
    n : int
    categories : bool
        Whether strings and integers are categories, and get a column each;
        else they are numbers, and strings are refused.  Columns of bools,
        and several columns at once, are numbers in any case.

    Returns
    -------
    np.ndarray [shape=(n, m)]

    Raises
    ------
    DataError
        If the length differs, or a value is missing or not finite.
    """
    array = np.asarray(values)
    if array.ndim not in (1, 2) or len(array) != n:
        raise DataError(
            f"{name} has shape {array.shape}, but X has {n} clips; give one row a clip, (n,) or "
            "(n, columns)"
        )
    is_binary = array.dtype.kind in "fiub" and bool(np.isin(array, (0, 1)).all())
    if categories and array.ndim == 2 and not is_binary:
        raise DataError(
            f"{name} has other columns than 0 and 1; give one class a clip, (n,), or a column of 0 "
            "and 1 for each class"
        )
    if categories and array.ndim == 1 and not (array.dtype.kind == "f" and is_binary):
        names, codes = check_categories(array, name, n)
        return np.eye(len(names))[codes]
    if array.dtype.kind not in "fiub":
        raise DataError(f"{name} has dtype {array.dtype}; give numbers, one column for each")
    columns: _Array = array.reshape(n, -1).astype(np.float64)
    if not np.isfinite(columns).all():
        bad = np.flatnonzero(~np.isfinite(columns).all(axis=1))
        raise DataError(
            f"{name} has NaN or Inf for {len(bad)} of {n} clips, first at row {bad[0]}; give a "
            "number for every clip or leave these clips out"
        )
    return columns
