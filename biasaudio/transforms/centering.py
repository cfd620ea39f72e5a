"""Corrections that move every domain to a common mean, or mean and scale."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio._validation import check_categories, check_choice
from biasaudio.errors import DataError
from biasaudio.transforms._base import Affine, DomainAwareTransform

__all__ = ["DomainCentering", "DomainStandardizer"]

_Array = NDArray[np.float64]
_UNSEEN = ("raise", "identity", "global")


class _PerDomain(DomainAwareTransform):
    """Fit means and scales, equal for all domains after the transform."""

    _scales: bool

    def __init__(self, *, unseen: str = "raise", alpha: float = 1.0) -> None:
        self.unseen = unseen
        self.alpha = alpha

    def fit(
        self,
        X: ArrayLike,
        y: object = None,
        *,
        domain: ArrayLike | None = None,
        balance: ArrayLike | None = None,
    ) -> Any:
        """Find the statistics of each domain.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        y : ignored
        domain : array_like of str or int [shape=(n,)]
            Two or more datasets.
        balance : array_like of str or int [shape=(n,)], optional
            A class for each clip.  A domain's mean is then the mean of its
            class means over the classes that every domain has, so that a
            different class mix is not mistaken for a difference of domains.

        Returns
        -------
        self

        Raises
        ------
        ParameterError
            If the domain is missing or a parameter is not allowed.
        DataError
            If there is one domain only, X is not usable, or no class is in
            every domain.
        """
        check_choice(self.unseen, "unseen", _UNSEEN)
        X, domains, codes = self._fit_input(X, domain, extra=", balance=classes")
        weights = _clip_weights(codes, len(domains), balance)
        means, variances = zip(*(_weighted(X, weights * (codes == k)) for k in range(len(domains))))
        target_mean = np.mean(means, axis=0)
        target_variance = np.mean(variances, axis=0)
        # For a clip of no known domain: the clips of all domains taken as one.
        pooled = target_variance + np.var(means, axis=0)
        make = self._affine
        self.means_ = np.stack(means)
        self.affines_ = {
            str(name): make(mean, variance, target_mean, target_variance)
            for name, mean, variance in zip(domains.tolist(), means, variances)
        }
        self.global_ = make(target_mean, pooled, target_mean, target_variance)
        return self

    def _affine(self, mean: _Array, variance: _Array, to: _Array, to_variance: _Array) -> Affine:
        d = len(mean)
        none = np.zeros((d, 0)), np.zeros((0, d))
        if not self._scales:
            return Affine(np.zeros(d), *none, to - mean)
        # A feature that is constant in a domain (up to rounding) has no scale to match.
        floor = 1e-10 * (to_variance + to**2) + np.finfo(float).tiny
        flat = (variance <= floor) | (to_variance <= floor)
        ratio = np.sqrt(to_variance / np.where(flat, 1, variance))
        scale = np.where(flat, 1.0, ratio)
        return Affine(mean, *none, to - mean * scale, scale)


def _clip_weights(codes: NDArray[np.intp], k: int, balance: ArrayLike | None) -> _Array:
    """Return weights that give every shared class the same share in a domain."""
    if balance is None:
        return np.ones(len(codes))
    classes, class_codes = check_categories(balance, "balance", len(codes))
    counts = np.zeros((k, len(classes)))
    np.add.at(counts, (codes, class_codes), 1)
    shared = (counts > 0).all(axis=0)
    if not shared.any():
        raise DataError(
            "no class of balance has clips in every domain, so the domains cannot be compared at "
            "equal class mix; leave balance out or give classes that the domains share"
        )
    with np.errstate(divide="ignore"):
        weights = np.where(shared, 1 / counts, 0.0)
    result: _Array = weights[codes, class_codes]
    return result


def _weighted(X: NDArray[np.floating[Any]], weights: _Array) -> tuple[_Array, _Array]:
    """Return the weighted mean and variance of the clips with weight, in float64."""
    rows = weights > 0
    X, weights = X[rows], weights[rows] / weights.sum()
    mean = weights @ X.astype(np.float64)
    return mean, weights @ np.square(X - mean)


class DomainCentering(_PerDomain):
    """Move every domain's mean to the common mean (needs domain at transform).

    Domain-aware at transform: ``transform(X, domain=...)``.

    Parameters
    ----------
    unseen : {"raise", "identity", "global"}
        What to do with a domain that ``fit`` did not see: refuse, change
        nothing, or treat it as the mixture of all domains.
    alpha : float in [0, 1], default 1
        The share of the change that is applied.

    Attributes
    ----------
    domains_ : np.ndarray [shape=(k,)]
    means_ : np.ndarray [shape=(k, d)]
    affines_ : dict of str to Affine
    n_features_in_ : int

    See Also
    --------
    DomainStandardizer : Matches the scale of each feature as well.

    Notes
    -----
    ``x -> x - m_domain + m``, where m is the mean of the domain means.

    Examples
    --------
    >>> import numpy as np
    >>> X, domain = np.array([[0.0], [2.0], [10.0], [12.0]]), ["a", "a", "b", "b"]
    >>> DomainCentering().fit_transform(X, domain=domain).ravel().tolist()
    [5.0, 7.0, 5.0, 7.0]
    """

    _scales = False


class DomainStandardizer(_PerDomain):
    """Give every domain the same mean and scale (needs domain at transform).

    Domain-aware at transform: ``transform(X, domain=...)``.

    Parameters
    ----------
    unseen : {"raise", "identity", "global"}
        What to do with a domain that ``fit`` did not see: refuse, change
        nothing, or treat it as the mixture of all domains.
    alpha : float in [0, 1], default 1
        The share of the change that is applied.

    Attributes
    ----------
    domains_ : np.ndarray [shape=(k,)]
    means_ : np.ndarray [shape=(k, d)]
    affines_ : dict of str to Affine
    n_features_in_ : int

    See Also
    --------
    DomainCentering : Matches the means only.

    Notes
    -----
    For each feature ``x -> (x - m_domain) s / s_domain + m``, with the mean m
    of the domain means and the root s of the mean of the domain variances.
    A feature that is constant in a domain is moved and not scaled.

    Examples
    --------
    >>> import numpy as np
    >>> X, domain = np.array([[-1.0], [1.0], [9.0], [11.0]]), ["a", "a", "b", "b"]
    >>> DomainStandardizer().fit_transform(X, domain=domain).ravel().tolist()
    [4.0, 6.0, 4.0, 6.0]
    """

    _scales = True
