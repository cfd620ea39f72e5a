"""Shrunk covariances, kept in the form that is cheap to solve with."""

from __future__ import annotations

import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve, pinvh

from biasaudio._validation import name_some
from biasaudio.errors import BiasAudioWarning, ParameterError
from biasaudio.moments import Cell

__all__ = ["Group", "ShrunkCovariance", "check_shrinkage", "shrunk_covariance"]

_Array = NDArray[np.float64]
_Floats = NDArray[np.floating[Any]]

# Below this share of the mean variance a feature is noise of the arithmetic.
VARIANCE_FLOOR = 1e-10


@dataclass(frozen=True)
class Group:
    """Hold one set of clips: its moments, and the clips where they are at hand.

    Attributes
    ----------
    cell : Cell
        With the full scatter, or with the variances only; then the clips are
        needed.
    X : np.ndarray [shape=(n, d)], optional
    weights : np.ndarray [shape=(n,)], optional
    """

    cell: Cell
    X: _Floats | None = None
    weights: _Array | None = None

    def rows(self) -> _Array:
        """Return the centred clips, so weighted that rows' rows is the covariance."""
        if self.X is None:
            raise ParameterError("the clips of this group are not at hand")
        Z: _Array = self.X.astype(np.float64) - self.cell.mean
        weights = np.ones(len(Z)) if self.weights is None else self.weights
        Z *= np.sqrt(weights / self.cell.n)[:, None]
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
    """

    base: _Array
    ridge: _Array
    is_root: bool

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

        Notes
        -----
        From a root R of n < d rows and the diagonal E, by the identity of
        Woodbury, in n x n:  E^-1 B - E^-1 R' (I + R E^-1 R')^-1 R E^-1 B.
        """
        if self.is_root and (self.ridge > 0).all():
            scaled = self.base / self.ridge
            inner = scaled @ self.base.T
            inner.flat[:: len(inner) + 1] += 1
            rest = B / self.ridge[:, None]
            solved: _Array = rest - scaled.T @ cho_solve(cho_factor(inner), self.base @ rest)
            return solved
        dense = self.dense()
        try:
            solved = cho_solve(cho_factor(dense), B)
        except np.linalg.LinAlgError:
            if not pseudo:
                raise
            solved = pinvh(dense) @ B
        return solved


def check_shrinkage(shrinkage: object) -> None:
    """Raise unless ``shrinkage`` is "auto", "oas" or a number from 0 to 1."""
    if isinstance(shrinkage, str) and shrinkage in ("auto", "oas"):
        return
    if isinstance(shrinkage, (int, float)) and 0 <= shrinkage <= 1:
        return
    raise ParameterError(
        f"shrinkage={shrinkage!r} is not allowed; give 'auto' (Ledoit-Wolf), 'oas', or a number "
        "from 0 to 1"
    )


def shrunk_covariance(
    groups: Sequence[Group], shrinkage: float | str = "auto", *, floor: float = VARIANCE_FLOOR
) -> ShrunkCovariance:
    """Return the weighted mean of the shrunk covariances of the groups.

    Parameters
    ----------
    groups : sequence of Group
        With full scatters, or all with clips and variances only: then the
        result is a root with a row a clip, and nothing d x d is formed.
    shrinkage : float in [0, 1], "auto" or "oas"
        The weight of the target; "auto" is the estimate of Ledoit and Wolf,
        which needs the clips, "oas" that of Chen et al., which does not.
    floor : float
        Features whose variance is below this share of the mean are given that
        variance, with a warning; 0 for none.

    Returns
    -------
    ShrunkCovariance

    Raises
    ------
    ParameterError
        If the shrinkage is "auto" and there are no clips.

    Notes
    -----
    With ``D = diag(standard deviations)`` (1 for a constant feature) and ``R
    = D^-1 S D^-1``, "auto" and "oas" give ``D [(1 - g) R + g (tr R / d) I]
    D``, which is what scikit-learn's ``LinearDiscriminantAnalysis(
    solver="eigen", shrinkage="auto")`` forms for each class; a number g gives
    ``(1 - g) S + g (tr S / d) I``, as there.

    References
    ----------
    Ledoit, Wolf: A well-conditioned estimator for large-dimensional
    covariance matrices. J. Multivariate Analysis 88, 2004.
    Chen, Wiesel, Eldar, Hero: Shrinkage algorithms for MMSE covariance
    estimation. IEEE Trans. Signal Processing 58, 2010.
    """
    d = len(groups[0].cell.mean)
    total = sum(group.cell.n for group in groups)
    is_root = groups[0].cell.scatter.ndim == 1
    ridge = np.zeros(d)
    parts = []
    for group in groups:
        share = group.cell.n / total
        rows = group.rows() if is_root else None
        weight, target = _target(group, rows, shrinkage)
        ridge += share * weight * target
        kept = share * (1 - weight)
        parts.append(group.cell.covariance * kept if rows is None else rows * np.sqrt(kept))
    base = np.concatenate(parts) if is_root else np.sum(parts, axis=0)
    if floor:
        ridge += _below_floor(groups, total, floor)
    return ShrunkCovariance(base, ridge, is_root)


