"""Least-squares concept erasure (LEACE), and the orthogonal projection that does the same."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import pinvh

from biasaudio.errors import ParameterError, warn
from biasaudio.moments import Cell, Moments
from biasaudio.transforms._affine import Affine, project_out
from biasaudio.transforms._base import (
    DomainFreeTransform,
    StreamingFit,
    clip_weights,
    read_columns,
)
from biasaudio.transforms._covariance import (
    Covariance,
    ShrunkCovariance,
    check_shrinkage,
    domain_means,
)

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LEACE", "Concepts", "MeanProjection"]

_Array = NDArray[np.float64]
_Floats = NDArray[np.floating[Any]]
_Codes = NDArray[np.intp]
_BLOCK = 4096
# Clips that were corrected before differ by a few roundings: no concept to erase again.
_ROUNDING = 4


@dataclass(frozen=True)
class Concepts:
    """The covariances of x with what is erased and with what is kept.

    Attributes
    ----------
    mean : np.ndarray [shape=(d,)]
    erased : np.ndarray [shape=(d, r)]
        An orthonormal basis of the covariances with the domain and the
        continuous nuisances, given the preserved columns.
    preserved : np.ndarray [shape=(d, m)]
        An orthonormal basis of the covariances with the preserved columns.
    sizes : np.ndarray [shape=(k,)]
        How many clips of equal weight there are of each domain; a continuous
        nuisance is read as two equal domains with its variance would be.
    """

    mean: _Array
    erased: _Array
    preserved: _Array
    sizes: _Array


class _Eraser(StreamingFit, DomainFreeTransform):
    """What LEACE and MeanProjection have in common: what they are fitted on."""

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
    ) -> Self:
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
            The class of each clip.  Domains are then compared at equal class
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
        shrinkage = check_shrinkage(getattr(self, "shrinkage", 0.0))
        X, codes = self._clips(X, domain, nuisance, balance)
        weights = clip_weights(codes, int(codes.max()) + 1, balance, sample_weight)
        concepts = _find_concepts(X, codes, nuisance, preserve, weights)
        S = Covariance(shrinkage, X=X, weights=weights, means=concepts.mean[None])
        self.affine_ = self._solve(concepts, S)
        return self

    def _clips(
        self,
        X: ArrayLike,
        domain: ArrayLike | None,
        nuisance: ArrayLike | None,
        balance: ArrayLike | None,
    ) -> tuple[_Floats, _Codes]:
        """X and the code of each clip's domain, zeros where a nuisance alone is erased."""
        if domain is not None or nuisance is None:
            X, _, codes = self._fit_input(X, domain)
            return X, codes
        X, self.domains_ = self._fit_features(X), np.array([])
        if balance is not None:
            raise ParameterError("balance was given without domain; give both, or leave it out")
        return X, np.zeros(len(X), dtype=np.intp)

    def _fit_moments(self, moments: Moments) -> None:
        shrinkage = check_shrinkage(getattr(self, "shrinkage", 0.0))
        concepts = _concepts_of_cells(list(moments.by("domain").values()))
        self.affine_ = self._solve(concepts, Covariance(shrinkage, [moments.total()]))

    def _solve(self, concepts: Concepts, S: Covariance) -> Affine:
        """Map, from the covariances with the concepts and that of x, not formed as yet."""
        raise NotImplementedError


