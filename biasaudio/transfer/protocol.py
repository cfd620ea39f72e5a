"""The default protocol: splits by group, shuffled folds, scaling inside the pipeline."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biasaudio.probes.metrics import weighted_auc
from biasaudio.probes.ridge import common_scale, common_units
from biasaudio.probes.splits import deal_groups
from biasaudio.transfer.logistic import LogisticBatch
from biasaudio.transfer.task import Outcome, Piece, Task, measure
from biasaudio.transforms.methods import ORIGINAL, Method, apply_correction

if TYPE_CHECKING:
    from typing_extensions import Self

__all__ = ["N_FOLDS", "PENALTIES", "BalancedLogistic", "DefaultProtocol", "warn_of_labels"]

_Array = NDArray[np.float64]
_Floats = NDArray[np.floating[Any]]
PENALTIES = np.array([10.0**k for k in range(-5, 2)])
N_FOLDS = 3


@dataclass(frozen=True)
class DefaultProtocol:
    """All training clips in common units, and a balanced classifier per label.

    Attributes
    ----------
    seed : int
        Deals out the folds.
    """

    seed: int = 0

    def prepare(self, task: Task) -> Task:
        """Task in common units."""
        return replace(task, X=common_units(task.X, task.is_train))

    def pieces(
        self, task: Task, methods: Sequence[Method], modes: Sequence[str]
    ) -> Iterator[Piece]:
        """Pieces of one method and mode; labels share a piece where they share the correction."""
        everything = tuple(range(len(task.label_names)))
        yield Piece((None,), tuple(modes), everything)
        for method in methods:
            for mode in (m for m in modes if m in method.modes):
                if mode == "global":
                    yield Piece((method,), (mode,), everything)
                else:
                    yield from (Piece((method,), (mode,), (j,)) for j in everything)

    def run(self, task: Task, piece: Piece) -> list[Outcome]:
        """Outcomes of one classifier per (training set, label), scored on every dataset.

        The correction is fitted on the training clips of all datasets (mode
        ``global``) or on those that have the label (``classwise``).
        """
        (method,) = piece.methods
        is_per_target = method is not None and method.is_per_target
        shared = None if is_per_target else _corrected(task, piece)
        outcomes: list[Outcome] = []
        fits: list[Any] = []
        labels = np.array(piece.labels)
        for source in task.domains:
            train = np.flatnonzero(task.is_train & (task.domain == source))
            vectors = _by_target(task, method, source, fits) if method and is_per_target else {}
            model, fitted_on = None, None
            for target in task.domains:
                X = vectors[target] if shared is None else shared
                if model is None or X is not fitted_on:
                    Y, mask = task.Y[train][:, labels], task.mask[train][:, labels]
                    model = BalancedLogistic(X[train], Y, mask, task.groups[train])
                    model.fit(np.random.default_rng(self.seed))
                    fitted_on = X
                outcomes += _outcomes(task, piece, model, X, (source, target), train)
        warn_of_labels(task, fits)
        return outcomes


def _outcomes(
    task: Task,
    piece: Piece,
    model: BalancedLogistic,
    X: _Floats,
    pair: tuple[str, str],
    train: NDArray[np.intp],
) -> Iterator[Outcome]:
    """Outcomes of the classifiers of a piece on one test set, label by label."""
    (method,) = piece.methods
    source, target = pair
    name = method.name if method else ORIGINAL
    for i, j in enumerate(piece.labels):
        test = task.rows(j, target, train=False)
        scores = model.scores(X[test], i)
        metrics = measure(task.Y[test, j], scores)
        metrics |= {"n_train": int(task.mask[train, j].sum()), "C": float(model.C[i])}
        for mode in piece.modes:
            yield Outcome(task.label_names[j], source, target, name, mode, metrics, scores)


def _corrected(task: Task, piece: Piece) -> _Floats:
    """Vectors of all clips through the correction of a piece."""
    (method,) = piece.methods
    if method is None:
        return task.X
    rows = task.is_train
    if piece.modes == ("classwise",):
        rows = rows & task.Y[:, piece.labels[0]] & task.mask[:, piece.labels[0]]
    columns: dict[str, Any] = task.columns(rows)
    fitted = method.fit(task.X[rows], **columns)
    warn_of_labels(task, [fitted])
    return apply_correction(fitted, task.X, task.domain)


def _by_target(task: Task, method: Method, source: str, fits: list[Any]) -> dict[str, _Floats]:
    """Vectors corrected for each target, whose labels are not looked at.

    The source itself gets those of its first target: that is what a classifier
    for that target scores on its own dataset.  The corrections go to ``fits``.
    """
    labels = task.single_labels()
    found = {}
    for target in task.domains:
        if target == source:
            continue
        rows = task.is_train & np.isin(task.domain, (source, target))
        known = np.where(task.domain[rows] == source, labels[rows], "")
        fitted = method.fit(
            task.X[rows], domain=task.domain[rows], label=known, groups=task.groups[rows]
        )
        fits.append(fitted)
        found[target] = apply_correction(fitted, task.X, task.domain)
    first = next(iter(found))
    # In this order the classifier of the first target serves both.
    return {source: found[first], **found}


def warn_of_labels(task: Task, fits: Sequence[Any]) -> None:
    """Warn, once for all fits, if labels are corrected that one of them was not fitted on.

    What changes nothing, such as a self-trained correction behind a closed
    gate, does no harm.
    """
    able = [
        one
        for one in fits
        if hasattr(one, "check_classes") and not np.all(getattr(one, "gains_", 0.0) == 1)
    ]
    if able:
        worst = min(able, key=lambda one: len(one.fitted_classes_))
        is_column = worst.classes_.dtype.kind in "iu"
        worst.check_classes(np.arange(len(task.label_names)) if is_column else task.label_names)


class BalancedLogistic:
    """One balanced L2 logistic classifier per label, its penalty chosen by grouped folds.

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]
        The training clips, centred and brought to unit mean variance inside.
    Y, mask : np.ndarray of bool [shape=(n, n_labels)]
    groups : np.ndarray of int [shape=(n,)]

    Attributes
    ----------
    C : np.ndarray [shape=(n_labels,)]
        Of each label the smallest with the best mean ROC-AUC over the folds.
    """

    def __init__(
        self,
        X: _Floats,
        Y: NDArray[np.bool_],
        mask: NDArray[np.bool_],
        groups: NDArray[np.intp],
    ) -> None:
        self._mean = X.mean(axis=0, dtype=np.float64)
        self._scale = common_scale(X)
        self._Y, self._mask, self._groups = Y, mask, groups
        self._batch = LogisticBatch(self._scaled(X), tolerance=1e-3)
        self._X = X

    def _scaled(self, X: _Floats) -> _Array:
        scaled: _Array = (X - self._mean) / self._scale
        return scaled

    def fit(self, rng: np.random.Generator) -> Self:
        """Choose C for each label by the mean ROC-AUC of the folds, then refit on all clips."""
        folds = deal_groups(self._groups, N_FOLDS, rng)
        n_labels = self._Y.shape[1]
        parts = [folds != k for k in range(N_FOLDS)]
        weights = np.concatenate([_balanced(self._Y, self._mask & p[:, None]) for p in parts], 1)
        Y = np.tile(self._Y, N_FOLDS)
        Z = self._scaled(self._X)
        start, found = None, []
        for C in PENALTIES:
            start = self._batch.solve(Y, weights, C, start)
            scores = Z @ start[0] + start[1]
            found.append(self._fold_aucs(scores.reshape(len(Z), N_FOLDS, n_labels), folds))
            # Weak penalties cost most and are not wanted once every label got worse.
            if (found[-1] < np.max(found, axis=0) - 0.01).all():
                break
        self.C: _Array = PENALTIES[np.argmax(found, axis=0)]
        self._batch.tolerance = 1e-4
        self._W, self._b = self._batch.solve(self._Y, _balanced(self._Y, self._mask), self.C)
        return self

    def _fold_aucs(self, scores: _Array, folds: NDArray[np.intp]) -> _Array:
        """Mean ROC-AUC over held-out folds of each label."""
        aucs = np.full(scores.shape[1:], np.nan)
        for k in range(N_FOLDS):
            for j in range(scores.shape[2]):
                rows = (folds == k) & self._mask[:, j]
                weights = np.ones(rows.sum())
                aucs[k, j] = weighted_auc(scores[rows, k, j], self._Y[rows, j], weights)
        # A fold without positives says nothing; a label without any such fold is at chance.
        counts = np.isfinite(aucs).sum(axis=0)
        mean: _Array = np.where(counts > 0, np.nansum(aucs, axis=0) / np.maximum(counts, 1), 0.5)
        return mean

    def scores(self, X: _Floats, label: int) -> _Array:
        """Decision values of clips for one label."""
        values: _Array = self._scaled(X) @ self._W[:, label] + self._b[label]
        return values


def _balanced(Y: NDArray[np.bool_], mask: NDArray[np.bool_]) -> _Array:
    """Sample weights n / (2 n_class), zero outside the mask."""
    positive, negative = (Y & mask).sum(axis=0), (~Y & mask).sum(axis=0)
    total = positive + negative
    up, down = (total / (2 * np.maximum(count, 1)) for count in (positive, negative))
    return np.where(mask, np.where(Y, up, down), 0.0)
