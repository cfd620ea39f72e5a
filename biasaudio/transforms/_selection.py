"""Choose how strong a correction should be, on groups that it was not fitted on."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.stats import rankdata

from biasaudio.errors import BiasAudioWarning
from biasaudio.moments import Moments
from biasaudio.transforms._labelled import Labelled

__all__ = ["Choice", "Tuning"]

_Array = NDArray[np.float64]
_Bools = NDArray[np.bool_]
_Codes = NDArray[np.intp]
_Floats = NDArray[np.floating[Any]]

N_FOLDS = 3
MAX_COST = 0.005
# Fewer groups a class, and the folds choose with more noise than they gain.
_LEAST_GROUPS = 6
# Penalties of the ridge classifier, relative to the mean eigenvalue.
_PENALTIES = np.array([0.01, 0.1, 1.0, 10.0])
_MOST_CLIPS, _MOST_FEATURES = 3000, 160


@dataclass(frozen=True)
class Choice:
    """Hold what the folds said of every candidate.

    Attributes
    ----------
    best : int
        The candidate with the highest score across domains, of those that
        cost at most half a point within.
    across, within : np.ndarray [shape=(1 + n_candidates,)]
        Mean ROC-AUC over the classes of held-out clips, the classifier from
        another domain, and from the same one; of no correction first.
    """

    best: int
    across: _Array
    within: _Array

    def scores(self) -> dict[str, _Array]:
        """Return both scores by name."""
        return {"across": self.across, "within": self.within}


@dataclass(frozen=True)
class Tuning:
    """Hold the labelled clips in few dimensions, and their folds.

    Attributes
    ----------
    X : np.ndarray [shape=(n, k)]
        Centred, along the leading principal directions.
    Y : np.ndarray of bool [shape=(n, n_classes)]
    domain, folds : np.ndarray of int [shape=(n,)]
    weights : np.ndarray [shape=(n,)] or None
    n_features : int
        How many dimensions there were.
    """

    X: _Array
    Y: _Bools
    domain: _Codes
    folds: _Codes
    weights: _Array | None
    n_features: int

    @classmethod
    def of(cls, found: Labelled, groups: ArrayLike | None, seed: int) -> Tuning | None:
        """Return the folds of the clips, or None where there are too few clips for any."""
        rng = np.random.default_rng(seed)
        rows, first = np.unique(found.rows, return_index=True)
        units = rows if groups is None else np.asarray(groups)[rows]
        ids = np.unique(units, return_inverse=True)[1]
        if len(rows) > _MOST_CLIPS:
            kept = np.sort(rng.permutation(len(rows))[:_MOST_CLIPS])
            rows, first, ids = rows[kept], first[kept], ids[kept]
        _, domain = np.unique(found.domain[first], return_inverse=True)
        classes, labels = np.unique(found.label, return_inverse=True)
        Y = np.zeros((len(rows), len(classes)), dtype=bool)
        place = np.searchsorted(rows, found.rows)
        inside = (place < len(rows)) & (rows[np.minimum(place, len(rows) - 1)] == found.rows)
        Y[place[inside], labels[inside]] = True
        fold = np.empty(ids.max() + 1, dtype=np.intp)
        fold[rng.permutation(len(fold))] = np.arange(len(fold)) % N_FOLDS
        if not _is_enough(Y, domain, ids, fold[ids]):
            return None
        weights = None if found.weights is None else found.weights[first]
        X = _reduced(found.X[first])
        return cls(X, Y, domain, fold[ids], weights, found.X.shape[1])

    def choose(
        self, family: Callable[[Tuning, Moments], Iterable[_Array]], owner: str
    ) -> Choice | None:
        """Return what the folds say of the candidates of a family.

        Parameters
        ----------
        family : callable
            Gives the corrected clips of every candidate, from the moments of
            the training clips by domain and class.
        owner : str
            What they are candidates of, for a warning where none helps.

        Returns
        -------
        Choice or None
            None where no fold can be scored.
        """
        found = []
        for fold in range(N_FOLDS):
            train = self.folds != fold
            moments = self._moments(train)
            scores = [self._score(self.X, train)]
            found.append(scores + [self._score(Z, train) for Z in family(self, moments)])
        scored = [fold for fold in found if np.isfinite(fold).all()]
        if not scored:
            return None
        across, within = np.mean(scored, axis=0).T
        allowed = within[1:] >= within[0] - MAX_COST
        # Where all cost more, the one that costs least.
        best = np.where(allowed, across[1:], -np.inf) if allowed.any() else within[1:]
        chosen = int(np.argmax(best))
        if across[1 + chosen] < across[0]:
            warnings.warn(
                f"on held-out groups no strength of {owner} helps across domains (see scores_ of "
                "the fitted one); give more labelled clips, or leave it out",
                BiasAudioWarning,
                stacklevel=4,
            )
        return Choice(chosen, across, within)

    def _moments(self, train: _Bools) -> Moments:
        rows, labels = np.nonzero(self.Y & train[:, None])
        weights = None if self.weights is None else self.weights[rows]
        return Moments(dtype=np.float64).update(
            self.X[rows], sample_weight=weights, domain=self.domain[rows], label=labels
        )

    def _score(self, Z: _Array, train: _Bools) -> tuple[float, float]:
        """Return the mean ROC-AUC across and within domains, of the held-out clips."""
        k = int(self.domain.max()) + 1
        across, within = [], []
        for source in range(k):
            rows = train & (self.domain == source)
            scores = _ridge(Z, rows, self.Y)
            tests = [~train & (self.domain == target) for target in range(k)]
            aucs = np.array([_aucs(scores[:, test], self.Y[test]) for test in tests])
            if np.isnan(aucs[source]).any():
                continue
            # The penalty is chosen by the source, as it would be without target labels.
            best = int(np.argmax(aucs[source]))
            within.append(aucs[source, best])
            across += [aucs[target, best] for target in range(k) if target != source]
        return _mean(across), _mean(within)


def _is_enough(Y: _Bools, domain: _Codes, ids: _Codes, folds: _Codes) -> bool:
    """Return whether each domain has groups enough, and each fold a class in two domains."""
    k = int(domain.max()) + 1
    sizes = np.array(
        [
            [len(np.unique(ids[Y[:, c] & (domain == d)])) for c in range(Y.shape[1])]
            for d in range(k)
        ]
    )
    shared = (sizes > 0).sum(axis=0) > 1
    known = (sizes > 0) & shared
    if any(not row.any() for row in known):
        return False
    if min(float(sizes[d, known[d]].mean()) for d in range(k)) < _LEAST_GROUPS:
        return False
    for fold in range(N_FOLDS):
        left = [[(Y[:, c] & (domain == d) & (folds != fold)).sum() for c in range(Y.shape[1])]
                for d in range(k)]  # fmt: skip
        if not ((np.array(left) > 1).sum(axis=0) > 1).any():
            return False
    return True


def _reduced(X: _Floats) -> _Array:
    """Return the clips along their leading principal directions [shape=(n, k)]."""
    Z = X - X.mean(axis=0, dtype=np.float64).astype(X.dtype)
    n, d = Z.shape
    k = min(n, d, _MOST_FEATURES)
    if d <= k:
        return Z.astype(np.float64)
    gram = (Z @ Z.T if n < d else Z.T @ Z).astype(np.float64)
    m = len(gram)
    values, vectors = eigh(gram, subset_by_index=(m - k, m - 1))
    if n < d:
        return vectors * np.sqrt(np.maximum(values, 0.0))
    return Z.astype(np.float64) @ vectors


def _ridge(Z: _Array, rows: _Bools, Y: _Bools) -> _Array:
    """Return scores of all clips from a fit to some [shape=(n_penalties, n, n_classes)]."""
    mean = Z[rows].mean(axis=0)
    A = Z[rows] - mean
    T = Y[rows] - Y[rows].mean(axis=0)
    is_dual = A.shape[0] < A.shape[1]
    values, U = np.linalg.eigh(A @ A.T if is_dual else A.T @ A)
    read = (Z - mean) @ (A.T @ U if is_dual else U)
    target = U.T @ (T if is_dual else A.T @ T)
    values = np.maximum(values, 0.0)
    size = max(values.mean(), np.finfo(float).tiny)
    return np.stack([read @ (target / (values + p * size)[:, None]) for p in _PENALTIES])


def _aucs(scores: _Array, Y: _Bools) -> _Array:
    """Return the mean ROC-AUC over classes, for each penalty; NaN where there is none."""
    up, down = Y.sum(axis=0), (~Y).sum(axis=0)
    known = (up > 0) & (down > 0)
    if not known.any():
        return np.full(len(scores), np.nan)
    up, down = up[known], down[known]
    ranks = rankdata(scores[:, :, known], axis=1)
    sums = np.einsum("pij,ij->pj", ranks, Y[:, known])
    mean: _Array = ((sums - up * (up + 1) / 2) / (up * down)).mean(axis=1)
    return mean


def _mean(values: list[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
