"""Paired differences between before and after, with intervals and p-values."""

from __future__ import annotations

import functools
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio._parallel import run_all
from biasaudio.errors import ParameterError
from biasaudio.probes.inference import (
    bootstrap_p_value,
    group_weights,
    holm,
    interval,
    weighted_auc,
)
from biasaudio.transfer.task import Outcome, Task, TransferResult
from biasaudio.transforms.methods import ORIGINAL

__all__ = ["Comparison", "compare"]

_Array = NDArray[np.float64]
_LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """Hold one correction's effect on one (train set, test set) pair.

    Attributes
    ----------
    method, mode, train_set, test_set : str
    n_labels : int
    before, after : float
        Mean ROC-AUC over labels without and with the correction.
    delta : float
        ``after - before``.
    low, high : float
        95 % bootstrap interval of the difference, over the test groups.
    p_value, p_holm : float
        Two-sided, and adjusted for the number of methods of the pair.
    n_groups : int
        Test groups that were resampled.
    verdict : {"better", "worse", "no measurable change"}
        By ``p_holm < 0.05`` and an interval without zero.
    """

    method: str
    mode: str
    train_set: str
    test_set: str
    n_labels: int
    before: float
    after: float
    delta: float
    low: float
    high: float
    p_value: float
    p_holm: float
    n_groups: int
    verdict: str


def compare(
    result: TransferResult,
    *,
    n_resamples: int = 1000,
    random_state: int = 0,
    n_jobs: int = 1,
    progress: str | None = None,
) -> list[Comparison]:
    """Compare every correction with the uncorrected vectors, pair by pair.

    Parameters
    ----------
    result : TransferResult
    n_resamples : int
    random_state : int
    n_jobs : int
    progress : str, optional
        Name of a progress bar on stderr.

    Returns
    -------
    list of Comparison
        One a (mode, train set, test set, method).

    Raises
    ------
    ParameterError
        If there are no resamples.

    Notes
    -----
    Groups of the test set are drawn with replacement, the same for before and
    after and for all labels, so that the difference is paired.  The interval
    holds for new test groups from the same dataset and not for new datasets,
    nor for new training clips.
    """
    if n_resamples < 1:
        raise ParameterError(f"n_resamples={n_resamples!r} is not allowed; give 100 or more")
    task = result.task
    curves: dict[tuple[str, str, str], dict[str, _Array]] = defaultdict(dict)
    observed: dict[tuple[str, str, str], dict[str, list[float]]] = defaultdict(dict)
    by_test: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in result.outcomes:
        by_test[outcome.test_set].append(outcome)
    n_groups = {}
    for k, (test_set, outcomes) in enumerate(sorted(by_test.items())):
        resampled = _Resampled(task, test_set, n_resamples, random_state + k)
        n_groups[test_set] = resampled.n_groups
        work = functools.partial(_resample, resampled)
        found = run_all(work, outcomes, n_jobs=n_jobs, progress=progress)
        gathered: dict[tuple[str, str, str, str], list[_Array]] = defaultdict(list)
        for outcome, samples in zip(outcomes, found):
            key = (outcome.mode, outcome.train_set, test_set)
            gathered[(*key, outcome.method)].append(samples)
            observed[key].setdefault(outcome.method, []).append(outcome.metrics["roc_auc"])
        for (*head, method), samples in gathered.items():
            curves[head[0], head[1], head[2]][method] = np.array(samples)
    return [
        comparison
        for key in curves
        for comparison in _one_pair(key, curves[key], observed[key], n_groups[key[2]])
    ]


def _one_pair(
    key: tuple[str, str, str],
    curves: dict[str, _Array],
    observed: dict[str, list[float]],
    n_groups: int,
) -> list[Comparison]:
    """Return the comparisons of all methods on one (mode, train set, test set)."""
    methods = [method for method in curves if method != ORIGINAL]
    before = float(np.mean(observed[ORIGINAL]))
    samples = {m: _mean_known(curves[m] - curves[ORIGINAL]) for m in methods}
    p_values = {m: bootstrap_p_value(samples[m]) for m in methods}
    adjusted = dict(zip(methods, holm(list(p_values.values()))))
    comparisons = []
    for method in methods:
        after = float(np.mean(observed[method]))
        low, high = interval(samples[method])
        sure = adjusted[method] < _LEVEL and not low <= 0 <= high
        verdict = ("better" if low > 0 else "worse") if sure else "no measurable change"
        comparisons.append(
            Comparison(
                method=method,
                mode=key[0],
                train_set=key[1],
                test_set=key[2],
                n_labels=len(observed[method]),
                before=before,
                after=after,
                delta=after - before,
                low=low,
                high=high,
                p_value=p_values[method],
                p_holm=float(adjusted[method]),
                n_groups=n_groups,
                verdict=verdict,
            )
        )
    return comparisons


class _Resampled:
    """The bootstrap weights of the groups of one test set."""

    def __init__(self, task: Task, test_set: str, n_resamples: int, seed: int) -> None:
        self.rows = {
            name: task.rows(j, test_set, train=False) for j, name in enumerate(task.label_names)
        }
        self.truth = {name: task.Y[rows, j] for j, (name, rows) in enumerate(self.rows.items())}
        ids = np.unique(task.groups[~task.is_train & (task.domain == test_set)])
        self.groups = {n: np.searchsorted(ids, task.groups[r]) for n, r in self.rows.items()}
        self.n_groups = len(ids)
        self.weights = group_weights(len(ids), n_resamples, np.random.default_rng(seed))


def _resample(resampled: _Resampled, outcome: Outcome) -> _Array:
    """Return the ROC-AUC of one outcome in every resample."""
    label = outcome.label
    weights = resampled.weights[:, resampled.groups[label]]
    return weighted_auc(outcome.scores, resampled.truth[label], weights)


def _mean_known(differences: _Array) -> _Array:
    """Return the mean over labels; a label that a resample cannot score is left out of it."""
    known = np.isfinite(differences)
    counts = known.sum(axis=0)
    total = np.where(known, differences, 0.0).sum(axis=0)
    mean: _Array = np.where(counts > 0, total / np.maximum(counts, 1), np.nan)
    return mean


def rows(comparisons: list[Comparison]) -> list[dict[str, Any]]:
    """Return the comparisons as tidy rows."""
    return [vars(comparison).copy() for comparison in comparisons]
