"""Corrections that project directions out of the vectors."""

from __future__ import annotations

import warnings
from typing import Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio._validation import check_categories, check_choice, name_some
from biasaudio.errors import BiasAudioWarning, DataError, ParameterError
from biasaudio.moments import Moments
from biasaudio.transforms._base import DomainFreeTransform
from biasaudio.transforms._covariance import Group
from biasaudio.transforms._directions import (
    SMALLEST_CELL,
    discriminants,
    find_discriminants,
    orthogonal,
    project_out,
    warn_small,
)
from biasaudio.transforms._shrinkage import VARIANCE_FLOOR, check_shrinkage
from biasaudio.transforms._streaming import StreamingFit
from biasaudio.transforms._weights import clip_weights

__all__ = ["LDAProjection", "MultiLDAProjection"]

_Array = NDArray[np.float64]


class LDAProjection(StreamingFit, DomainFreeTransform):
    """Project out the direction that best tells the domains apart.

    Domain-free at transform: needs ``domain`` in ``fit`` only.  This is the
    published correction.  It removes one direction (k - 1 for k domains); the
    domain means may differ along others, so a probe can still find the
    domain: measure before you trust it, and see `LEACE`.

    Parameters
    ----------
    shrinkage : float in [0, 1], "auto" or "oas", default "auto"
        "auto" is the Ledoit-Wolf weight in each domain; ``partial_fit`` needs
        "oas" or a number.
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
    ``LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")``; with
    fewer clips than dimensions it is found in n x n, never in d x d.  What is
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

    __metadata_request__fit: ClassVar[dict[str, Any]] = {"domain": True, "balance": True}

    def __init__(self, *, shrinkage: float | str = "auto", alpha: float = 1.0) -> None:
        self.shrinkage = shrinkage
        self.alpha = alpha

    def fit(
        self,
        X: ArrayLike,
        y: object = None,
        *,
        domain: ArrayLike | None = None,
        balance: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> LDAProjection:
        """Find the direction.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        y : ignored
        domain : array_like of str or int [shape=(n,)]
            Two or more datasets.
        balance : array_like of str or int [shape=(n,)], optional
            A class for each clip.  Domains are then compared at equal class
            mix, over the classes that all have.
        sample_weight : array_like [shape=(n,)], optional
            What each clip counts for; default 1.

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
        X, domains, codes = self._fit_input(X, domain)
        weights = clip_weights(codes, len(domains), balance, sample_weight)
        self._set(*find_discriminants(X, codes, weights, self.shrinkage))
        return self

    def _solve(self, moments: Moments) -> None:
        check_shrinkage(self.shrinkage)
        groups = [Group(cell) for cell in moments.by("domain").values()]
        warn_small(self.domains_, [group.cell.size for group in groups])
        self._set(*discriminants(groups, self.shrinkage))

    def _set(self, found: _Array, means: _Array) -> None:
        self.directions_ = orthogonal(found)
        self.affine_ = project_out(self.directions_, np.mean(means, axis=0))


class MultiLDAProjection(DomainFreeTransform):
    """Project out one LDA direction for each genre, jointly.

    Domain-free at transform: needs ``domain`` and ``genre`` in ``fit`` only.

    Parameters
    ----------
    shrinkage : float in [0, 1], "auto" or "oas", default "auto"
        As in `LDAProjection`.
    compat : {None, "wang2023"}
        None leaves a genre out, with a warning, where a domain has fewer than
        3 clips of it, lifts features that hardly vary, and gives every
        genre's direction length one.
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
        Orthonormal basis of the span.
    rank_ : int
        Its number of directions, at most genres times (k - 1).
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

    __metadata_request__fit: ClassVar[dict[str, Any]] = {"domain": True, "genre": True}

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
        sample_weight: ArrayLike | None = None,
    ) -> MultiLDAProjection:
        """Find one direction for each genre.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        y : ignored
        domain, genre : array_like of str or int [shape=(n,)]
            An empty genre is not known; these clips are not fitted on.
        sample_weight : array_like [shape=(n,)], optional
            What each clip counts for; default 1.

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
        weights = clip_weights(codes, len(domains), None, sample_weight)
        floor = 0.0 if compat else VARIANCE_FLOOR
        self.genres_: tuple[Any, ...] = ()
        rows: list[_Array] = []
        for code, name in enumerate(genres.tolist()):
            if name == "":
                continue
            here = genre_codes == code
            counts = np.bincount(codes[here], minlength=len(domains))
            if counts.min() < SMALLEST_CELL and not (compat and counts.max() >= SMALLEST_CELL):
                self._warn(name, domains, counts, "is left out")
                continue
            if counts.min() == 0:
                self._warn(name, domains, counts, "gets a one-class direction (compat='wang2023')")
            part = None if weights is None else weights[here]
            clips = X[here], codes[here], part
            found, _ = find_discriminants(*clips, self.shrinkage, floor=floor)
            rows.append(found if compat else found / np.linalg.norm(found, axis=1, keepdims=True))
            self.genres_ += (name,)
        if len(rows) < 2 and not compat:
            raise DataError(
                f"mlda needs two genres with at least {SMALLEST_CELL} clips in every domain, and "
                f"only {len(rows)} of {name_some(genres, 9)} has them; use LDAProjection ('lda')"
            )
        self.directions_ = orthogonal(np.concatenate([np.zeros((0, X.shape[1])), *rows]))
        self.rank_ = len(self.directions_)
        self._warn_if_nothing_is_left(X.shape[1])
        self.affine_ = project_out(self.directions_, X.mean(axis=0, dtype=np.float64))
        return self

    def _warn_if_nothing_is_left(self, n_features: int) -> None:
        if self.rank_ == n_features:
            warnings.warn(
                f"the {self.rank_} directions of the genres span all {n_features} dimensions, so "
                "nothing is left of any clip; use LDAProjection, or fewer genres",
                BiasAudioWarning,
                stacklevel=3,
            )

    @staticmethod
    def _warn(name: object, domains: NDArray[Any], counts: NDArray[Any], what: str) -> None:
        cells = ", ".join(f"{d}: {c}" for d, c in zip(domains, counts))
        message = f"genre {name!r} has too few clips in a domain ({cells}) and {what}"
        warnings.warn(message, BiasAudioWarning, stacklevel=3)
