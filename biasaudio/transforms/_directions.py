"""Directions that tell domains apart, and the map that projects them out."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import Any, TypeVar

import numpy as np
from numpy.typing import DTypeLike, NDArray

from biasaudio._validation import name_some
from biasaudio.errors import BiasAudioWarning, DataError
from biasaudio.moments import EVERY_ROW, Cell, Rows, rows_by_code
from biasaudio.transforms._affine import Affine
from biasaudio.transforms._covariance import Group, RoundingError
from biasaudio.transforms._shrinkage import VARIANCE_FLOOR, shrunk_covariance

__all__ = [
    "SMALLEST_CELL",
    "discriminants",
    "domain_groups",
    "domain_means",
    "each_group",
    "find_discriminants",
    "group_of",
    "in_float32",
    "orthogonal",
    "project_out",
    "warn_small",
]

_Array = NDArray[np.float64]
_Floats = NDArray[np.floating[Any]]
_Codes = NDArray[np.intp]
_Result = TypeVar("_Result")
_BLOCK = 1024
# Values of X from which products in float32 are worth their correction.
LARGE = 2**21
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


def domain_means(X: _Floats, codes: _Codes, weights: _Array | None = None) -> _Array:
    """Return the mean of the clips of each code [shape=(k, d)], from one pass."""
    k, d = int(codes.max()) + 1, X.shape[1]
    sums, counts, buffer = np.zeros((k, d)), np.zeros(k), np.empty((_BLOCK, d))
    # Of numbers of float32, sums in float64 lose no digit; of others the first clip saves them.
    is_small = X.dtype == np.float32
    shift = np.zeros(d) if is_small else X[0]
    for start in range(0, len(X), _BLOCK):
        block = slice(start, start + _BLOCK)
        Z = buffer[: len(X[block])]
        if is_small:
            np.copyto(Z, X[block])
        else:
            np.subtract(X[block], shift, out=Z)
        for code in np.unique(codes[block]).tolist():
            w = (codes[block] == code).astype(np.float64)
            if weights is not None:
                w *= weights[block]
            # Products with one column at a time take a third of those with a few.
            sums[code] += w @ Z
            counts[code] += w.sum()
    # A code without clips is not asked for.
    means: _Array = shift + sums / np.where(counts, counts, 1)[:, None]
    return means


def each_group(
    X: _Floats, codes: _Codes, weights: _Array | None = None, *, dtype: DTypeLike = np.float64
) -> Iterator[Group]:
    """Yield a group for each code, when it is asked for: its full moments, or its clips if n < d.

    ``dtype`` is the precision of the products, see `in_float32`.
    """
    means = domain_means(X, codes, weights)
    for code, rows in rows_by_code(codes, weights):
        part = None if weights is None else weights[rows]
        # No name for the group, which would keep its matrix while the next one is made.
        yield group_of(X, part, means[code], rows=rows, dtype=dtype)


def group_of(
    X: _Floats,
    weights: _Array | None,
    mean: _Array,
    *,
    rows: Rows = EVERY_ROW,
    dtype: DTypeLike = np.float64,
) -> Group:
    """Return the group of these rows, whose mean and whose weights these are."""
    is_dual = X.shape[0] < X.shape[1]
    with np.errstate(over="ignore", invalid="ignore"):
        cell = Cell.of(X, weights, rows=rows, mean=mean, dtype=dtype, diagonal=is_dual)
    is_rounded = dtype == np.float32
    # Squares of float32 end at 1e38, and begin at 1e-38.
    if is_rounded and not 1e-20 < cell.variance.mean() < 1e20:
        raise RoundingError
    return Group(cell, X, weights, rows, is_rounded)


def domain_groups(X: _Floats, codes: _Codes, weights: _Array | None = None) -> list[Group]:
    """Return one group for each code: its full moments, or its clips where n < d."""
    return list(each_group(X, codes, weights))


def in_float32(X: _Floats, solve: Callable[[DTypeLike], _Result]) -> _Result:
    """Return what ``solve`` finds from products of float32 where these do, else of float64.

    They cost half as much.  ``solve`` corrects what they lack, and raises
    `RoundingError` where it cannot.  Smaller data gain nothing.
    """
    if X.dtype == np.float32 and X.size >= LARGE and X.shape[0] >= X.shape[1]:
        with suppress(RoundingError):
            return solve(np.float32)
    return solve(np.float64)


def discriminants(
    groups: Iterable[Group], shrinkage: float | str, *, floor: float = VARIANCE_FLOOR
) -> tuple[_Array, _Array]:
    """Return the LDA coefficients that tell groups apart [shape=(k - 1, d)], and their means.

    ``Sw^-1 (m_j - m_0)``, where Sw is the mean of the shrunk covariances,
    weighted by the class priors.  One group alone gives ``Sw^-1 m``, the
    one-class direction of the published code.
    """
    cells = []

    def seen(group: Group) -> Group:
        cells.append(group.cell.without_products())
        return group

    within = shrunk_covariance(map(seen, groups), shrinkage, floor=floor)
    means = np.stack([cell.mean for cell in cells])
    # Differences are taken before the solve: with means of 1000 and gaps of 1 the
    # other order loses three digits.
    gaps = means if len(means) == 1 else means[1:] - means[0]
    try:
        return within.solve(gaps.T).T, means
    except np.linalg.LinAlgError:
        n = sum(cell.size for cell in cells)
        raise DataError(
            f"the within-domain covariance of {n:.0f} clips in {means.shape[1]} dimensions is "
            f"singular at shrinkage={shrinkage!r}; use shrinkage='auto'"
        ) from None


def find_discriminants(
    X: _Floats,
    codes: _Codes,
    weights: _Array | None,
    shrinkage: float | str,
    *,
    floor: float = VARIANCE_FLOOR,
) -> tuple[_Array, _Array]:
    """Return what `discriminants` does, of the clips of each code."""
    return in_float32(
        X,
        lambda dtype: discriminants(
            each_group(X, codes, weights, dtype=dtype), shrinkage, floor=floor
        ),
    )


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
