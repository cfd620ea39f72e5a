"""L2 logistic regression for many labels, folds and penalties at once.

All problems share the vectors, so each step is one matrix product for all of
them instead of one matrix-vector product for each.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.special import expit

__all__ = ["LogisticBatch"]

_Array = NDArray[np.float64]
_NEWTON_STEPS = 30
_CG_STEPS = 40


class LogisticBatch:
    """Solve L2 logistic problems that share their vectors.

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]
        The training clips of every problem.
    tolerance : float
        Largest norm of the gradient at the solution, relative to that at
        zero weights.

    Notes
    -----
    Problem p minimises, over weights w and an intercept b that is not
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
        n, d = Z.shape
        eigen, vectors = np.linalg.eigh(Z @ Z.T if n < d else Z.T @ Z)
        kept = eigen > max(eigen[-1], np.finfo(float).tiny) * 1e-12
        self._eigen, vectors = eigen[kept], vectors[:, kept]
        if n < d:
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
        """Return weights and intercepts of all problems.

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
        for _ in range(_NEWTON_STEPS):
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
        """Take one damped Newton step; return W, b and the size of the gradient there."""
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
        """Solve the Newton equations by preconditioned conjugate gradients."""
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
