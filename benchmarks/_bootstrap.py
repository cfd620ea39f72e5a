"""The paired bootstrap over groups, beside a loop of scikit-learn's ROC-AUC."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np
from sklearn.metrics import roc_auc_score

from benchmarks._timing import Row, Setting, peak_growth
from biasaudio.probes.metrics import group_weights
from biasaudio.transfer import Outcome, Task, TransferResult
from biasaudio.transfer.compare import compare

N_RESAMPLES = 1000
SAMPLED = 40


def bootstrap(setting: Setting) -> Iterator[Row]:
    """Yield the comparisons of an audit, and of the published grid."""
    audit = ("13 methods x 4 pairs x 10 labels, 1,000 clips", 1000, 13, 1)
    grid = ("1,440 outcomes, 2,000 clips", 2000, 18, 2)
    tiny = ("2 methods x 4 pairs x 10 labels, 90 clips", 90, 2, 1)
    for size, n, n_methods, n_modes in (tiny,) if setting.quick else (audit, grid):
        result = outcomes(n, n_methods, n_modes)
        total = len(result.outcomes) * N_RESAMPLES
        calls: dict[str, Callable[[], Any]] = {
            "ours": partial(compare, result),
            "loop": partial(_loop, result),
        }
        found = setting.medians(calls)
        yield Row(
            "bootstrap of all comparisons",
            f"{size}, {N_RESAMPLES:,} resamples",
            found["ours"],
            f"roc_auc_score in a loop, {SAMPLED} of {total:,} timed",
            found["loop"] * total / SAMPLED,
            goal=1 / 100,
            memory=peak_growth(_compared, n, n_methods, n_modes, small=(90, 2, 1)),
        )


def outcomes(n: int, n_methods: int, n_modes: int) -> TransferResult:
    """Return the outcomes of a study with n test clips of each of two sets, scores planted."""
    rng = np.random.default_rng(0)
    domain = np.repeat(["a", "b"], 2 * n)
    groups = np.arange(4 * n) // 2
    Y = rng.random((4 * n, 10)) < 0.3
    names = tuple(f"label {j}" for j in range(10))
    X = np.zeros((4 * n, 1))
    task = Task(X, domain, groups % 2 == 0, Y, np.ones_like(Y), names, groups)
    found = []
    for k in range(n_methods):
        for mode in ("global", "classwise")[:n_modes]:
            for train_set, test_set in ("aa", "ab", "ba", "bb"):
                for j, name in enumerate(names):
                    truth = Y[task.rows(j, test_set, train=False), j]
                    scores = truth + rng.normal(size=len(truth))
                    method = f"method {k}" if k else "original"
                    metrics = {"roc_auc": float(roc_auc_score(truth, scores))}
                    found.append(Outcome(name, train_set, test_set, method, mode, metrics, scores))
    return TransferResult(task, tuple(found))


def _compared(n: int, n_methods: int, n_modes: int) -> Callable[[], Any]:
    result = outcomes(n, n_methods, n_modes)
    return partial(compare, result)


def _loop(result: TransferResult) -> list[float]:
    """Return the ROC-AUC of one outcome in the first resamples."""
    outcome = result.outcomes[0]
    task = result.task
    rows = task.rows(0, outcome.test_set, train=False)
    groups = np.unique(task.groups[rows], return_inverse=True)[1]
    weights = group_weights(groups.max() + 1, SAMPLED, np.random.default_rng(0))
    truth = task.Y[rows, 0]
    return [
        float(roc_auc_score(truth, outcome.scores, sample_weight=one[groups])) for one in weights
    ]
