"""Splits by group, and subsamples at equal class mix."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio._validation import name_some
from biasaudio.errors import DataError

__all__ = ["assign_parts", "equal_mix", "majority"]

_Codes = NDArray[np.intp]


def majority(groups: _Codes, values: _Codes) -> _Codes:
    """Return the most frequent value code of each group [shape=(n_groups,)]."""
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
    """Return the part of each clip; a group is never in two parts.

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
    order = np.lexsort((rng.random(len(ids)), stratum, value))
    part = np.empty(len(ids), dtype=np.intp)
    part[order] = np.arange(len(ids)) % n_parts
    return part[groups]


def equal_mix(
    values: _Codes, strata: _Codes, rng: np.random.Generator, names: NDArray[Any]
) -> _Codes:
    """Return the clips of a subsample where every value has the same class mix.

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
