"""Corrections that move every domain to a common mean, or mean and scale."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio._validation import check_choice
from biasaudio.moments import Moments
from biasaudio.transforms._affine import Affine
from biasaudio.transforms._base import DomainAwareTransform, StreamingFit, clip_weights

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["DomainCentering", "DomainStandardizer"]

_Array = NDArray[np.float64]
_UNSEEN = ("raise", "identity", "global")


class _PerDomain(StreamingFit, DomainAwareTransform):
    """Means and scales of domains, made equal by the transform."""

    __metadata_request__fit: ClassVar[dict[str, Any]] = {"domain": True, "balance": True}
    _scatter = "diagonal"

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
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Find the statistics of each domain.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        y : ignored
        domain : array_like of str or int [shape=(n,)]
            Two or more datasets.
        balance : array_like of str or int [shape=(n,)], optional
            The class of each clip.  A domain's mean is then the mean of its
            class means over the classes that every domain has, so that a
            different class mix is not mistaken for a difference of domains.
        sample_weight : array_like [shape=(n,)], optional
            What each clip counts for; default 1.

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
        X, domains, codes = self._fit_input(X, domain, extra=", balance=classes")
        weights = clip_weights(codes, len(domains), balance, sample_weight)
        moments = Moments(dtype=np.float64, scatter="diagonal")
        self._fit_moments(moments.update(X, sample_weight=weights, domain=domains[codes]))
        return self

    def _fit_moments(self, moments: Moments) -> None:
        check_choice(self.unseen, "unseen", _UNSEEN)
        cells = moments.by("domain")
        means = np.stack([cell.mean for cell in cells.values()])
        variances = np.stack([cell.variance for cell in cells.values()])
        mean, variance = means.mean(axis=0), variances.mean(axis=0)
        # For a clip of no known domain: the clips of all domains taken as one.
        pooled = variance + np.var(means, axis=0)
        self.means_ = means
        self.affines_ = {
            str(name): self._affine(cell.mean, cell.variance, mean, variance)
            for name, cell in cells.items()
        }
        self.global_ = self._affine(mean, pooled, mean, variance)

    def _affine(self, mean: _Array, variance: _Array, to: _Array, to_variance: _Array) -> Affine:
        """Map that moves one mean and variance to another."""
        raise NotImplementedError


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
    >>> X = np.array([[0.0], [2.0], [4.0], [10.0], [12.0], [14.0]])
    >>> domain = ["a", "a", "a", "b", "b", "b"]
    >>> DomainCentering().fit_transform(X, domain=domain).ravel().tolist()
    [5.0, 7.0, 9.0, 5.0, 7.0, 9.0]
    """

    def _affine(self, mean: _Array, variance: _Array, to: _Array, to_variance: _Array) -> Affine:
        return Affine(mean, *_nothing(len(mean)), to - mean)


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
    >>> X = np.array([[-1.0], [0.0], [1.0], [9.0], [10.0], [11.0]])
    >>> domain = ["a", "a", "a", "b", "b", "b"]
    >>> DomainStandardizer().fit_transform(X, domain=domain).ravel().tolist()
    [4.0, 5.0, 6.0, 4.0, 5.0, 6.0]
    """

    def _affine(self, mean: _Array, variance: _Array, to: _Array, to_variance: _Array) -> Affine:
        # A feature that is constant in a domain (up to rounding) has no scale to match.
        floor = 1e-10 * (to_variance + to**2) + np.finfo(float).tiny
        flat = (variance <= floor) | (to_variance <= floor)
        ratio = np.sqrt(to_variance / np.where(flat, 1, variance))
        gain = np.where(flat, 0.0, ratio - 1)
        return Affine(mean, *_nothing(len(mean)), to - mean, gain)


def _nothing(d: int) -> tuple[_Array, _Array]:
    """Factors of a map that reads no direction."""
    return np.zeros((d, 0)), np.zeros((0, d))
