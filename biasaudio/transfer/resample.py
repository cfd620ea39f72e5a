"""Bootstrap resamples of every ROC-AUC of a transfer study, paired by test groups."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from biasaudio.errors import ParameterError
from biasaudio.probes.metrics import group_weights, resampled_auc
from biasaudio.transfer.task import Outcome, Task, TransferResult

__all__ = ["Curve", "resample"]

_Array = NDArray[np.float64]


@dataclass(frozen=True)
class Curve:
    """Hold the ROC-AUCs of one method on one (mode, train set, test set).

    Attributes
    ----------
    observed : np.ndarray [shape=(n_labels,)]
        On the test clips as they are.
    samples : np.ndarray [shape=(n_labels, n_resamples)]
        On each resample of the test groups; NaN where one cannot be scored.
    n_groups : int
        Test groups that were resampled.
    """

    observed: _Array
    samples: _Array
    n_groups: int


def resample(
    result: TransferResult,
    *,
    n_resamples: int = 1000,
    random_state: int = 0,
) -> dict[tuple[str, str, str, str], Curve]:
    """Return one curve for each (mode, train set, test set, method).

    Parameters
    ----------
    result : TransferResult
    n_resamples : int
    random_state : int

    Returns
    -------
    dict of tuple to Curve

    Raises
    ------
    ParameterError
        If there are no resamples.

    Notes
    -----
    The groups of a test set are drawn with replacement, the same for all
    labels, methods and training sets, so that every difference of two curves
    on one test set is paired.
    """
    if n_resamples < 1:
        raise ParameterError(f"n_resamples={n_resamples!r} is not allowed; give 100 or more")
    by_test: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in result.outcomes:
        by_test[outcome.test_set].append(outcome)
    curves = {}
    for k, (test_set, outcomes) in enumerate(sorted(by_test.items())):
        weighted = _Weighted(result.task, test_set, n_resamples, random_state + k)
        observed: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)
        samples: dict[tuple[str, str, str, str], list[_Array]] = defaultdict(list)
        for outcome in outcomes:
            key = (outcome.mode, outcome.train_set, test_set, outcome.method)
            observed[key].append(outcome.metrics["roc_auc"])
            samples[key].append(weighted.aucs(outcome))
        for key, values in observed.items():
            curves[key] = Curve(np.array(values), np.array(samples[key]), weighted.n_groups)
    return curves


class _Weighted:
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

    def aucs(self, outcome: Outcome) -> _Array:
        """Return the ROC-AUC of an outcome in every resample."""
        label = outcome.label
        return resampled_auc(outcome.scores, self.truth[label], self.weights, self.groups[label])
