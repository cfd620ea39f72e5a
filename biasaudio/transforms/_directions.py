"""Directions that tell domains apart, and the map that projects them out."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio._validation import name_some
from biasaudio.errors import BiasAudioWarning, DataError
from biasaudio.moments import Moments
from biasaudio.transforms._affine import Affine
from biasaudio.transforms._shrinkage import VARIANCE_FLOOR, Group, shrunk_covariance

__all__ = [
    "SMALLEST_CELL",
    "discriminants",
    "domain_groups",
    "orthogonal",
    "project_out",
    "warn_small",
]

_Array = NDArray[np.float64]
_Codes = NDArray[np.intp]
# Two clips span one line, which Ledoit-Wolf does not shrink: their covariance is singular.
SMALLEST_CELL = 3


def orthogonal(directions: _Array, tolerance: float = 1e-10) -> _Array:
    """Return an orthonormal basis [shape=(k, d)] of the span of the rows."""
    _, sizes, basis = np.linalg.svd(directions, full_matrices=False)
    kept: _Array = basis[sizes > tolerance * max(sizes.max(initial=0.0), np.finfo(float).tiny)]
    return kept


def project_out(basis: _Array, center: _Array) -> Affine:
    """Return the map ``x (I - V'V)`` for a basis V [shape=(k, d)].

    Near ``center`` float32 vectors lose no digits.
    """
    return Affine(center, basis.T, -basis, -(center @ basis.T) @ basis)


def domain_groups(
    X: NDArray[np.floating[Any]], codes: _Codes, weights: _Array | None = None
) -> list[Group]:
    """Return one group for each code: its full moments, or its clips where n < d."""
    is_dual = X.shape[0] < X.shape[1]
    moments = Moments(dtype=np.float64, scatter="diagonal" if is_dual else "full")
    cells = moments.update(X, sample_weight=weights, domain=codes).by("domain")
    if len(cells) == 1:
        return [Group(cell, X, weights) for cell in cells.values()]
    return [
        Group(cell, X[codes == code], None if weights is None else weights[codes == code])
        for code, cell in sorted(cells.items())
    ]


def discriminants(
    groups: list[Group], shrinkage: float | str, *, floor: float = VARIANCE_FLOOR
) -> _Array:
    """Return the LDA coefficients that tell the groups apart [shape=(k - 1, d)].

    ``Sw^-1 (m_j - m_0)``, where Sw is the mean of the shrunk covariances,
    weighted by the class priors.  One group alone gives ``Sw^-1 m``, the
    one-class direction of the published code.
    """
    within = shrunk_covariance(groups, shrinkage, floor=floor)
    means = np.stack([group.cell.mean for group in groups])
    # Differences are taken before the solve: with means of 1000 and gaps of 1 the
    # other order loses three digits.
    gaps = means if len(means) == 1 else means[1:] - means[0]
    try:
        return within.solve(gaps.T).T
    except np.linalg.LinAlgError:
        n = sum(group.cell.size for group in groups)
        raise DataError(
            f"the within-domain covariance of {n:.0f} clips in {means.shape[1]} dimensions is "
            f"singular at shrinkage={shrinkage!r}; use shrinkage='auto'"
        ) from None


def warn_small(names: Any, sizes: Any) -> None:
    """Warn of domains that are too small to tell a direction from noise."""
    small = [str(name) for name, size in zip(names, sizes) if size < SMALLEST_CELL]
    if small:
        warnings.warn(
            f"domain {name_some(small)} has fewer than {SMALLEST_CELL} clips; what is found for "
            "it is mostly noise, fit with more clips of it",
            BiasAudioWarning,
            stacklevel=4,
        )
