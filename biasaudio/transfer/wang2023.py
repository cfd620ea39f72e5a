"""The published protocol, step by step (Wang, Richard and McFee, ISMIR 2023).

It is kept as it was, weaknesses included: folds that do not know groups, no
scaling, Python's ``random`` seeded anew for each of the four samples.
"""

from __future__ import annotations

import random
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.exceptions import ConvergenceWarning
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, StratifiedKFold
from sklearn.preprocessing import StandardScaler

from biasaudio._validation import check_choice
from biasaudio.errors import DataError
from biasaudio.transfer.logistic import fit_path, inner_products, prefers_products
from biasaudio.transfer.task import Outcome, Piece, Task, measure
from biasaudio.transforms._affine import Affine
from biasaudio.transforms.kernel import KernelMap
from biasaudio.transforms.methods import ORIGINAL, Method

__all__ = [
    "GENRES",
    "N_FOLDS",
    "PENALTIES",
    "SEED",
    "SOLVERS",
    "KernelSpace",
    "LinearSpace",
    "Wang2023Protocol",
    "is_kernel",
    "published_sample",
]

GENRES = ("pop_rock", "jazz_blue", "classical", "country_folk")
PENALTIES = np.array([10.0**k for k in range(-8, 4)])
SEED = 42
N_FOLDS = 3
SOLVERS = ("newton", "liblinear")
_Floats = NDArray[np.floating[Any]]
_Rows = NDArray[np.intp]


