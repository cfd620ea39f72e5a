"""The probe's classifier, ridge regression on indicators, and the units it reads.

A permutation test refits the probe hundreds of times on the same vectors.
With their eigenvectors in hand a refit is one small matrix product, which is
why the probe is a ridge classifier and not a logistic one.

Features in different units are brought to a common one, once, before anything
is fitted; all classifiers of the package read them so.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biasaudio._linalg import right_vectors, smaller_gram_eigh
from biasaudio.probes.metrics import weighted_auc
from biasaudio.probes.splits import deal_groups

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = [
    "PENALTIES",
    "RidgeProbe",
    "choose_penalty",
    "common_scale",
    "common_units",
    "has_units",
    "spread",
]

_Array = NDArray[np.float64]
PENALTIES = 10.0 ** np.arange(-6, 0)
_N_FOLDS = 3
# Read most, or within .01 of most, on every embedding of a few hundred clips that was
# tried; there, the folds alone choose with more noise than they gain.
_USUAL, _CLEAR = 1e-3, 0.02


class RidgeProbe:
    """Linear scores of any number of targets on the same vectors.

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]
        The training clips.
    penalty : float
        Relative to the largest eigenvalue of ``X'X`` (centred).

    Notes
    -----
    For each target column y the weights minimise ``|X w - y|^2 + l |w|^2`` on
    centred X and y.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> y = np.array([[0.0], [0.0], [1.0], [1.0]])
    >>> probe = RidgeProbe(X).fit(y)
    >>> scores = probe.score(probe.rotate(np.array([[0.0], [3.0]])))
    >>> bool(scores[0, 0] < scores[1, 0])
    True
    """

    def __init__(self, X: NDArray[np.floating[Any]], *, penalty: float = 1e-3) -> None:
        X = X.astype(np.float64)
        self._mean = X.mean(axis=0)
        X -= self._mean
        # The squared condition number only blurs directions that the penalty flattens.
        eigen, vectors, is_dual = smaller_gram_eigh(X)
        kept = eigen > max(eigen[-1], np.finfo(float).tiny) * 1e-12
        self._eigen: _Array = eigen[kept][::-1]
        vectors = vectors[:, kept][:, ::-1]
        self._U: _Array = vectors if is_dual else X @ (vectors / np.sqrt(self._eigen))
        self._V: _Array = right_vectors(X, self._eigen, vectors) if is_dual else vectors
        self.set_penalty(penalty)

    def set_penalty(self, penalty: float) -> Self:
        """Use another penalty from now on, for the price of a division."""
        largest = self._eigen[0] if len(self._eigen) else 1.0
        self._shrink: _Array = self._eigen / (self._eigen + penalty * largest)
        return self

    def fit(self, Y: _Array) -> Self:
        """Fit every column of Y [shape=(n, m)]."""
        self._offset = Y.mean(axis=0)
        T = self._U.T @ (Y - self._offset)
        self._coef = (self._shrink / np.sqrt(self._eigen))[:, None] * T
        return self

    def rotate(self, X: NDArray[np.floating[Any]]) -> _Array:
        """Clips [shape=(k, d)] in the coordinates that `score` takes, once for all fits."""
        rotated: _Array = (X - self._mean) @ self._V
        return rotated

    def score(self, rotated: _Array) -> _Array:
        """Scores [shape=(k, m)] of rotated clips."""
        scores: _Array = rotated @ self._coef + self._offset
        return scores


def choose_penalty(X: NDArray[np.floating[Any]], Y: _Array, groups: NDArray[np.intp]) -> float:
    """Penalty whose probe reads held-out groups best.

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]
    Y : np.ndarray of 0 and 1 [shape=(n, m)]
    groups : np.ndarray of int [shape=(n,)]

    Returns
    -------
    float
        The one of `PENALTIES` with the highest mean ROC-AUC over three folds,
        if it is clearly (.02) better than the usual 10^-3.

    Notes
    -----
    Folds keep groups together.  Cross-validation over clips fails where those
    of one group are nearly alike, as takes of one note are: it then prefers
    hardly any penalty, and a weaker probe understates the leakage (.80 for
    .87 on YAMNet vectors of rendered and recorded notes).  One penalty for
    all data does so too, with many clips and a steep spectrum.
    """
    fold = deal_groups(groups, _N_FOLDS, np.random.default_rng(0), as_turns=True)
    total = np.zeros(len(PENALTIES))
    for k in range(_N_FOLDS):
        train, test = fold != k, fold == k
        if not train.any() or not test.any():
            continue
        probe = RidgeProbe(X[train])
        rotated, flat = probe.rotate(X[test]), np.ones(test.sum())
        for i, penalty in enumerate(PENALTIES):
            scores = probe.set_penalty(penalty).fit(Y[train]).score(rotated)
            found = [weighted_auc(s, y > 0, flat) for s, y in zip(scores.T, Y[test].T)]
            total[i] += np.nan_to_num(found, nan=0.5).mean()
    usual = int(np.argmin(np.abs(np.log(PENALTIES / _USUAL))))
    best = int(total.argmax())
    return float(PENALTIES[best if total[best] > total[usual] + _N_FOLDS * _CLEAR else usual])


def spread(X: NDArray[np.floating[Any]]) -> _Array:
    """Per feature the standard deviation, never zero [shape=(d,)].

    A feature that is constant up to rounding gets one millionth of the mean
    spread or of its own size, so that dividing cannot blow its noise up.
    """
    deviation = X.std(axis=0, dtype=np.float64)
    size = np.abs(X.mean(axis=0, dtype=np.float64)) + deviation.mean()
    floor: _Array = np.maximum(deviation, 1e-6 * size + np.finfo(float).tiny)
    return floor


def has_units(X: NDArray[np.floating[Any]]) -> bool:
    """Whether the features look like quantities in different units.

    True where a single feature carries more than a quarter of the total
    variance (more than 5 / d of it in few dimensions).  Hand-crafted features
    in Hz beside features in shares do; neural embeddings, whose largest
    feature carries a few percent, do not.
    """
    variance = np.square(spread(X))
    share = variance.max() / variance.sum()
    return bool(share > max(0.25, 5 / X.shape[1]))


def common_units(
    X: NDArray[np.floating[Any]], rows: NDArray[np.bool_] | None = None
) -> NDArray[np.floating[Any]]:
    """X with each feature divided by its spread, where units differ.

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]
    rows : np.ndarray of bool [shape=(n,)], optional
        The clips that decide and give the spread; default all.

    Returns
    -------
    np.ndarray [shape=(n, d)]
        X itself where all features have one unit.

    Notes
    -----
    Decided once, on the vectors before any correction: a rule that looked at
    the corrected ones could answer differently before and after, and its own
    effect would be taken for the correction's.

    The dimensions of a neural embedding keep their common unit.  Scaling them
    one by one blows up those that hardly vary in the training set and do
    elsewhere: on YAMNet vectors of rendered notes a classifier then drops
    from .74 to .63 ROC-AUC on recorded notes.

    Examples
    --------
    >>> x = np.arange(12.0)[:, None]
    >>> common_units(x * [1, 1, 1, 1, 1, 1, 1, 1]).std(axis=0).round(2).tolist()[-2:]
    [3.45, 3.45]
    >>> common_units(x * [1, 1, 1, 1, 1, 1, 1, 1000]).std(axis=0).round(2).tolist()[-2:]
    [1.0, 1.0]
    """
    seen = X if rows is None else X[rows]
    return (X / spread(seen)).astype(X.dtype) if has_units(seen) else X


def common_scale(X: NDArray[np.floating[Any]]) -> float:
    """Root mean square of the spreads of the features."""
    return float(np.sqrt(np.mean(np.square(spread(X)))))
