"""Nuisance attribute projection (NAP): turns down how classes shift between domains."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio._validation import check_choice, check_count, check_number
from biasaudio.errors import DataError, ParameterError
from biasaudio.moments import Moments
from biasaudio.transforms._affine import Affine
from biasaudio.transforms._base import as_seed
from biasaudio.transforms.class_shifts import (
    ClassShifts,
    Labelled,
    LabelledFit,
    choose_by_folds,
    class_shifts,
)
from biasaudio.transforms.selftrain import guessed_shifts

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["NuisanceProjection"]

_Array = NDArray[np.float64]
_TINY = np.finfo(np.float64).tiny
_STRENGTHS = (0.3, 1.0, 3.0, 10.0, 30.0)
_COUNTS = (1, 2, 3, 5, 8, 12, 16, 24, 32)
# What few clips get: in the middle of what the folds choose where they can.
_STRENGTH, _COUNT = 10.0, 5


class NuisanceProjection(LabelledFit):
    """Nuisance attribute projection (NAP): turn down how classes shift.

    Domain-free at transform: needs ``domain`` and ``label`` in ``fit`` only,
    which means labels of the target, unless ``labels="pseudo"``.

    Parameters
    ----------
    strength : float, "cv" or None, default "cv"
        Soft: the weight of the shifts against the variance within classes.
        Large values approach the projection of all shifts; "cv" lets folds
        decide.
    n_components : int, "cv" or None, default None
        Hard: project out so many leading directions instead.
    keep_common : bool, default True
        Leave the shift that all classes share.  It moves all clips of a
        domain alike, which changes no ranking among them, and its direction
        may tell classes apart; but a threshold set on one domain is off on
        the other by it.
    shift_shrinkage : float in [0, 1] or "auto", default 0
        How far the shift of each class is drawn to the mean shift, or with
        ``keep_common`` to none; "auto" weighs its sampling noise against the
        spread of the shifts (empirical Bayes).
    alpha : float in [0, 1], default 1
        The share of the change that is applied.
    labels : {"true", "pseudo"}, default "true"
        "pseudo": one domain has no labels; its classes are guessed, and a
        gate decides whether to use them.
    random_state : int, None or np.random.Generator, default 0
        Deals out the folds for "cv", and the resamples of the gate.

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
        What the folds said where a parameter is "cv": ``candidates``,
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
    m_c)'``, the mean variance ``s2`` inside a cell and the mean ``m`` of the
    labelled clips,

        soft: x -> m + (x - m) (I + strength S / s2)^-1/2,
        hard: x -> m + (x - m) (I - V'V),

    where V holds the leading eigenvectors of S.  With ``keep_common`` the
    mean of ``m_cd - m_c`` over the classes is taken off first.

    "cv" compares strengths from 0.3 to 30, or 1 to 32 directions, over three
    folds of groups: the shifts from two folds, ridge classifiers on one
    domain's clips in them, and the ROC-AUC of the classes among the third's
    clips of another domain.  The best is taken of those that lower the
    ROC-AUC within domains by half a point at most.  With fewer than six
    groups per class in some domain folds say nothing, and strength 10 or 5
    directions are taken.

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
    >>> nap = NuisanceProjection(n_components=1).fit(X, domain=domain, label=label)
    >>> abs(nap.directions_).round(1).tolist()
    [[0.0, 1.0, 0.0, 0.0]]
    """

    _scatter = "diagonal"
    scores_: dict[str, Any] | None
    gate_: dict[str, Any] | None

    def __init__(
        self,
        *,
        strength: float | str | None = "cv",
        n_components: int | str | None = None,
        keep_common: bool = True,
        shift_shrinkage: float | str = 0.0,
        alpha: float = 1.0,
        labels: str = "true",
        random_state: int | np.random.Generator | None = 0,
    ) -> None:
        self.strength = strength
        self.n_components = n_components
        self.keep_common = keep_common
        self.shift_shrinkage = shift_shrinkage
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
    ) -> Self:
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
            used with pseudo-labels only.  Or one column of bools per class,
            where a clip may be of several.
        groups : array_like [shape=(n,)], optional
            What must not straddle a fold of "cv" or of the gate.
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
        seed = as_seed(self.random_state)
        if self.labels == "true":
            amount, moments = self._choose(found, groups, seed), found.moments(self._scatter)
            self._solve(class_shifts(moments.cells), moments.total().mean, amount)
            return self
        if sample_weight is not None:
            raise ParameterError("labels='pseudo' takes no sample_weight; leave it out")
        strength = _STRENGTH if _is_cv(self.strength) else float(self.strength or 0.0)
        shifts, self.gate_ = guessed_shifts(X, domains[codes], found, groups, strength, seed)
        amount = strength * self.gate_["strength_factor"]
        self._solve(shifts, X.mean(axis=0, dtype=np.float64), amount)
        return self

    def _check(self) -> None:
        check_choice(self.labels, "labels", ("true", "pseudo"))
        if not isinstance(self.shift_shrinkage, str) or self.shift_shrinkage != "auto":
            check_number(self.shift_shrinkage, "shift_shrinkage", 0, 1)
        if self.n_components is not None:
            if not _is_cv(self.n_components):
                check_count(self.n_components, "n_components", 1)
            if self.labels == "pseudo":
                # The gate was set on a strength.
                raise ParameterError(
                    "labels='pseudo' works with a strength; leave n_components out"
                )
        elif self.strength is None:
            raise ParameterError(
                "strength=None needs n_components; give n_components=5, or a strength"
            )
        elif not _is_cv(self.strength):
            check_number(self.strength, "strength", 0)

    def _check_streaming(self) -> None:
        self._check()
        if _is_cv(self._amount) or self.labels == "pseudo":
            raise ParameterError(
                "strength='cv', n_components='cv' and labels='pseudo' need all clips at once, "
                "which partial_fit does not keep; set strength=10 or n_components=5"
            )

    def _fit_moments(self, moments: Moments) -> None:
        self.scores_ = self.gate_ = None
        self._solve(class_shifts(moments.cells), moments.total().mean, self._amount)

    @property
    def _amount(self) -> Any:
        """The number of components where it is given, else the strength."""
        return self.strength if self.n_components is None else self.n_components

    def _choose(self, found: Labelled, groups: ArrayLike | None, seed: int) -> Any:
        """Strength or number of components, by folds where it is "cv"."""
        is_soft = self.n_components is None
        if not _is_cv(self._amount):
            return self._amount
        candidates: tuple[float, ...] = _STRENGTHS if is_soft else _COUNTS

        def corrected(X: _Array, moments: Moments, d: int) -> Iterator[_Array]:
            shifts = self._undone(class_shifts(moments.cells))
            sizes, V = shifts.axes()
            read = X @ V.T
            for amount in candidates:
                # The variance that the left-out dimensions lack would count as if it were there.
                gains = _gains(shifts, sizes, amount, is_soft=is_soft, scale=X.shape[1] / d)
                yield X + (read * (gains - 1)) @ V

        name = type(self).__name__
        chosen = choose_by_folds(found, groups, seed, candidates, corrected, name)
        if chosen is None:
            return _STRENGTH if is_soft else _COUNT
        amount, self.scores_ = chosen
        return amount

    def _undone(self, found: ClassShifts) -> ClassShifts:
        """Part of the shifts that is to be turned down."""
        found = found.centred() if self.keep_common else found
        return found.shrunk(self.shift_shrinkage)

    def _solve(self, found: ClassShifts, m: _Array, amount: float) -> None:
        """Set the directions and the map, for a strength or a number of components."""
        is_soft = self.n_components is None
        found = self._undone(found)
        # S = V' diag(sizes^2 / n_classes) V, so the map differs from the identity along V only.
        sizes, V = found.axes()
        gains = _gains(found, sizes, amount, is_soft=is_soft)
        if not is_soft:
            V, gains = V[: int(amount)], gains[: int(amount)]
        self.fitted_classes_, self.shifts_ = np.unique(found.classes), found.shifts
        self.directions_, self.gains_, self.rank_ = V, gains, len(V)
        self.strength_ = float(amount) if is_soft else None
        self.affine_ = Affine(m, V.T, (gains - 1)[:, None] * V, np.zeros(len(m)))


def _is_cv(value: Any) -> bool:
    return isinstance(value, str) and value == "cv"


def _gains(
    found: ClassShifts, sizes: _Array, amount: float, *, is_soft: bool, scale: float = 1.0
) -> _Array:
    """Eigenvalues of the map: how much is left along each direction.

    Parameters
    ----------
    found : ClassShifts
    sizes : np.ndarray [shape=(r,)]
        Of the shifts along the directions.
    amount : float
        The strength, or the number of components.
    is_soft : bool
    scale : float
        Factor of the variance within classes.
    """
    if not is_soft:
        return np.where(np.arange(len(sizes)) < amount, 0.0, 1.0)
    if len(sizes) and not found.within > 0:
        raise DataError(
            "no class has two clips in a domain, so nothing tells how clips of a class vary; "
            "give more labelled clips, or n_components"
        )
    ratio = sizes**2 / max(found.n_classes, 1) / max(scale * found.within, _TINY)
    gains: _Array = 1 / np.sqrt(1 + float(amount) * ratio)
    return gains
