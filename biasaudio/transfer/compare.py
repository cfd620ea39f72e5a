"""Before and after, and there and here: paired differences with intervals and p-values.

`resample` draws the test groups again and again and keeps every ROC-AUC; a
difference of two of its curves on one test set is paired.  `compare` takes the
difference between corrected and uncorrected vectors, `measure_drops` that
between training on the test set's own dataset and on another.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from biasaudio._validation import as_seed
from biasaudio.errors import ParameterError
from biasaudio.probes.metrics import (
    bootstrap_p_value,
    group_weights,
    holm,
    interval,
    mean_known,
    resampled_auc,
)
from biasaudio.transfer.task import Outcome, Records, Task, TransferResult
from biasaudio.transforms.methods import ORIGINAL

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Comparison", "Curve", "Drop", "compare", "measure_drops", "resample"]

_Array = NDArray[np.float64]
_LEVEL = 0.05
# Mode, train set, test set, method.
_Key = tuple[str, str, str, str]


@dataclass(frozen=True)
class Curve:
    """ROC-AUCs of one method on one (mode, train set, test set).

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
    random_state: int | np.random.Generator | None = 0,
) -> dict[_Key, Curve]:
    """One curve for each (mode, train set, test set, method).

    Parameters
    ----------
    result : TransferResult
    n_resamples : int
    random_state : int, np.random.Generator or None

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
    seed = as_seed(random_state)
    by_test: dict[str, list[Outcome]] = defaultdict(list)
    for outcome in result.outcomes:
        by_test[outcome.test_set].append(outcome)
    curves = {}
    for k, (test_set, outcomes) in enumerate(sorted(by_test.items())):
        weighted = _Weighted(result.task, test_set, n_resamples, seed + k)
        observed: dict[_Key, list[float]] = defaultdict(list)
        samples: dict[_Key, list[_Array]] = defaultdict(list)
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
        """ROC-AUC of an outcome in every resample."""
        label = outcome.label
        return resampled_auc(outcome.scores, self.truth[label], self.weights, self.groups[label])


@dataclass(frozen=True)
class Comparison:
    """Effect of one correction on one (train set, test set) pair.

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

    def to_frame(self) -> pd.DataFrame:
        """Table of one row."""
        return Records(type(self), [self]).to_frame()


def compare(
    result: TransferResult,
    *,
    curves: Mapping[_Key, Curve] | None = None,
    n_resamples: int = 1000,
    random_state: int | np.random.Generator | None = 0,
) -> Records[Comparison]:
    """Compare every correction with the uncorrected vectors, pair by pair.

    Parameters
    ----------
    result : TransferResult
    curves : mapping, optional
        As `resample` returns them, where they are there already; the other
        options are then not used.
    n_resamples : int
    random_state : int, np.random.Generator or None

    Returns
    -------
    Records of Comparison
        A list, one per (mode, train set, test set, method); ``to_frame()`` makes
        it a table.

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
    if curves is None:
        curves = resample(result, n_resamples=n_resamples, random_state=random_state)
    pairs: dict[tuple[str, str, str], dict[str, Curve]] = defaultdict(dict)
    for (mode, train_set, test_set, method), curve in curves.items():
        pairs[mode, train_set, test_set][method] = curve
    found = (one for key, pair in pairs.items() for one in _one_pair(key, pair))
    return Records(Comparison, found)


def _one_pair(key: tuple[str, str, str], pair: Mapping[str, Curve]) -> list[Comparison]:
    """Comparisons of all methods on one (mode, train set, test set)."""
    methods = [method for method in pair if method != ORIGINAL]
    original = pair[ORIGINAL]
    before = float(original.observed.mean())
    samples = {m: mean_known(pair[m].samples - original.samples) for m in methods}
    p_values = {m: bootstrap_p_value(samples[m]) for m in methods}
    adjusted = dict(zip(methods, holm(list(p_values.values()))))
    comparisons = []
    for method in methods:
        after = float(pair[method].observed.mean())
        low, high = interval(samples[method])
        sure = adjusted[method] < _LEVEL and not low <= 0 <= high
        verdict = ("better" if low > 0 else "worse") if sure else "no measurable change"
        comparisons.append(
            Comparison(
                method=method,
                mode=key[0],
                train_set=key[1],
                test_set=key[2],
                n_labels=len(original.observed),
                before=before,
                after=after,
                delta=after - before,
                low=low,
                high=high,
                p_value=p_values[method],
                p_holm=float(adjusted[method]),
                n_groups=original.n_groups,
                verdict=verdict,
            )
        )
    return comparisons


@dataclass(frozen=True)
class Drop:
    """Transfer drop of one method on one (train set, test set) pair.

    Attributes
    ----------
    method, mode, train_set, test_set : str
    within : float
        Mean ROC-AUC over labels when the test set's own training clips train.
    across : float
        The same when the clips of ``train_set`` do.
    drop : float
        ``within - across``, on the same test clips.
    low, high : float
        95 % bootstrap interval of the drop, over the test groups.
    p_value : float
        Two-sided, of no drop.
    n_labels, n_groups : int
    """

    method: str
    mode: str
    train_set: str
    test_set: str
    within: float
    across: float
    drop: float
    low: float
    high: float
    p_value: float
    n_labels: int
    n_groups: int

    def to_frame(self) -> pd.DataFrame:
        """Table of one row."""
        return Records(type(self), [self]).to_frame()


def measure_drops(curves: Mapping[_Key, Curve]) -> Records[Drop]:
    """Measure the drop of every method on every pair of different datasets.

    Parameters
    ----------
    curves : mapping of (mode, train set, test set, method) to Curve
        As `resample` returns them.

    Returns
    -------
    Records of Drop
        A list; ``to_frame()`` makes it a table.

    Notes
    -----
    Test groups are resampled, the same for both classifiers.  The interval
    holds for new test groups of the same dataset, not for new training clips.
    """
    drops = Records(Drop)
    for (mode, train_set, test_set, method), curve in curves.items():
        if train_set == test_set:
            continue
        own = curves[mode, test_set, test_set, method]
        within, across = float(own.observed.mean()), float(curve.observed.mean())
        samples = mean_known(own.samples - curve.samples)
        low, high = interval(samples)
        drops.append(
            Drop(
                method=method,
                mode=mode,
                train_set=train_set,
                test_set=test_set,
                within=within,
                across=across,
                drop=within - across,
                low=low,
                high=high,
                p_value=bootstrap_p_value(samples),
                n_labels=len(curve.observed),
                n_groups=curve.n_groups,
            )
        )
    return drops