@dataclass(frozen=True)
class Wang2023Protocol:
    """Training sets cut to one size, one classifier per label, the seed being fixed.

    Attributes
    ----------
    solver : {"newton", "liblinear"}
    """

    solver: str = "newton"

    def prepare(self, task: Task) -> Task:
        """Task as it is, once it is known to be one of this protocol."""
        check_choice(self.solver, "solver", SOLVERS)
        if task.genre is None or not np.isin(task.genre, GENRES).all():
            raise DataError(
                f"protocol wang2023 needs one of the genres {', '.join(GENRES)} for every clip; "
                "leave other clips out, or use protocol 'default'"
            )
        if len(task.domains) != 2:
            raise DataError(
                f"protocol wang2023 compares two datasets, and there are {len(task.domains)}; "
                "choose two, or use protocol 'default'"
            )
        return task

    def pieces(
        self, task: Task, methods: Sequence[Method], modes: Sequence[str]
    ) -> Iterator[Piece]:
        """Pieces of one label: the linear methods share its vectors, the kernel ones theirs."""
        linear = tuple(method for method in methods if method.estimator is not KernelMap)
        kernel = tuple(method for method in methods if method.estimator is KernelMap)
        for label in range(len(task.label_names)):
            yield Piece((None, *linear), tuple(modes), (label,))
            if kernel:
                yield Piece(kernel, tuple(modes), (label,))

    def run(self, task: Task, piece: Piece) -> list[Outcome]:
        """Outcomes of each correction, fitted once, and a classifier per training set."""
        (label,) = piece.labels
        training = _training_rows(task, label)
        space = (KernelSpace if is_kernel(piece) else LinearSpace)(task.X, training)
        corrections = _corrections(task, piece, space, training)
        tests = {name: task.rows(label, name, train=False) for name in task.domains}
        outcomes = []
        for source, rows in training.items():
            X, y = space.training(source), task.Y[rows, label]
            products = None
            if self.solver == "newton" and prefers_products(len(rows) // N_FOLDS * 2, X.shape[1]):
                products = inner_products(X)
            models = [_classifier(X, y, one, source, self.solver, products) for one in corrections]
            for target, test in tests.items():
                through = [
                    _through(one.affine(target), model) for one, model in zip(corrections, models)
                ]
                scores = _scores(space.seen_from(source, test), through)
                for one, model, values in zip(corrections, models, scores.T):
                    metrics = measure(task.Y[test, label], values)
                    metrics |= {"n_train": len(rows), "C": model.C}
                    outcomes += [
                        Outcome(
                            *(task.label_names[label], source, target, one.name, mode),
                            metrics,
                            values,
                        )
                        for mode in one.modes
                    ]
        return outcomes


def is_kernel(piece: Piece) -> bool:
    """Whether the methods of a piece work on kernel features."""
    return all(method is not None and method.estimator is KernelMap for method in piece.methods)


def published_sample(rows: _Rows, genre: NDArray[np.str_], n: int) -> _Rows:
    """About n of the rows, in the genre proportions that they have.

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
    """Cut training set of each dataset: positives, then negatives."""
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


@dataclass(frozen=True)
class _Correction:
    """Fitted correction, None for none, and the rows of the table that it is for."""

    name: str
    modes: tuple[str, ...]
    fitted: Any

    def affine(self, domain: str) -> Affine | None:
        """Map of the clips of one dataset; None is the identity."""
        if self.fitted is None:
            return None
        found: Affine = (
            self.fitted.to_affine()[domain] if self.fitted.domain_aware else self.fitted.to_affine()
        )
        return found


def _corrections(
    task: Task, piece: Piece, space: LinearSpace, training: Mapping[str, _Rows]
) -> list[_Correction]:
    """Corrections of a piece, fitted; those of one mode share their vectors."""
    (label,) = piece.labels
    parts = {"global": list(training.values())}
    parts["classwise"] = [rows[task.Y[rows, label]] for rows in parts["global"]]
    found = {}
    for mode in piece.modes:
        X = space.joint(parts[mode])
        columns: dict[str, Any] = task.columns(np.concatenate(parts[mode]))
        for method in piece.methods:
            name = method.name if method else ORIGINAL
            linear = method.on_features() if method and is_kernel(piece) else method
            if linear is None:
                found[name, ""] = _Correction(name, piece.modes, None)
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
    """Classifier of corrected vectors, as published: balanced, C by three plain folds."""
    folds = StratifiedKFold(N_FOLDS)
    affine = one.affine(source)
    if affine is not None:
        products = None if products is None else affine.products(X, products)
        X = affine(X)
    if solver == "newton":
        found = fit_path(X, y, PENALTIES, folds.split(X, y), products=products)
        return _Linear(found.weights, found.offset, found.C)
    model = LogisticRegression(solver="liblinear", class_weight="balanced", random_state=SEED)
    search = GridSearchCV(model, {"C": PENALTIES}, scoring="roc_auc", cv=folds)
    with warnings.catch_warnings():
        # The largest C does not converge in liblinear's 100 steps; the study kept it.
        warnings.simplefilter("ignore", ConvergenceWarning)
        best = search.fit(X, y).best_estimator_
    return _Linear(best.coef_[0], float(best.intercept_[0]), float(best.C))


@dataclass(frozen=True)
class _Linear:
    """Weights and offset of a classifier."""

    weights: _Floats
    offset: float
    C: float


def _through(affine: Affine | None, model: _Linear) -> _Linear:
    """Classifier of uncorrected vectors that scores as this one does corrected ones.

    So no test clip is corrected: one product scores all methods.
    """
    if affine is None:
        return model
    return _Linear(*affine.pull_back(model.weights, model.offset), model.C)


def _scores(X: _Floats, models: Sequence[_Linear]) -> NDArray[np.float64]:
    """Decision values [shape=(n, n_models)], products in float64."""
    W = np.stack([model.weights for model in models], axis=1)
    offsets = np.array([model.offset for model in models])
    blocks = [X[start : start + 256].astype(np.float64) @ W for start in range(0, len(X), 256)]
    scores: NDArray[np.float64] = np.concatenate(blocks) + offsets
    return scores


class LinearSpace:
    """Vectors that corrections are fitted on and that are classified, as they are.

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]
    training : mapping of str to np.ndarray of int
        The training clips of each dataset.
    """

    def __init__(self, X: _Floats, training: Mapping[str, _Rows]) -> None:
        self._X, self._training = X, training

    def joint(self, parts: Iterable[_Rows]) -> _Floats:
        """Vectors of the rows of all datasets, one dataset after the other."""
        return self._X[np.concatenate(list(parts))]

    def training(self, source: str) -> _Floats:
        """Vectors of the training set of a dataset, for its classifier."""
        return self._X[self._training[source]]

    def seen_from(self, source: str, rows: _Rows) -> _Floats:
        """Vectors of other rows, for the classifier of a dataset."""
        return self._X[rows]


class KernelSpace(LinearSpace):
    """One draw of random Fourier features of a Gaussian kernel in place of the vectors.

    Parameters
    ----------
    X : np.ndarray [shape=(n, d)]
    training : mapping of str to np.ndarray of int
        The training clips of each dataset, which the width follows from.

    Notes
    -----
    As the published code does, each dataset is standardised by itself where
    corrections are fitted, and all clips by the training set of the
    classifier where they are classified.  The map is the same in both, so
    a whole training set has the same features in both.
    """

    def __init__(self, X: _Floats, training: Mapping[str, _Rows]) -> None:
        super().__init__(X, training)
        self._scalers = {name: StandardScaler().fit(X[rows]) for name, rows in training.items()}
        standardised = {
            name: one.transform(X[training[name]]) for name, one in self._scalers.items()
        }
        self._map = KernelMap().fit(np.concatenate(list(standardised.values())))
        self._features = {name: self._map.transform(Z) for name, Z in standardised.items()}

    def joint(self, parts: Iterable[_Rows]) -> _Floats:
        """Features of the rows, each dataset standardised by itself."""
        return np.concatenate([self._own(rows) for rows in parts])

    def training(self, source: str) -> _Floats:
        """Features of the training set of a dataset, for its classifier."""
        return self._features[source]

    def seen_from(self, source: str, rows: _Rows) -> _Floats:
        """Features of other rows, for the classifier of a dataset."""
        features: _Floats = self._map.transform(self._scalers[source].transform(self._X[rows]))
        return features

    def _own(self, rows: _Rows) -> _Floats:
        for name, training in self._training.items():
            if rows is training:
                return self._features[name]
        features: _Floats = self._map.transform(StandardScaler().fit_transform(self._X[rows]))
        return features
