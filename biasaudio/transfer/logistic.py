"""L2 logistic regression: one problem over a path of penalties, and many problems at once.

`LogisticPath` solves the published problem (the offset is penalised too), one label
and one training set at a time: its Newton steps are exact, in min(n, d) dimensions.

`LogisticBatch` solves scikit-learn's problem for many labels, folds and penalties on
the same vectors: each step is one matrix product for all of them instead of one
matrix-vector product for each.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.special import expit

from biasaudio._linalg import smaller_gram_eigh
from biasaudio.errors import warn
from biasaudio.probes.metrics import roc_auc

__all__ = [
    "LogisticBatch",
    "LogisticPath",
    "PathResult",
    "fit_path",
    "inner_products",
    "prefers_products",
]

_Array = NDArray[np.float64]
_Floats = NDArray[np.floating[Any]]
_Rows = NDArray[np.intp]
_STEPS = 100
# A step that moves no margin by more than this share of their spread is the last:
# Newton's steps square the error, so what is left is 1e-4 of the spread.
_TOLERANCE = 1e-2
# So many products with a matrix take as long as one factorization of it.
_PRODUCTS = 10
# Of a batch, and of the conjugate gradients inside each of its Newton steps.
_BATCH_STEPS = 30
_CG_STEPS = 40


@dataclass(frozen=True)
class PathResult:
    """Classifier of the best penalty.

    Attributes
    ----------
    C : float
        The smallest with the best mean ROC-AUC over the folds.
    weights : np.ndarray [shape=(d,)]
    offset : float
    fold_auc : np.ndarray [shape=(n_penalties,)]
        Mean over the folds.
    """

    C: float
    weights: _Array
    offset: float
    fold_auc: _Array


def fit_path(
    X: _Floats,
    y: NDArray[np.bool_],
    penalties: Sequence[float] | _Array,
    folds: Iterable[tuple[_Rows, _Rows]],
    *,
    products: _Array | None = None,
) -> PathResult:
    """Classifier at the C with the best mean ROC-AUC over folds, fitted on all clips.

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
    >>> found.weights.round(2).tolist(), round(found.offset, 2)
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
    """Whether products of the clips are solved with, not the clips themselves."""
    # It takes n^3 / 3 to factorize products, n d^2 + d^3 / 3 for the weights.
    return n <= 1.8 * d


def inner_products(X: _Floats) -> _Array:
    """``X X'`` in float64 [shape=(n, n)]."""
    K = np.zeros((len(X), len(X)))
    for part in _parts(X):
        Z = X[:, part].astype(np.float64)
        K += Z @ Z.T
    return K


def _parts(X: _Floats) -> list[slice]:
    """Slices of the features: a copy of all in float64 would take twice X."""
    return [slice(start, start + 1024) for start in range(0, X.shape[1], 1024)]


class LogisticPath:
    """One balanced problem, solved for one C after the other.

    Parameters
    ----------
    A : np.ndarray [shape=(n, d) or (n, n)]
        The clips, best where d < n; or, where that is less, their products.
    y : np.ndarray of bool [shape=(n,)]
        Both values occur.
    is_dual : bool
        Whether A are products; then a solution is one number per clip, and its
        weights are the sum of the clips, each times its number.

    Notes
    -----
    With clips x that hold a constant 1 for the offset, minimises over w

        |w|^2 / 2 + C sum_i s_i log(1 + exp(-y_i w'x_i)),  s_i = n / (2 n_class),

    the objective of scikit-learn's ``LogisticRegression(solver="liblinear",
    class_weight="balanced")``, which penalises the offset too.  With
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
        """Weights at this C.

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
        warn(f"the classifier at C={C:g} had not settled after {_STEPS} steps; scale the vectors")
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
        """Product of two weights, given the margins of the second."""
        return float(w @ (margins if self._is_dual else other))

    def _step(self, pull: _Array, bend: _Array) -> _Array:
        """Newton's step: from gradient (less its first term) and curvature of the margins."""
        A, root = self._A, np.sqrt(bend)
        if self._is_dual:
            b = bend * self._f + pull
            right = root * (A @ b)
            return b - root * self._solve(root, right) - self._w
        return self._solve(root, A.T @ pull - self._w)

    def _solve(self, root: _Array, right: _Array) -> _Array:
        """``(I + B)^-1 right``, B = A' D A, or D^1/2 A D^1/2 of products."""
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
        """Share of the step that lowers the objective enough (Armijo)."""
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
    """Solution of a symmetric system, or None if it takes more than a few products."""
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


