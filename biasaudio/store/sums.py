"""Sums and maxima of the frames of each clip in one block."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

__all__ = ["members", "sorted_max", "sum_runs"]

# Frames that are summed in float32: a mean is then within 3 units in the last place
# of the float64 one, which takes three times as long.
GROUP = 16
# OpenBLAS spreads larger products over threads, which here takes twice the time.
PRODUCT_VALUES = 2**13
# A product for each stretch of clips of one length costs as much as the sparse
# product of this many frames.
FEW_FRAMES = 32


def members(local: NDArray[np.intp]) -> sparse.csr_array:
    """Return the matrix whose product with rows is their sum by ``local``."""
    n = len(local)
    entries = (np.ones(n), (local, np.arange(n)))
    return sparse.csr_array(entries, shape=(local.max(initial=-1) + 1, n))


def sum_runs(
    rows: NDArray[Any], X: NDArray[np.float32]
) -> tuple[NDArray[Any], NDArray[Any], NDArray[np.float64]]:
    """Return clip, length and sum of each run of frames of one clip."""
    starts = np.append(0, np.flatnonzero(rows[1:] != rows[:-1]) + 1)
    lengths = np.diff(starts, append=len(rows))
    # Clips of one length that follow each other are summed at once.
    stretches = np.flatnonzero(np.diff(lengths, prepend=0))
    if len(stretches) * FEW_FRAMES > len(rows):
        return rows, np.ones(len(rows), dtype=np.intp), X.astype(np.float64)
    frames = (
        part.reshape(-1, lengths[first], X.shape[1])
        for first, part in zip(stretches, np.split(X, starts[stretches[1:]]), strict=True)
    )
    return rows[starts], lengths, np.concatenate([_sum_frames(each) for each in frames])


def _sum_frames(X: NDArray[np.float32]) -> NDArray[np.float64]:
    """Return the sum over axis 1 of an array [shape=(n_clips, n_frames, n_features)]."""
    n_frames, n_features = X.shape[1:]
    group = max(1, min(GROUP, PRODUCT_VALUES // n_features))
    ones = np.ones(group, dtype=np.float32)
    whole = n_frames - n_frames % group
    groups = X[:, :whole].reshape(len(X), -1, group, n_features)
    # What overflows here is summed again by the caller, in float64.
    with np.errstate(over="ignore", invalid="ignore"):
        total: NDArray[np.float64] = np.matmul(ones, groups).sum(axis=1, dtype=np.float64)
        if whole < n_frames:
            total += np.matmul(ones[: n_frames - whole], X[:, whole:])
    return total


def sorted_max(local: NDArray[np.intp], X: NDArray[np.float32]) -> NDArray[np.float32]:
    """Return the maximum of each clip's frames, which follow each other."""
    # Halving the frames of all clips at once takes log2(frames a clip) steps;
    # np.maximum.reduceat along axis 0 is five times slower.
    while True:
        first = np.flatnonzero(np.diff(local, prepend=-1))
        if len(first) == len(local):
            return X
        rank = np.arange(len(local)) - np.repeat(first, np.diff(first, append=len(local)))
        left = np.flatnonzero(rank % 2 == 0)
        right = np.minimum(left + 1, len(local) - 1)
        right = np.where(local[right] == local[left], right, left)
        X = np.maximum(X[left], X[right])
        local = local[left]
