"""The affine map that every linear correction becomes, on any kind of array."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import get_blas_funcs

from biasaudio.errors import DataError

__all__ = [
    "Affine",
    "apply_each",
    "array_namespace",
    "check_foreign",
    "check_result",
    "concatenate",
    "project_out",
    "take",
]

_BLOCK = 256
# Dense products ask for more rows.
_WIDE_BLOCK = 4096
_Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Affine:
    """The map ``x -> x + (x - center) * gain + ((x - center) @ down) @ up + offset``.

    A linear correction in the form that costs least: what it *adds* to x, as
    two thin products where its rank is low, and no d x d matrix.

    Attributes
    ----------
    center : np.ndarray [shape=(d,)]
        Taken off before the product, so that float32 vectors with large means
        keep their digits.
    down, up : np.ndarray [shape=(d, k)], [shape=(k, d)] or None
        Left and right factor of the change; ``up=None`` means the identity,
        k = d.
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
        """Corrected vectors, in the dtype and on the device of X.

        Parameters
        ----------
        X : array [shape=(n, d)]
            Of numpy, torch, or a library of the Python array API standard.
        out : array [shape=(n, d)], optional
            Where to write, numpy only; may be X itself.

        Returns
        -------
        array [shape=(n, d)]

        Raises
        ------
        DataError
            If a number of the result overflows its dtype.
        """
        xp = array_namespace(X)
        if xp is not np:
            change = self._change(X, lambda a: xp.asarray(a, dtype=X.dtype, device=X.device))
            return check_result(X + change)
        # What overflows is named once, at the end, and not by numpy at every product.
        with np.errstate(over="ignore", invalid="ignore"):
            result, square = self._written(X, out)
        return result if np.isfinite(square) else check_result(result)

    def _written(self, X: _Floats, out: _Floats | None) -> tuple[_Floats, float]:
        """Corrected vectors, and their squared length, finite if they are not too large."""
        out = np.empty_like(X) if out is None else out
        size = _WIDE_BLOCK if self.up is None else _BLOCK
        center, down, offset = (a.astype(X.dtype) for a in (self.center, self.down, self.offset))
        gain = None if self.gain is None else self.gain.astype(X.dtype)
        up = None if self.up is None else np.vstack([self.up, self.offset]).astype(X.dtype)
        buffer, ones = np.empty((min(size, len(X)), X.shape[1]), X.dtype), np.ones((size, 1))
        total = 0.0
        for start in range(0, len(X), size):
            here, there = X[start : start + size], out[start : start + size]
            Z = np.subtract(here, center, out=buffer[: len(here)])
            read = Z @ down
            if gain is None:
                np.copyto(there, here)
            else:
                Z *= gain
                np.add(here, Z, out=there)
            if up is None:
                there += read
                there += offset
            else:
                _add_product(np.hstack([read, ones[: len(here)]], dtype=X.dtype), up, there)
            # While the block is in the cache, this costs little.
            total += float(np.vdot(there, there))
        return out, total

    def _change(self, X: Any, convert: Any) -> Any:
        """Change that is added to X; ``convert`` makes numpy arrays of its kind."""
        X = X - convert(self.center)
        change = convert(self.offset)
        if self.rank:
            read = X @ convert(self.down)
            moved = read if self.up is None else read @ convert(self.up)
            change = moved + change if self.offset.any() else moved
        return change if self.gain is None else X * convert(self.gain) + change

    def pull_back(self, weights: _Floats, intercept: float) -> tuple[_Floats, float]:
        """Linear function of x that has the value of this one at the corrected x.

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
        """Inner products of the corrected vectors [shape=(n, n)].

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
        added = np.vstack([self.up, self.offset])
        both = X @ np.hstack([self.down, added.T])
        read = np.c_[both[:, : self.rank] - self.center @ self.down, np.ones(len(X))]
        cross = both[:, self.rank :] @ read.T
        result: NDArray[np.float64] = known + cross + cross.T + read @ (added @ added.T) @ read.T
        return result

    def blend(self, alpha: float) -> Affine:
        """Map ``(1 - alpha) * identity + alpha * self``."""
        gain = None if self.gain is None else alpha * self.gain
        if self.up is None:
            return Affine(self.center, alpha * self.down, None, alpha * self.offset, gain)
        return Affine(self.center, self.down, alpha * self.up, alpha * self.offset, gain)


