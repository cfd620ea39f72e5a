"""Weighted ROC-AUC, the bootstrap over groups, and Holm's correction."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

__all__ = [
    "bootstrap_p_value",
    "group_weights",
    "holm",
    "interval",
    "mean_known",
    "weighted_auc",
]

_Array = NDArray[np.float64]


def weighted_auc(
    scores: NDArray[np.floating[Any]], positive: NDArray[np.bool_], weights: ArrayLike
) -> _Array:
    """Return the ROC-AUC under many weightings of the same clips at once.

    Parameters
    ----------
    scores : np.ndarray [shape=(n,)]
        Higher means more likely positive.
    positive : np.ndarray of bool [shape=(n,)]
    weights : array_like [shape=(n,) or (n_resamples, n)]
        How often each clip counts; zero leaves it out.

    Returns
    -------
    np.ndarray [shape=() or (n_resamples,)]
        NaN where only one class has weight.

    Notes
    -----
    With positives p and negatives q,

        AUC = sum_pq w_p w_q ([s_p > s_q] + [s_p = s_q] / 2) / (W_p W_q).

    The clips are ranked once for all resamples.

    Examples
    --------
    >>> import numpy as np
    >>> s, y = np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True])
    >>> float(weighted_auc(s, y, np.ones(4)))
    0.875
    """
    weights = np.asarray(weights, dtype=np.float64)
    values, tie = np.unique(scores, return_inverse=True)
    order = np.argsort(tie, kind="stable")
    starts = np.searchsorted(tie[order], np.arange(len(values)))
    w = weights[..., order]
    up = np.add.reduceat(w * positive[order], starts, axis=-1)
    down = np.add.reduceat(w * ~positive[order], starts, axis=-1)
    below = np.cumsum(down, axis=-1) - down / 2
    pairs = up.sum(axis=-1) * down.sum(axis=-1)
    wins = np.einsum("...i,...i->...", up, below)
    with np.errstate(invalid="ignore", divide="ignore"):
        auc: _Array = np.where(pairs > 0, wins / pairs, np.nan)
    return auc


def group_weights(n_groups: int, n_resamples: int, rng: np.random.Generator) -> _Array:
    """Return how often each group is drawn in each bootstrap resample.

    Parameters
    ----------
    n_groups : int
    n_resamples : int
    rng : np.random.Generator

    Returns
    -------
    np.ndarray [shape=(n_resamples, n_groups)]
        Multinomial counts that sum to ``n_groups``.
    """
    share = np.full(n_groups, 1 / n_groups)
    return rng.multinomial(n_groups, share, size=n_resamples).astype(np.uint16)


def interval(samples: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Return the percentile interval of bootstrap samples, NaN ones left out."""
    samples = np.asarray(samples, dtype=np.float64)
    samples = samples[np.isfinite(samples)]
    if not samples.size:
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return float(low), float(high)


def mean_known(samples: ArrayLike) -> _Array:
    """Return the mean over the first axis, NaN left out; NaN where all are.

    Parameters
    ----------
    samples : array_like [shape=(m, n_resamples)]
        Such as the ROC-AUC of m parts in each resample, NaN where a resample
        holds one class only of a part.

    Returns
    -------
    np.ndarray [shape=(n_resamples,)]
    """
    samples = np.asarray(samples, dtype=np.float64)
    known = np.isfinite(samples)
    counts = known.sum(axis=0)
    total = np.where(known, samples, 0.0).sum(axis=0)
    mean: _Array = np.where(counts > 0, total / np.maximum(counts, 1), np.nan)
    return mean


def bootstrap_p_value(samples: ArrayLike) -> float:
    """Return the two-sided bootstrap p-value of "the difference is zero".

    Parameters
    ----------
    samples : array_like [shape=(n_resamples,)]
        Bootstrap samples of a difference.

    Returns
    -------
    float
        Twice the smaller share of samples on one side of zero, with one
        added to both counts so that it is never zero.  1 where every sample
        is exactly zero.
    """
    samples = np.asarray(samples, dtype=np.float64)
    samples = samples[np.isfinite(samples)]
    if not samples.size:
        return float("nan")
    smaller = min((samples <= 0).sum(), (samples >= 0).sum())
    return float(min(1.0, 2 * (smaller + 1) / (samples.size + 1)))


def holm(p_values: ArrayLike) -> _Array:
    """Return the p-values adjusted for their number (Holm 1979).

    Parameters
    ----------
    p_values : array_like [shape=(m,)]
        NaN stays NaN and does not count.

    Returns
    -------
    np.ndarray [shape=(m,)]
        ``max_{j <= i} (m - j + 1) p_(j)``, at most 1.

    References
    ----------
    Holm: A simple sequentially rejective multiple test procedure.
    Scandinavian Journal of Statistics 6, 1979.

    Examples
    --------
    >>> [float(p) for p in holm([0.01, 0.04, 0.03])]
    [0.03, 0.06, 0.06]
    """
    p = np.asarray(p_values, dtype=np.float64)
    adjusted = np.full(p.shape, np.nan)
    known = np.flatnonzero(np.isfinite(p))
    order = known[np.argsort(p[known], kind="stable")]
    steps = p[order] * np.arange(len(order), 0, -1)
    adjusted[order] = np.minimum(np.maximum.accumulate(steps), 1.0) if len(order) else steps
    return adjusted
