"""What a handful of labelled target clips is worth, and how to use them best."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from biasaudio._parallel import one_blas_thread, run_all
from biasaudio._validation import as_seed, check_choice, check_count
from biasaudio.errors import ParameterError
from biasaudio.probes.metrics import (
    group_weights,
    interval,
    mean_known,
    resampled_auc,
    weighted_auc,
)
from biasaudio.probes.ridge import common_units
from biasaudio.transfer.evaluate import as_methods
from biasaudio.transfer.protocol import BalancedLogistic, warn_of_labels
from biasaudio.transfer.task import Records, Task
from biasaudio.transforms.methods import Method, apply_correction

if TYPE_CHECKING:
    import pandas as pd

__all__ = [
    "ADD",
    "SOURCE_ONLY",
    "Draw",
    "FewShotResult",
    "FewShotRow",
    "draw_clips",
    "few_shot_curve",
]

_Array = NDArray[np.float64]
_Rows = NDArray[np.intp]
SOURCE_ONLY, ADD = "source only", "add clips"


@dataclass(frozen=True)
class FewShotRow:
    """One point of the curve.

    Attributes
    ----------
    source, target : str
    count : int or None
        Labelled target clips per class; None for all.
    n_labelled : float
        How many clips that are in all, on average over the draws.
    strategy : str
        "source only", "add clips" (to the training set), a method, or
        "<method> + add clips".
    auc, low, high : float
        Mean ROC-AUC over labels and draws, with its 95 % interval.
    delta, delta_low, delta_high : float
        The same of the difference from "source only", paired.
    """

    source: str
    target: str
    count: int | None
    n_labelled: float
    strategy: str
    auc: float
    low: float
    high: float
    delta: float
    delta_low: float
    delta_high: float


@dataclass(frozen=True)
class FewShotResult:
    """Curve of one source and target.

    Attributes
    ----------
    points : tuple of FewShotRow
    n_draws : int
    n_groups : int
        Test groups that were resampled.
    """

    points: tuple[FewShotRow, ...]
    n_draws: int
    n_groups: int

    def rows(self) -> list[dict[str, Any]]:
        """Tidy rows, one per (count, strategy)."""
        return [asdict(point) for point in self.points]

    def to_frame(self) -> pd.DataFrame:
        """Table of `rows`; a count of all clips is missing (``<NA>``)."""
        return Records(FewShotRow, self.points).to_frame().astype({"count": "Int64"})

    def best(self, count: int | None) -> FewShotRow:
        """Point of the strategy with the highest ROC-AUC for a count.

        Raises
        ------
        ParameterError
            If this count was not measured.
        """
        found = [point for point in self.points if point.count == count]
        if not found:
            counts = list(dict.fromkeys(point.count for point in self.points))
            raise ParameterError(f"count={count!r} was not measured; choose among {counts}")
        return max(found, key=lambda point: point.auc)


@one_blas_thread()
def few_shot_curve(
    task: Task,
    *,
    source: str,
    target: str,
    methods: str | Method | Sequence[str | Method] = ("nap", "wccn"),
    counts: int | Sequence[int | None] | None = (0, 1, 2, 5, 10, 20, None),
    n_draws: int = 5,
    n_resamples: int = 1000,
    random_state: int | np.random.Generator | None = 0,
    n_jobs: int = 1,
    progress: str | None = None,
) -> FewShotResult:
    """Measure transfer against the number of labelled target clips per class.

    Parameters
    ----------
    task : Task
        Two datasets or more; the others are not used.
    source, target : str
        The dataset that trains, and the one that is scored.
    methods : str, Method, or sequence of these
        Names in `biasaudio.transforms.METHODS`, or entries of your own.
    counts : int, None, or sequence of these
        Labelled clips of each class; None for all training clips of the
        target.  0 measures what needs none.
    n_draws : int
        How often clips are drawn for each count.
    n_resamples : int
        Of the test groups.
    random_state : int, np.random.Generator or None
    n_jobs : int
        Processes; -1 for all cores.  The numbers do not depend on it.
    progress : str, optional
        Name of a progress bar on stderr.

    Returns
    -------
    FewShotResult

    Raises
    ------
    ParameterError
        If a dataset or method is unknown, or an option is not allowed.

    Notes
    -----
    Clips are drawn from the target's *training* part, a group at a time: the
    second clip of a group comes after the first one of every other.  A draw of
    more clips holds those of a draw of fewer.  The target's test clips are
    only scored.  Each draw is used in three ways: the clips are added to the
    training set of the classifier ("add clips"), or they fit the correction
    while the classifier sees source labels only, or both.

    A method that needs no labels is fitted on all training clips of both
    datasets, whatever the count.

    The interval holds for new test groups and new draws: resample i of the
    groups goes with draw i modulo ``n_draws``.  It does not hold for new
    source clips or other datasets.

    Examples
    --------
    >>> from biasaudio.datasets.synthetic import make_domains
    >>> table, _ = make_domains(n=400, d=8, n_labels=2, random_state=0)
    >>> clips = table.clips
    >>> task = Task(
    ...     table.X, clips.dataset, clips.split == "train", clips.labels.to_numpy(),
    ...     clips.mask.to_numpy(), tuple(clips.label_names), clips.group_id,
    ... )
    >>> result = few_shot_curve(
    ...     task, source="a", target="b", methods=["nap"], counts=[0, 5], n_draws=2
    ... )
    >>> [point.strategy for point in result.points]
    ['source only', 'add clips', 'nap', 'nap + add clips']
    """
    for name, value in (("source", source), ("target", target)):
        check_choice(value, name, task.domains)
    if source == target:
        raise ParameterError(f"source and target are both {source!r}; give two datasets")
    check_count(n_draws, "n_draws", 1)
    check_count(n_resamples, "n_resamples", 1)
    seed = as_seed(random_state)
    wanted = list(dict.fromkeys(counts if isinstance(counts, Iterable) else [counts]))
    for count in wanted:
        if count is not None:
            check_count(count, "counts", 0)
    chosen = as_methods(methods)
    for method in chosen:
        if "genre" in method.needs and task.genre is None:
            raise ParameterError(f"method {method.name!r} needs genres; give a task with them")
    task = replace(task, X=common_units(task.X, task.is_train))
    study = _FewShot(task, source, target, chosen, seed)
    draws = draw_clips(task, target, wanted, n_draws=n_draws, seed=seed)
    found = run_all(study.run, draws, n_jobs=n_jobs, progress=progress)
    return study.summarise(draws, found, n_draws, n_resamples)


@dataclass(frozen=True)
class Draw:
    """One draw of labelled clips.

    Attributes
    ----------
    count : int or None
        Clips per class; None for all.
    number : int
        Which of the draws of this count.
    rows : np.ndarray of int
        None of the clips for what needs no labels of the target.
    """

    count: int | None
    number: int
    rows: _Rows


def draw_clips(
    task: Task, target: str, counts: Iterable[int | None], *, n_draws: int, seed: int
) -> list[Draw]:
    """Draws of every count from the target's training clips; all clips are one draw.

    Parameters
    ----------
    task : Task
    target : str
    counts : iterable of int or None
    n_draws : int
    seed : int

    Returns
    -------
    list of Draw
        The first has no clips, whatever the counts.
    """
    draws = [Draw(0, 0, np.array([], dtype=np.intp))]
    orders = [_orders(task, target, np.random.default_rng([seed, k])) for k in range(n_draws)]
    for count in counts:
        if count is None:
            inside = task.is_train & (task.domain == target)
            draws.append(Draw(None, 0, np.flatnonzero(inside)))
        elif count:
            for number, order in enumerate(orders):
                rows = np.concatenate([found[:count] for found in order])
                draws.append(Draw(count, number, np.unique(rows)))
    return draws


def _orders(task: Task, target: str, rng: np.random.Generator) -> list[_Rows]:
    """Training clips of the target that have each label, in the order they are drawn."""
    orders = []
    for j in range(len(task.label_names)):
        rows = task.rows(j, target, train=True)
        rows = rng.permutation(rows[task.Y[rows, j]])
        # How many clips of the same group came before.
        groups, turn = task.groups[rows], np.zeros(len(rows), dtype=np.intp)
        for group in np.unique(groups):
            same = groups == group
            turn[same] = np.arange(same.sum())
        orders.append(rows[np.argsort(turn, kind="stable")])
    return orders


@dataclass(frozen=True)
class _FewShot:
    """One source, one target, and the methods that are compared on them."""

    task: Task
    source: str
    target: str
    methods: tuple[Method, ...]
    seed: int

    def run(self, draw: Draw) -> dict[str, list[_Array]]:
        """Scores of the target's test clips, by strategy and label, for one draw."""
        none = draw.rows[:0]
        is_labelled = len(draw.rows) > 0
        found = {ADD if is_labelled else SOURCE_ONLY: self._scores(self.task.X, draw.rows)}
        for method in self.methods:
            if method.sees_target_labels and not is_labelled:
                continue
            X = self._corrected(method, draw.rows)
            if method.sees_target_labels or not is_labelled:
                found[method.name] = self._scores(X, none)
            if is_labelled:
                found[f"{method.name} + {ADD}"] = self._scores(X, draw.rows)
        return found

    def _corrected(self, method: Method, picked: _Rows) -> NDArray[np.floating[Any]]:
        """Vectors of all clips through the method."""
        task = self.task
        within = np.isin(task.domain, (self.source, self.target))
        rows = np.flatnonzero(task.is_train & within)
        if method.sees_target_labels:
            rows = np.union1d(rows[task.domain[rows] == self.source], picked)
        columns: dict[str, Any] = task.columns(rows)
        if method.is_per_target:
            hidden = task.domain[rows] == self.target
            columns["label"] = np.where(hidden, "", task.single_labels()[rows])
        fitted = method.fit(task.X[rows], **columns)
        warn_of_labels(task, [fitted])
        Z = apply_correction(fitted, task.X[within], task.domain[within])
        # Kernel methods have another width; clips of other datasets are not looked at.
        X = np.zeros((len(task.X), Z.shape[1]), dtype=Z.dtype)
        X[within] = Z
        return X

    def _scores(self, X: NDArray[np.floating[Any]], picked: _Rows) -> list[_Array]:
        """Scores of the target's test clips, for each label."""
        task = self.task
        train = np.flatnonzero(task.is_train & (task.domain == self.source))
        train = np.union1d(train, picked)
        model = BalancedLogistic(X[train], task.Y[train], task.mask[train], task.groups[train])
        model.fit(np.random.default_rng(self.seed))
        return [model.scores(X[rows], j) for j, rows in enumerate(self._tests())]

    def _tests(self) -> list[_Rows]:
        labels = range(len(self.task.label_names))
        return [self.task.rows(j, self.target, train=False) for j in labels]

    def summarise(
        self,
        draws: Sequence[Draw],
        found: Sequence[dict[str, list[_Array]]],
        n_draws: int,
        n_resamples: int,
    ) -> FewShotResult:
        """Points of the curve, with intervals over test groups and draws."""
        task = self.task
        ids = np.unique(task.groups[~task.is_train & (task.domain == self.target)])
        weights = group_weights(len(ids), n_resamples, np.random.default_rng(self.seed))
        aucs = functools.partial(self._aucs, ids)
        before, baseline = aucs(found[0][SOURCE_ONLY], weights)
        gathered: dict[tuple[int | None, str], list[tuple[Draw, list[_Array]]]] = defaultdict(list)
        for draw, strategies in zip(draws, found):
            for strategy, scores in strategies.items():
                gathered[draw.count, strategy].append((draw, scores))
        points = []
        for (count, strategy), of_strategy in gathered.items():
            samples, values = np.empty(n_resamples), []
            for draw, scores in of_strategy:
                # Each resample of the groups goes with one draw.
                part = slice(draw.number, None, len(of_strategy))
                value, samples[part] = aucs(scores, weights[part])
                values.append(value)
            auc = float(np.mean(values))
            n_labelled = float(np.mean([len(draw.rows) for draw, _ in of_strategy]))
            low, high = interval(samples)
            delta = auc - before, *interval(samples - baseline)
            points.append(
                FewShotRow(
                    *(self.source, self.target, count, n_labelled, strategy),
                    *(auc, low, high, *delta),
                )
            )
        return FewShotResult(tuple(points), n_draws, len(ids))

    def _aucs(self, ids: _Rows, scores: list[_Array], weights: Any) -> tuple[float, _Array]:
        """Mean ROC-AUC over labels of the test clips, and in every resample of their groups."""
        task = self.task
        observed, samples = [], []
        for j, (rows, values) in enumerate(zip(self._tests(), scores)):
            truth, groups = task.Y[rows, j], np.searchsorted(ids, task.groups[rows])
            observed.append(float(weighted_auc(values, truth, np.ones(len(rows)))))
            samples.append(resampled_auc(values, truth, weights, groups))
        return float(np.mean(observed)), mean_known(samples)
