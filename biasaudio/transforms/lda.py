"""Linear discriminant (LDA) directions of the domain, projected out."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio._linalg import orthogonal
from biasaudio._parallel import one_blas_thread
from biasaudio._validation import check_categories, check_choice, name_some
from biasaudio.errors import DataError, ParameterError, warn
from biasaudio.moments import Moments
from biasaudio.transforms._affine import project_out
from biasaudio.transforms._base import (
    SMALLEST_CELL,
    DomainFreeTransform,
    StreamingFit,
    clip_weights,
    warn_small,
)
from biasaudio.transforms._covariance import (
    VARIANCE_FLOOR,
    Covariance,
    check_shrinkage,
    within_domains,
)

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["LDAProjection", "MultiLDAProjection"]

_Array = NDArray[np.float64]


class LDAProjection(StreamingFit, DomainFreeTransform):
    """Project out the linear discriminant (LDA) direction of the domain.

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
    MultiLDAProjection : One direction per genre.

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
    ) -> Self:
        """Find the direction.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        y : ignored
        domain : array_like of str or int [shape=(n,)]
            Two or more datasets.
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
            If the domain is missing or a parameter is not allowed.
        DataError
            If there is one domain only, or X is not usable.
        """
        check_shrinkage(self.shrinkage)
        X, domains, codes = self._fit_input(X, domain)
        weights = clip_weights(codes, len(domains), balance, sample_weight)
        return self._solve(*within_domains(X, codes, weights, self.shrinkage))

    def _fit_moments(self, moments: Moments) -> None:
        check_shrinkage(self.shrinkage)
        cells = list(moments.by("domain").values())
        warn_small(self.domains_, [cell.size for cell in cells])
        self._solve(np.stack([cell.mean for cell in cells]), Covariance(self.shrinkage, cells))

    def _solve(self, m: _Array, Sw: Covariance) -> Self:
        # v = Sw^-1 (m_j - m_0), one row per further domain.  Differences are taken before the
        # solve: with means of 1000 and gaps of 1 the other order loses three digits.
        v = Sw.solve((m[1:] - m[0]).T).T
        self.directions_ = orthogonal(v)
        self.affine_ = project_out(self.directions_, np.mean(m, axis=0))
        return self


class MultiLDAProjection(DomainFreeTransform):
    """Project out one LDA direction per genre, jointly.

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
    The stacked directions ``W`` (one row per genre) have the thin singular
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

    @one_blas_thread()
    def fit(
        self,
        X: ArrayLike,
        y: object = None,
        *,
        domain: ArrayLike | None = None,
        genre: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Find one direction per genre.

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
        self

        Raises
        ------
        ParameterError
            If domain or genre is missing or a parameter is not allowed.
        DataError
            If fewer than two genres have clips of every domain.
        """
        check_shrinkage(self.shrinkage)
        compat = self.compat is not None
        if compat:
            check_choice(self.compat, "compat", ("wang2023",))
        X, domains, codes = self._fit_input(X, domain, ", genre=genre")
        if genre is None:
            raise ParameterError(
                "MultiLDAProjection.fit was called without genre; call "
                "fit(X, domain=domain, genre=genre), or use LDAProjection where genres are unknown"
            )
        weights = clip_weights(codes, len(domains), None, sample_weight)
        W, self.genres_ = self._directions(X, codes, weights, genre, compat=compat)
        return self._solve(W, X.mean(axis=0, dtype=np.float64))

    def _solve(self, W: _Array, m: _Array) -> Self:
        # W = U S V; U and S do not matter for I - V'V.
        V = orthogonal(W)
        if len(V) == W.shape[1]:
            warn(
                f"the {len(V)} directions of the genres span all {W.shape[1]} dimensions, so "
                "nothing is left of any clip; use LDAProjection, or fewer genres"
            )
        self.directions_, self.rank_ = V, len(V)
        self.affine_ = project_out(V, m)
        return self

    def _directions(
        self,
        X: NDArray[np.floating[Any]],
        codes: NDArray[np.intp],
        weights: _Array | None,
        genre: ArrayLike,
        *,
        compat: bool,
    ) -> tuple[_Array, tuple[Any, ...]]:
        """Directions [shape=(r, d)] of the genres that have enough clips, and their names."""
        genres, genre_codes = check_categories(genre, "genre", len(X))
        floor = 0.0 if compat else VARIANCE_FLOOR
        # The empty rows of a list without directions still have d columns.
        rows, names = [np.zeros((0, X.shape[1]))], []
        for code, name in enumerate(genres.tolist()):
            here = genre_codes == code
            if name == "" or not self._is_enough(name, codes[here], compat=compat):
                continue
            part = None if weights is None else weights[here]
            m, Sw = within_domains(X[here], codes[here], part, self.shrinkage, floor=floor)
            # The published code does not notice that one domain alone has no difference.
            found = Sw.solve((m if len(m) == 1 else m[1:] - m[0]).T).T
            rows.append(found if compat else found / np.linalg.norm(found, axis=1, keepdims=True))
            names.append(name)
        if len(names) < 2 and not compat:
            raise DataError(
                f"mlda needs two genres with at least {SMALLEST_CELL} clips in every domain, and "
                f"only {len(names)} of {name_some(genres, 9)} has them; use LDAProjection ('lda')"
            )
        return np.concatenate(rows), tuple(names)

    def _is_enough(self, genre: object, codes: NDArray[np.intp], *, compat: bool) -> bool:
        """Whether a genre gives a direction; a warning says where it does not, or a strange one."""
        counts = np.bincount(codes, minlength=len(self.domains_))
        cells = ", ".join(f"{d}: {c}" for d, c in zip(self.domains_, counts))
        says = f"genre {genre!r} has too few clips in a domain ({cells}) and"
        if counts.min() < SMALLEST_CELL and not (compat and counts.max() >= SMALLEST_CELL):
            warn(f"{says} is left out")
            return False
        if counts.min() == 0:
            warn(f"{says} gets a one-class direction (compat='wang2023')")
        return True
