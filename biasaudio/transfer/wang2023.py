"""The published protocol, step by step (Wang, Richard and McFee, ISMIR 2023).

It is kept as it was, weaknesses included: folds that do not know groups, no
scaling, Python's ``random`` seeded anew for each of the four samples.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from biasaudio.errors import DataError
from biasaudio.transfer.task import Outcome, Task, measure
from biasaudio.transforms.methods import ORIGINAL, Method, apply_correction

__all__ = ["GENRES", "PENALTIES", "SEED", "Cell", "cells", "published_sample", "run_cell"]

GENRES = ("pop_rock", "jazz_blue", "classical", "country_folk")
PENALTIES = np.array([10.0**k for k in range(-8, 4)])
SEED = 42
N_FOLDS = 3
_Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Cell:
    """Name one independent piece of the study: a label, a method, the modes."""

    label: int
    method: Method | None
    modes: tuple[str, ...]


def cells(task: Task, methods: Sequence[Method], modes: Sequence[str], seed: int) -> Iterator[Cell]:
    """Yield the pieces; the protocol fixes its own seed, so ``seed`` is not used."""
    if task.genre is None or not np.isin(task.genre, GENRES).all():
        raise DataError(
            "protocol wang2023 needs one of the genres "
            f"{', '.join(GENRES)} for every clip; leave other clips out, or use protocol 'default'"
        )
    if len(task.domains) != 2:
        raise DataError(
            f"protocol wang2023 compares two datasets, and there are {len(task.domains)}; choose "
            "two, or use protocol 'default'"
        )
    for label in range(len(task.label_names)):
        yield Cell(label, None, tuple(modes))
        for method in methods:
            yield from (Cell(label, method, (mode,)) for mode in modes if mode in method.modes)


def published_sample(rows: _Rows, genre: NDArray[np.str_], n: int) -> _Rows:
    """Return about n of the rows, in the genre proportions that they have.

    Parameters
    ----------
    rows : np.ndarray of int [shape=(m,)]
        The candidates, in order.
    genre : np.ndarray of str [shape=(m,)]
        Their genres.
    n : int
        How many are wanted.

    Returns
    -------
    np.ndarray of int [shape=(about n,)]
        Ordered genre by genre.

    Notes
    -----
    After one ``random.seed(42)``, for each genre in order with m clips the
    first ``int(m * (n / len(rows)))`` of ``random.sample(range(m), m)``.

    Examples
    --------
    >>> import numpy as np
    >>> rows, genre = np.arange(6), np.array(["classical"] * 4 + ["pop_rock"] * 2)
    >>> published_sample(rows, genre, 3).tolist()
    [4, 2, 0]
    """
    ratio = n / len(rows)
    chosen = []
    generator = random.Random(SEED)
    for name in GENRES:
        members = rows[genre == name]
        drawn = generator.sample(range(len(members)), len(members))
        chosen.append(members[drawn[: int(len(members) * ratio)]])
    return np.concatenate(chosen)


def _training_rows(task: Task, label: int) -> dict[str, _Rows]:
    """Return the cut training set of each dataset: positives, then negatives."""
    parts = {}
    for name in task.domains:
        rows = task.rows(label, name, train=True)
        truth = task.Y[rows, label]
        parts[name] = rows[truth], rows[~truth]
    sizes = [min(len(part[k]) for part in parts.values()) for k in (0, 1)]
    genre = np.asarray(task.genre)
    training = {}
    for name, both in parts.items():
        cut = [published_sample(part, genre[part], n) for part, n in zip(both, sizes)]
        if min(map(len, cut)) < N_FOLDS:
            raise DataError(
                f"label {task.label_names[label]!r} keeps {len(cut[0])} positives and "
                f"{len(cut[1])} negatives of {name!r} when the training sets are cut to one size, "
                f"fewer than the {N_FOLDS} folds; leave this label out, or use protocol 'default'"
            )
        training[name] = np.concatenate(cut)
    return training


def run_cell(task: Task, cell: Cell) -> list[Outcome]:
    """Fit the correction once and a classifier once a training set, scored everywhere."""
    training = _training_rows(task, cell.label)
    fitted = None
    if cell.method is not None:
        rows = np.concatenate(list(training.values()))
        if cell.modes == ("classwise",):
            rows = rows[task.Y[rows, cell.label]]
        fitted = cell.method.fit(
            task.X[rows],
            compat="wang2023",
            **dict[str, Any](task.columns(rows)),
        )
    outcomes = []
    for source, rows in training.items():
        search = _search()
        with warnings.catch_warnings():
            # The largest C does not converge in liblinear's 100 steps; the study kept it.
            warnings.simplefilter("ignore", ConvergenceWarning)
            X = apply_correction(fitted, task.X[rows], task.domain[rows])
            search.fit(X, task.Y[rows, cell.label])
        for target in task.domains:
            test = task.rows(cell.label, target, train=False)
            X = apply_correction(fitted, task.X[test], task.domain[test])
            scores = search.decision_function(X)
            metrics = measure(task.Y[test, cell.label], scores)
            metrics |= {"n_train": len(rows), "C": float(search.best_params_["C"])}
            outcomes += [
                Outcome(
                    task.label_names[cell.label],
                    source,
                    target,
                    cell.method.name if cell.method else ORIGINAL,
                    mode,
                    metrics,
                    scores,
                )
                for mode in cell.modes
            ]
    return outcomes


def _search() -> GridSearchCV:
    """Return the published classifier: liblinear, balanced, C by three plain folds."""
    model = LogisticRegression(solver="liblinear", class_weight="balanced", random_state=SEED)
    folds = StratifiedKFold(N_FOLDS)
    return GridSearchCV(model, {"C": PENALTIES}, scoring="roc_auc", cv=folds)
