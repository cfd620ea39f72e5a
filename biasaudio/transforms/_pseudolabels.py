"""Pseudo-labels: what two classifiers fitted on the source think of target clips."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = [
    "Labeller",
    "beyond_chance",
    "class_means",
    "fold_of",
    "mean_within",
    "ridge_scores",
    "sharpen",
    "span",
]

_Array = NDArray[np.float64]
_Codes = NDArray[np.intp]
_Scorer = Callable[[_Array], _Array]
# Heavier than what reads one set best (1e-3): a classifier that is to label *another*
# set gains 3 to 10 points of ROC-AUC there from a heavier penalty.
_PENALTY, _SHRINKAGE, _SHARPNESS = 0.1, 0.5, 2.0
_N_FOLDS = 3
_TINY = float(np.finfo(float).tiny)


def class_means(X: _Array, P: _Array) -> _Array:
    """Return the mean of each class [shape=(k, d)], from shares [shape=(n, k)] of the clips."""
    means: _Array = (P.T @ X) / np.maximum(P.sum(axis=0), _TINY)[:, None]
    return means


def mean_within(X: _Array, P: _Array) -> float:
    """Return the variance of a feature inside a class, averaged over clips and features."""
    squares = P.sum(axis=0) @ np.square(class_means(X, P)).mean(axis=1)
    total = np.square(X).mean(axis=1) @ P.sum(axis=1)
    return max(float((total - squares) / P.sum()), _TINY)


def fold_of(groups: _Codes, rng: np.random.Generator) -> _Codes:
    """Return one of three folds for each clip; groups stay together."""
    fold = rng.permutation(groups.max() + 1) % _N_FOLDS
    folds: _Codes = fold[groups]
    return folds


def beyond_chance(share: float, k: int) -> float:
    """Return a share of equal labels as 0 at chance (one of k) and 1 at all."""
    return (share - 1 / k) / (1 - 1 / k)


def ridge_scores(X: _Array, P: _Array) -> _Scorer:
    """Return the scores of a ridge regression on class shares, all classes at equal weight."""
    weights = (P / np.maximum(P.sum(axis=0), 1e-9)).sum(axis=1)
    weights /= weights.sum()
    mean, share = weights @ X, weights @ P
    root = np.sqrt(weights)[:, None]
    Z, T = (X - mean) * root, (P - share) * root
    W = Z.T @ _solve(Z @ Z.T, T) if len(Z) < Z.shape[1] else _solve(Z.T @ Z, Z.T @ T)
    return lambda X: (X - mean) @ W + share


def _solve(gram: _Array, right: _Array) -> _Array:
    """Solve with a penalty relative to the largest eigenvalue."""
    v: Any = np.linalg.norm(gram, axis=1)
    for _ in range(15):
        v = gram @ (v / max(float(np.linalg.norm(v)), _TINY))
    gram.flat[:: len(gram) + 1] += max(_PENALTY * float(np.linalg.norm(v)), _TINY)
    return np.asarray(np.linalg.solve(gram, right), dtype=np.float64)


def _discriminant_scores(X: _Array, P: _Array, width: int) -> _Scorer:
    """Return the scores of a discriminant analysis with a shrunk covariance."""
    means = class_means(X, P)
    covariance = (X * P.sum(axis=1)[:, None]).T @ X - (means * P.sum(axis=0)[:, None]).T @ means
    covariance *= (1 - _SHRINKAGE) / P.sum()
    # X may be rotated into fewer coordinates than the vectors have; the mean variance is theirs.
    level = np.trace(covariance) / (1 - _SHRINKAGE) / width
    covariance.flat[:: len(covariance) + 1] += max(_SHRINKAGE * level, _TINY)
    W = np.linalg.solve(covariance, means.T)
    offset = -0.5 * (means * W.T).sum(axis=1)
    return lambda X: X @ W + offset


def _softmax(scores: _Array) -> _Array:
    powers = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: _Array = powers / powers.sum(axis=1, keepdims=True)
    return shares


def sharpen(P: _Array) -> _Array:
    """Return shares that are surer, and half as far from equal class sizes.

    The squares of the shares are balanced, by turns over clips and classes,
    to a mix half way between what they say and equal parts: a classifier
    carried to another set tends to see few of its classes there.
    """
    k = P.shape[1]
    P = P**_SHARPNESS
    P /= P.sum(axis=1, keepdims=True)
    mix = 0.5 / k + 0.5 * P.mean(axis=0)
    P += 1e-9
    for _ in range(30):
        P *= mix / P.mean(axis=0)
        P /= P.sum(axis=1, keepdims=True)
    return P


class Labeller:
    """Label clips with two classifiers whose confidence is set on held-out groups.

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]
        The source clips.
    P : np.ndarray of 0 and 1 [shape=(n, k)]
        Their classes.
    groups : np.ndarray of int [shape=(n,)]
    width : int
        The number of features that the clips had before X was rotated.
    rng : np.random.Generator
        Deals out the folds.
    """

    def __init__(
        self, X: _Array, P: _Array, groups: _Codes, width: int, rng: np.random.Generator
    ) -> None:
        self._P, self._width = P, width
        fold = fold_of(groups, rng)
        held = [np.zeros_like(P), np.zeros_like(P)]
        for k in range(_N_FOLDS):
            test = fold == k
            if test.any() and not test.all():
                for scores, score in zip(held, self._fit(X[~test], P[~test])):
                    scores[test] = score(X[test])
        self._temperatures = [_temperature(scores, P) for scores in held]

    def _fit(self, X: _Array, P: _Array) -> list[_Scorer]:
        return [ridge_scores(X, P), _discriminant_scores(X, P, self._width)]

    def __call__(self, source: _Array, target: _Array) -> tuple[_Array, float]:
        """Return the shares [shape=(n_target, k)], and on how many clips both agree."""
        fitted = self._fit(source, self._P)
        found = [_softmax(f(target) / t) for f, t in zip(fitted, self._temperatures)]
        P = np.sqrt(found[0] * found[1]) + _TINY
        agree: Any = np.mean(found[0].argmax(axis=1) == found[1].argmax(axis=1))
        return P / P.sum(axis=1, keepdims=True), float(agree)


def _temperature(scores: _Array, P: _Array) -> float:
    """Return by what to divide held-out scores so that their shares are as sure as they are right.

    The best log-likelihood decides, every class at equal weight.
    """
    grid = max(float(scores.std()), _TINY) * np.geomspace(0.03, 3, 25)
    weights = P / P.sum(axis=0)
    losses = [-(weights * np.log(_softmax(scores / t) + 1e-12)).sum() for t in grid]
    return float(grid[int(np.argmin(losses))])


def span(X: _Array) -> _Array:
    """Return an orthonormal basis [shape=(d, r)] of what the rows span, r = d for many rows."""
    n, d = X.shape
    if n >= d:
        return np.eye(d)
    eigen, vectors = np.linalg.eigh(X @ X.T)
    kept = eigen > max(float(eigen[-1]), _TINY) * 1e-12
    basis: _Array = X.T @ (vectors[:, kept] / np.sqrt(eigen[kept]))
    return basis
