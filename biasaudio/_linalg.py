"""Small pieces of linear algebra that several rooms need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

__all__ = ["orthogonal", "right_vectors", "smaller_gram_eigh", "woodbury_solver"]

_Array = NDArray[np.float64]
_Floats = NDArray[np.floating[Any]]


def smaller_gram_eigh(X: _Floats) -> tuple[NDArray[Any], NDArray[Any], bool]:
    """Eigenvalues and eigenvectors of the smaller Gram matrix of X.

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]

    Returns
    -------
    values : np.ndarray [shape=(m,)]
        Rising, m = min(n, d): the squared singular values of X.  Rounding can
        leave the smallest a little below zero.
    vectors : np.ndarray [shape=(m, m)]
        The left singular vectors of X if ``is_dual``, else the right ones.
    is_dual : bool
        Whether ``X X'`` was taken, as n < d.

    See Also
    --------
    right_vectors : The right singular vectors in either case.
    """
    # An SVD costs several times as much.  The price is the squared condition number, so values
    # below about 1e-12 of the largest are rounding, and callers cut there.
    is_dual = X.shape[0] < X.shape[1]
    values, vectors = np.linalg.eigh(X @ X.T if is_dual else X.T @ X)
    return values, vectors, is_dual


def right_vectors(X: _Floats, values: _Floats, vectors: _Floats) -> NDArray[Any]:
    """Right singular vectors of X [shape=(d, k)] from left ones [shape=(n, k)].

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]
    values : np.ndarray [shape=(k,)]
        Eigenvalues of ``X X'``, above zero.
    vectors : np.ndarray [shape=(n, k)]
        Its eigenvectors.

    Returns
    -------
    np.ndarray [shape=(d, k)]
    """
    lifted: NDArray[Any] = X.T @ (vectors / np.sqrt(values))
    return lifted


def orthogonal(directions: _Array, tolerance: float = 1e-10) -> _Array:
    """Orthonormal basis [shape=(k, d)] of the span of the rows.

    Parameters
    ----------
    directions : np.ndarray [shape=(m, d)]
    tolerance : float
        Singular values below this share of the largest count as zero.

    Returns
    -------
    np.ndarray [shape=(k, d)]
    """
    _, sizes, basis = np.linalg.svd(directions, full_matrices=False)
    kept: _Array = basis[sizes > tolerance * max(sizes.max(initial=0.0), np.finfo(float).tiny)]
    return kept


def woodbury_solver(root: _Array, ridge: _Array) -> Callable[[_Array], _Array]:
    """Solver of ``(R'R + E) x = b``, factored once in n x n.

    Parameters
    ----------
    root : np.ndarray [shape=(n, d)]
        R, with fewer rows than columns.
    ridge : np.ndarray [shape=(d,)]
        The diagonal of E, above zero.

    Returns
    -------
    callable
        Takes B [shape=(d, m)].

    Raises
    ------
    np.linalg.LinAlgError
        If rounding leaves the inner matrix indefinite.

    Notes
    -----
    By the identity of Woodbury,

        (R'R + E)^-1 B = E^-1 B - E^-1 R' (I + R E^-1 R')^-1 R E^-1 B.
    """
    # A matrix times its own transpose costs half of any other product.
    scaled = root / np.sqrt(ridge)
    inner = scaled @ scaled.T
    inner.flat[:: len(inner) + 1] += 1
    factor = cho_factor(inner, overwrite_a=True)

    def solve(B: _Array) -> _Array:
        rest = B / ridge[:, None]
        inside = cho_solve(factor, root @ rest)
        solved: _Array = rest - (root.T @ inside) / ridge[:, None]
        return solved

    return solve