def _target(group: Group, rows: _Array | None, shrinkage: float | str) -> tuple[float, _Array]:
    """Return the weight of the shrinkage, and the diagonal it shrinks to."""
    variance = group.cell.variance
    if not isinstance(shrinkage, str):
        return float(shrinkage), np.full(len(variance), variance.mean())
    # Rounding leaves a constant feature with a variance of 1e-30, not 0; a scale
    # of 1e-15 would blow its noise up to the size of a real feature.
    tiny = 10 * _eps(group) ** 2 * (variance + group.cell.mean**2)
    scale = np.where(variance > tiny, np.sqrt(variance), 1.0)
    trace = float(np.sum(variance / scale**2))
    if rows is None:
        squared = float(np.sum(np.square(group.cell.covariance / np.outer(scale, scale))))
    else:
        Z = rows / scale
        squared = float(np.sum(np.square(Z @ Z.T)))
    weight = (_oas if shrinkage == "oas" else _ledoit_wolf)(group, scale, trace, squared)
    return weight, trace / len(scale) * scale**2


def _eps(group: Group) -> float:
    return float(np.finfo(np.float64 if group.X is None else group.X.dtype).eps)


def _ledoit_wolf(group: Group, scale: _Array, trace: float, squared: float) -> float:
    """Return the weight of the shrinkage, in [0, 1]."""
    if group.X is None:
        raise ParameterError(
            "shrinkage='auto' (Ledoit-Wolf) needs all clips at once, which partial_fit does not "
            "keep; set shrinkage='oas' or a number from 0 to 1"
        )
    X, d = group.X, len(scale)
    weights = np.ones(len(X)) if group.weights is None else group.weights
    fourth = 0.0
    for start in range(0, len(X), 4096):
        block = slice(start, start + 4096)
        Z = X[block].astype(np.float64)
        Z -= group.cell.mean
        Z /= scale
        fourth += float(weights[block] @ np.einsum("ij,ij->i", Z, Z) ** 2)
    noise = (fourth / group.cell.n - squared) / (group.cell.size * d)
    distance = (squared - trace**2 / d) / d
    return 0.0 if distance <= 0 else max(0.0, min(noise / distance, 1.0))


def _oas(group: Group, scale: _Array, trace: float, squared: float) -> float:
    """Return the weight that would be right for normal data, from traces alone."""
    d = len(scale)
    mean_square, mean = squared / d**2, trace / d
    distance = (group.cell.size + 1) * (mean_square - mean**2 / d)
    return 1.0 if distance <= 0 else min((mean_square + mean**2) / distance, 1.0)


def _below_floor(groups: Sequence[Group], total: float, floor: float) -> _Array:
    """Return what lifts nearly constant features to the floor, and name them."""
    variance = np.sum([g.cell.n / total * g.cell.variance for g in groups], axis=0)
    size = np.square(np.mean([g.cell.mean for g in groups], axis=0))
    least = floor * variance.mean()
    # Features that are constant to the last digit do no harm: their scale is 1.
    eps = max(_eps(group) for group in groups)
    low = (variance < least) & (variance > 10 * eps**2 * (variance + size))
    if low.any():
        names = name_some(np.flatnonzero(low))
        warnings.warn(
            f"{low.sum()} of {len(low)} features hardly vary within a domain (feature {names}; "
            f"variance below {floor:g} of the mean): they are given that variance, else the "
            "direction would be theirs alone; leave them out if they carry nothing",
            BiasAudioWarning,
            stacklevel=2,
        )
    return np.where(low, least - variance, 0.0)
