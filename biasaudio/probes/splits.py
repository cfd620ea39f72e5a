"""Splits by group, and subsamples at equal class mix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio._validation import name_some
from biasaudio.errors import DataError

__all__ = ["assign_parts", "deal_groups", "equal_mix", "majority"]

_Codes = NDArray[np.intp]


def majority(groups: _Codes, values: _Codes) -> _Codes:
    """Most frequent value code of each group [shape=(n_groups,)]."""
    counts = np.zeros((groups.max() + 1, values.max() + 1), dtype=np.intp)
    np.add.at(counts, (groups, values), 1)
    return counts.argmax(axis=1)


def assign_parts(
    groups: _Codes,
    values: _Codes,
    strata: _Codes,
    n_parts: int,
    rng: np.random.Generator,
    names: NDArray[Any],
) -> _Codes:
    """Part of each clip, every part of the same mix; a group is never in two.

    Groups are dealt out in random order within each (value, stratum), so that
    every part has the same mix as nearly as the groups allow.

    Parameters
    ----------
    groups, values, strata : np.ndarray of codes [shape=(n,)]
    n_parts : int
    rng : np.random.Generator
    names : np.ndarray
        What the value codes stand for, for the message.

    Returns
    -------
    np.ndarray [shape=(n,), dtype=intp]

    Raises
    ------
    DataError
        If a value has fewer groups than there are parts.
    """
    ids, groups = np.unique(groups, return_inverse=True)
    value, stratum = majority(groups, values), majority(groups, strata)
    held = np.unique(np.stack([groups, values]), axis=1)[1]
    counts = np.bincount(held, minlength=len(names))
    few = np.flatnonzero(counts < n_parts)
    if few.size:
        which = ", ".join(f"{str(names[i])!r} has {counts[i]} group(s)" for i in few[:3])
        raise DataError(
            f"{which} of clips, fewer than the {n_parts} parts of the split; add clips, or ask "
            "for fewer splits"
        )
    return _deal(np.lexsort((rng.random(len(ids)), stratum, value)), n_parts)[groups]


def deal_groups(
    groups: NDArray[Any], n_parts: int, rng: np.random.Generator, *, as_turns: bool = False
) -> _Codes:
    """Fold of each clip; groups are shuffled and stay together.

    Parameters
    ----------
    groups : np.ndarray [shape=(n,)]
    n_parts : int
        Folds; their numbers of groups differ by one at most.
    rng : np.random.Generator
    as_turns : bool
        Whether the shuffled numbers are the turns of the groups, in place of the
        groups turn by turn.  Both are as fair; the probe's penalties were
        measured with the one, the classifiers with the other.

    Returns
    -------
    np.ndarray [shape=(n,), dtype=intp]

    Examples
    --------
    >>> import numpy as np
    >>> fold = deal_groups(np.array([7, 7, 8, 9, 9]), 3, np.random.default_rng(0))
    >>> bool(fold[0] == fold[1]), sorted(set(fold.tolist()))
    (True, [0, 1, 2])
    """
    ids, codes = np.unique(groups, return_inverse=True)
    shuffled = rng.permutation(len(ids))
    fold: _Codes = shuffled % n_parts if as_turns else _deal(shuffled, n_parts)
    return fold[codes]


def _deal(order: _Codes, n_parts: int) -> _Codes:
    """Part of each group, dealt out in this order as cards are."""
    part = np.empty(len(order), dtype=np.intp)
    part[order] = np.arange(len(order)) % n_parts
    return part


def equal_mix(
    values: _Codes, strata: _Codes, rng: np.random.Generator, names: NDArray[Any]
) -> _Codes:
    """Clips of a random subsample where every value has the same class mix.

    Parameters
    ----------
    values, strata : np.ndarray of codes [shape=(n,)]
        Strata below zero are left out.
    rng : np.random.Generator
    names : np.ndarray
        What the value codes stand for, for the message.

    Returns
    -------
    np.ndarray of int [shape=(m,)]
        Sorted row numbers: in each stratum as many clips of each value as the
        rarest has.

    Raises
    ------
    DataError
        If no stratum has clips of every value.
    """
    counts = np.zeros((len(names), strata.max() + 1), dtype=np.intp)
    known = strata >= 0
    np.add.at(counts, (values[known], strata[known]), 1)
    quota = counts.min(axis=0)
    if not quota.any():
        raise DataError(
            f"{name_some(names)} share no class, so equal class mix is impossible; "
            "probe without strata, or rename classes that mean the same"
        )
    shuffled = rng.permutation(np.flatnonzero(known))
    cell = values[shuffled] * len(quota) + strata[shuffled]
    order = np.argsort(cell, kind="stable")
    starts = np.searchsorted(cell[order], cell[order])
    rank = np.arange(len(order)) - starts
    kept = rank < quota[strata[shuffled][order]]
    rows: _Codes = np.sort(shuffled[order][kept])
    return rows
