"""What each clip counts for: sample weights, and domains at equal class mix."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio._validation import check_categories, check_sample_weight
from biasaudio.errors import DataError

__all__ = ["clip_weights"]

_Array = NDArray[np.float64]


def clip_weights(
    codes: NDArray[np.intp],
    k: int,
    balance: ArrayLike | None = None,
    sample_weight: ArrayLike | None = None,
) -> _Array | None:
    """Return what each clip counts for, or None if all count the same.

    Parameters
    ----------
    codes : np.ndarray of int [shape=(n,)]
        The domain of each clip.
    k : int
        The number of domains.
    balance : array_like of str or int [shape=(n,)], optional
        The class of each clip, "" where it is not known.  The classes that every domain has get the
        same share in each domain, the others none.
    sample_weight : array_like [shape=(n,)], optional

    Returns
    -------
    np.ndarray [shape=(n,)] or None
        With the number of clips that count as its sum.

    Raises
    ------
    DataError
        If no class is in every domain, or a domain has no weight.
    """
    if balance is None and sample_weight is None:
        return None
    n = len(codes)
    weights = np.ones(n) if sample_weight is None else check_sample_weight(sample_weight, n)
    if balance is not None:
        classes, class_codes = check_categories(balance, "balance", n)
        sums = np.zeros((k, len(classes)))
        np.add.at(sums, (codes, class_codes), weights)
        shared = (sums > 0).all(axis=0) & (classes.astype(str) != "")
        if not shared.any():
            raise DataError(
                "no class of balance has clips in every domain, so the domains cannot be compared "
                "at equal class mix; leave balance out or give classes that the domains share"
            )
        share = np.where(shared, 1 / np.where(shared, sums, 1), 0.0)
        weights = weights * share[codes, class_codes]
    if (np.bincount(codes, weights, minlength=k) == 0).any():
        raise DataError("a domain has no clip with a weight above 0; give it one or leave it out")
    scaled: _Array = weights * ((weights > 0).sum() / weights.sum())
    return scaled
