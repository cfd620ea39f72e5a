"""The vectors that the published study corrects and classifies: as they are, or kernel features."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
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

    def training(self, source: str) -> _Floats:
        """Return the vectors of the training set of a dataset, for its classifier."""

    def seen_from(self, source: str, rows: _Rows) -> _Floats:
        """Return the vectors of other rows, for the classifier of a dataset."""


class LinearSpace:
    """Take the vectors as they are."""

    def __init__(self, X: _Floats, training: Mapping[str, _Rows]) -> None:
        self._X, self._training = X, training

    def joint(self, parts: Iterable[_Rows]) -> _Floats:
        """Return the vectors of the rows of all datasets, one after the other."""
        return self._X[np.concatenate(list(parts))]

    def training(self, source: str) -> _Floats:
        """Return the vectors of the training set of a dataset, for its classifier."""
        return self._X[self._training[source]]

    def seen_from(self, source: str, rows: _Rows) -> _Floats:
        """Return the vectors of other rows, for the classifier of a dataset."""
        return self._X[rows]


class KernelSpace:
    """Map to one draw of random Fourier features of a Gaussian kernel.

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]
    training : mapping of str to np.ndarray of int
        The training clips of each dataset, which the width follows from.

    Notes
    -----
    As the published code does, each dataset is standardised by itself where
    corrections are fitted, and all clips by the training set of the
    classifier where they are classified.  The map is the same in both, so
    a whole training set has the same features in both.
    """

    def __init__(self, X: _Floats, training: Mapping[str, _Rows]) -> None:
        self._X, self._training = X, training
        self._scalers = {name: StandardScaler().fit(X[rows]) for name, rows in training.items()}
        standardised = {
            name: one.transform(X[training[name]]) for name, one in self._scalers.items()
        }
        self._map = KernelMap().fit(np.concatenate(list(standardised.values())))
        self._features = {name: self._map.transform(Z) for name, Z in standardised.items()}

    def joint(self, parts: Iterable[_Rows]) -> _Floats:
        """Return the features of the rows, each dataset standardised by itself."""
        return np.concatenate([self._own(rows) for rows in parts])

    def training(self, source: str) -> _Floats:
        """Return the features of the training set of a dataset, for its classifier."""
        return self._features[source]

    def seen_from(self, source: str, rows: _Rows) -> _Floats:
        """Return the features of other rows, for the classifier of a dataset."""
        features: _Floats = self._map.transform(self._scalers[source].transform(self._X[rows]))
        return features

    def _own(self, rows: _Rows) -> _Floats:
        for name, training in self._training.items():
            if rows is training:
                return self._features[name]
        features: _Floats = self._map.transform(StandardScaler().fit_transform(self._X[rows]))
        return features