class LogisticBatch:
    """L2 logistic problems that share their vectors, solved together.

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]
        The training clips of every problem.
    tolerance : float
        Largest norm of the gradient at the solution, relative to that at
        zero weights.

    Notes
    -----
    Problem p minimises, over weights w and an offset b that is not
    penalised,

        sum_i s_ip log(1 + exp(-y_ip (x_i w + b))) + |w|^2 / (2 C_p),

    which is the objective of scikit-learn's ``LogisticRegression``.  The
    vectors are rotated once to the eigenvectors of their covariance, at most
    min(n, d) of them.  There the Hessian ``X' D X + I / C`` is nearly diagonal, so
    that Newton's steps, solved by preconditioned conjugate gradients with the
    diagonal, need few products.

    References
    ----------
    Lin, Weng, Keerthi: Trust region Newton method for large-scale logistic
    regression. JMLR 9, 2008.

    Examples
    --------
    >>> import numpy as np
    >>> X = np.array([[0.0], [1.0], [2.0], [3.0]])
    >>> y = np.array([[False], [True], [False], [True]])
    >>> batch = LogisticBatch(X)
    >>> W, b = batch.solve(y, np.ones((4, 1)), C=1.0)
    >>> (X @ W + b).round(2).ravel().tolist()
    [-0.68, -0.23, 0.23, 0.68]
    """

    def __init__(self, X: NDArray[np.floating[Any]], *, tolerance: float = 1e-5) -> None:
        self.tolerance = tolerance
        X = np.asarray(X, dtype=np.float64)
        self._mean = X.mean(axis=0)
        Z = X - self._mean
        eigen, vectors, is_dual = smaller_gram_eigh(Z)
        kept = eigen > max(eigen[-1], np.finfo(float).tiny) * 1e-12
        self._eigen, vectors = eigen[kept], vectors[:, kept]
        if is_dual:
            vectors = (Z.T @ vectors) / np.sqrt(self._eigen)
        self._rotation = vectors
        self._Z: _Array = np.ascontiguousarray(Z @ vectors)

    def solve(
        self,
        Y: NDArray[np.bool_],
        weights: _Array,
        C: float | _Array,
        start: tuple[_Array, _Array] | None = None,
    ) -> tuple[_Array, _Array]:
        """Weights and offsets of all problems.

        Parameters
        ----------
        Y : np.ndarray of bool [shape=(n, m)]
        weights : np.ndarray [shape=(n, m)]
            Sample weights; zero leaves a clip out of a problem.
        C : float or np.ndarray [shape=(m,)]
            Inverse strength of the penalty.
        start : tuple of np.ndarray, optional
            A solution near by, as returned.

        Returns
        -------
        W : np.ndarray [shape=(d, m)]
        b : np.ndarray [shape=(m,)]
        """
        m = Y.shape[1]
        penalty = 1 / np.broadcast_to(np.asarray(C, dtype=np.float64), (m,))
        sign = np.where(Y, 1.0, -1.0)
        W, b = np.zeros((self._Z.shape[1], m)), np.zeros(m)
        if start is not None:
            W, b = self._rotation.T @ start[0], start[1] + self._mean @ start[0]
        limit = self.tolerance * self._size(*self._gradient(sign, weights, 0 * W, 0 * b, penalty))
        active = np.arange(m)
        for _ in range(_BATCH_STEPS):
            part = sign[:, active], weights[:, active], penalty[active]
            W[:, active], b[active], size = self._newton(*part, W[:, active], b[active])
            active = active[size > limit[active]]
            if not active.size:
                break
        W = self._rotation @ W
        return W, b - self._mean @ W

    def _gradient(
        self, sign: _Array, weights: _Array, W: _Array, b: _Array, penalty: _Array
    ) -> tuple[_Array, _Array]:
        residual = -weights * sign * expit(-sign * (self._Z @ W + b))
        return self._Z.T @ residual + penalty * W, residual.sum(axis=0)

    @staticmethod
    def _size(gW: _Array, gb: _Array) -> _Array:
        size: _Array = np.sqrt(np.square(gW).sum(axis=0) + np.square(gb))
        return size

    def _newton(
        self, sign: _Array, weights: _Array, penalty: _Array, W: _Array, b: _Array
    ) -> tuple[_Array, _Array, _Array]:
        """W and b after one damped Newton step, and the size of the gradient there."""
        margin = sign * (self._Z @ W + b)
        p = expit(-margin)
        residual, curvature = -weights * sign * p, weights * p * (1 - p)
        gW, gb = self._Z.T @ residual + penalty * W, residual.sum(axis=0)
        dW, db = self._direction(curvature, penalty, gW, gb)
        slope = (gW * dW).sum(axis=0) + gb * db
        change = sign * (self._Z @ dW + db)
        value = self._value(weights, margin, W, penalty)
        step = np.ones(len(b))
        # Armijo: far from the optimum a full step can overshoot; the margins make
        # every trial free of products with the vectors.
        for _ in range(30):
            trial = self._value(weights, margin + step * change, W + step * dW, penalty)
            bad = trial > value + 1e-4 * step * slope + 1e-12 * np.abs(value)
            if not bad.any():
                break
            step[bad] /= 2
        W, b = W + step * dW, b + step * db
        return W, b, self._size(*self._gradient(sign, weights, W, b, penalty))

    @staticmethod
    def _value(weights: _Array, margin: _Array, W: _Array, penalty: _Array) -> _Array:
        loss = np.einsum("ij,ij->j", weights, np.logaddexp(0, -margin))
        value: _Array = loss + penalty / 2 * np.square(W).sum(axis=0)
        return value

    def _direction(
        self, curvature: _Array, penalty: _Array, gW: _Array, gb: _Array
    ) -> tuple[_Array, _Array]:
        """Newton's step, by preconditioned conjugate gradients."""
        total = curvature.sum(axis=0)
        diagonal = np.outer(self._eigen, total / len(curvature)) + penalty
        total = np.maximum(total, 1e-12)
        xW, xb = np.zeros_like(gW), np.zeros_like(gb)
        rW, rb = -gW, -gb
        zW, zb = rW / diagonal, rb / total
        pW, pb = zW, zb
        rz = (rW * zW).sum(axis=0) + rb * zb
        # Solving to a tenth is enough while Newton's steps still square the error.
        stop = 0.01 * rz
        for _ in range(_CG_STEPS):
            image = curvature * (self._Z @ pW + pb)
            hW, hb = self._Z.T @ image + penalty * pW, image.sum(axis=0)
            bend = (pW * hW).sum(axis=0) + pb * hb
            alpha = np.where(rz > stop, rz / np.maximum(bend, 1e-300), 0.0)
            xW, xb = xW + alpha * pW, xb + alpha * pb
            rW, rb = rW - alpha * hW, rb - alpha * hb
            zW, zb = rW / diagonal, rb / total
            new = (rW * zW).sum(axis=0) + rb * zb
            running = rz > stop
            if not (new > stop)[running].any():
                break
            beta = np.where(running, new / np.maximum(rz, 1e-300), 0.0)
            pW, pb = zW + beta * pW, zb + beta * pb
            rz = np.where(running, new, rz)
        return xW, xb
