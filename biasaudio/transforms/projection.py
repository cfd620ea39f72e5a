"""Corrections that project directions out of the vectors."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import cho_factor, cho_solve

from biasaudio._validation import check_categories, check_choice, name_some
from biasaudio.errors import BiasAudioWarning, DataError, ParameterError
from biasaudio.moments import Cell
from biasaudio.transforms._base import Affine, DomainFreeTransform, domain_moments
from biasaudio.transforms._shrinkage import check_shrinkage, shrunk_covariance

__all__ = ["LDAProjection", "MeanProjection", "MultiLDAProjection"]

_Array = NDArray[np.float64]
_Codes = NDArray[np.intp]
# Two clips span one line, which Ledoit-Wolf does not shrink: their covariance is singular.
_SMALLEST_CELL = 3


def _orthogonal(directions: _Array, tolerance: float = 1e-10) -> _Array:
    """Return an orthonormal basis [shape=(k, d)] of the span of the rows."""
    _, sizes, basis = np.linalg.svd(directions, full_matrices=False)
    kept: _Array = basis[sizes > tolerance * max(sizes.max(initial=0.0), np.finfo(float).tiny)]
    return kept


def _project_out(basis: _Array) -> Affine:
    """Return the map ``x (I - V'V)`` for a basis V [shape=(k, d)]."""
    zero = np.zeros(basis.shape[1])
    return Affine(center=zero, down=basis.T, up=-basis, offset=zero)


def _discriminants(X: NDArray[np.floating[Any]], codes: _Codes, shrinkage: float | str) -> _Array:
    """Return the LDA coefficients of each domain, ``Sw^-1 mean`` [shape=(k, d)].

    Sw is the mean of the shrunk covariances, weighted by the class priors.
    The two-class direction is the difference of the rows, the one-class
    direction of the published code is the only row.
    """
    cells: dict[Any, Cell] = domain_moments(X, codes).by("domain")
    within = sum(
        (cell.n / len(X)) * shrunk_covariance(X[codes == code], cell, shrinkage)
        for code, cell in cells.items()
    )
    means = np.stack([cell.mean for cell in cells.values()])
    # Differences are taken before the solve: with means of 1000 and gaps of 1 the
    # other order loses three digits.
    gaps = means if len(means) == 1 else means[1:] - means[0]
    try:
        solved: _Array = cho_solve(cho_factor(np.asarray(within)), gaps.T).T
    except np.linalg.LinAlgError:
        raise DataError(
            f"the within-domain covariance of {len(X)} clips in {X.shape[1]} dimensions is "
            f"singular at shrinkage={shrinkage!r}; use shrinkage='auto'"
        ) from None
    return solved


class LDAProjection(DomainFreeTransform):
    """Project out the direction that best tells the domains apart.

    Domain-free at transform: needs ``domain`` in ``fit`` only.  This is the
    published correction.  It removes one direction (k - 1 for k domains); the
    domain means may differ along others, so a probe can still find the
    domain: measure before you trust it, and see `LEACE`.

    Parameters
    ----------
    shrinkage : float in [0, 1] or "auto", default "auto"
        "auto" is the Ledoit-Wolf weight in each domain.
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
    LEACE : Removes all linear information about the domain.
    MultiLDAProjection : One direction for each genre.

    Notes
    -----
    With the class-prior weighted, shrunk within-domain covariance ``Sw`` and
    the domain means, ``v = Sw^-1 (m_1 - m_0)``, scaled to length one, and

        x -> x (I - v v').

    The direction equals that of scikit-learn's
    ``LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")``.  What is
    not claimed: that the projected means are equal.  They still differ by the
    part of ``m_1 - m_0`` that is orthogonal to v.

    References
    ----------
    Wang, Richard, McFee: Transfer Learning and Bias Correction with
    Pre-trained Audio Embeddings. ISMIR 2023, arXiv:2307.10834.

    Examples
    --------
    >>> from biasaudio.datasets.synthetic import make_domains
    >>> table, _ = make_domains(n=200, d=8, random_state=0)
    >>> lda = LDAProjection().fit(table.X, domain=table.clips.dataset)
    >>> lda.transform(table.X).shape, lda.directions_.shape
    ((200, 8), (1, 8))
    """

    def __init__(self, *, shrinkage: float | str = "auto", alpha: float = 1.0) -> None:
        self.shrinkage = shrinkage
        self.alpha = alpha

    def fit(
        self, X: ArrayLike, y: object = None, *, domain: ArrayLike | None = None
    ) -> LDAProjection:
        """Find the direction.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        y : ignored
        domain : array_like of str or int [shape=(n,)]
            Two or more datasets.

        Returns
        -------
        LDAProjection

        Raises
        ------
        ParameterError
            If the domain is missing or a parameter is not allowed.
        DataError
            If there is one domain only, or X is not usable.
        """
        check_shrinkage(self.shrinkage)
        X, _, codes = self._fit_input(X, domain)
        self.directions_ = _orthogonal(_discriminants(X, codes, self.shrinkage))
        self.affine_ = _project_out(self.directions_)
        return self


class MultiLDAProjection(DomainFreeTransform):
    """Project out one LDA direction for each genre, jointly.

    Domain-free at transform: needs ``domain`` and ``genre`` in ``fit`` only.

    Parameters
    ----------
    shrinkage : float in [0, 1] or "auto", default "auto"
        As in `LDAProjection`.
    compat : {None, "wang2023"}
        None leaves a genre out, with a warning, where a domain has fewer than
        3 clips of it, and gives every genre's direction length one.
        "wang2023" does what the published code does: the directions keep
        their length, and where a domain has no clip of a genre it takes the
        direction of a one-class LDA, ``Sw^-1 m`` (with a warning), although
        that has nothing to do with the domain.
    alpha : float in [0, 1], default 1
        The share of the change that is applied.

    Attributes
    ----------
    domains_ : np.ndarray [shape=(k,)]
    genres_ : tuple of str
        The genres that gave a direction.
    directions_ : np.ndarray [shape=(r, d)]
        Orthonormal basis of the span; r is its rank.
    affine_ : Affine
    n_features_in_ : int

    See Also
    --------
    LDAProjection : One direction for all genres.

    Notes
    -----
    The stacked directions ``W`` (one row a genre) have the thin singular
    value decomposition ``W = U S V``, and ``x -> x (I - V'V)``.

    References
    ----------
    Wang, Richard, McFee: Transfer Learning and Bias Correction with
    Pre-trained Audio Embeddings. ISMIR 2023, arXiv:2307.10834.

    Examples
    --------
    >>> from biasaudio.datasets.synthetic import make_domains
    >>> table, _ = make_domains(n=400, d=8, random_state=0)
    >>> clips = table.clips
    >>> mlda = MultiLDAProjection().fit(table.X, domain=clips.dataset, genre=clips.genre)
    >>> mlda.directions_.shape
    (4, 8)
    """

    __metadata_request__fit: ClassVar[dict[str, bool]] = {"domain": True, "genre": True}

    def __init__(
        self,
        *,
        shrinkage: float | str = "auto",
        compat: str | None = None,
        alpha: float = 1.0,
    ) -> None:
        self.shrinkage = shrinkage
        self.compat = compat
        self.alpha = alpha

    def fit(
        self,
        X: ArrayLike,
        y: object = None,
        *,
        domain: ArrayLike | None = None,
        genre: ArrayLike | None = None,
    ) -> MultiLDAProjection:
        """Find one direction for each genre.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        y : ignored
        domain, genre : array_like of str or int [shape=(n,)]

        Returns
        -------
        MultiLDAProjection

        Raises
        ------
        ParameterError
            If domain or genre is missing or a parameter is not allowed.
        DataError
            If fewer than two genres have clips of every domain.
        """
        check_shrinkage(self.shrinkage)
        compat = self.compat is not None and check_choice(self.compat, "compat", ("wang2023",))
        X, domains, codes = self._fit_input(X, domain, ", genre=genre")
        if genre is None:
            raise ParameterError(
                "MultiLDAProjection.fit was called without genre; call "
                "fit(X, domain=domain, genre=genre), or use LDAProjection where genres are unknown"
            )
        genres, genre_codes = check_categories(genre, "genre", len(X))
        self.genres_: tuple[Any, ...] = ()
        rows: list[_Array] = []
        for code, name in enumerate(genres.tolist()):
            here = genre_codes == code
            counts = np.bincount(codes[here], minlength=len(domains))
            if counts.min() < _SMALLEST_CELL and not (compat and counts.max() >= _SMALLEST_CELL):
                self._warn(name, domains, counts, "is left out")
                continue
            if counts.min() == 0:
                self._warn(name, domains, counts, "gets a one-class direction (compat='wang2023')")
            _, present = np.unique(codes[here], return_inverse=True)
            found = _discriminants(X[here], present, self.shrinkage)
            rows.append(found if compat else found / np.linalg.norm(found, axis=1, keepdims=True))
            self.genres_ += (name,)
        if len(rows) < 2 and not compat:
            raise DataError(
                f"mlda needs two genres with at least {_SMALLEST_CELL} clips in every domain, and "
                f"only {len(rows)} of {name_some(genres, 9)} has them; use LDAProjection ('lda')"
            )
        self.directions_ = _orthogonal(np.concatenate([np.zeros((0, X.shape[1])), *rows]))
        self.affine_ = _project_out(self.directions_)
        return self

    @staticmethod
    def _warn(name: object, domains: NDArray[Any], counts: NDArray[Any], what: str) -> None:
        cells = ", ".join(f"{d}: {c}" for d, c in zip(domains, counts))
        message = f"genre {name!r} has too few clips in a domain ({cells}) and {what}"
        warnings.warn(message, BiasAudioWarning, stacklevel=3)


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
        self.directions_ = _orthogonal(means[1:] - means[0])
        self.affine_ = _project_out(self.directions_)
        return self
