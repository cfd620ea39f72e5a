"""What a fresh probe reads on held-out clips after each round."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio.probes._splits import assign_parts
from biasaudio.probes.inference import weighted_auc
from biasaudio.transforms._covariance import ShrunkCovariance
from biasaudio.transforms._rounds import Rounds, solver

__all__ = ["held_out_path", "probe_aucs"]

_Array = NDArray[np.float64]
_Codes = NDArray[np.intp]
_Floats = NDArray[np.floating[Any]]
# Relative to the largest eigenvalue: what the identity probe usually takes.
_PENALTY = 1e-3


def held_out_path(
    X: _Floats,
    codes: _Codes,
    groups: _Codes,
    strata: _Codes,
    fit: Callable[[_Codes], Rounds],
    ranks: _Codes,
    *,
    names: NDArray[Any],
    rng: np.random.Generator,
) -> _Array:
    """Return the held-out domain AUC of a fresh probe after each number of rounds.

    The directions are found on part A, the probe is fitted on part B and
    scored on part C, in three rotations.

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]
    codes, groups, strata : np.ndarray of codes [shape=(n,)]
        The domain, the group and the class of each clip.
    fit : callable
        Takes row numbers, returns the rounds found on these clips.
    ranks : np.ndarray of int [shape=(p,)]
        The numbers of rounds, rising; the first is 0, for clips as they are.
    names : np.ndarray
        What the domain codes stand for.
    rng : np.random.Generator

    Returns
    -------
    np.ndarray [shape=(p,)]
        One against the rest, averaged over domains.
    """
    path = []
    for _ in range(3 if len(X) < 4000 else 1):
        part = assign_parts(groups, codes, strata, 3, rng, names)
        for k in range(3):
            a, b, c = (np.flatnonzero(part == (k + j) % 3) for j in range(3))
            found = fit(a)
            ends = found.ends[np.minimum(ranks[1:], len(found.ends)) - 1]
            Y = np.eye(len(names))[codes[b]]
            train, test = X[b] - found.center, X[c] - found.center
            before = probe_aucs(train, Y, test, codes[c], found.found[:0, :0], [0])
            if found.basis is not None:
                train, test = train @ found.basis.T, test @ found.basis.T
            path.append(before + probe_aucs(train, Y, test, codes[c], found.found, ends))
    return np.mean(path, axis=0)


def probe_aucs(
    X: _Array, Y: _Array, X_test: _Array, test: _Codes, V: _Array, ends: Any
) -> list[float]:
    """Return the held-out AUC of ridge probes, with the first ``ends`` rows of V projected out.

    The weights of projected clips are those that are orthogonal to V, so one
    factor of ``X'X`` serves for all.

    Parameters
    ----------
    X : np.ndarray [shape=(n, r)]
    Y : np.ndarray of 0 and 1 [shape=(n, k)]
        The domain of each clip.
    X_test : np.ndarray [shape=(m, r)]
    test : np.ndarray of int [shape=(m,)]
    V : np.ndarray [shape=(v, r)]
        Orthonormal.
    ends : sequence of int
    """
    X = X - X.mean(axis=0)
    is_root = X.shape[0] < X.shape[1]
    gram = X @ X.T if is_root else X.T @ X
    penalty = max(_PENALTY * np.linalg.eigvalsh(gram)[-1], np.finfo(float).tiny)
    solve = solver(ShrunkCovariance(X if is_root else gram, np.full(X.shape[1], penalty), is_root))
    free, bound = solve(X.T @ (Y - Y.mean(axis=0))), solve(V.T) if len(V) else V.T
    aucs, flat = [], np.ones(len(test))
    for end in ends:
        w = free
        if end:
            B = bound[:, :end]
            w = free - B @ np.linalg.solve(V[:end] @ B, V[:end] @ free)
        scores = X_test @ w
        found = [weighted_auc(s, test == j, flat) for j, s in enumerate(scores.T)]
        # A domain that the test part lacks says nothing.
        aucs.append(float(np.nan_to_num(found, nan=0.5).mean()))
    return aucs
