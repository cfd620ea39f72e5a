"""Projection of what a class changes between domains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio._validation import check_choice, check_count, check_number
from biasaudio.errors import DataError, ParameterError
from biasaudio.moments import Moments
from biasaudio.transforms._affine import Affine
from biasaudio.transforms._labelled import Labelled, LabelledFit
from biasaudio.transforms._pseudo import guessed_shifts
from biasaudio.transforms._selection import Tuning
from biasaudio.transforms._shifts import ClassShifts, class_shifts

__all__ = ["NuisanceProjection"]

_Array = NDArray[np.float64]
_TINY = np.finfo(np.float64).tiny
_STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
_RANKS = (1, 2, 3, 5, 8, 12, 16, 24, 32)
# What few clips get: in the middle of what the folds choose where they can.
_STRENGTH, _RANK = 10.0, 5


class NuisanceProjection(LabelledFit):
    """Turn down the directions in which classes shift between domains.

    Domain-free at transform: needs ``domain`` and ``label`` in ``fit`` only,
    which means labels of the target, unless ``labels="pseudo"``.  Also known
    as nuisance attribute projection.

    Parameters
    ----------
    strength : float, "auto" or None, default "auto"
        Soft: the weight of the shifts against the variance within classes.
        Large values approach the projection of all shifts.
    rank : int, "auto" or None, default None
        Hard: project out so many leading directions instead.
    keep_common : bool, default True
        Leave the shift that all classes share.  It moves all clips of a
        domain alike, which changes no ranking among them, and its direction
        may tell classes apart; but a threshold set on one domain is off on
        the other by it.
    shrinkage : float in [0, 1] or "auto", default 0
        How far the shift of each class is drawn to the mean shift, or with
        ``keep_common`` to none; "auto" weighs its sampling noise against the
        spread of the shifts (empirical Bayes).
    alpha : float in [0, 1], default 1
        The share of the change that is applied.
    labels : {"true", "pseudo"}, default "true"
        "pseudo": one domain has no labels; its classes are guessed, and a
        gate decides whether to use them.
    random_state : int, default 0
        Deals out the folds for "auto", and the resamples of the gate.

    Attributes
    ----------
    domains_, classes_ : np.ndarray
    fitted_classes_ : np.ndarray
        The classes that have clips in two domains or more.
    shifts_ : np.ndarray [shape=(m, d)]
        A row for each of these and each domain that has it.
    directions_ : np.ndarray [shape=(r, d)]
        Orthonormal, by falling size of the shifts.
    gains_ : np.ndarray [shape=(r,)]
        What is left along each direction, 0 to 1.
    rank_ : int
    strength_ : float or None
    scores_ : dict or None
        What the folds said where a parameter is "auto": ``candidates``,
        ``across`` and ``within``.
    gate_ : dict or None
        With pseudo-labels: ``decision`` ("full", "weak" or "none"),
        ``strength_factor`` and the evidence.
    affine_ : Affine
    n_features_in_ : int

    See Also
    --------
    WithinClassNormalization : Evens out all that varies within a class.

    Notes
    -----
    With the mean ``m_cd`` of class c in domain d, the centre ``m_c`` (the mean
    of its domain means), ``S = (1 / n_classes) sum_cd (m_cd - m_c)(m_cd -
    m_c)'`` and the mean variance ``s2`` inside a cell,

        soft: x -> x (I + strength S / s2)^-1/2,    hard: x -> x (I - V'V),

    where V holds the leading eigenvectors of S.  With ``keep_common`` the
    mean of ``m_cd - m_c`` over the classes is taken off first.  The map turns
    about the mean of the labelled clips.

    "auto" compares strengths from 0.3 to 30, or ranks, over three folds of
    groups: the shifts from two folds, ridge classifiers on one domain's clips
    in them, and the ROC-AUC of the classes among the third's clips of another
    domain.  The best is taken of those that lower the ROC-AUC within domains
    by half a point at most.  With fewer than six groups a class in some
    domain folds say nothing, and strength 10 or rank 5 is taken.

    What is not claimed: that classes which were not fitted keep what tells
    them apart; see `check_classes`.

    References
    ----------
    Solomonoff, Campbell, Boardman: Advances in channel compensation for SVM
    speaker recognition. ICASSP 2005.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> domain, label = np.repeat(["a", "b"], 100), np.tile(["oboe", "harp"], 100)
    >>> X = rng.normal(size=(200, 4))
    >>> X += np.outer((label == "oboe") & (domain == "b"), [0, 40, 0, 0])
    >>> nap = NuisanceProjection(rank=1).fit(X, domain=domain, label=label)
    >>> abs(nap.directions_).round(1).tolist()
    [[0.0, 1.0, 0.0, 0.0]]
    """

    _scatter = "diagonal"
    scores_: dict[str, Any] | None
    gate_: dict[str, Any] | None

    def __init__(
        self,
        *,
        strength: float | str | None = "auto",
        rank: int | str | None = None,
        keep_common: bool = True,
        shrinkage: float | str = 0.0,
        alpha: float = 1.0,
        labels: str = "true",
        random_state: int = 0,
    ) -> None:
        self.strength = strength
        self.rank = rank
        self.keep_common = keep_common
        self.shrinkage = shrinkage
        self.alpha = alpha
        self.labels = labels
        self.random_state = random_state

    def fit(
        self,
        X: ArrayLike,
        y: object = None,
        *,
        domain: ArrayLike | None = None,
        label: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Any:
        """Find the directions of the shifts.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        y : array_like, optional
            Taken for the labels where ``label`` is not given.
        domain : array_like of str or int [shape=(n,)]
            Two or more datasets.
        label : array_like [shape=(n,) or (n, n_labels)]
            The class of each clip, "" where it is not known: such clips are
            used with pseudo-labels only.  Or a column of bools for each
            class, where a clip may be of several.
        groups : array_like [shape=(n,)], optional
            What must not straddle a fold of "auto" or of the gate.
        sample_weight : array_like [shape=(n,)], optional
            What each clip counts for; default 1.

        Returns
        -------
        self

        Raises
        ------
        ParameterError
            If domain or label is missing or a parameter is not allowed.
        DataError
            If no class has clips in two domains, or an array is not usable.
        """
        self._check()
        X, domains, codes = self._fit_input(X, domain, ", label=classes")
        found = self._labelled(X, domains[codes], y, label, sample_weight, groups)
        self.scores_ = self.gate_ = None
        if self.labels == "pseudo":
            if sample_weight is not None:
                raise ParameterError("labels='pseudo' takes no sample_weight; leave it out")
            self._fit_pseudo(X, domains[codes], found, groups)
            return self
        self._choose(found, groups)
        self._solve(found.moments(self._scatter))
        return self

    def _check(self) -> None:
        check_choice(self.labels, "labels", ("true", "pseudo"))
        check_count(self.random_state, "random_state", 0)
        if not isinstance(self.shrinkage, str) or self.shrinkage != "auto":
            check_number(self.shrinkage, "shrinkage", 0, 1)
        if self.rank is not None:
            if not isinstance(self.rank, str) or self.rank != "auto":
                check_count(self.rank, "rank", 1)
        elif self.strength is None:
            raise ParameterError("strength=None needs a rank; give rank=5, or a strength")
        elif not isinstance(self.strength, str) or self.strength != "auto":
            check_number(self.strength, "strength", 0)

    def _check_streaming(self) -> None:
        self._check()
        is_auto = self.rank == "auto" or (self.rank is None and self.strength == "auto")
        if is_auto or self.labels == "pseudo":
            raise ParameterError(
                "strength='auto', rank='auto' and labels='pseudo' need all clips at once, which "
                "partial_fit does not keep; set strength=10 or a rank"
            )
        self.scores_ = self.gate_ = None
        self._set(self.strength if self.rank is None else self.rank)

    def _set(self, value: Any) -> None:
        is_soft = self.rank is None
        self.strength_ = float(value) if is_soft else None
        self._most = None if is_soft else int(value)

    def _choose(self, found: Labelled, groups: ArrayLike | None) -> None:
        """Set the strength or rank, by folds where it is "auto"."""
        is_soft = self.rank is None
        value = self.strength if is_soft else self.rank
        if value != "auto":
            self._set(value)
            return
        tuning = Tuning.of(found, groups, self.random_state)
        candidates = _STRENGTHS if is_soft else _RANKS
        self._set(_STRENGTH if is_soft else _RANK)
        if tuning is None:
            return

        def corrected(tuning: Tuning, moments: Moments) -> Iterator[_Array]:
            shifts = self._shifts(class_shifts(moments.cells))
            # The variance that the left-out dimensions lack would count as if it were there.
            scale = tuning.X.shape[1] / tuning.n_features
            sizes, basis = shifts.axes()
            read = tuning.X @ basis.T
            for candidate in candidates:
                self._set(candidate)
                yield tuning.X + (read * (self._gains(sizes, shifts, scale) - 1)) @ basis

        choice = tuning.choose(corrected, type(self).__name__)
        if choice is None:
            self._set(_STRENGTH if is_soft else _RANK)
            return
        self._set(candidates[choice.best])
        self.scores_ = {"candidates": np.array(candidates), **choice.scores()}

    def _fit_pseudo(self, X: Any, domain: Any, found: Labelled, groups: ArrayLike | None) -> None:
        """Fit on guessed classes of the domain that has no labels."""
        if self.rank is not None:
            raise ParameterError("labels='pseudo' works with a strength; leave rank out")
        strength = _STRENGTH if self.strength == "auto" else float(self.strength or 0.0)
        guess = guessed_shifts(X, domain, found, groups, strength, self.random_state)
        shifts, factor, self.gate_ = guess
        self._set(strength * factor)
        self._finish(shifts, X.mean(axis=0, dtype=np.float64))

    def _shifts(self, found: ClassShifts) -> ClassShifts:
        found = found.centred() if self.keep_common else found
        return found.shrunk(self.shrinkage)

    def _gains(self, sizes: _Array, found: ClassShifts, scale: float = 1.0) -> _Array:
        if self._most is not None:
            return np.where(np.arange(len(sizes)) < self._most, 0.0, 1.0)
        if len(sizes) and not found.within > 0:
            raise DataError(
                "no class has two clips in a domain, so nothing tells how clips of a class vary; "
                "give more labelled clips, or a rank"
            )
        ratio = sizes**2 / max(found.n_classes, 1) / max(scale * found.within, _TINY)
        gains: _Array = 1 / np.sqrt(1 + float(self.strength_ or 0.0) * ratio)
        return gains

    def _solve(self, moments: Moments) -> None:
        self._finish(class_shifts(moments.cells), moments.total().mean)

    def _finish(self, found: ClassShifts, center: _Array) -> None:
        """Set the directions and the affine map."""
        found = self._shifts(found)
        self.fitted_classes_ = np.unique(found.classes)
        self.shifts_ = found.shifts
        sizes, basis = found.axes()
        self.directions_ = basis[: self._most]
        self.gains_ = self._gains(sizes, found)[: self._most]
        self.rank_ = len(self.directions_)
        up = (self.gains_ - 1)[:, None] * self.directions_
        self.affine_ = Affine(center, self.directions_.T, up, np.zeros(len(center)))
