"""Within-class covariance normalisation (WCCN): evens out what varies within a class."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from biasaudio._validation import check_number
from biasaudio.errors import DataError, ParameterError
from biasaudio.moments import Cell, Moments
from biasaudio.transforms._affine import Affine
from biasaudio.transforms._base import as_seed
from biasaudio.transforms.class_shifts import (
    ClassShifts,
    Labelled,
    LabelledFit,
    choose_by_folds,
    class_shifts,
)

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["WithinClassNormalization"]

_Array = NDArray[np.float64]
_STRENGTHS = (1.0, 3.0, 10.0, 30.0)
_SHRINKAGES = (0.6, 0.3, 0.1)
# What few clips get: in the middle of what the folds choose where they can.
_STRENGTH, _SHRINKAGE = 10.0, 0.6


class WithinClassNormalization(LabelledFit):
    """Within-class covariance normalisation (WCCN), the domain included.

    Domain-free at transform: needs ``domain`` and ``label`` in ``fit`` only,
    which means labels of the target.

    Parameters
    ----------
    shrinkage : float in (0, 1] or "cv", default "cv"
        How far the within-class covariance is drawn to an isotropic one; 1
        changes nothing, and "cv" lets folds decide.
    strength : float or "cv", default "cv"
        What a shift of a class between domains counts for, against the
        variance inside a class and domain; 1 is the published method.
    keep_common : bool, default True
        Leave the shift that all classes share.  It moves all clips of a
        domain alike, which changes no ranking among them, and its direction
        may tell classes apart; but a threshold set on one domain is off on
        the other by it.
    alpha : float in [0, 1], default 1
        The share of the change that is applied.
    random_state : int, None or np.random.Generator, default 0
        Deals out the folds for "cv".

    Attributes
    ----------
    domains_, classes_ : np.ndarray
    fitted_classes_ : np.ndarray
        The classes that have clips in two domains or more.
    strength_, shrinkage_ : float
        What was used.
    scores_ : dict or None
        What the folds said where a parameter is "cv": ``candidates``
        (strength, shrinkage), ``across`` and ``within``.
    affine_ : Affine
        Of low rank and a scale where there are fewer clips than features.
    n_features_in_ : int

    See Also
    --------
    NuisanceProjection : Turns down the shifts only, by a map of low rank.

    Notes
    -----
    A class's centre ``m_c`` is the mean of its domain means ``m_cd``, so that
    the shift between domains counts as scatter.  With the covariance ``S_cd``
    of n clips of a class and domain, which counts (n - 1) / (n + 4),

        W = mean_cd S_cd + strength * mean_cd (m_cd - m_c)(m_cd - m_c)',
        R = (1 - shrinkage) W + shrinkage v I,  v = mean_cd tr S_cd / d,
        x -> m + (x - m) v^1/2 R^-1/2.

    With ``keep_common`` the mean of ``m_cd - m_c`` over the classes is taken
    off first.

    "cv" compares 12 pairs of values over three folds of groups: the shifts
    from two folds, ridge classifiers on one domain's clips in them, and the
    ROC-AUC of the classes among the third's clips of another domain.  The
    best is taken of those that lower the ROC-AUC within domains by half a
    point at most.  With fewer than six groups per class in some domain folds
    say nothing, and strength 10 and shrinkage 0.6 are taken.

    What is not claimed: that classes which were not fitted keep what tells
    them apart; see `check_classes`.

    References
    ----------
    Hatch, Kajarekar, Stolcke: Within-class covariance normalization for
    SVM-based speaker recognition. Interspeech 2006.

    Examples
    --------
    >>> import numpy as np
    >>> rng = np.random.default_rng(0)
    >>> domain, label = np.repeat(["a", "b"], 100), np.tile(["oboe", "harp"], 100)
    >>> X = rng.normal(size=(200, 4)) + np.outer(label == "oboe", [3, 0, 0, 0])
    >>> X += np.outer((label == "oboe") & (domain == "b"), [0, 4, 0, 0])
    >>> Z = WithinClassNormalization().fit_transform(X, domain=domain, label=label)
    >>> oboe = label == "oboe"
    >>> gap = Z[oboe & (domain == "b")].mean(0) - Z[oboe & (domain == "a")].mean(0)
    >>> bool(np.abs(gap).max() < 2)
    True
    """

    scores_: dict[str, Any] | None

    def __init__(
        self,
        *,
        shrinkage: float | str = "cv",
        strength: float | str = "cv",
        keep_common: bool = True,
        alpha: float = 1.0,
        random_state: int | np.random.Generator | None = 0,
    ) -> None:
        self.shrinkage = shrinkage
        self.strength = strength
        self.keep_common = keep_common
        self.alpha = alpha
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
        """Find what varies within a class.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        y : array_like, optional
            Taken for the labels where ``label`` is not given.
        domain : array_like of str or int [shape=(n,)]
            Two or more datasets.
        label : array_like [shape=(n,) or (n, n_labels)]
            The class of each clip, "" where it is not known: such clips are
            not used.  Or one column of bools per class, where a clip may be
            of several.
        groups : array_like [shape=(n,)], optional
            What must not straddle a fold of "cv"; default each clip alone.
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
            If no class has clips in two domains, no class has two clips in
            one, or an array is not usable.
        """
        self._check(streaming=False)
        X, domains, codes = self._fit_input(X, domain, ", label=classes")
        found = self._labelled(X, domains[codes], y, label, sample_weight, groups)
        is_thin = len(found.X) < X.shape[1]
        moments = found.moments("diagonal" if is_thin else "full")
        self._choose(found, groups, as_seed(self.random_state))
        self._solve(moments, found if is_thin else None)
        return self

    def _check(self, *, streaming: bool) -> None:
        for name, low, high in (("strength", 0.0, np.inf), ("shrinkage", 0.0, 1.0)):
            value = getattr(self, name)
            if isinstance(value, str) and value == "cv":
                if streaming:
                    raise ParameterError(
                        f"{name}='cv' needs all clips at once, which partial_fit does not keep; "
                        "set strength=10 and shrinkage=0.6"
                    )
                continue
            if check_number(value, name, low, high) == 0 and name == "shrinkage":
                raise ParameterError("shrinkage=0 is not allowed; give a number above 0, as 0.1")

    def _check_streaming(self) -> None:
        self._check(streaming=True)

    def _fit_moments(self, moments: Moments) -> None:
        self.strength_, self.shrinkage_ = float(self.strength), float(self.shrinkage)
        self.scores_ = None
        self._solve(moments)

    def _choose(self, found: Labelled, groups: ArrayLike | None, seed: int) -> None:
        """Set strength and shrinkage, by folds where one is "cv"."""
        strengths = _STRENGTHS if self.strength == "cv" else (float(self.strength),)
        shrinkages = _SHRINKAGES if self.shrinkage == "cv" else (float(self.shrinkage),)
        self.strength_ = strengths[0] if len(strengths) == 1 else _STRENGTH
        self.shrinkage_ = shrinkages[0] if len(shrinkages) == 1 else _SHRINKAGE
        self.scores_ = None
        candidates = list(product(strengths, shrinkages))
        if len(candidates) == 1:
            return

        def corrected(X: _Array, moments: Moments, d: int) -> Iterator[_Array]:
            inside, shifts = _inside(moments), self._shifts(moments).shifts
            between = shifts.T @ shifts / len(moments.cells)
            v = float(np.trace(inside)) / d
            for strength in strengths:
                values, vectors = np.linalg.eigh(inside + strength * between)
                rotated, spread = X @ vectors, np.maximum(values, 0.0) / v
                for shrinkage in shrinkages:
                    # Rotated back, classifiers would read the same of it.
                    yield rotated / np.sqrt((1 - shrinkage) * spread + shrinkage)

        name = type(self).__name__
        chosen = choose_by_folds(found, groups, seed, candidates, corrected, name)
        if chosen is not None:
            (self.strength_, self.shrinkage_), self.scores_ = chosen

    def _shifts(self, moments: Moments) -> ClassShifts:
        found = class_shifts(moments.cells)
        return found.centred() if self.keep_common else found

    def _solve(self, moments: Moments, clips: Labelled | None = None) -> None:
        """Set the map v^1/2 R^-1/2, in the span of the clips where they are given."""
        found, shrinkage = self._shifts(moments), self.shrinkage_
        self.fitted_classes_ = np.unique(found.classes)
        # Rows B with B'B = strength * mean_cd (m_cd - m_c)(m_cd - m_c)'.
        B = found.shifts * np.sqrt(self.strength_ / len(moments.cells))
        m = moments.total().mean
        d = len(m)
        if clips is None:
            inside = _inside(moments)
            v = float(np.trace(inside)) / d
            values, vectors = np.linalg.eigh(inside + B.T @ B)
        else:
            # W = A'A + B'B from fewer rows than features: no d x d matrix is formed.
            A = _root(clips, moments)
            v = float(np.sum(A**2)) / d
            _, sizes, rows = np.linalg.svd(np.r_[A, B], full_matrices=False)
            kept = sizes > 1e-10 * sizes[0]
            values, vectors = sizes[kept] ** 2, rows[kept].T
        # The eigenvalues of v^1/2 R^-1/2, R = (1 - shrinkage) W + shrinkage v I.
        gains = 1 / np.sqrt((1 - shrinkage) * np.maximum(values, 0.0) / v + shrinkage)
        if clips is None:
            change = (vectors * (gains - 1)) @ vectors.T
            self.affine_ = Affine(m, change, None, np.zeros(d))
        else:
            # Outside the span of the clips every direction gets the same scale.
            rest = 1 / np.sqrt(shrinkage)
            up = (gains - rest)[:, None] * vectors.T
            self.affine_ = Affine(m, vectors, up, np.zeros(d), np.full(d, rest - 1))


def _factors(cells: list[Cell]) -> _Array:
    """Weights of the biased covariances of the cells in their mean [shape=(n_cells,)]."""
    sizes = np.array([cell.size for cell in cells])
    # A covariance of few clips is noise; of many, it should not drown the other cells'.
    counts = np.maximum(sizes - 1, 0.0) / (sizes + 4)
    if not counts.sum() > 0:
        raise DataError(
            "no class has two clips in a domain, so nothing tells how clips of a class vary; give "
            "more labelled clips, or use NuisanceProjection"
        )
    factors: _Array = counts / counts.sum() * sizes / np.maximum(sizes - 1, 1e-12)
    return factors


def _inside(moments: Moments) -> _Array:
    """Mean covariance inside a cell [shape=(d, d)]."""
    cells = list(moments.cells.values())
    inside = np.zeros_like(cells[0].scatter)
    for factor, cell in zip(_factors(cells), cells):
        inside += factor * cell.covariance
    return inside


def _root(found: Labelled, moments: Moments) -> _Array:
    """Rows R [shape=(n, d)] for which R'R is the mean covariance inside a cell."""
    root = found.X.astype(np.float64)
    weights = np.ones(len(root)) if found.weights is None else found.weights
    factors = _factors(list(moments.cells.values()))
    for factor, ((domain, label), cell) in zip(factors, moments.cells.items()):
        rows = (found.domain == domain) & (found.label == label)
        share = factor * weights[rows] / cell.n
        root[rows] = (root[rows] - cell.mean) * np.sqrt(share)[:, None]
    return root
