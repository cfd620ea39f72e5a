"""What a handful of labelled target clips is worth, and how to use them best."""

from __future__ import annotations

import functools
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio._parallel import run_all
from biasaudio._validation import check_choice, check_count
from biasaudio.errors import ParameterError
from biasaudio.probes.metrics import (
    group_weights,
    interval,
    mean_known,
    resampled_auc,
    weighted_auc,
)
from biasaudio.probes.ridge import common_units
from biasaudio.transfer._curve import FewShotResult, FewShotRow
from biasaudio.transfer.default import _Classifiers, warn_of_labels
from biasaudio.transfer.task import Task
from biasaudio.transforms.methods import Method, apply_correction, check_methods

__all__ = ["FewShotResult", "FewShotRow", "few_shot_curve"]

_Array = NDArray[np.float64]
_Rows = NDArray[np.intp]
SOURCE_ONLY, ADD = "source only", "add clips"


@dataclass(frozen=True)
class _Job:
    """One draw of labelled clips; none for what needs no labels of the target."""

    count: int | None
    draw: int
    picked: _Rows


def few_shot_curve(
    task: Task,
    *,
    source: str,
    target: str,
    methods: str | Method | Sequence[str | Method] = ("nap", "wccn"),
    counts: int | Sequence[int | None] | None = (0, 1, 2, 5, 10, 20, None),
    n_draws: int = 5,
    n_resamples: int = 1000,
    random_state: int = 0,
    n_jobs: int = 1,
    progress: str | None = None,
) -> FewShotResult:
    """Measure transfer against the number of labelled target clips a class.

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
    random_state : int
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
    check_count(random_state, "random_state", 0)
    wanted = list(dict.fromkeys(counts if isinstance(counts, Iterable) else [counts]))
    for count in wanted:
        if count is not None:
            check_count(count, "counts", 0)
    methods = [methods] if isinstance(methods, (str, Method)) else list(methods)
    chosen = tuple(m for m in methods if isinstance(m, Method))
    chosen += check_methods([m for m in methods if not isinstance(m, Method)])
    for method in chosen:
        if "genre" in method.needs and task.genre is None:
            raise ParameterError(f"method {method.name!r} needs genres; give a task with them")
    task = replace(task, X=common_units(task.X, task.is_train))
    study = _Study(task, source, target, chosen, random_state)
    jobs = list(study.jobs(wanted, n_draws))
    found = run_all(functools.partial(_run, study), jobs, n_jobs=n_jobs, progress=progress)
    return _summarise(study, jobs, found, n_draws, n_resamples)


@dataclass(frozen=True)
class _Study:
    task: Task
    source: str
    target: str
    methods: tuple[Method, ...]
    seed: int

    def jobs(self, counts: Sequence[int | None], n_draws: int) -> Iterator[_Job]:
        """Yield the draws of every count; all clips are one draw."""
        task = self.task
        inside = task.is_train & (task.domain == self.target)
        yield _Job(0, 0, np.array([], dtype=np.intp))
        orders = [self._orders(draw) for draw in range(n_draws)]
        for count in counts:
            if count is None:
                yield _Job(None, 0, np.flatnonzero(inside))
            elif count:
                for draw, order in enumerate(orders):
                    rows = np.concatenate([found[:count] for found in order])
                    yield _Job(count, draw, np.unique(rows))

    def _orders(self, draw: int) -> list[_Rows]:
        """Return the target's training clips of each label, in the order they are drawn."""
        rng = np.random.default_rng([self.seed, draw])
        orders = []
        for j in range(len(self.task.label_names)):
            rows = self.task.rows(j, self.target, train=True)
            rows = rng.permutation(rows[self.task.Y[rows, j]])
            # How many clips of the same group came before.
            groups, turn = self.task.groups[rows], np.zeros(len(rows), dtype=np.intp)
            for group in np.unique(groups):
                same = groups == group
                turn[same] = np.arange(same.sum())
            orders.append(rows[np.argsort(turn, kind="stable")])
        return orders

    def corrected(self, method: Method, picked: _Rows) -> Any:
        """Return the vectors of all clips through the method."""
        task = self.task
        train = np.flatnonzero(task.is_train & np.isin(task.domain, (self.source, self.target)))
        if not method.sees_target_labels:
            rows = train
        else:
            rows = np.union1d(train[task.domain[train] == self.source], picked)
        columns: dict[str, Any] = task.columns(rows)
        if method.is_per_target:
            hidden = task.domain[rows] == self.target
            columns["label"] = np.where(hidden, "", task.single_labels()[rows])
        fitted = method.fit(task.X[rows], **columns)
        warn_of_labels(task, [fitted])
        within = np.isin(task.domain, (self.source, self.target))
        Z = apply_correction(fitted, task.X[within], task.domain[within])
        # Kernel methods have another width; clips of other datasets are not looked at.
        X = np.zeros((len(task.X), Z.shape[1]), dtype=Z.dtype)
        X[within] = Z
        return X

    def scores(self, X: Any, picked: _Rows) -> list[_Array]:
        """Return the scores of the target's test clips, for each label."""
        task = self.task
        train = np.flatnonzero(task.is_train & (task.domain == self.source))
        train = np.union1d(train, picked)
        model = _Classifiers(X[train], task.Y[train], task.mask[train], task.groups[train])
        model.fit(np.random.default_rng(self.seed))
        labels = range(len(task.label_names))
        return [model.scores(X[task.rows(j, self.target, train=False)], j) for j in labels]


