"""A nonlinear feature map, and a linear correction of what it makes."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassNamePrefixFeaturesOutMixin, clone

from biasaudio._validation import check_choice, check_count
from biasaudio.errors import ParameterError
from biasaudio.transforms._base import BaseTransform
from biasaudio.transforms._kernel_features import (
    METHODS,
    MOST_CLIPS,
    STATE,
    draw,
    features,
    find_width,
)

__all__ = ["KernelMap"]


class KernelMap(ClassNamePrefixFeaturesOutMixin, BaseTransform):
    """Map to features of a Gaussian kernel, and correct linearly there.

    Domain-free at transform: needs ``domain`` in ``fit`` only, and only with
    a correction.  The output has other columns than x, so there is no affine
    map of it.

    Parameters
    ----------
    correction : transformer, optional
        An unfitted correction of `biasaudio.transforms` that is domain-free
        at transform, such as `LDAProjection` or `LEACE`.  None: the map alone.
    n_components : int, optional
        Columns of the output.  Default 8 d, at most 8192, for "fourier", and
        one for each clip, at most 1024, for "nystroem".
    method : {"fourier", "nystroem"}
        Random Fourier features, or the kernel with randomly drawn clips.
    width : float or "median", default "median"
        Of the kernel, in standardised units; "median" is the median distance
        of up to 1024 clips.
    random_state : int, default 0

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
        random_state: int = 0,
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
    ) -> KernelMap:
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
        KernelMap

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
        self._check_parameters(given)
        if self.correction is None:
            X = self._fit_features(X)
        else:
            X, _, _ = self._fit_input(X, domain)
        mean, deviation = X.mean(axis=0, dtype=np.float64), X.std(axis=0, dtype=np.float64)
        self.mean_ = mean
        self.scale_ = np.where(deviation > 1e-7 * np.abs(mean), deviation, 1.0)
        for name in (*STATE, "correction_"):
            self.__dict__.pop(name, None)
        rows = np.random.default_rng(self.random_state).permutation(len(X))[:MOST_CLIPS]
        Z = (X[rows] - self.mean_) / self.scale_
        self.width_ = find_width(Z, self.width)
        drawn = draw(Z, len(X), self.method, self.n_components, self.width_, self.random_state)
        self.__dict__.update(drawn)
        self.n_components_ = len(drawn["offsets_" if self.method == "fourier" else "landmarks_"])
        if self.correction is not None:
            fitted = clone(self.correction)
            self.correction_ = fitted.fit(self._features(X), domain=domain, **given)
        return self

    def transform(self, X: Any) -> Any:
        """Return the features, corrected.

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

    def _check_parameters(self, given: dict[str, Any]) -> None:
        check_choice(self.method, "method", METHODS)
        check_count(self.random_state, "random_state", 0)
        if self.n_components is not None:
            check_count(self.n_components, "n_components", 1)
        inner, name = self.correction, type(self.correction).__name__
        takes = ["domain"]
        if inner is not None:
            if not isinstance(inner, BaseTransform) or isinstance(inner, KernelMap):
                raise ParameterError(
                    f"correction={inner!r} is not a linear correction of biasaudio.transforms; "
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
        """Return the features of X, before the correction, in its dtype and on its device."""
        state = {name: getattr(self, name) for name in STATE if hasattr(self, name)}
        return features(X, self.mean_, self.scale_, self.width_, state)
