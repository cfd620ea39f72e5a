"""L2 logistic regression over a path of penalties, chosen by folds.

The problems are small: Newton's steps are solved exactly, in min(n, d) dimensions.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit

from biasaudio.errors import BiasAudioWarning
from biasaudio.probes.metrics import roc_auc

__all__ = ["LogisticPath", "PathResult", "fit_path", "inner_products", "prefers_products"]

_Array = NDArray[np.float64]
_Floats = NDArray[np.floating[Any]]
_Rows = NDArray[np.intp]
_STEPS = 100
# A step that moves no margin by more than this share of their spread is the last:
# Newton's steps square the error, so what is left is 1e-4 of the spread.
_TOLERANCE = 1e-2
# So many products with a matrix take as long as one factorization of it.
_PRODUCTS = 10


@dataclass(frozen=True)
class PathResult:
    """Hold the classifier of the best penalty.

    Attributes
    ----------
    C : float
        The smallest with the best mean ROC-AUC over the folds.
    weights : np.ndarray [shape=(d,)]
    intercept : float
    fold_auc : np.ndarray [shape=(n_penalties,)]
        Mean over the folds.
    """

    C: float
    weights: _Array
    intercept: float
    fold_auc: _Array


def fit_path(
    X: _Floats,
    y: NDArray[np.bool_],
    penalties: Sequence[float] | _Array,
    folds: Iterable[tuple[_Rows, _Rows]],
    *,
    products: _Array | None = None,
) -> PathResult:
    """Choose C by the mean ROC-AUC over folds, and fit on all clips.

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]
    y : np.ndarray of bool [shape=(n,)]
        Both values occur in every part of every fold.
    penalties : sequence of float
        Values of C, growing.
    folds : iterable of (fit rows, check rows)
    products : np.ndarray [shape=(n, n)], optional
        ``X X'``, where it is known.

    Returns
    -------
    PathResult

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> y = np.array([False, True, False, True])
    >>> found = fit_path(X, y, [1.0], [(np.arange(4), np.arange(4))])
    >>> found.weights.round(2).tolist(), round(found.intercept, 2)
    ([0.3], -0.22)
    """
    splits = list(folds)
    is_dual = prefers_products(len(splits[0][0]), X.shape[1])
    if is_dual:
        products = inner_products(X) if products is None else products
        # Far from zero, what tells the clips apart is lost in their products.
        common = products.mean()
        is_dual = bool(common < 1e5 * (products.trace() / len(X) - common))
    A = products + 1 if is_dual and products is not None else np.c_[X, np.ones(len(X))]
    aucs, solutions = [], []
    for fit, check in splits:
        path = LogisticPath(A[np.ix_(fit, fit)] if is_dual else A[fit], y[fit], is_dual=is_dual)
        found = np.array([path.solve(C) for C in penalties])
        scores = found @ (A[np.ix_(fit, check)] if is_dual else A[check].T)
        aucs.append([roc_auc(row, y[check]) for row in scores])
        whole = np.zeros((len(found), A.shape[1]))
        whole[:, fit if is_dual else slice(None)] = found
        solutions.append(whole)
    mean = np.mean(aucs, axis=0)
    best = int(np.argmax(mean))
    path = LogisticPath(A, y, is_dual=is_dual)
    # The mean of the folds' solutions is two or three steps from that of all clips.
    w = path.solve(penalties[best], start=np.mean(solutions, axis=0)[best])
    if is_dual:
        w = np.append(np.concatenate([w @ X[:, part] for part in _parts(X)]), w.sum())
    return PathResult(float(penalties[best]), w[:-1], float(w[-1]), mean)


def prefers_products(n: int, d: int) -> bool:
    """Return whether products of the clips are solved with, not the clips themselves."""
    # It takes n^3 / 3 to factorize products, n d^2 + d^3 / 3 for the weights.
    return n <= 1.8 * d


def inner_products(X: _Floats) -> _Array:
    """Return ``X X'`` in float64 [shape=(n, n)]."""
    K = np.zeros((len(X), len(X)))
    for part in _parts(X):
        Z = X[:, part].astype(np.float64)
        K += Z @ Z.T
    return K


def _parts(X: _Floats) -> list[slice]:
    """Return some features at a time: a copy of all in float64 would take twice X."""
    return [slice(start, start + 1024) for start in range(0, X.shape[1], 1024)]