def _run(study: _Study, job: _Job) -> dict[str, list[_Array]]:
    """Return the scores of every strategy for one draw."""
    none = job.picked[:0]
    is_labelled = len(job.picked) > 0
    found = {ADD if is_labelled else SOURCE_ONLY: study.scores(study.task.X, job.picked)}
    for method in study.methods:
        if method.sees_target_labels and not is_labelled:
            continue
        X = study.corrected(method, job.picked)
        if method.sees_target_labels or not is_labelled:
            found[method.name] = study.scores(X, none)
        if is_labelled:
            found[f"{method.name} + {ADD}"] = study.scores(X, job.picked)
    return found


def _summarise(
    study: _Study,
    jobs: Sequence[_Job],
    found: Sequence[dict[str, list[_Array]]],
    n_draws: int,
    n_resamples: int,
) -> FewShotResult:
    """Return the points, with intervals over test groups and draws."""
    task = study.task
    tests = [task.rows(j, study.target, train=False) for j in range(len(task.label_names))]
    ids = np.unique(task.groups[~task.is_train & (task.domain == study.target)])
    weights = group_weights(len(ids), n_resamples, np.random.default_rng(study.seed))

    def aucs(scores: list[_Array], chosen: slice) -> tuple[float, _Array]:
        observed, samples = [], []
        for j, (rows, values) in enumerate(zip(tests, scores)):
            groups = np.searchsorted(ids, task.groups[rows])
            observed.append(float(weighted_auc(values, task.Y[rows, j], np.ones(len(rows)))))
            samples.append(resampled_auc(values, task.Y[rows, j], weights[chosen], groups))
        return float(np.mean(observed)), mean_known(samples)

    before, baseline = aucs(found[0][SOURCE_ONLY], slice(None))
    gathered: dict[tuple[int | None, str], list[tuple[_Job, list[_Array]]]] = defaultdict(list)
    for job, strategies in zip(jobs, found):
        for strategy, scores in strategies.items():
            gathered[job.count, strategy].append((job, scores))
    points = []
    for (count, strategy), draws in gathered.items():
        samples, values = np.empty(n_resamples), []
        for job, scores in draws:
            part = slice(job.draw, None, len(draws))
            value, samples[part] = aucs(scores, part)
            values.append(value)
        auc, n_labelled = float(np.mean(values)), np.mean([len(job.picked) for job, _ in draws])
        points.append(
            FewShotRow(
                study.source,
                study.target,
                count,
                float(n_labelled),
                strategy,
                auc,
                *interval(samples),
                auc - before,
                *interval(samples - baseline),
            )
        )
    return FewShotResult(tuple(points), n_draws, len(ids))
