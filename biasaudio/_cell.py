"""The numbers of one set of clips, which can be added and taken apart."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import DTypeLike, NDArray

__all__ = ["Cell"]

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Cell:
    """Hold the count, the mean and the centred scatter of one set of clips.

    Attributes
    ----------
    n : int or float
        Number of clips, or the sum of their weights.
    mean : np.ndarray [shape=(d,), dtype=float64]
    scatter : np.ndarray [shape=(d, d) or (d,), dtype=float64]
        Sum over the clips of ``(x - mean)(x - mean)'``, or its diagonal.
    n_squared : float, optional
        Sum of the squared weights; default n, which is right without weights.

    Examples
    --------
    >>> import numpy as np
    >>> a = Cell.of(np.array([[0.0], [2.0]]), dtype=np.float64)
    >>> b = Cell.of(np.array([[4.0]]), dtype=np.float64)
    >>> (a + b).n, float((a + b).mean[0]), float((a + b).scatter[0, 0])
    (3, 2.0, 8.0)
    """

    n: float
    mean: _Array
    scatter: _Array
    n_squared: float = -1.0

    def __post_init__(self) -> None:
        if self.n_squared < 0:
            object.__setattr__(self, "n_squared", float(self.n))

    @classmethod
    def of(
        cls,
        X: NDArray[np.floating[Any]],
        weights: _Array | None = None,
        *,
        dtype: DTypeLike = np.float32,
        diagonal: bool = False,
    ) -> Cell:
        """Return the cell of the rows of one block, products in ``dtype``."""
        n = len(X) if weights is None else float(weights.sum())
        n_squared = len(X) if weights is None else float(weights @ weights)
        Z = X.astype(dtype)
        source = Z if Z.dtype == np.float64 else X
        mean = source.mean(axis=0, dtype=np.float64) if weights is None else weights @ source / n
        # Shifting by the mean before the product keeps the digits that features
        # stored as 0..255, or with means of 1000, would otherwise lose.
        shift = mean.astype(dtype)
        Z -= shift
        if weights is not None:
            Z *= np.sqrt(weights).astype(dtype)[:, None]
        rest = mean - shift
        if diagonal:
            scatter = np.einsum("ij,ij->j", Z, Z, dtype=np.float64) - n * rest**2
            return cls(n, mean, np.maximum(scatter, 0.0), n_squared)
        scatter = (Z.T @ Z).astype(np.float64, copy=False)
        if rest.any():
            scatter -= n * np.outer(rest, rest)
        return cls(n, mean, scatter, n_squared)

    @property
    def covariance(self) -> _Array:
        """The biased covariance, ``scatter / n`` [shape=(d, d)]."""
        return self.scatter / self.n

    @property
    def variance(self) -> _Array:
        """The biased variance of each feature [shape=(d,)], never below zero."""
        diagonal = self.scatter if self.scatter.ndim == 1 else np.diag(self.scatter)
        variance: _Array = np.maximum(diagonal, 0.0) / self.n
        return variance

    @property
    def size(self) -> float:
        """How many clips of equal weight would tell as much (Kish 1965)."""
        return self.n**2 / self.n_squared

    def __add__(self, other: Cell) -> Cell:
        """Return the cell of both sets of clips (Chan, Golub and LeVeque 1979)."""
        n = self.n + other.n
        gap = other.mean - self.mean
        mean = self.mean + gap * (other.n / n)
        between = self._product(gap) * (self.n * other.n / n)
        scatter = self.scatter + other.scatter + between
        return Cell(n, mean, scatter, self.n_squared + other.n_squared)

    def __sub__(self, other: Cell) -> Cell:
        """Return the cell of the clips that are left when ``other`` is taken out."""
        n = self.n - other.n
        mean = (self.n * self.mean - other.n * other.mean) / n
        gap = other.mean - mean
        between = self._product(gap) * (n * other.n / self.n)
        scatter = self.scatter - other.scatter - between
        return Cell(n, mean, scatter, self.n_squared - other.n_squared)

    def __mul__(self, weight: float) -> Cell:
        """Return the cell of the same clips, each with so many times its weight."""
        return Cell(self.n * weight, self.mean, self.scatter * weight, self.n_squared * weight**2)

    def _product(self, gap: _Array) -> _Array:
        product: _Array = gap**2 if self.scatter.ndim == 1 else np.outer(gap, gap)
        return product
