"""The shrunk covariance that scikit-learn's LDA uses, from moments."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio.errors import ParameterError
from biasaudio.moments import Cell

__all__ = ["check_shrinkage", "shrunk_covariance"]

_Array = NDArray[np.float64]


def check_shrinkage(shrinkage: object) -> None:
    """Raise unless ``shrinkage`` is "auto" or a number from 0 to 1."""
    if isinstance(shrinkage, str) and shrinkage == "auto":
        return
    if isinstance(shrinkage, (int, float)) and 0 <= shrinkage <= 1:
        return
    raise ParameterError(
        f"shrinkage={shrinkage!r} is not allowed; give 'auto' (Ledoit-Wolf) or a number from 0 to 1"
    )


def shrunk_covariance(
    X: NDArray[np.floating[Any]], cell: Cell, shrinkage: float | str = "auto"
) -> _Array:
    """Return the covariance of a cell, shrunk in standardised coordinates.

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]
        The clips of the cell; read once more, at O(n d), for the weight of
        the shrinkage.
    cell : Cell
        Their moments.
    shrinkage : float in [0, 1] or "auto"
        The weight of the target ``diag(variances)``-like matrix; "auto" is
        the estimate of Ledoit and Wolf.

    Returns
    -------
    np.ndarray [shape=(d, d), dtype=float64]

    Notes
    -----
    With ``D = diag(standard deviations)`` (1 for a constant feature) and ``R
    = D^-1 S D^-1``, the result is ``D [(1 - g) R + g (tr R / d) I] D``, which
    is what scikit-learn's ``LinearDiscriminantAnalysis(solver="eigen",
    shrinkage="auto")`` forms for each class.

    References
    ----------
    Ledoit, Wolf: A well-conditioned estimator for large-dimensional
    covariance matrices. J. Multivariate Analysis 88, 2004.
    """
    covariance = cell.covariance
    if not isinstance(shrinkage, str):
        result: _Array = (1 - shrinkage) * covariance
        result.flat[:: len(result) + 1] += shrinkage * np.trace(covariance) / len(covariance)
        return result
    variance = np.diag(covariance)
    # Rounding leaves a constant feature with a variance of 1e-30, not 0; a scale
    # of 1e-15 would blow its noise up to the size of a real feature.
    tiny = 10 * np.finfo(X.dtype).eps ** 2 * (variance + cell.mean**2)
    scale = np.where(variance > tiny, np.sqrt(np.maximum(variance, 0)), 1.0)
    correlation = covariance / np.outer(scale, scale)
    gamma = _ledoit_wolf(X, cell.mean, scale, correlation)
    target = np.trace(correlation) / len(correlation)
    correlation *= 1 - gamma
    correlation.flat[:: len(correlation) + 1] += gamma * target
    return correlation * np.outer(scale, scale)


def _ledoit_wolf(
    X: NDArray[np.floating[Any]], mean: _Array, scale: _Array, correlation: _Array
) -> float:
    """Return the weight of the shrinkage, in [0, 1]."""
    n, d = X.shape
    fourth = 0.0
    for start in range(0, n, 4096):
        Z = (X[start : start + 4096] - mean) / scale
        fourth += float((np.einsum("ij,ij->i", Z, Z) ** 2).sum())
    squared = float(np.vdot(correlation, correlation))
    target = float(np.trace(correlation)) / d
    noise = (fourth / n - squared) / (n * d)
    distance = (squared - d * target**2) / d
    return 0.0 if distance <= 0 else max(0.0, min(noise / distance, 1.0))