def project_out(basis: _Floats, center: _Floats) -> Affine:
    """Map ``x (I - V'V)`` for an orthonormal basis V [shape=(k, d)].

    Near ``center`` float32 vectors lose no digits.
    """
    return Affine(center, basis.T, -basis, -(center @ basis.T) @ basis)


def _add_product(left: _Floats, right: _Floats, out: _Floats) -> None:
    """Add a thin product in one pass; that of numpy, of rank one, takes three times as long."""
    # BLAS would write to a copy of anything else.
    if out.flags.carray and out.dtype.isnative and out.dtype.char in "fd":
        gemm = get_blas_funcs("gemm", dtype=out.dtype)
        gemm(1.0, right.T, left.T, beta=1.0, c=out.T, overwrite_c=True)
    else:
        out += left @ right


def apply_each(
    affines: Sequence[Affine], codes: NDArray[np.intp], X: _Floats, out: _Floats
) -> None:
    """Write every row of X, changed by the map of its code; out may be X itself.

    Raises
    ------
    DataError
        If a number of the result overflows its dtype.
    """
    with np.errstate(over="ignore", invalid="ignore"):
        square = _write_each(affines, codes, X, out)
    if not np.isfinite(square):
        check_result(out)


def _write_each(
    affines: Sequence[Affine], codes: NDArray[np.intp], X: _Floats, out: _Floats
) -> float:
    """Squared length of what was written."""
    total = 0.0
    if any(affine.rank for affine in affines):
        for start in range(0, len(X), _WIDE_BLOCK):
            block = slice(start, start + _WIDE_BLOCK)
            for code in np.unique(codes[block]).tolist():
                rows = np.flatnonzero(codes[block] == code)
                if len(rows) == len(X[block]):
                    total += affines[code]._written(X[block], out[block])[1]
                else:
                    out[block][rows], square = affines[code]._written(X[block][rows], None)
                    total += square
        return total
    # About a centre that all have in common, the maps are two tables.
    zeros = np.zeros(X.shape[1])
    center = np.mean([affine.center for affine in affines], axis=0)
    gains = np.stack([zeros if a.gain is None else a.gain for a in affines])
    shifts = np.stack([a.offset + (center - a.center) * g for a, g in zip(affines, gains)])
    center, gains, shifts = (table.astype(X.dtype) for table in (center, gains, shifts))
    is_shift, buffers = not gains.any(), np.empty((2, min(_BLOCK, len(X)), X.shape[1]), X.dtype)
    for start in range(0, len(X), _BLOCK):
        block = slice(start, start + _BLOCK)
        code, (change, table) = codes[block], buffers[:, : len(X[block])]
        # One row is enough for clips that are in order.
        code = code[:1] if (code == code[0]).all() else code
        table = table[: len(code)]
        if is_shift:
            change = np.take(shifts, code, axis=0, out=table, mode="clip")
        else:
            np.subtract(X[block], center, out=change)
            change *= np.take(gains, code, axis=0, out=table, mode="clip")
            change += np.take(shifts, code, axis=0, out=table, mode="clip")
        np.add(X[block], change, out=out[block])
        total += float(np.vdot(out[block], out[block]))
    return total


def check_result(result: Any) -> Any:
    """Corrected vectors, if they are finite, as what was corrected was.

    Parameters
    ----------
    result : array [shape=(n, d)]

    Returns
    -------
    array [shape=(n, d)]

    Raises
    ------
    DataError
        If a number became too large for its dtype.
    """
    xp = array_namespace(result)
    if bool(xp.all(xp.isfinite(result))):
        return result
    bad = [i for i, row in enumerate(result) if not bool(xp.all(xp.isfinite(row)))]
    raise DataError(
        f"the correction overflows: it makes numbers too large for {result.dtype} of {len(bad)} of "
        f"{len(result)} clips, first at row {bad[0]}; check the scale of X, and that it is the "
        "embedding that was fitted"
    )


def array_namespace(X: Any) -> Any:
    """Namespace of functions for X: numpy, torch, cupy, ...

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
    """X, an array of another library than numpy, if it can be corrected."""
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
    """Arrays below one another, in the library of ``like``."""
    xp = array_namespace(like)
    joined = xp.concat(parts) if hasattr(xp, "concat") else xp.concatenate(parts)
    return joined


def take(X: Any, rows: NDArray[np.intp]) -> Any:
    """Rows of X, on its device."""
    xp = array_namespace(X)
    index = xp.asarray(rows, device=X.device)
    return (
        xp.index_select(X, 0, index) if hasattr(xp, "index_select") else xp.take(X, index, axis=0)
    )
