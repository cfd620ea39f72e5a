"""Erasure: the domain means are equal afterwards, on the clips that were fitted."""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve, pinvh

from biasaudio.transforms._base import Affine, DomainFreeTransform, domain_moments
from biasaudio.transforms._directions import orthogonal, project_out
from biasaudio.transforms._shrinkage import check_shrinkage, shrunk_covariance

__all__ = ["LEACE", "MeanProjection"]


class LEACE(DomainFreeTransform):
    """Erase all linear domain information with the smallest change.

    Domain-free at transform: needs ``domain`` in ``fit`` only.

    Parameters
    ----------
    shrinkage : float in [0, 1] or "auto", default "auto"
        The weight of the shrinkage of the covariance, which decides along
        which direction the domain is read; "auto" is Ledoit-Wolf.  The
        erasure of the fitted clips is exact for every value; with fewer clips
        than dimensions, shrinkage decides how well it holds on new ones.
    alpha : float in [0, 1], default 1
        The share of the change that is applied.

    Attributes
    ----------
    domains_ : np.ndarray [shape=(k,)]
    affine_ : Affine
        Rank k - 1 for k domains.
    n_features_in_ : int

    See Also
    --------
    MeanProjection : Projects the same differences out orthogonally.
    LDAProjection : The published correction, which does not erase.

    Notes
    -----
    Of all affine maps after which the covariance of x with the domain is
    zero, LEACE changes x least in the mean square.  With the covariance ``S``
    of x, and the covariance ``C`` of x with the one-hot domain,

        x -> x - C (C' S^-1 C)^+ C' S^-1 (x - m).

    For two domains, C is along the mean difference and ``S^-1 C`` along the
    LDA direction: the domain is *read* where LDA reads it, and the mean
    difference is what is *removed* for it.

    What is not claimed: that no information is left.  Differences of
    covariance or shape stay, and on new clips so does the estimate's error.

    References
    ----------
    Belrose et al.: LEACE: Perfect linear concept erasure in closed form.
    NeurIPS 2023, arXiv:2306.03819.

    Examples
    --------
    >>> import numpy as np
    >>> from biasaudio.datasets.synthetic import make_domains
    >>> table, _ = make_domains(n=200, d=8, random_state=0)
    >>> Z = LEACE().fit_transform(table.X, domain=table.clips.dataset)
    >>> gap = Z[table.clips.dataset == "a"].mean(0) - Z[table.clips.dataset == "b"].mean(0)
    >>> bool(np.abs(gap).max() < 1e-5)
    True
    """

    def __init__(self, *, shrinkage: float | str = "auto", alpha: float = 1.0) -> None:
        self.shrinkage = shrinkage
        self.alpha = alpha

    def fit(self, X: ArrayLike, y: object = None, *, domain: ArrayLike | None = None) -> LEACE:
        """Find what to read and what to remove.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        y : ignored
        domain : array_like of str or int [shape=(n,)]
            Two or more datasets.

        Returns
        -------
        LEACE

        Raises
        ------
        ParameterError
            If the domain is missing or a parameter is not allowed.
        DataError
            If there is one domain only, or X is not usable.
        """
        check_shrinkage(self.shrinkage)
        X, _, codes = self._fit_input(X, domain)
        moments = domain_moments(X, codes)
        total, cells = moments.total(), moments.by("domain")
        C = np.stack([c.n / total.n * (c.mean - total.mean) for c in cells.values()], axis=1)
        S = shrunk_covariance(X, total, self.shrinkage)
        # The pseudo-inverse keeps the erasure exact where S is singular: C lies in its range.
        read = _solve(S, C)
        down = read @ pinvh(C.T @ read)
        self.affine_ = Affine(total.mean, down, -C.T, np.zeros(len(C)))
        return self


class MeanProjection(DomainFreeTransform):
    """Project out the differences between the domain means, orthogonally.

    Domain-free at transform: needs ``domain`` in ``fit`` only.

    Parameters
    ----------
    alpha : float in [0, 1], default 1
        The share of the change that is applied.

    Attributes
    ----------
    domains_ : np.ndarray [shape=(k,)]
    directions_ : np.ndarray [shape=(k - 1, d)]
        Orthonormal; what is projected out.
    affine_ : Affine
    n_features_in_ : int

    See Also
    --------
    LEACE : The smallest change that does the same.

    Notes
    -----
    With ``V`` an orthonormal basis of the span of ``m_j - m_0``, ``x -> x (I
    - V'V)``.  Afterwards the domain means of the fitted clips are equal, so
    no linear classifier fitted on them beats a constant; on new clips the
    estimate's error remains.  It also deletes whatever else lies along V.

    Examples
    --------
    >>> import numpy as np
    >>> from biasaudio.datasets.synthetic import make_domains
    >>> table, _ = make_domains(n=200, d=8, random_state=0)
    >>> Z = MeanProjection().fit_transform(table.X, domain=table.clips.dataset)
    >>> gap = Z[table.clips.dataset == "a"].mean(0) - Z[table.clips.dataset == "b"].mean(0)
    >>> bool(np.abs(gap).max() < 1e-5)
    True
    """

    def __init__(self, *, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def fit(
        self, X: ArrayLike, y: object = None, *, domain: ArrayLike | None = None
    ) -> MeanProjection:
        """Find the span of the mean differences.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        y : ignored
        domain : array_like of str or int [shape=(n,)]
            Two or more datasets.

        Returns
        -------
        MeanProjection

        Raises
        ------
        ParameterError
            If the domain is missing or a parameter is not allowed.
        DataError
            If there is one domain only, or X is not usable.
        """
        X, domains, codes = self._fit_input(X, domain)
        means = np.stack([X[codes == k].mean(axis=0, dtype=float) for k in range(len(domains))])
        self.directions_ = orthogonal(means[1:] - means[0])
        self.affine_ = project_out(self.directions_)
        return self


def _solve(S: NDArray[np.float64], C: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return ``S^+ C`` for a positive semi-definite S."""
    try:
        solved: NDArray[np.float64] = cho_solve(cho_factor(S), C)
    except np.linalg.LinAlgError:
        solved = pinvh(S) @ C
    return solved
