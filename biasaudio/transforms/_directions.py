"""Directions that tell domains apart, and the map that projects them out."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve

from biasaudio.errors import DataError
from biasaudio.moments import Cell
from biasaudio.transforms._base import Affine, domain_moments
from biasaudio.transforms._shrinkage import shrunk_covariance

__all__ = ["discriminants", "orthogonal", "project_out"]

_Array = NDArray[np.float64]
_Codes = NDArray[np.intp]


def orthogonal(directions: _Array, tolerance: float = 1e-10) -> _Array:
    """Return an orthonormal basis [shape=(k, d)] of the span of the rows."""
    _, sizes, basis = np.linalg.svd(directions, full_matrices=False)
    kept: _Array = basis[sizes > tolerance * max(sizes.max(initial=0.0), np.finfo(float).tiny)]
    return kept


def project_out(basis: _Array) -> Affine:
    """Return the map ``x (I - V'V)`` for a basis V [shape=(k, d)]."""
    zero = np.zeros(basis.shape[1])
    return Affine(center=zero, down=basis.T, up=-basis, offset=zero)


def discriminants(X: NDArray[np.floating[Any]], codes: _Codes, shrinkage: float | str) -> _Array:
    """Return the LDA coefficients of each domain, ``Sw^-1 mean`` [shape=(k, d)].

    Sw is the mean of the shrunk covariances, weighted by the class priors.
    The two-class direction is the difference of the rows, the one-class
    direction of the published code is the only row.
    """
    cells: dict[Any, Cell] = domain_moments(X, codes).by("domain")
    within = sum(
        (cell.n / len(X)) * shrunk_covariance(X[codes == code], cell, shrinkage)
        for code, cell in cells.items()
    )
    means = np.stack([cell.mean for cell in cells.values()])
    # Differences are taken before the solve: with means of 1000 and gaps of 1 the
    # other order loses three digits.
    gaps = means if len(means) == 1 else means[1:] - means[0]
    try:
        solved: _Array = cho_solve(cho_factor(np.asarray(within)), gaps.T).T
    except np.linalg.LinAlgError:
        raise DataError(
            f"the within-domain covariance of {len(X)} clips in {X.shape[1]} dimensions is "
            f"singular at shrinkage={shrinkage!r}; use shrinkage='auto'"
        ) from None
    return solved
