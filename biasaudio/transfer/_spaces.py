"""The vectors that the published study corrects and classifies: as they are, or kernel features."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray
from sklearn.preprocessing import StandardScaler

from biasaudio.transforms.kernel import KernelMap

__all__ = ["KernelSpace", "LinearSpace", "Space"]

_Floats = NDArray[np.floating[Any]]
_Rows = NDArray[np.intp]


class Space(Protocol):
    """Give the vectors to fit corrections on, and those to classify."""

    def joint(self, parts: Iterable[_Rows]) -> _Floats:
        """Return the vectors of the rows of all datasets, one after the other."""

    def seen_from(self, rows: _Rows) -> Callable[[_Rows], _Floats]:
        """Return what gives the vectors of rows to a classifier trained on ``rows``."""


class LinearSpace:
    """Take the vectors as they are."""

    def __init__(self, X: _Floats) -> None:
        self._X = X

    def joint(self, parts: Iterable[_Rows]) -> _Floats:
        """Return the vectors of the rows of all datasets, one after the other."""
        return self._X[np.concatenate(list(parts))]

    def seen_from(self, rows: _Rows) -> Callable[[_Rows], _Floats]:
        """Return what gives the vectors of rows to a classifier trained on ``rows``."""
        return lambda wanted: self._X[wanted]


class KernelSpace:
    """Map to one draw of random Fourier features of a Gaussian kernel.

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]
    training : iterable of np.ndarray of int
        The training clips of each dataset, which the width follows from.

    Notes
    -----
    As the published code does, each dataset is standardised by itself where
    corrections are fitted, and all clips by the training set of the
    classifier where they are classified.  The map is the same in both.
    """

    def __init__(self, X: _Floats, training: Iterable[_Rows]) -> None:
        self._X = X
        self._map = KernelMap().fit(self._standardised(training))

    def joint(self, parts: Iterable[_Rows]) -> _Floats:
        """Return the features of the rows, each dataset standardised by itself."""
        features: _Floats = self._map.transform(self._standardised(parts))
        return features

    def seen_from(self, rows: _Rows) -> Callable[[_Rows], _Floats]:
        """Return what gives features of rows, standardised by the training set ``rows``."""
        scaler = StandardScaler().fit(self._X[rows])
        return lambda wanted: self._map.transform(scaler.transform(self._X[wanted]))

    def _standardised(self, parts: Iterable[_Rows]) -> _Floats:
        return np.concatenate([StandardScaler().fit_transform(self._X[rows]) for rows in parts])