class LogisticPath:
    """Solve one balanced problem for one C after the other.

    Parameters
    ----------
    A : np.ndarray [shape=(n, d) or (n, n)]
        The clips, best where d < n; or, where that is less, their products.
    y : np.ndarray of bool [shape=(n,)]
        Both values occur.
    is_dual : bool
        Whether A are products; then a solution is one number a clip, and its
        weights are the sum of the clips, each times its number.

    Notes
    -----
    With clips x that hold a constant 1 for the intercept, minimises over w

        |w|^2 / 2 + C sum_i s_i log(1 + exp(-y_i w'x_i)),  s_i = n / (2 n_class),

    the objective of scikit-learn's ``LogisticRegression(solver="liblinear",
    class_weight="balanced")``, which penalises the intercept too.  With
    margins f, derivative -g and curvature D of the loss at f, Newton's step
    goes to

        w = (I + X' D X)^-1 X' (D f + g),     or, with K = X X' and w = X'a,
        a = b - D^1/2 (I + D^1/2 K D^1/2)^-1 D^1/2 K b,  b = D f + g.

    Where C is small the matrix is near the identity, and a few conjugate
    gradients take less time than its factorization.

    References
    ----------
    Rasmussen, Williams: Gaussian Processes for Machine Learning. MIT Press
    2006, algorithm 3.1.

    Examples
    --------
    >>> import numpy as np
    >>> A = np.c_[[0.0, 1.0, 2.0, 3.0], np.ones(4)]
    >>> path = LogisticPath(A, np.array([False, True, False, True]))
    >>> path.solve(1.0).round(2).tolist()
    [0.3, -0.22]
    """

    def __init__(self, A: _Array, y: NDArray[np.bool_], *, is_dual: bool = False) -> None:
        self._A, self._is_dual = A, is_dual
        self._sign = np.where(y, 1.0, -1.0)
        n, up = len(y), np.count_nonzero(y)
        self._share = np.where(y, n / (2 * up), n / (2 * (n - up)))
        self._w, self._f = np.zeros(A.shape[1]), np.zeros(n)
        self._is_easy = True
        self._before = self._w, self._f

    def solve(self, C: float, start: _Array | None = None) -> _Array:
        """Return the solution at this C.

        Parameters
        ----------
        C : float
            Best a little larger than that of the last call.
        start : np.ndarray [shape=(d,) or (n,)], optional
            A guess; default the last solution.

        Returns
        -------
        np.ndarray [shape=(d,) or (n,)]
        """
        if start is not None:
            self._w, self._f = start, self._A @ start
            self._before = start, self._f
        self._guess(C)
        for _ in range(_STEPS):
            p = expit(-self._sign * self._f)
            pull = C * self._share * self._sign * p
            step = self._step(pull, C * self._share * p * (1 - p))
            move = self._A @ step
            size = self._damping(C, pull, step, move)
            self._w, self._f = self._w + size * step, self._f + size * move
            spread = np.ptp(self._f)
            # Equal vectors have equal margins, whatever rounding does to them.
            if np.abs(move).max() <= _TOLERANCE * spread or spread <= 1e-12 * abs(self._f[0]):
                return self._w
        text = f"the classifier at C={C:g} had not settled after {_STEPS} steps; scale the vectors"
        warnings.warn(text, BiasAudioWarning, stacklevel=2)
        return self._w

    def _guess(self, C: float) -> None:
        """Start where the last solutions point to, or where they are, whichever is lower.

        While C is small the solution grows with C; once it is large, with log C.
        """
        last, before = (self._w, self._f), self._before
        guesses = [last] + [
            (k * last[0] + m * before[0], k * last[1] + m * before[1])
            for k, m in ((10.0, 0.0), (3.0, 0.0), (2.0, -1.0))
        ]
        values = [self._loss(C, f) + self._product(w, w, f) / 2 for w, f in guesses]
        self._w, self._f = guesses[int(np.argmin(values))]
        self._before = last

    def _loss(self, C: float, f: _Array) -> float:
        return C * float(self._share @ np.logaddexp(0, -self._sign * f))

    def _product(self, w: _Array, other: _Array, margins: _Array) -> float:
        """Return the product of two weights, given the margins of the second."""
        return float(w @ (margins if self._is_dual else other))

    def _step(self, pull: _Array, bend: _Array) -> _Array:
        A, root = self._A, np.sqrt(bend)
        if self._is_dual:
            b = bend * self._f + pull
            right = root * (A @ b)
            return b - root * self._solve(root, right) - self._w
        return self._solve(root, A.T @ pull - self._w)

    def _solve(self, root: _Array, right: _Array) -> _Array:
        """Return ``(I + B)^-1 right``, B = A' D A, or D^1/2 A D^1/2 of products."""
        A, is_dual = self._A, self._is_dual
        if self._is_easy:
            bend = root**2
            dual, primal = lambda v: v + root * (A @ (root * v)), lambda v: v + (bend * (A @ v)) @ A
            found = _conjugate_gradients(dual if is_dual else primal, right)
            if found is not None:
                return found
            # Larger C, which follow, need more products still.
            self._is_easy = False
        scaled = A * root[:, None]
        matrix = scaled * root if is_dual else scaled.T @ scaled
        # Under huge vectors the identity is below the rounding of the products.
        matrix.flat[:: len(matrix) + 1] += max(1.0, 1e-15 * float(matrix.trace()))
        factor = cho_factor(matrix, lower=True, overwrite_a=True, check_finite=False)
        solved: _Array = cho_solve(factor, right, check_finite=False)
        return solved

    def _damping(self, C: float, pull: _Array, step: _Array, move: _Array) -> float:
        """Return the share of the step that lowers the objective enough (Armijo)."""
        square = self._product(self._w, self._w, self._f)
        cross = self._product(self._w, step, move)
        bent = self._product(step, step, move)
        value, descent = self._loss(C, self._f) + square / 2, cross - float(pull @ move)
        size = 1.0
        # A descent below the rounding of the objective cannot be tested, nor does it matter.
        while -descent > 1e-9 * value and size > 1e-9:
            quadratic = square / 2 + size * cross + size**2 * bent / 2
            if self._loss(C, self._f + size * move) + quadratic <= value + 1e-4 * size * descent:
                break
            size /= 2
        return size


def _conjugate_gradients(
    product: Callable[[_Array], _Array], right: _Array, tolerance: float = 1e-8
) -> _Array | None:
    """Return the solution, or None if it takes more than a few products."""
    x, residual = np.zeros_like(right), right
    direction, size = residual, float(residual @ residual)
    stop = tolerance**2 * size
    for _ in range(_PRODUCTS):
        if size <= stop:
            return x
        image = product(direction)
        length = size / float(direction @ image)
        x, residual = x + length * direction, residual - length * image
        size, before = float(residual @ residual), size
        direction = residual + size / before * direction
    return x if size <= stop else None
