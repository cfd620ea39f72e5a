"""The published protocol, step by step (Wang, Richard and McFee, ISMIR 2023).

It is kept as it was, weaknesses included: folds that do not know groups, no
scaling, Python's ``random`` seeded anew for each of the four samples.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold

from biasaudio._validation import check_choice
from biasaudio.errors import DataError
from biasaudio.transfer._spaces import KernelSpace, LinearSpace, Space
from biasaudio.transfer.path import fit_path, inner_products, prefers_products
from biasaudio.transfer.task import Outcome, Task, measure
from biasaudio.transforms._affine import Affine
from biasaudio.transforms.kernel import KernelMap
from biasaudio.transforms.methods import ORIGINAL, Method

__all__ = [
    "GENRES",
    "PENALTIES",
    "SEED",
    "SOLVERS",
    "Cell",
    "cells",
    "published_sample",
    "run_cell",
]

GENRES = ("pop_rock", "jazz_blue", "classical", "country_folk")
PENALTIES = np.array([10.0**k for k in range(-8, 4)])
SEED = 42
N_FOLDS = 3
SOLVERS = ("newton", "liblinear")
_Floats = NDArray[np.floating[Any]]
_Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Cell:
    """Name one independent piece of the study: what shares the vectors of a label.

    Attributes
    ----------
    label : int
    methods : tuple of Method or None
        None is no correction.
    modes : tuple of {"global", "classwise"}
    is_kernel : bool
        Whether the methods work on kernel features.
    solver : {"newton", "liblinear"}
    """

    label: int
    methods: tuple[Method | None, ...]
    modes: tuple[str, ...]
    is_kernel: bool = False
    solver: str = "newton"


def cells(
    task: Task,
    methods: Sequence[Method],
    modes: Sequence[str],
    seed: int,
    *,
    solver: str = "newton",
) -> Iterator[Cell]:
    """Yield the pieces; the protocol fixes its own seed, so ``seed`` is not used."""
    check_choice(solver, "solver", SOLVERS)
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
    linear = tuple(method for method in methods if method.estimator is not KernelMap)
    kernel = tuple(method for method in methods if method.estimator is KernelMap)
    for label in range(len(task.label_names)):
        yield Cell(label, (None, *linear), tuple(modes), False, solver)
        if kernel:
            yield Cell(label, kernel, tuple(modes), True, solver)


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
    """Fit each correction once and a classifier once a training set, scored everywhere."""
    training = _training_rows(task, cell.label)
    space = (KernelSpace if cell.is_kernel else LinearSpace)(task.X, training)
    corrections = _corrections(task, cell, space, training)
    tests = {name: task.rows(cell.label, name, train=False) for name in task.domains}
    outcomes = []
    for source, rows in training.items():
        X, y = space.training(source), task.Y[rows, cell.label]
        products = None
        if cell.solver == "newton" and prefers_products(len(rows) // N_FOLDS * 2, X.shape[1]):
            products = inner_products(X)
        models = [_classifier(X, y, one, source, cell.solver, products) for one in corrections]
        for target, test in tests.items():
            through = [
                _through(one.affine(target), model) for one, model in zip(corrections, models)
            ]
            scores = _scores(space.seen_from(source, test), through)
            for one, model, values in zip(corrections, models, scores.T):
                metrics = measure(task.Y[test, cell.label], values)
                metrics |= {"n_train": len(rows), "C": model.C}
                outcomes += [
                    Outcome(
                        task.label_names[cell.label],
                        source,
                        target,
                        one.name,
                        mode,
                        metrics,
                        values,
                    )
                    for mode in one.modes
                ]
    return outcomes


@dataclass(frozen=True)
class _Correction:
    """Hold a fitted correction, None for none, and the rows of the table that it is for."""

    name: str
    modes: tuple[str, ...]
    fitted: Any

    def affine(self, domain: str) -> Affine | None:
        """Return the map of the clips of one dataset."""
        if self.fitted is None:
            return None
        found: Affine = (
            self.fitted.to_affine()[domain] if self.fitted.domain_aware else self.fitted.to_affine()
        )
        return found


def _corrections(
    task: Task, cell: Cell, space: Space, training: Mapping[str, _Rows]
) -> list[_Correction]:
    """Fit the corrections of a piece; those of one mode share their vectors."""
    parts = {"global": list(training.values())}
    parts["classwise"] = [rows[task.Y[rows, cell.label]] for rows in parts["global"]]
    found = {}
    for mode in cell.modes:
        X = space.joint(parts[mode])
        columns: dict[str, Any] = task.columns(np.concatenate(parts[mode]))
        for method in cell.methods:
            name = method.name if method else ORIGINAL
            linear = method.on_features() if method and cell.is_kernel else method
            if linear is None:
                found[name, ""] = _Correction(name, cell.modes, None)
            elif mode in linear.modes:
                fitted = linear.fit(X, compat="wang2023", **columns)
                found[name, mode] = _Correction(name, (mode,), fitted)
    return list(found.values())


def _classifier(
    X: _Floats,
    y: NDArray[np.bool_],
    one: _Correction,
    source: str,
    solver: str,
    products: NDArray[np.float64] | None,
) -> _Linear:
    """Return the published classifier of corrected vectors: balanced, C by three plain folds."""
    folds = StratifiedKFold(N_FOLDS)
    affine = one.affine(source)
    if affine is not None:
        products = None if products is None else affine.products(X, products)
        X = affine(X)
    if solver == "newton":
        found = fit_path(X, y, PENALTIES, folds.split(X, y), products=products)
        return _Linear(found.weights, found.intercept, found.C)
    model = LogisticRegression(solver="liblinear", class_weight="balanced", random_state=SEED)
    search = GridSearchCV(model, {"C": PENALTIES}, scoring="roc_auc", cv=folds)
    with warnings.catch_warnings():
        # The largest C does not converge in liblinear's 100 steps; the study kept it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        best = search.fit(X, y).best_estimator_
    return _Linear(best.coef_[0], float(best.intercept_[0]), float(best.C))


@dataclass(frozen=True)
class _Linear:
    """Hold the weights and the intercept of a classifier."""

    weights: _Floats
    intercept: float
    C: float


def _through(affine: Affine | None, model: _Linear) -> _Linear:
    """Return the classifier of uncorrected vectors that scores as this does of corrected ones.

    So the test clips are corrected for no method: one product scores all.
    """
    if affine is None:
        return model
    return _Linear(*affine.pull_back(model.weights, model.intercept), model.C)


def _scores(X: _Floats, models: Sequence[_Linear]) -> NDArray[np.float64]:
    """Return the decision values [shape=(n, n_models)], products in float64."""
    W = np.stack([model.weights for model in models], axis=1)
    intercepts = np.array([model.intercept for model in models])
    blocks = [X[start : start + 256].astype(np.float64) @ W for start in range(0, len(X), 256)]
    scores: NDArray[np.float64] = np.concatenate(blocks) + intercepts
    return scores
