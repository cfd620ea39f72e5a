"""Weighted ROC-AUC, the bootstrap over groups, and Holm's correction."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import csr_array

__all__ = [
    "bootstrap_p_value",
    "group_weights",
    "holm",
    "interval",
    "mean_known",
    "resampled_auc",
    "roc_auc",
    "weighted_auc",
]

_Array = NDArray[np.float64]


def roc_auc(scores: NDArray[np.floating[Any]], positive: NDArray[np.bool_]) -> float:
    """ROC-AUC of clips that count once, in a tenth of scikit-learn's time.

    Parameters
    ----------
    scores : np.ndarray [shape=(n,)]
    positive : np.ndarray of bool [shape=(n,)]
        Both values occur.

    Returns
    -------
    float

    Examples
    --------
    >>> import numpy as np
    >>> roc_auc(np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True]))
    0.875
    """
    low, high = np.sort(scores[~positive]), scores[positive]
    wins = np.searchsorted(low, high, "left") + np.searchsorted(low, high, "right")
    return float(wins.sum()) / (2 * len(low) * len(high))


def weighted_auc(
    scores: NDArray[np.floating[Any]], positive: NDArray[np.bool_], weights: ArrayLike
) -> _Array:
    """ROC-AUC under many weightings of the same clips at once.

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


def resampled_auc(
    scores: NDArray[np.floating[Any]],
    positive: NDArray[np.bool_],
    weights: NDArray[Any],
    groups: NDArray[np.intp],
) -> _Array:
    """ROC-AUC in every resample of the groups.

    Parameters
    ----------
    scores : np.ndarray [shape=(n,)]
        Higher means more likely positive.
    positive : np.ndarray of bool [shape=(n,)]
    weights : np.ndarray [shape=(n_resamples, n_groups)]
        How often each group counts, as `group_weights` draws it.
    groups : np.ndarray of int [shape=(n,)]
        The column of each clip in the weights.

    Returns
    -------
    np.ndarray [shape=(n_resamples,)]
        What `weighted_auc` returns for ``weights[:, groups]``.

    Examples
    --------
    >>> import numpy as np
    >>> s, y = np.array([0.1, 0.4, 0.4, 0.9]), np.array([False, False, True, True])
    >>> weights, groups = np.array([[1, 1], [2, 0]]), np.array([0, 1, 1, 0])
    >>> resampled_auc(s, y, weights, groups).tolist()
    [0.875, 1.0]
    """
    up, down = _steps(scores[positive], scores[~positive])
    # A sparse product adds whole rows of resamples and gathers no weight for each clip
    # and resample: 1 ms for 2,000 clips and 1,000 resamples instead of 30.
    shape = (up.max(initial=-1) + 2, weights.shape[1])
    one = np.ones(len(up), dtype=np.result_type(weights, np.float32))
    half, twice = np.full(len(down), 0.5, dtype=one.dtype), np.tile(groups[~positive], 2)
    ups = csr_array((one, (up, groups[positive])), shape=shape) @ weights.T
    below = csr_array((half, (down, twice)), shape=shape) @ weights.T
    # np.cumsum(axis=0) goes down one column after the other: half as quick as row by row.
    for last, step in pairwise(below):
        step += last
    wins = np.einsum("ir,ir->r", ups, below, dtype=np.float64)
    pairs = ups.sum(axis=0, dtype=np.float64) * below[-1]
    with np.errstate(invalid="ignore", divide="ignore"):
        auc: _Array = np.where(pairs > 0, wins / pairs, np.nan)
    return auc


def _steps(
    positives: NDArray[np.floating[Any]], negatives: NDArray[np.floating[Any]]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """Step of each positive, and the two from which on half a negative is below.

    The steps go up with the scores; positives with no negative between them share one.
    """
    order = np.argsort(positives, kind="stable")
    ranked, others = positives[order], np.sort(negatives)
    sides: tuple[Any, Any] = ("left", "right")
    twice_below = sum(np.searchsorted(others, ranked, side) for side in sides)
    is_new = np.diff(twice_below, prepend=-1) > 0
    up = np.empty(len(positives), dtype=np.intp)
    up[order] = np.cumsum(is_new) - 1
    first = ranked[is_new]
    return up, np.concatenate([np.searchsorted(first, negatives, side) for side in sides])


def group_weights(n_groups: int, n_resamples: int, rng: np.random.Generator) -> NDArray[Any]:
    """How often each group is drawn in each bootstrap resample.

    Parameters
    ----------
    n_groups : int
    n_resamples : int
    rng : np.random.Generator

    Returns
    -------
    np.ndarray [shape=(n_resamples, n_groups)]
        Multinomial counts that sum to ``n_groups``, as float32 whose memory runs
        along the resamples, as `resampled_auc` reads it.
    """
    share = np.full(n_groups, 1 / n_groups)
    counts = rng.multinomial(n_groups, share, size=n_resamples)
    return np.ascontiguousarray(counts.T, dtype=np.float32).T


def interval(samples: ArrayLike, confidence: float = 0.95) -> tuple[float, float]:
    """Percentile interval of bootstrap samples, NaN ones left out."""
    samples = np.asarray(samples, dtype=np.float64)
    samples = samples[np.isfinite(samples)]
    if not samples.size:
        return float("nan"), float("nan")
    tail = (1 - confidence) / 2
    low, high = np.quantile(samples, [tail, 1 - tail])
    return float(low), float(high)


def mean_known(samples: ArrayLike) -> _Array:
    """Mean over the first axis, NaN left out; NaN where all are.

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
    """Two-sided bootstrap p-value of "the difference is zero".

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
    """P-values adjusted for their number (Holm 1979).

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
