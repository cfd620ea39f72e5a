"""The affine map that every linear correction becomes, on any kind of array."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio.errors import DataError

__all__ = ["Affine", "array_namespace", "check_foreign", "concatenate", "take"]

_BLOCK = 1024
_Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Affine:
    """Apply ``x -> x + (x - center) * gain + ((x - center) @ down) @ up + offset``.

    A linear correction in the form that costs least: what it *adds* to x, as
    two thin products where its rank is low, and no d x d matrix.

    Attributes
    ----------
    center : np.ndarray [shape=(d,)]
        Taken off before the product, so that float32 vectors with large means
        keep their digits.
    down : np.ndarray [shape=(d, k)]
        What is read.
    up : np.ndarray [shape=(k, d)] or None
        What is added for it; None stands for the identity, with k = d.
    offset : np.ndarray [shape=(d,)]
    gain : np.ndarray [shape=(d,)] or None
        How much of each centred feature is added to it; None stands for zeros.

    Examples
    --------
    >>> import numpy as np
    >>> e = np.array([[1.0], [0.0]])
    >>> flat = Affine(np.zeros(2), e, -e.T, np.zeros(2))
    >>> flat(np.array([[3.0, 4.0]])).tolist()
    [[0.0, 4.0]]
    """

    center: _Floats
    down: _Floats
    up: _Floats | None
    offset: _Floats
    gain: _Floats | None = None

    @property
    def matrix(self) -> _Floats:
        """The same map as a dense matrix [shape=(d, d)], for ``X @ matrix``."""
        change = self.down if self.up is None else self.down @ self.up
        return np.diag(np.ones(len(self.center)) if self.gain is None else 1 + self.gain) + change

    @property
    def intercept(self) -> _Floats:
        """What ``X @ matrix`` still lacks [shape=(d,)]."""
        return self.offset + self.center - self.center @ self.matrix

    @property
    def rank(self) -> int:
        """Width of the thin products."""
        return int(self.down.shape[1])

    def __call__(self, X: Any, out: Any = None) -> Any:
        """Return the corrected vectors, in the dtype and on the device of X.

        Parameters
        ----------
        X : array [shape=(n, d)]
            Of numpy, torch, or a library of the Python array API standard.
        out : array [shape=(n, d)], optional
            Where to write, numpy only; may be X itself.

        Returns
        -------
        array [shape=(n, d)]
        """
        xp = array_namespace(X)
        if xp is not np:
            return X + self._change(X, lambda a: xp.asarray(a, dtype=X.dtype, device=X.device))
        out = np.empty_like(X) if out is None else out
        for start in range(0, len(X), _BLOCK):
            rows = slice(start, start + _BLOCK)
            change = self._change(X[rows], lambda a: a.astype(X.dtype, copy=False))
            np.add(X[rows], change, out=out[rows])
        return out

    def _change(self, X: Any, convert: Any) -> Any:
        """Return what is added to X; ``convert`` makes numpy arrays of its kind."""
        X = X - convert(self.center)
        change = convert(self.offset)
        if self.rank:
            read = X @ convert(self.down)
            moved = read if self.up is None else read @ convert(self.up)
            change = moved + change if self.offset.any() else moved
        return change if self.gain is None else X * convert(self.gain) + change

    def pull_back(self, weights: _Floats, intercept: float) -> tuple[_Floats, float]:
        """Return the linear function of x that has the value of this one at the corrected x.

        Parameters
        ----------
        weights : np.ndarray [shape=(d,)]
        intercept : float

        Returns
        -------
        weights : np.ndarray [shape=(d,)]
        intercept : float
        """
        change = self.down @ (weights if self.up is None else self.up @ weights)
        if self.gain is not None:
            change = change + self.gain * weights
        return weights + change, float(intercept + self.offset @ weights - self.center @ change)

    def products(self, X: _Floats, known: _Floats) -> NDArray[np.float64] | None:
        """Return the inner products of the corrected vectors [shape=(n, n)].

        Parameters
        ----------
        X : np.ndarray [shape=(n, d)]
        known : np.ndarray [shape=(n, n)]
            ``X X'``, which a map of low rank changes little.

        Returns
        -------
        np.ndarray [shape=(n, n)] or None
            None where the rank is not low, so that they are best found anew.
        """
        if self.gain is not None or self.up is None or 4 * self.rank > len(X):
            return None
        read = np.c_[X @ self.down - self.center @ self.down, np.ones(len(X))]
        added = np.vstack([self.up, self.offset])
        cross = (X @ added.T) @ read.T
        result: NDArray[np.float64] = known + cross + cross.T + read @ (added @ added.T) @ read.T
        return result

    def blend(self, alpha: float) -> Affine:
        """Return ``(1 - alpha) * identity + alpha * self``."""
        gain = None if self.gain is None else alpha * self.gain
        if self.up is None:
            return Affine(self.center, alpha * self.down, None, alpha * self.offset, gain)
        return Affine(self.center, self.down, alpha * self.up, alpha * self.offset, gain)


def array_namespace(X: Any) -> Any:
    """Return the module of functions for X: numpy, torch, cupy, ...

    numpy also stands for everything that numpy makes an array of, such as
    lists and data frames.
    """
    torch = sys.modules.get("torch")
    if torch is not None and isinstance(X, torch.Tensor):
        return torch
    if isinstance(X, np.ndarray) or not hasattr(X, "__array_namespace__"):
        return np
    return X.__array_namespace__()


def check_foreign(X: Any, n_features: int) -> Any:
    """Return X, an array of another library than numpy, if it can be corrected."""
    xp = array_namespace(X)
    if X.ndim != 2 or X.shape[1] != n_features:
        raise DataError(
            f"X has shape {tuple(X.shape)}, but {n_features} features were seen in fit; give "
            f"(n_clips, {n_features}), vectors of the same embedding"
        )
    if X.dtype not in (xp.float32, xp.float64):
        raise DataError(f"X has dtype {X.dtype}; give float32 or float64")
    if not bool(xp.all(xp.isfinite(X))):
        raise DataError("X has NaN or Inf; remove these clips or compute their vectors again")
    return X


def concatenate(parts: list[Any], like: Any) -> Any:
    """Return the arrays below one another, in the library of ``like``."""
    xp = array_namespace(like)
    joined = xp.concat(parts) if hasattr(xp, "concat") else xp.concatenate(parts)
    return joined


def take(X: Any, rows: NDArray[np.intp]) -> Any:
    """Return these rows of X, on its device."""
    xp = array_namespace(X)
    index = xp.asarray(rows, device=X.device)
    return (
        xp.index_select(X, 0, index) if hasattr(xp, "index_select") else xp.take(X, index, axis=0)
    )