class LEACE(_Eraser):
    """Least-squares concept erasure (LEACE): the smallest change that erases.

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

    def _solve(self, concepts: Concepts, S: Covariance | ShrunkCovariance) -> Affine:
        m, C, K = concepts.mean, concepts.erased, concepts.preserved
        A = np.c_[C, K]
        # S^-1 A.  The pseudo-inverse keeps the erasure exact where S is singular: C lies in its
        # range.
        R = S.solve(A, pseudo=True)
        # S^-1 A (A' S^-1 A)^+, less the columns that meet the zeros of B = [C, 0].
        down = (R @ pinvh(A.T @ R))[:, : C.shape[1]]
        # C is orthonormal, so reading what was removed gives the identity.
        if np.abs(C.T @ down - np.eye(C.shape[1])).max(initial=0.0) > 1e-6:
            warn(
                "what is to be erased and what is to be preserved lie along the same directions, "
                "so neither is done fully; preserve fewer columns"
            )
        return Affine(m, down, -C.T, np.zeros(len(m)))


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

    def _solve(self, concepts: Concepts, S: Covariance) -> Affine:
        C, K = concepts.erased, concepts.preserved
        # The covariance S of x does not matter here, and is never formed.
        V, sizes, _ = np.linalg.svd(C - K @ (K.T @ C), full_matrices=False)
        self.directions_ = V[:, sizes > 1e-8].T
        return project_out(self.directions_, concepts.mean)


def _find_concepts(
    X: _Floats,
    codes: _Codes,
    nuisance: ArrayLike | None,
    preserve: ArrayLike | None,
    weights: _Array | None,
) -> Concepts:
    """Concepts of domains, nuisances and what is to be preserved, from clips.

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]
    codes : np.ndarray of int [shape=(n,)]
        The domain of each clip; only zeros for none.
    nuisance, preserve : array_like, optional
        As in ``LEACE.fit``.
    weights : np.ndarray [shape=(n,)], optional

    Returns
    -------
    Concepts
    """
    n, k = len(codes), int(codes.max()) + 1
    sizes = np.full(2, n / 2) if k == 1 else np.bincount(codes).astype(np.float64)
    if weights is not None:
        # Kish's effective number of clips, as a share of all.
        sizes *= weights.sum() ** 2 / (weights @ weights) / n
    least = _rounding(X)
    if nuisance is None and preserve is None:
        counts = np.bincount(codes, weights).astype(np.float64)
        concepts = _between(domain_means(X, codes, weights), counts, least, sizes)
    else:
        erased = [np.zeros((n, 0)) if k == 1 else np.eye(k)[codes]]
        if nuisance is not None:
            erased.append(read_columns(nuisance, "nuisance", n, categories=False))
        kept = np.zeros((n, 0))
        if preserve is not None:
            kept = read_columns(preserve, "preserve", n, categories=True)
        m, Z, K = _covariances(X, np.concatenate(erased, axis=1), kept, weights)
        concepts = Concepts(m, _basis(Z.T, least), _basis(K.T, least), sizes)
    if not concepts.erased.shape[1]:
        warn(
            "nothing is erased: x does not vary with the domain or nuisance, given what is "
            "preserved; check that preserve does not name the domain itself"
        )
    return concepts


def _concepts_of_cells(cells: Sequence[Cell]) -> Concepts:
    """Concepts of domains alone, from the moments of each."""
    weights = np.array([cell.n for cell in cells])
    means = np.stack([cell.mean for cell in cells])
    squares = np.stack([cell.variance + cell.mean**2 for cell in cells]).sum(axis=1)
    length = np.sqrt(weights @ squares / weights.sum())
    least = _ROUNDING * np.finfo(np.float64).eps * length
    return _between(means, weights, least, np.array([cell.size for cell in cells]))


def _between(means: _Array, weights: _Array, least: float, sizes: _Array) -> Concepts:
    """Concepts of domains alone: the covariances are along the domain means."""
    mean = weights @ means / weights.sum()
    return Concepts(mean, _basis((means - mean).T, least), np.zeros((len(mean), 0)), sizes)


def _covariances(
    X: _Floats, Z: _Array, kept: _Array, weights: _Array | None
) -> tuple[_Array, _Array, _Array]:
    """Mean of x, its covariances with Z given the columns ``kept``, and with these.

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]
    Z : np.ndarray [shape=(n, k)]
        One-hot domains, continuous nuisances.
    kept : np.ndarray [shape=(n, m)]
        May have no column.
    weights : np.ndarray [shape=(n,)], optional

    Returns
    -------
    mean : np.ndarray [shape=(d,)]
    with_erased, with_kept : np.ndarray [shape=(k, d)], [shape=(m, d)]
        Of columns of variance one; constant columns are left out.

    Notes
    -----
    Z is replaced by what a least-squares fit on ``kept`` leaves of it
    (Frisch, Waugh, Lovell), so that a covariance with it is the partial one.
    """
    w = np.ones(len(X)) if weights is None else weights
    w = w / w.sum()
    Z, kept = _standardised(Z, w), _standardised(kept, w)
    if kept.shape[1]:
        root = np.sqrt(w)[:, None]
        fitted = np.linalg.lstsq(root * kept, root * Z, rcond=None)[0]
        left = Z - kept @ fitted
        # What the preserved columns tell exactly leaves rounding, not a concept.
        Z = np.where(np.sqrt(w @ left**2) > 1e-6, left, 0.0)
    # Products with centred columns do not depend on the shift, which is there for the digits.
    shift = X[:_BLOCK].mean(axis=0, dtype=np.float64)
    columns = w[:, None] * np.c_[Z, kept, np.ones(len(X))]
    products = np.zeros((columns.shape[1], X.shape[1]))
    for start in range(0, len(X), _BLOCK):
        block = X[start : start + _BLOCK].astype(np.float64)
        block -= shift
        products += columns[start : start + _BLOCK].T @ block
    k = Z.shape[1]
    return shift + products[-1], products[:k], products[k:-1]


def _standardised(columns: _Array, w: _Array) -> _Array:
    """Centred columns of variance one; a constant column is left out."""
    centred = columns - w @ columns
    spread = np.sqrt(w @ centred**2)
    varies = spread > 1e-12 * (1 + np.abs(columns).max(axis=0, initial=0.0))
    standard: _Array = centred[:, varies] / spread[varies]
    return standard


def _rounding(X: _Floats) -> float:
    """Size of differences that are nothing but rounding."""
    some = X[:: len(X) // 1024 + 1].astype(np.float64)
    size = np.sqrt(np.mean(np.einsum("ij,ij->i", some, some)))
    return float(_ROUNDING * np.finfo(X.dtype).eps * size)


def _basis(covariances: _Array, least: float, tolerance: float = 1e-8) -> _Array:
    """Orthonormal basis [shape=(d, r)] of what is more than rounding."""
    basis, sizes, _ = np.linalg.svd(covariances, full_matrices=False)
    kept: _Array = basis[:, sizes > max(tolerance * sizes.max(initial=0.0), least)]
    return kept
