"""Clips of known class: how classes shift between domains, and folds that choose how much to undo.

What `NuisanceProjection`, `WithinClassNormalization` and self-training have in common.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.linalg import eigh
from scipy.stats import rankdata

from biasaudio._linalg import smaller_gram_eigh
from biasaudio._parallel import one_blas_thread
from biasaudio._validation import check_categories, check_sample_weight, name_some
from biasaudio.errors import DataError, ParameterError, warn
from biasaudio.moments import Cell, Moments
from biasaudio.transforms._base import DomainFreeTransform, StreamingFit

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["ClassShifts", "Labelled", "LabelledFit", "choose_by_folds", "class_shifts"]

_Array = NDArray[np.float64]
_Bools = NDArray[np.bool_]
_Codes = NDArray[np.intp]
_Floats = NDArray[np.floating[Any]]
_Candidate = TypeVar("_Candidate")

N_FOLDS = 3
# What a candidate may cost within domains, in ROC-AUC.
MAX_COST = 0.005
# Fewer groups per class, and the folds choose with more noise than they gain.
_LEAST_GROUPS = 6
# Penalties of the ridge classifier, relative to the mean eigenvalue.
_PENALTIES = np.array([0.01, 0.1, 1.0, 10.0])
# Folds of more clips or features choose alike, and take longer than the fit itself.
_MOST_CLIPS, _MOST_FEATURES = 3000, 160


@dataclass(frozen=True)
class Labelled:
    """The clips whose class is known, one row per clip and class.

    Attributes
    ----------
    X : np.ndarray [shape=(m, d)]
    rows : np.ndarray of int [shape=(m,)]
        The clip of each row.
    domain, label : np.ndarray [shape=(m,)]
    weights : np.ndarray [shape=(m,)] or None
    """

    X: _Floats
    rows: NDArray[np.intp]
    domain: NDArray[Any]
    label: NDArray[Any]
    weights: _Array | None

    def moments(self, scatter: str) -> Moments:
        """Moments by domain and class."""
        moments = Moments(dtype=np.float64, scatter=scatter)
        return moments.update(
            self.X, sample_weight=self.weights, domain=self.domain, label=self.label
        )


class LabelledFit(StreamingFit, DomainFreeTransform):
    """Base of corrections that take the class of each clip in ``fit``."""

    __metadata_request__fit: ClassVar[dict[str, Any]] = {
        "domain": True,
        "label": True,
        "groups": True,
    }
    classes_: NDArray[Any]
    fitted_classes_: NDArray[Any]
    domains_: NDArray[Any]

    def _labelled(
        self,
        X: _Floats,
        domain: NDArray[Any],
        y: Any,
        label: ArrayLike | None,
        sample_weight: ArrayLike | None,
        groups: ArrayLike | None = None,
    ) -> Labelled:
        """Clips that have a class, one row for each; sets ``classes_``."""
        label = y if label is None else label
        if label is None:
            name = type(self).__name__
            raise ParameterError(
                f"{name} was called without label; call {name}().fit(X, domain=domain, "
                "label=classes) with one class per clip, or use LEACE, which needs no class labels"
            )
        classes, Y = _read_labels(label, len(X))
        weights = None
        if sample_weight is not None:
            weights = check_sample_weight(sample_weight, len(X))
            Y &= (weights > 0)[:, None]
        rows, columns = np.nonzero(Y)
        if not len(rows):
            raise DataError("no clip that has a class has a weight above 0; give some of them one")
        kept = X if len(rows) == len(X) and (np.diff(rows) == 1).all() else X[rows]
        weights = None if weights is None else weights[rows]
        if groups is not None:
            check_categories(groups, "groups", len(X))
        self.classes_ = classes[Y.any(axis=0)]
        return Labelled(kept, rows, domain[rows], classes[columns], weights)

    def partial_fit(
        self,
        X: ArrayLike,
        y: Any = None,
        *,
        domain: ArrayLike | None = None,
        label: ArrayLike | None = None,
        sample_weight: ArrayLike | None = None,
    ) -> Self:
        """Add clips to those seen so far, and fit again.

        Parameters
        ----------
        X : array_like [shape=(n, d)]
        y : array_like, optional
            Taken for the labels where ``label`` is not given.
        domain : array_like of str or int [shape=(n,)]
            One dataset per call is enough; `transform` works when a class was
            seen in two.
        label : array_like [shape=(n,) or (n, n_labels)]
            The class of each clip, as in ``fit``.
        sample_weight : array_like [shape=(n,)], optional
            What each clip counts for; default 1.

        Returns
        -------
        self

        Raises
        ------
        ParameterError
            If domain or label is missing, ``fit`` was called before, or a
            parameter is "cv", which needs all clips at once.
        DataError
            If X is not usable, or no clip has a class.  A batch that is
            refused changes nothing.
        """
        return self._add_clips(X, domain, sample_weight, label=y if label is None else label)

    def _batch_moments(
        self, X: _Floats, domain: NDArray[Any], sample_weight: ArrayLike | None, **columns: Any
    ) -> Moments:
        # One row per clip and class, where the base has one per clip.
        found = self._labelled(X, domain, None, columns["label"], sample_weight)
        return found.moments(self._scatter)

    def _solve_known(self, moments: Moments) -> None:
        self.domains_ = np.array(list(moments.by("domain")))
        self.classes_ = np.unique([label for _, label in moments.cells])
        domains_of = Counter(label for _, label in moments.cells)
        if max(domains_of.values()) > 1:
            self._fit_moments(moments)

    def check_classes(self, labels: ArrayLike) -> None:
        """Warn if the correction is applied to classes that it was not fitted on.

        `transform` cannot know classes; who does should call this.

        Parameters
        ----------
        labels : array_like [shape=(k,)]
            Classes, or the class of each clip; "" does not count.  With
            ``label`` as columns in ``fit``, the numbers of the columns.

        Warns
        -----
        BiasAudioWarning
            Naming the classes that did not have clips in two domains in
            ``fit``: how *they* differ between domains was not seen, and the
            shifts of other classes may take away what tells them apart.
        """
        known = {str(name) for name in self.fitted_classes_}
        unknown = [c for c in np.unique(np.asarray(labels)) if str(c) not in known and str(c)]
        if unknown:
            warn(
                f"{type(self).__name__} is applied to {len(unknown)} class(es) that it was not "
                f"fitted on in two domains: {name_some(unknown)}; for them it can do harm, fit "
                "with labelled clips of them or leave them uncorrected"
            )


def _read_labels(label: ArrayLike, n: int) -> tuple[NDArray[Any], NDArray[np.bool_]]:
    """Classes, and which clip is of which class.

    Parameters
    ----------
    label : array_like [shape=(n,) or (n, n_labels)]
        Categories, "" where the class is not known; or bools, where a clip
        may be of several classes.
    n : int

    Returns
    -------
    classes : np.ndarray [shape=(k,)]
        The categories, or the numbers of the columns that have clips.
    Y : np.ndarray of bool [shape=(n, k)]

    Raises
    ------
    DataError
        If the length differs, or no clip has a class.
    """
    array = np.asarray(label)
    if array.ndim == 2:
        is_binary = array.dtype == bool or (
            array.dtype.kind in "iu" and np.isin(array, (0, 1)).all()
        )
        if len(array) != n or not is_binary:
            raise DataError(
                f"label has shape {array.shape} and dtype {array.dtype}, but X has {n} clips; give "
                "one class per clip, or a bool array of shape (n_clips, n_labels)"
            )
        Y = array.astype(bool)
        classes: NDArray[Any] = np.arange(Y.shape[1])
    else:
        classes, codes = check_categories(array, "label", n)
        Y = codes[:, None] == np.arange(len(classes))
    kept = Y.any(axis=0) & np.array([str(name) != "" for name in classes])
    if not kept.any():
        raise DataError("no clip has a class; give label a class for some clips of each domain")
    return classes[kept], Y[:, kept]


@dataclass(frozen=True)
class ClassShifts:
    """How the class means of each domain differ from the class's centre.

    Attributes
    ----------
    shifts : np.ndarray [shape=(m, d)]
        A row for each class that has clips in two domains or more, and each
        of these domains: the domain's class mean less the centre, which is
        the mean of the class's domain means.
    noise : np.ndarray [shape=(m,)]
        What the sampling of clips adds to the mean square of a shift.
    classes, domains : np.ndarray [shape=(m,)]
        The class and the domain of each row.
    within : float
        Mean variance of a feature inside a cell of class and domain.
    """

    shifts: _Array
    noise: _Array
    classes: NDArray[Any]
    domains: NDArray[Any]
    within: float

    @property
    def n_classes(self) -> int:
        """Number of classes that gave shifts."""
        return len(np.unique(self.classes))

    def axes(self) -> tuple[_Array, _Array]:
        """Sizes of the shifts along orthonormal directions [shape=(r, d)], and these."""
        _, sizes, basis = np.linalg.svd(self.shifts, full_matrices=False)
        kept = sizes > 1e-10 * max(sizes.max(initial=0.0), np.finfo(float).tiny)
        return sizes[kept], basis[kept]

    def shrunk(self, weight: float | str) -> ClassShifts:
        """Shifts drawn towards the mean shift of their domain.

        Parameters
        ----------
        weight : float in [0, 1] or "auto"
            The weight of the mean shift.  "auto" weighs every class by its
            own noise: ``v / (v + t)`` with the noise v and the spread t of
            the true shifts, estimated as the mean square about the mean
            shift less what noise adds to it (empirical Bayes).

        Returns
        -------
        ClassShifts
        """
        if not len(self.shifts):
            return self
        mean, counts = self._means()
        rest = self.shifts - mean
        # Each domain's mean shift takes one degree of freedom.
        free = len(rest) - len(np.unique(self.domains))
        if weight != "auto" or free == 0:
            share = np.full(len(rest), 0.0 if weight == "auto" else float(weight))
        else:
            expected = float(np.sum((1 - 1 / counts) * self.noise))
            spread = max((float(np.mean(rest**2, axis=1).sum()) - expected) / free, 0.0)
            share = self.noise / np.maximum(self.noise + spread, np.finfo(float).tiny)
        return replace(self, shifts=mean + (1 - share)[:, None] * rest)

    def centred(self) -> ClassShifts:
        """Shifts less the mean shift of their domain.

        With one class alone there is nothing else, so it stays.
        """
        if self.n_classes < 2:
            return self
        mean, counts = self._means()
        return replace(self, shifts=self.shifts - mean, noise=self.noise * (1 - 1 / counts))

    def _means(self) -> tuple[_Array, _Array]:
        """Mean shift of the domain of each row [shape=(m, d)], and how many rows it is of."""
        _, codes = np.unique(self.domains, return_inverse=True)
        onehot = np.eye(codes.max() + 1)[codes]
        counts = onehot.sum(axis=0)
        return ((onehot / counts).T @ self.shifts)[codes], counts[codes]


def class_shifts(cells: Mapping[tuple[Hashable, ...], Cell]) -> ClassShifts:
    """Shifts of the classes that have clips in two domains, from moments.

    Parameters
    ----------
    cells : mapping of (domain, class) to Cell
        Variances are enough.

    Returns
    -------
    ClassShifts

    Raises
    ------
    DataError
        If no class has clips in two domains.
    """
    by_class: dict[Hashable, dict[Hashable, Cell]] = {}
    for (domain, label), cell in sorted(cells.items(), key=lambda item: [str(k) for k in item[0]]):
        by_class.setdefault(label, {})[domain] = cell
    paired = {label: found for label, found in by_class.items() if len(found) > 1}
    if not paired:
        raise DataError(
            "no class has clips in two domains, so nothing tells how a class differs between them; "
            "give labels that the domains share, or use LEACE, which needs none"
        )
    within = _within(list(cells.values()))
    shifts, noise, classes, domains = [], [], [], []
    for label, found in paired.items():
        k = len(found)
        center = np.mean([cell.mean for cell in found.values()], axis=0)
        others = sum(1 / cell.size for cell in found.values()) / k**2
        for domain, cell in found.items():
            shifts.append(cell.mean - center)
            noise.append(within * (others + (1 - 2 / k) / cell.size))
            classes.append(label)
            domains.append(domain)
    return ClassShifts(
        np.stack(shifts), np.array(noise), np.array(classes), np.array(domains), within
    )


def _within(cells: list[Cell]) -> float:
    """Mean variance of a feature inside a cell, unbiased."""
    total = sum(float(cell.variance.mean()) * cell.size for cell in cells)
    free = sum(cell.size - 1 for cell in cells)
    return total / free if free > 0 else 0.0


def choose_by_folds(
    found: Labelled,
    groups: ArrayLike | None,
    seed: int,
    candidates: Sequence[_Candidate],
    corrected: Callable[[_Array, Moments, int], Iterable[_Array]],
    owner: str,
) -> tuple[_Candidate, dict[str, _Array]] | None:
    """Candidate that helps classifiers most across domains, on groups that were held out.

    Parameters
    ----------
    found : Labelled
    groups : array_like [shape=(n_clips,)], optional
        What must not straddle a fold.
    seed : int
    candidates : sequence
    corrected : callable
        From the clips in few dimensions [shape=(n, k)], the moments of the
        training clips by domain and class, and the number of features that
        there were: the clips as each candidate corrects them.
    owner : str
        What they are candidates of, for a warning where none helps.

    Returns
    -------
    candidate
        The one with the highest score across domains, of those that cost at
        most half a point within.
    scores : dict of str to np.ndarray
        ``candidates``, and mean ROC-AUCs over the classes of held-out clips,
        those without a correction first: ``across``, the classifier being
        from another domain, and ``within``.
        None in place of both where there are too few clips to tell.
    """
    folds = _Folds.of(found, groups, seed)
    if folds is None:
        return None
    scored = []
    # Many small products: threads of BLAS would take longer to start than to work.
    with one_blas_thread():
        for fold in range(N_FOLDS):
            train = folds.folds != fold
            tried = corrected(folds.X, folds.moments(train), folds.n_features)
            scored.append([folds.score(folds.X, train), *(folds.score(Z, train) for Z in tried)])
    scored = [scores for scores in scored if np.isfinite(scores).all()]
    if not scored:
        return None
    across, within = np.mean(scored, axis=0).T
    allowed = within[1:] >= within[0] - MAX_COST
    # Where all cost more, the one that costs least.
    best = np.where(allowed, across[1:], -np.inf) if allowed.any() else within[1:]
    chosen = int(np.argmax(best))
    if across[1 + chosen] < across[0]:
        warn(
            f"on held-out groups no strength of {owner} helps across domains (see scores_ of "
            "the fitted one); give more labelled clips, or leave it out"
        )
    scores = {"candidates": np.array(candidates), "across": across, "within": within}
    return candidates[chosen], scores


@dataclass(frozen=True)
class _Folds:
    """The labelled clips in few dimensions, and their folds.

    Attributes
    ----------
    X : np.ndarray [shape=(n, k)]
        Centred, along the leading principal directions.
    Y : np.ndarray of bool [shape=(n, n_classes)]
    domain, folds : np.ndarray of int [shape=(n,)]
    weights : np.ndarray [shape=(n,)] or None
    n_features : int
        How many dimensions there were.
    """

    X: _Array
    Y: _Bools
    domain: _Codes
    folds: _Codes
    weights: _Array | None
    n_features: int

    @classmethod
    def of(cls, found: Labelled, groups: ArrayLike | None, seed: int) -> _Folds | None:
        """Folds of the clips, None where there are too few clips for any."""
        rng = np.random.default_rng(seed)
        rows, first = np.unique(found.rows, return_index=True)
        units = rows if groups is None else np.asarray(groups)[rows]
        ids = np.unique(units, return_inverse=True)[1]
        if len(rows) > _MOST_CLIPS:
            kept = np.sort(rng.permutation(len(rows))[:_MOST_CLIPS])
            rows, first, ids = rows[kept], first[kept], ids[kept]
        _, domain = np.unique(found.domain[first], return_inverse=True)
        classes, labels = np.unique(found.label, return_inverse=True)
        Y = np.zeros((len(rows), len(classes)), dtype=bool)
        place = np.searchsorted(rows, found.rows)
        inside = (place < len(rows)) & (rows[np.minimum(place, len(rows) - 1)] == found.rows)
        Y[place[inside], labels[inside]] = True
        fold = np.empty(ids.max() + 1, dtype=np.intp)
        fold[rng.permutation(len(fold))] = np.arange(len(fold)) % N_FOLDS
        if not _is_enough(Y, domain, ids, fold[ids]):
            return None
        weights = None if found.weights is None else found.weights[first]
        X = _reduced(found.X[first])
        return cls(X, Y, domain, fold[ids], weights, found.X.shape[1])

    def moments(self, train: _Bools) -> Moments:
        """Moments of some clips by domain and class."""
        rows, labels = np.nonzero(self.Y & train[:, None])
        weights = None if self.weights is None else self.weights[rows]
        return Moments(dtype=np.float64).update(
            self.X[rows], sample_weight=weights, domain=self.domain[rows], label=labels
        )

    def score(self, Z: _Array, train: _Bools) -> tuple[float, float]:
        """Mean ROC-AUC across and within domains, of the clips that are held out."""
        k = int(self.domain.max()) + 1
        across, within = [], []
        for source in range(k):
            rows = train & (self.domain == source)
            scores = _ridge(Z, rows, self.Y)
            tests = [~train & (self.domain == target) for target in range(k)]
            aucs = np.array([_aucs(scores[:, test], self.Y[test]) for test in tests])
            if np.isnan(aucs[source]).any():
                continue
            # The penalty is chosen by the source, as it would be without target labels.
            best = int(np.argmax(aucs[source]))
            within.append(aucs[source, best])
            across += [aucs[target, best] for target in range(k) if target != source]
        return _mean(across), _mean(within)


def _is_enough(Y: _Bools, domain: _Codes, ids: _Codes, folds: _Codes) -> bool:
    """Whether each domain has groups enough, and each fold a class in two domains."""
    k = int(domain.max()) + 1
    sizes = np.array(
        [
            [len(np.unique(ids[Y[:, c] & (domain == d)])) for c in range(Y.shape[1])]
            for d in range(k)
        ]
    )
    shared = (sizes > 0).sum(axis=0) > 1
    known = (sizes > 0) & shared
    if any(not row.any() for row in known):
        return False
    if min(float(sizes[d, known[d]].mean()) for d in range(k)) < _LEAST_GROUPS:
        return False
    for fold in range(N_FOLDS):
        left = [[(Y[:, c] & (domain == d) & (folds != fold)).sum() for c in range(Y.shape[1])]
                for d in range(k)]  # fmt: skip
        if not ((np.array(left) > 1).sum(axis=0) > 1).any():
            return False
    return True


def _reduced(X: _Floats) -> _Array:
    """Clips along their leading principal directions [shape=(n, k)]."""
    Z = X - X.mean(axis=0, dtype=np.float64).astype(X.dtype)
    n, d = Z.shape
    k = min(n, d, _MOST_FEATURES)
    if d <= k:
        return Z.astype(np.float64)
    # The leading ones alone cost a fraction of all.
    gram = (Z @ Z.T if n < d else Z.T @ Z).astype(np.float64)
    m = len(gram)
    values, vectors = eigh(gram, subset_by_index=(m - k, m - 1))
    if n < d:
        return vectors * np.sqrt(np.maximum(values, 0.0))
    return Z.astype(np.float64) @ vectors


def _ridge(Z: _Array, rows: _Bools, Y: _Bools) -> _Array:
    """Scores of all clips from a fit to some [shape=(n_penalties, n, n_classes)]."""
    mean = Z[rows].mean(axis=0)
    A = Z[rows] - mean
    T = Y[rows] - Y[rows].mean(axis=0)
    values, U, is_dual = smaller_gram_eigh(A)
    read = (Z - mean) @ (A.T @ U if is_dual else U)
    target = U.T @ (T if is_dual else A.T @ T)
    values = np.maximum(values, 0.0)
    size = max(values.mean(), np.finfo(float).tiny)
    return np.stack([read @ (target / (values + p * size)[:, None]) for p in _PENALTIES])


def _aucs(scores: _Array, Y: _Bools) -> _Array:
    """Mean ROC-AUC over classes, for each penalty; NaN where there is none."""
    up, down = Y.sum(axis=0), (~Y).sum(axis=0)
    known = (up > 0) & (down > 0)
    if not known.any():
        return np.full(len(scores), np.nan)
    up, down = up[known], down[known]
    ranks = rankdata(scores[:, :, known], axis=1)
    sums = np.einsum("pij,ij->pj", ranks, Y[:, known])
    mean: _Array = ((sums - up * (up + 1) / 2) / (up * down)).mean(axis=1)
    return mean


def _mean(values: list[float]) -> float:
    known = [value for value in values if np.isfinite(value)]
    return float(np.mean(known)) if known else float("nan")
