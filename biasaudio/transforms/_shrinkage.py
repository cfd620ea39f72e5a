"""How much the covariances of some clips are to be shrunk."""

from __future__ import annotations

import warnings
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio._validation import name_some
from biasaudio.errors import BiasAudioWarning, ParameterError
from biasaudio.moments import centred_blocks
from biasaudio.transforms._covariance import Group, ShrunkCovariance

__all__ = ["check_shrinkage", "shrunk_covariance"]

_Array = NDArray[np.float64]

# Below this share of the mean variance a feature is noise of the arithmetic.
VARIANCE_FLOOR = 1e-10


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
    groups: Iterable[Group], shrinkage: float | str = "auto", *, floor: float = VARIANCE_FLOOR
) -> ShrunkCovariance:
    """Return the weighted mean of the shrunk covariances of the groups.

    Parameters
    ----------
    groups : iterable of Group
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
    seen: list[Group] = []
    kept: list[float] = []
    parts: list[_Array] = []
    ridge: Any = 0.0
    for group in groups:
        is_root = group.cell.scatter.ndim == 1
        rows = group.rows() if is_root else None
        weight, target = _target(group, rows, shrinkage)
        ridge = ridge + group.cell.n * weight * target
        kept.append(1 - weight)
        if rows is not None:
            rows *= np.sqrt(group.cell.n * kept[-1])
            parts.append(rows)
        else:
            parts = parts or [np.zeros_like(group.cell.scatter)]
            _add(parts[0], group.cell.scatter, kept[-1])
        # One d x d matrix at a time, beside the sum, where groups are made as they are asked for.
        seen.append(replace(group, cell=group.cell.without_products()))
        del group
    total = sum(group.cell.n for group in seen)
    base = np.concatenate(parts) if is_root else parts[0]
    base /= np.sqrt(total) if is_root else total
    ridge = ridge / total
    if floor:
        ridge += _below_floor(seen, total, floor)
    shares = [k * group.cell.n / total for k, group in zip(kept, seen)]
    rounded = tuple(zip(shares, seen)) if seen[0].is_rounded else ()
    return ShrunkCovariance(base, ridge, is_root, rounded)


def _add(base: _Array, scatter: _Array, factor: float) -> None:
    """Add a multiple, without another matrix of that size."""
    for start in range(0, len(base), 256):
        base[start : start + 256] += factor * scatter[start : start + 256]


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
        q, S = 1 / scale**2, group.cell.scatter
        blocks = [slice(start, start + 256) for start in range(0, len(S), 256)]
        squared = float(sum(q[b] @ (np.square(S[b]) @ q) for b in blocks)) / group.cell.n**2
    else:
        # The weight of float32 clips needs no more digits than they have.
        Z = np.divide(rows, scale, dtype=_dtype(group), casting="same_kind")
        squared = float(np.sum(np.square(Z @ Z.T)))
    weight = (_oas if shrinkage == "oas" else _ledoit_wolf)(group, scale, trace, squared)
    return weight, trace / len(scale) * scale**2


def _dtype(group: Group) -> np.dtype[np.floating[Any]]:
    return np.dtype(np.float64) if group.X is None else group.X.dtype


def _eps(group: Group) -> float:
    return float(np.finfo(_dtype(group)).eps)


def _ledoit_wolf(group: Group, scale: _Array, trace: float, squared: float) -> float:
    """Return the weight of the shrinkage, in [0, 1]."""
    if group.X is None:
        raise ParameterError(
            "shrinkage='auto' (Ledoit-Wolf) needs all clips at once, which partial_fit does not "
            "keep; set shrinkage='oas' or a number from 0 to 1"
        )
    d, dtype = len(scale), np.float32 if group.is_rounded else np.float64
    # Where numbers of this size do not hold the square of a scale, nor do they that of a feature.
    most = np.finfo(dtype).max ** 0.8
    center: NDArray[np.floating[Any]] = group.cell.mean.astype(dtype)
    unit = np.minimum(1 / scale**2, most).astype(dtype)
    fourth = 0.0
    for place, Z in centred_blocks(group.X, group.at, center, dtype, 1024):
        squares = np.square(np.multiply(Z, Z, out=Z) @ unit, dtype=np.float64)
        fourth += float(squares.sum() if group.weights is None else group.weights[place] @ squares)
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
