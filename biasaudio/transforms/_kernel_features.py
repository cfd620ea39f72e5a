"""Features of a Gaussian kernel, drawn by scikit-learn and kept as plain arrays."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.metrics import euclidean_distances

from biasaudio._validation import check_choice, check_number
from biasaudio.errors import DataError, ParameterError
from biasaudio.transforms._affine import array_namespace

__all__ = ["METHODS", "MOST_CLIPS", "STATE", "draw", "features", "find_width"]

_Array = NDArray[np.float64]
METHODS = ("fourier", "nystroem")
STATE = ("weights_", "offsets_", "landmarks_", "normalization_")
MOST_CLIPS, _MOST_FOURIER = 1024, 8192
_BLOCK = 1024


def find_width(Z: _Array, width: object) -> float:
    """Return the width of the kernel, a number or the median distance of the clips Z."""
    if isinstance(width, str):
        check_choice(width, "width", ("median",))
        pairs = np.triu_indices(len(Z), 1)
        found = float(np.median(euclidean_distances(Z)[pairs])) if len(Z) > 1 else 0.0
        # Rounding puts equal clips at distances of 1e-8; features have a spread of 1.
        found = found if found > 1e-6 else 0.0
    else:
        found = check_number(width, "width", 0)
    if found == 0:
        raise DataError(
            f"width={width!r} is 0 here (with 'median': most clips have the same vector); give a "
            "width above 0"
        )
    return found


def draw(
    Z: _Array, n: int, method: str, n_components: int | None, width: float, seed: int
) -> dict[str, _Array]:
    """Return the arrays of a map, by attribute name.

    Parameters
    ----------
    Z : np.ndarray [shape=(k, d)]
        Standardised clips in random order.
    n : int
        How many clips there are in all.
    method : {"fourier", "nystroem"}
    n_components : int, optional
    width : float
    seed : int

    Raises
    ------
    ParameterError
        If there are fewer clips than landmarks.
    """
    d, gamma = Z.shape[1], 0.5 / width**2
    if method == "fourier":
        m = n_components or min(8 * d, _MOST_FOURIER)
        sampler = RBFSampler(gamma=gamma, n_components=m, random_state=seed).fit(np.zeros((1, d)))
        return {"weights_": sampler.random_weights_, "offsets_": sampler.random_offset_}
    m = n_components or len(Z)
    if m > len(Z):
        raise ParameterError(
            f"n_components={m} is more than the {len(Z)} clips that 'nystroem' may draw (of {n}, "
            f"at most {MOST_CLIPS}); give fewer, or method='fourier'"
        )
    fitted = Nystroem(gamma=gamma, n_components=m, random_state=seed).fit(Z[:m])
    return {"landmarks_": fitted.components_, "normalization_": fitted.normalization_}


def features(X: Any, mean: _Array, scale: _Array, width: float, state: Mapping[str, _Array]) -> Any:
    """Return the features of X, in its dtype and on its device, a block at a time."""
    xp = array_namespace(X)

    def convert(a: _Array) -> Any:
        if xp is np:
            return a.astype(X.dtype, copy=False)
        return xp.asarray(a, dtype=X.dtype, device=X.device)

    mean, scale = convert(mean), convert(scale)
    state = {name: convert(values) for name, values in state.items()}
    if xp is not np:
        return _map((X - mean) / scale, xp, width, state)
    m = len(state["offsets_" if "offsets_" in state else "landmarks_"])
    out = np.empty((len(X), m), dtype=X.dtype)
    for start in range(0, len(X), _BLOCK):
        rows = slice(start, start + _BLOCK)
        _map((X[rows] - mean) / scale, np, width, state, out[rows])
    return out


def _map(Z: Any, xp: Any, width: float, state: Mapping[str, Any], out: Any = None) -> Any:
    """Return the features of standardised clips, in ``out`` where that is an array of numpy."""
    into = {} if out is None else {"out": out}
    if "weights_" in state:
        Z = xp.matmul(Z, state["weights_"], **into)
        Z += state["offsets_"]
        Z = xp.cos(Z, **into)
        Z *= (2 / state["offsets_"].shape[0]) ** 0.5
        return Z
    L = state["landmarks_"]
    # float32 rounding can leave a distance a little below zero, which does no harm in exp.
    squares = xp.sum(Z * Z, axis=1)[:, None] + xp.sum(L * L, axis=1)[None, :] - 2 * (Z @ L.T)
    return xp.matmul(xp.exp(squares * (-0.5 / width**2)), state["normalization_"].T, **into)
