"""Location and scale of domains: regression on what is preserved, and shrinkage."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio._validation import check_categories, name_some
from biasaudio.errors import DataError
from biasaudio.transforms._base import read_columns

__all__ = ["LocationScale", "check_apart", "code_columns", "locate", "regress"]

_Array = NDArray[np.float64]
_BLOCK = 4096
# The relative change at which the published code stops; a tighter one would differ from it.
_CHANGE = 1e-4
_MAX_ROUNDS = 1000


def code_columns(
    values: ArrayLike, n: int, width: int | None = None, categories: Any = None
) -> tuple[NDArray[Any] | None, _Array]:
    """Return the categories of what is preserved, if it has any, and its columns.

    Parameters
    ----------
    values : array_like [shape=(n,) or (n, m)]
    n : int
    width : int, optional
        The number of columns in fit.
    categories : np.ndarray, optional
        The categories in fit, if there were any.

    Returns
    -------
    categories : np.ndarray [shape=(m,)] or None
    columns : np.ndarray [shape=(n, m)]

    Raises
    ------
    DataError
        If a category or the number of columns differs from that in fit.
    """
    array = np.asarray(values)
    is_numeric = array.ndim != 1 or array.dtype.kind == "f"
    if is_numeric or (width is not None and categories is None):
        columns = read_columns(values, "preserve", n, categories=False)
        found = "no categories" if categories is not None else f"{columns.shape[1]} column(s)"
        if width is not None and (categories is not None or columns.shape[1] != width):
            wanted = f"{width} column(s)" if categories is None else "one category a clip"
            raise DataError(f"preserve has {found}, but fit saw {wanted}; give the same to both")
        return None, columns
    names, codes = check_categories(values, "preserve", n)
    if categories is None:
        return names, np.eye(len(names))[codes]
    places = {str(name): i for i, name in enumerate(categories)}
    new = [str(name) for name in names.tolist() if str(name) not in places]
    if new:
        raise DataError(
            f"preserve has {name_some(new)}, which fit did not see; it saw {name_some(places, 9)}: "
            "leave these clips or preserve out"
        )
    return names, np.eye(len(places))[[places[str(name)] for name in names.tolist()]][codes]


def check_apart(columns: _Array, within: _Array, n_domains: int, weights: _Array) -> None:
    """Raise if what is preserved cannot be told from the domain, or explains all.

    Parameters
    ----------
    columns, within : np.ndarray [shape=(n, m)]
        Centred, over all clips and in each domain.
    n_domains : int
    weights : np.ndarray [shape=(n,)]
    """
    root = np.sqrt(weights / weights.sum())[:, None]
    spread = np.sqrt(np.square(root * columns).sum(axis=0))
    spread[spread == 0] = 1
    ranks = [np.linalg.matrix_rank(root * part / spread, tol=1e-6) for part in (columns, within)]
    if ranks[0] > ranks[1]:
        raise DataError(
            f"preserve cannot be told from domain: {ranks[0] - ranks[1]} of its {ranks[0]} "
            "independent columns does not vary within the domains; give clips of one class in "
            "several domains, or preserve less"
        )
    n = int((weights > 0).sum())
    if ranks[1] + n_domains >= n:
        raise DataError(
            f"preserve has {ranks[1]} independent columns for {n} clips, which leaves nothing to "
            "estimate a scale from; give more clips, or preserve less"
        )


def regress(
    X: NDArray[np.floating[Any]], codes: NDArray[np.intp], weights: _Array, means: _Array, C: _Array
) -> tuple[_Array, _Array]:
    """Return the effects of columns within domains, and what they leave.

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]
    codes : np.ndarray of int [shape=(n,)]
    weights : np.ndarray [shape=(n,)]
    means : np.ndarray [shape=(k, d)]
    C : np.ndarray [shape=(n, m)]
        Centred in each domain; may be of lower rank.

    Returns
    -------
    effects : np.ndarray [shape=(m, d)]
    variances : np.ndarray [shape=(k, d)]
        The mean squared residual in each domain.
    """
    root = np.sqrt(weights)
    spread = np.sqrt(weights @ C**2 / weights.sum())
    spread[spread == 0] = 1
    basis, sizes, mix = np.linalg.svd(root[:, None] * C / spread, full_matrices=False)
    kept = sizes > 1e-6 * np.sqrt(weights.sum())
    solve = (basis[:, kept] / sizes[kept] * root[:, None]) @ mix[kept] / spread
    effects = np.zeros((C.shape[1], X.shape[1]))
    blocks = [slice(start, start + _BLOCK) for start in range(0, len(X), _BLOCK)]
    for rows in blocks:
        effects += solve[rows].T @ (X[rows] - means[codes[rows]])
    squares = np.zeros_like(means)
    for rows in blocks:
        left = X[rows] - means[codes[rows]] - C[rows] @ effects
        shares = np.eye(len(means))[codes[rows]] * weights[rows, None]
        squares += shares.T @ left**2
    return effects, squares / np.bincount(codes, weights)[:, None]


@dataclass(frozen=True)
class LocationScale:
    """Hold what is to be taken off each domain, in units of the features.

    Attributes
    ----------
    grand : np.ndarray [shape=(d,)]
        The common mean.
    shift, scale : np.ndarray [shape=(k, d)]
        What is taken off, and what the rest is divided by.
    mixture_gain : np.ndarray [shape=(d,)]
        What brings the clips of all domains, taken as one, to that scale.
    """

    grand: _Array
    shift: _Array
    scale: _Array
    mixture_gain: _Array


def locate(levels: _Array, variances: _Array, sizes: _Array, *, is_shrunk: bool) -> LocationScale:
    """Return location and scale of each domain.

    Parameters
    ----------
    levels, variances : np.ndarray [shape=(k, d)]
        The mean of each domain less what is preserved, and the variance
        around it.
    sizes : np.ndarray [shape=(k,)]
        The number of clips, above 1.
    is_shrunk : bool

    Returns
    -------
    LocationScale

    Raises
    ------
    DataError
        If there are not two features to be shrunk towards each other.
    """
    shares = sizes / sizes.sum()
    grand, pooled = shares @ levels, shares @ variances
    # A feature that does not vary (up to rounding) has no scale to match.
    floor = 1e-10 * (pooled + grand**2) + np.finfo(float).tiny
    live = pooled > floor
    flat = ~live | (variances <= floor)
    unit = np.sqrt(np.where(live, pooled, 1.0))
    gamma = (levels - grand) / unit
    biased = np.where(flat, 0.0, variances) / unit**2
    delta = np.where(flat, 1.0, biased * (sizes / (sizes - 1))[:, None])
    if is_shrunk:
        if live.sum() < 2:
            raise DataError(
                f"{live.sum()} of {len(live)} features vary within the domains, and shrinkage "
                "needs two to compare; set shrinkage=False"
            )
        for i, n in enumerate(sizes):
            gamma[i, live], delta[i, live] = _shrink(
                gamma[i, live], delta[i, live], biased[i, live], n
            )
        delta[flat] = 1.0
    mixture = pooled + shares @ (levels - grand) ** 2
    gain = np.sqrt(np.where(live, pooled, 1.0) / np.where(live, mixture, 1.0)) - 1
    return LocationScale(grand, unit * gamma, np.sqrt(delta), gain)


def _shrink(gamma: _Array, delta: _Array, variances: _Array, n: float) -> tuple[_Array, _Array]:
    """Return the posterior location and variance of each feature in one domain.

    Parameters
    ----------
    gamma : np.ndarray [shape=(p,)]
        The mean of each standardised feature.
    delta : np.ndarray [shape=(p,)]
        Its variance (unbiased), from which the prior follows.
    variances : np.ndarray [shape=(p,)]
        Its variance (biased), which the clips have.
    n : float
        The number of clips.

    Returns
    -------
    location, scale : np.ndarray [shape=(p,)]
    """
    center, spread = gamma.mean(), gamma.var(ddof=1)
    mean, s2 = delta.mean(), delta.var(ddof=1)
    location, scale = gamma, delta
    for _ in range(_MAX_ROUNDS):
        before = location, scale
        location = (n * spread * gamma + scale * center) / (n * spread + scale)
        squares = n * (variances + (gamma - location) ** 2)
        # The prior's a = 2 + m^2 / s2 and b = m + m^3 / s2, times s2, which may be 0.
        scale = (s2 * (squares / 2 + mean) + mean**3) / (s2 * (n / 2 + 1) + mean**2)
        # As in the published code, which divides by the value and not by its size, so that
        # negative locations never ask for another round; counting them would differ from it.
        pairs = zip(before, (location, scale))
        if all((np.abs(b - a) <= _CHANGE * a)[a > 0].all() for a, b in pairs):
            break
    return location, scale
