"""Erasure: no linear trace is left, on the clips that were fitted."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, DTypeLike, NDArray
from scipy.linalg import pinvh

from biasaudio.errors import BiasAudioWarning, ParameterError
from biasaudio.moments import Moments
from biasaudio.transforms._affine import Affine
from biasaudio.transforms._base import DomainFreeTransform
from biasaudio.transforms._concepts import Concepts, find_concepts, from_cells
from biasaudio.transforms._covariance import Group, ShrunkCovariance
from biasaudio.transforms._directions import group_of, in_float32, project_out
from biasaudio.transforms._shrinkage import check_shrinkage, shrunk_covariance
from biasaudio.transforms._streaming import StreamingFit
from biasaudio.transforms._weights import clip_weights

__all__ = ["LEACE", "MeanProjection"]

_Array = NDArray[np.float64]
_Floats = NDArray[np.floating[Any]]


class _Eraser(StreamingFit, DomainFreeTransform):
    """Gather the covariances of x with what is erased, and with what is kept."""

    __metadata_request__fit: ClassVar[dict[str, Any]] = {
        "domain": True,
        "nuisance": True,
        "preserve": True,
        "balance": True,
    }

    def fit(
        self,
        X: ArrayLike,
        y: object = None,
        *,
        domain: ArrayLike | None = None,
        nuisance: ArrayLike | None = None,
        preserve: ArrayLike | None = None,
        balance: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Any:
        """Find what to read and what to remove.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        y : ignored
        domain : array_like of str or int [shape=(n,)], optional
            Two or more datasets, or any other categories to be erased, such
            as a genre, a device or a decade.
        nuisance : array_like of float [shape=(n,) or (n, m)], optional
            Continuous quantities to be erased, such as the level, the
            signal-to-noise ratio or the year.  Domain, nuisance or both.
        preserve : array_like [shape=(n,) or (n, m)], optional
            Labels whose linear information must survive: categories, or
            columns of 0 and 1.  What they explain of the domain is not
            erased, and the covariance of x with them stays as it was.
        balance : array_like of str or int [shape=(n,)], optional
            A class for each clip.  Domains are then compared at equal class
            mix, over the classes that all have.
        sample_weight : array_like [shape=(n,)], optional
            What each clip counts for; default 1.

        Returns
        -------
        self

        Raises
        ------
        ParameterError
            If there is neither domain nor nuisance, or a parameter is not
            allowed.
        DataError
            If there is one domain only, or an array is not usable.
        """
        self._check_parameters()
        if domain is None and nuisance is not None:
            X = self._fit_features(X)
            codes = np.zeros(len(X), dtype=np.intp)
            self.domains_ = np.array([])
        else:
            X, _, codes = self._fit_input(X, domain)
        if balance is not None and domain is None:
            raise ParameterError("balance was given without domain; give both, or leave it out")
        weights = clip_weights(codes, int(codes.max()) + 1, balance, sample_weight)
        concepts = find_concepts(X, codes, nuisance, preserve, weights)
        if not concepts.erased.shape[1]:
            warnings.warn(
                "nothing is erased: x does not vary with the domain or nuisance, given what is "
                "preserved; check that preserve does not name the domain itself",
                BiasAudioWarning,
                stacklevel=2,
            )
        in_float32(
            X,
            lambda dtype: self._finish(
                concepts, lambda: self._covariance(X, weights, concepts.mean, dtype)
            ),
        )
        return self

    def _solve(self, moments: Moments) -> None:
        concepts = from_cells(list(moments.by("domain").values()))
        self._finish(concepts, lambda: self._streamed_covariance(moments))

    def _check_parameters(self) -> None:
        """Refuse what is not allowed, before anything is computed."""

    def _finish(self, concepts: Concepts, covariance: Callable[[], Any]) -> None:
        """Set the affine map, given how to get the covariance of x."""
        raise NotImplementedError

    def _covariance(
        self, X: _Floats, weights: _Array | None, mean: _Array, dtype: DTypeLike
    ) -> Any:
        raise NotImplementedError

    def _streamed_covariance(self, moments: Moments) -> Any:
        raise NotImplementedError


class LEACE(_Eraser):
    """Erase all linear domain information with the smallest change.

    Domain-free at transform: needs ``domain`` in ``fit`` only.

    Parameters
    ----------
    shrinkage : float in [0, 1], "auto" or "oas", default "auto"
        Of the covariance that decides along which direction the domain is
        read; "auto" is Ledoit-Wolf.  On the fitted clips the erasure is exact
        for every value; with fewer clips than dimensions it decides how well
        that holds on new ones.  ``partial_fit`` needs "oas" or a number.
    alpha : float in [0, 1], default 1
        The share of the change that is applied.

    Attributes
    ----------
    domains_ : np.ndarray [shape=(k,)]
    affine_ : Affine
        Rank k - 1 for k domains, and one more for each nuisance.
    n_features_in_ : int

    See Also
    --------
    MeanProjection : Projects the same differences out orthogonally.
    LDAProjection : The published correction, which does not erase.

    Notes
    -----
    Of all affine maps after which the covariance of x with the domain is
    zero, LEACE changes x least in the mean square.  With the covariance ``S``
    of x, and the covariance ``C`` of x with the one-hot domain and the
    nuisances,

        x -> x - C (C' S^-1 C)^+ C' S^-1 (x - m).

    For two domains, C is along the mean difference and ``S^-1 C`` along the
    LDA direction: the domain is *read* where LDA reads it, and the mean
    difference is what is *removed* for it.

    With ``preserve``, C is the partial covariance given the preserved columns
    y, and the change is the smallest that maps C to zero and leaves ``K =
    cov(x, y)`` as it is: with ``A = [C, K]`` and ``B = [C, 0]``,

        x -> x - B (A' S^-1 A)^+ A' S^-1 (x - m).

    A probe for the domain that is also given y then finds nothing in x.  The
    domain stays readable as far as y tells it.

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

    def _check_parameters(self) -> None:
        check_shrinkage(self.shrinkage)

    def _covariance(
        self, X: _Floats, weights: _Array | None, mean: _Array, dtype: DTypeLike
    ) -> ShrunkCovariance:
        # A generator, so that nobody else holds the matrix of the group.
        everything = (group_of(X, weights, m, dtype=dtype) for m in [mean])
        return shrunk_covariance(everything, self.shrinkage)

    def _streamed_covariance(self, moments: Moments) -> ShrunkCovariance:
        return shrunk_covariance([Group(moments.total())], self.shrinkage)

    def _finish(self, concepts: Concepts, covariance: Callable[[], Any]) -> None:
        """Set the affine map."""
        C = concepts.erased
        A = np.c_[C, concepts.preserved]
        # The pseudo-inverse keeps the erasure exact where S is singular: C lies in its range.
        read = covariance().solve(A, pseudo=True)
        down = (read @ pinvh(A.T @ read))[:, : C.shape[1]]
        if np.abs(C.T @ down - np.eye(C.shape[1])).max(initial=0.0) > 1e-6:
            warnings.warn(
                "what is to be erased and what is to be preserved lie along the same directions, "
                "so neither is done fully; preserve fewer columns",
                BiasAudioWarning,
                stacklevel=3,
            )
        self.affine_ = Affine(concepts.mean, down, -C.T, np.zeros(len(C)))


class MeanProjection(_Eraser):
    """Project out the differences between the domain means, orthogonally.

    Domain-free at transform: needs ``domain`` in ``fit`` only.

    Parameters
    ----------
    alpha : float in [0, 1], default 1
        The share of the change that is applied.

    Attributes
    ----------
    domains_ : np.ndarray [shape=(k,)]
    directions_ : np.ndarray [shape=(r, d)]
        Orthonormal; what is projected out: k - 1 for k domains, and one more
        for each nuisance.
    affine_ : Affine
    n_features_in_ : int

    See Also
    --------
    LEACE : The smallest change that does the same.

    Notes
    -----
    With ``V`` an orthonormal basis of the span of ``m_j - m_0`` and of the
    covariances with the nuisances, ``x -> x (I - V'V)``.  Afterwards the
    domain means of the fitted clips are equal, so no linear classifier fitted
    on them beats a constant; on new clips the estimate's error remains.  It
    also deletes whatever else lies along V.

    With ``preserve``, V spans the partial covariances given the preserved
    columns y, less their part along ``cov(x, y)``, which therefore stays as
    it is.  What is along both is kept, so more of the domain is left than
    after `LEACE`, whose projection is oblique.

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

    _scatter = "diagonal"

    def __init__(self, *, alpha: float = 1.0) -> None:
        self.alpha = alpha

    def _covariance(
        self, X: _Floats, weights: _Array | None, mean: _Array, dtype: DTypeLike
    ) -> None:
        """Return nothing: this projection does not depend on it."""

    def _streamed_covariance(self, moments: Moments) -> None:
        """Return nothing: this projection does not depend on it."""

    def _finish(self, concepts: Concepts, covariance: Callable[[], Any]) -> None:
        """Set the directions and the affine map."""
        kept = concepts.preserved
        left = concepts.erased - kept @ (kept.T @ concepts.erased)
        basis, sizes, _ = np.linalg.svd(left, full_matrices=False)
        self.directions_ = basis[:, sizes > 1e-8].T
        self.affine_ = project_out(self.directions_, concepts.mean)
