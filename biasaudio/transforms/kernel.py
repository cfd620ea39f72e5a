"""A nonlinear feature map, and a linear correction of what it makes."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import ClassNamePrefixFeaturesOutMixin
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.metrics import euclidean_distances

from biasaudio._parallel import one_blas_thread
from biasaudio._validation import check_choice, check_count, check_number
from biasaudio.errors import DataError, ParameterError
from biasaudio.transforms._affine import array_namespace
from biasaudio.transforms._base import BaseTransform, as_seed

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["KernelMap"]

_Array = NDArray[np.float64]
_METHODS = ("fourier", "nystroem")
# What the map is made of, by attribute: two of these for each method.
_STATE = ("weights_", "offsets_", "landmarks_", "normalization_")
# Clips that the width and the landmarks are drawn from, and columns of "fourier" by default.
_MOST_CLIPS, _MOST_FOURIER = 1024, 8192
_BLOCK = 1024


class KernelMap(ClassNamePrefixFeaturesOutMixin, BaseTransform):
    """Random features of a Gaussian kernel, corrected linearly.

    Domain-free at transform: needs ``domain`` in ``fit`` only, and only with
    a correction.  The output has other columns than x, so there is no affine
    map of it.

    Parameters
    ----------
    correction : transformer or str, optional
        An unfitted correction of `biasaudio.transforms` that is domain-free
        at transform, such as `LDAProjection` or `LEACE`, or its name, such as
        "leace".  None: the map alone.
    n_components : int, optional
        Columns of the output.  Default 8 d, at most 8192, for "fourier", and
        one per clip, at most 1024, for "nystroem".
    method : {"fourier", "nystroem"}
        Random Fourier features, or the kernel with randomly drawn clips.
    width : float or "median", default "median"
        Of the kernel, in standardised units; "median" is the median distance
        of up to 1024 clips.
    random_state : int, np.random.Generator or None, default 0

    Attributes
    ----------
    mean_, scale_ : np.ndarray [shape=(d,)]
        What the vectors are standardised with; the scale of a constant
        feature is 1.
    width_ : float
    n_components_ : int
    weights_, offsets_ : np.ndarray [shape=(d, m)], [shape=(m,)]
        With "fourier".
    landmarks_, normalization_ : np.ndarray [shape=(m, d)], [shape=(m, m)]
        With "nystroem": standardised clips, and the inverse root of their
        kernel matrix.
    correction_ : transformer
        Fitted on the features; absent without a correction.
    n_features_in_ : int

    See Also
    --------
    LEACE : The same in the coordinates of x.

    Notes
    -----
    With z = (x - mean) / scale, the kernel ``k(x, y) = exp(-|z_x - z_y|^2 /
    (2 width^2))`` and m columns,

        fourier:  f(x) = sqrt(2 / m) cos(z W + b),  W ~ N(0, 1 / width^2),
                  b ~ U(0, 2 pi), so that E f(x)'f(y) = k(x, y);
        nystroem: f(x) = k(x, L) K^-1/2,  L = m clips, K = k(L, L).

    A linear correction of f takes away what a linear probe of f reads, such
    as differences of covariance between domains, which no linear correction
    of x touches.  What is not claimed: that other probes find nothing, or
    that f serves a task as well as x.

    The published code drew its Fourier features with Fastfood, so its numbers
    can be matched in distribution only.

    References
    ----------
    Rahimi, Recht: Random features for large-scale kernel machines. NeurIPS
    2007.  Williams, Seeger: Using the Nystroem method to speed up kernel
    machines. NeurIPS 2000.  Wang, Richard, McFee: Transfer Learning and Bias
    Correction with Pre-trained Audio Embeddings. ISMIR 2023, arXiv:2307.10834.

    Examples
    --------
    >>> from biasaudio.datasets.synthetic import make_domains
    >>> from biasaudio.transforms import LDAProjection
    >>> table, _ = make_domains(n=200, d=8, random_state=0)
    >>> klda = KernelMap(LDAProjection()).fit(table.X, domain=table.clips.dataset)
    >>> klda.transform(table.X).shape, str(klda.get_feature_names_out()[0])
    ((200, 64), 'kernelmap0')
    """

    __metadata_request__fit: ClassVar[dict[str, Any]] = {
        "domain": True,
        "genre": True,
        "label": True,
        "balance": True,
        "groups": True,
        "preserve": True,
        "nuisance": True,
    }
    domain_aware = False

    def __init__(
        self,
        correction: Any = None,
        *,
        n_components: int | None = None,
        method: str = "fourier",
        width: float | str = "median",
        random_state: int | np.random.Generator | None = 0,
    ) -> None:
        self.correction = correction
        self.n_components = n_components
        self.method = method
        self.width = width
        self.random_state = random_state

    def fit(
        self,
        X: ArrayLike,
        y: object = None,
        *,
        domain: ArrayLike | None = None,
        genre: ArrayLike | None = None,
        label: ArrayLike | None = None,
        balance: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        preserve: ArrayLike | None = None,
        nuisance: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Draw the map, and fit the correction on its features.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        y : ignored
        domain : array_like of str or int [shape=(n,)], optional
            The dataset of each clip; needed with a correction, else ignored.
        genre, label, balance, groups, preserve, nuisance, sample_weight : array_like, optional
            Handed on to the correction, which must take them.

        Returns
        -------
        self

        Raises
        ------
        ParameterError
            If a parameter is not allowed, the correction needs the domain at
            transform, or it does not take a keyword that was given.
        DataError
            If X is not usable.
        """
        columns = {
            "genre": genre,
            "label": label,
            "balance": balance,
            "groups": groups,
            "preserve": preserve,
            "nuisance": nuisance,
            "sample_weight": sample_weight,
        }
        given = {name: values for name, values in columns.items() if values is not None}
        inner = self._inner()
        self._check_parameters(inner, given)
        seed = as_seed(self.random_state)
        if inner is None:
            X = self._fit_features(X)
        else:
            X, _, _ = self._fit_input(X, domain)
        self._solve(X, seed)
        if inner is not None:
            self.correction_ = inner.fit(self._features(X), domain=domain, **given)
        return self

    def _inner(self) -> Any:
        """Unfitted copy of the correction, also where it is given by its name."""
        # The table of names holds kernel methods too, so it imports this file.
        from biasaudio.transforms.methods import as_correction

        return None if self.correction is None else as_correction(self.correction)

    @one_blas_thread()
    def _solve(self, X: NDArray[np.floating[Any]], seed: int) -> None:
        """Draw the map: mean, scale and width of the clips, then W and b, or L and K^-1/2."""
        for name in (*_STATE, "correction_"):
            self.__dict__.pop(name, None)
        mean, deviation = X.mean(axis=0, dtype=np.float64), X.std(axis=0, dtype=np.float64)
        self.mean_ = mean
        # Rounding leaves a constant feature with a spread of its own, which is not to be blown up.
        self.scale_ = np.where(deviation > 1e-7 * np.abs(mean), deviation, 1.0)
        rows = np.random.default_rng(seed).permutation(len(X))[:_MOST_CLIPS]
        Z = (X[rows] - self.mean_) / self.scale_
        self.width_ = _find_width(Z, self.width)
        drawn = _draw(Z, len(X), self.method, self.n_components, self.width_, seed)
        self.__dict__.update(drawn)
        self.n_components_ = len(drawn["offsets_" if self.method == "fourier" else "landmarks_"])

    def transform(self, X: Any) -> Any:
        """Features of the kernel, corrected.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
            An array of torch, CuPy or another library of the Python array API
            standard stays on its device.

        Returns
        -------
        array [shape=(n, n_components_)]
            float32 if X is float32, else float64.

        Raises
        ------
        DataError
            If X has another width than in fit, or holds NaN or Inf.
        """
        X = self._transform_input(X)
        found = self._features(X)
        if not hasattr(self, "correction_"):
            return found
        in_place = {"copy": False} if isinstance(found, np.ndarray) else {}
        return self.correction_.transform(found, **in_place)

    def to_affine(self) -> Any:
        """Refuse: the map is not affine.

        Raises
        ------
        ParameterError
            Always.
        """
        raise ParameterError(
            "KernelMap is not affine in x, so it has no matrix; use transform, or save it whole, "
            "and see correction_.to_affine() for the correction of its features"
        )

    @property
    def _n_features_out(self) -> int:
        return self.n_components_

    def _check_parameters(self, inner: Any, given: dict[str, Any]) -> None:
        check_choice(self.method, "method", _METHODS)
        if self.n_components is not None:
            check_count(self.n_components, "n_components", 1)
        name = type(inner).__name__
        takes = ["domain"]
        if inner is not None:
            if not isinstance(inner, BaseTransform) or isinstance(inner, KernelMap):
                raise ParameterError(
                    f"correction={self.correction!r} is not a linear correction of biasaudio.transforms; "
                    "give one such as LDAProjection(), or None"
                )
            if inner.domain_aware:
                raise ParameterError(
                    f"correction={name}() needs the domain at transform, where KernelMap has none; "
                    f"fit KernelMap() alone and {name}() on what it returns, or give LEACE()"
                )
            takes = [k for k in inspect.signature(inner.fit).parameters if k not in ("X", "y")]
        unknown = [key for key in given if key not in takes]
        if unknown:
            raise ParameterError(
                f"fit was given {unknown[0]}, which correction={'None' if inner is None else name}"
                f" does not take; it takes {', '.join(takes)}"
            )

    def _features(self, X: Any) -> Any:
        """Features of X before the correction, in its dtype and on its device."""
        state = {name: getattr(self, name) for name in _STATE if hasattr(self, name)}
        return _kernel_features(X, self.mean_, self.scale_, self.width_, state)


def _find_width(Z: _Array, width: object) -> float:
    """Width of the kernel, a number or the median distance of the clips Z."""
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


def _draw(
    Z: _Array, n: int, method: str, n_components: int | None, width: float, seed: int
) -> dict[str, _Array]:
    """Arrays of a map, by attribute name.

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
            f"at most {_MOST_CLIPS}); give fewer, or method='fourier'"
        )
    fitted = Nystroem(gamma=gamma, n_components=m, random_state=seed).fit(Z[:m])
    return {"landmarks_": fitted.components_, "normalization_": fitted.normalization_}


def _kernel_features(
    X: Any, mean: _Array, scale: _Array, width: float, state: Mapping[str, _Array]
) -> Any:
    """Features of X, in its dtype and on its device, one block at a time."""
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
    """Features of standardised clips, in ``out`` where that is an array of numpy."""
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
