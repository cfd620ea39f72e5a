"""What a transfer study is given, as arrays, and what it gives back."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, fields
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import (
    average_precision_score,
    precision_recall_fscore_support,
    roc_auc_score,
)

from biasaudio._validation import (
    check_categories,
    check_features,
    check_groups_do_not_straddle,
    name_some,
)
from biasaudio.errors import DataError
from biasaudio.transforms.methods import Method

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Outcome", "Piece", "Records", "Task", "TransferResult", "measure"]

_Record = TypeVar("_Record")


@dataclass(frozen=True)
class Task:
    """Clips of two or more datasets, their labels and their split.

    Attributes
    ----------
    X : np.ndarray [shape=(n, d)]
    domain : np.ndarray of str [shape=(n,)]
        The dataset of each clip.
    is_train : np.ndarray of bool [shape=(n,)]
        Training part of the clip's dataset, else test part.
    Y, mask : np.ndarray of bool [shape=(n, n_labels)]
        Present, and annotated at all.
    label_names : tuple of str
    groups : np.ndarray of int [shape=(n,)]
    genre : np.ndarray of str [shape=(n,)], optional

    Raises
    ------
    DataError
        If arrays disagree, there is one domain, a group is on both sides of
        the split, or a label lacks positives or negatives in a part.
    """

    X: NDArray[np.floating[Any]]
    domain: NDArray[Any]
    is_train: NDArray[np.bool_]
    Y: NDArray[np.bool_]
    mask: NDArray[np.bool_]
    label_names: tuple[str, ...]
    groups: NDArray[np.intp]
    genre: NDArray[Any] | None = None
    domains: tuple[str, ...] = field(init=False)

    def __post_init__(self) -> None:
        X = check_features(self.X)
        names, codes = check_categories(self.domain, "domain", len(X), at_least=2)
        object.__setattr__(self, "domains", tuple(names.tolist()))
        check_categories(self.groups, "groups", len(X))
        if self.genre is not None:
            check_categories(self.genre, "genre", len(X))
        shape = (len(X), len(self.label_names))
        for what, array, needed, axes in (
            ("is_train", self.is_train, shape[:1], "one per clip"),
            ("Y", self.Y, shape, "clips, labels"),
            ("mask", self.mask, shape, "clips, labels"),
        ):
            if array.shape != needed or array.dtype != bool:
                raise DataError(
                    f"{what} has shape {array.shape} and dtype {array.dtype}; a bool array of "
                    f"shape {needed} ({axes}) is needed"
                )
        check_groups_do_not_straddle(self.groups, np.where(self.is_train, "train", "test"))
        for j, label in enumerate(self.label_names):
            for k, name in enumerate(self.domains):
                for part, inside in (("train", self.is_train), ("test", ~self.is_train)):
                    rows = self.mask[:, j] & inside & (codes == k)
                    n, n_positive = rows.sum(), self.Y[rows, j].sum()
                    if n_positive == 0 or n_positive == n:
                        lack = "positives" if n_positive == 0 else "negatives"
                        raise DataError(
                            f"label {label!r} has no {lack} among the {n} annotated {part} clips "
                            f"of {name!r}; leave this label out or add such clips"
                        )

    def columns(self, rows: NDArray[Any]) -> dict[str, NDArray[Any]]:
        """Columns of some clips that the ``fit`` of a correction may ask for.

        ``domain``, ``groups``, ``label`` (one column of bools per label) and,
        where it is known, ``genre``.
        """
        known = (self.Y & self.mask)[rows]
        found = {"domain": self.domain[rows], "groups": self.groups[rows], "label": known}
        return found if self.genre is None else found | {"genre": self.genre[rows]}

    def single_labels(self) -> NDArray[np.str_]:
        """Label of each clip that has exactly one, else ""."""
        known = self.Y & self.mask
        names = np.array(self.label_names, dtype=str)
        return np.where(known.sum(axis=1) == 1, names[known.argmax(axis=1)], "")

    def rows(self, label: int, domain: str, *, train: bool) -> NDArray[np.intp]:
        """Row numbers of the annotated clips of one part."""
        part = self.is_train if train else ~self.is_train
        return np.flatnonzero(self.mask[:, label] & part & (self.domain == domain))


@dataclass(frozen=True)
class Piece:
    """Independent piece of a study: what shares corrections and classifiers.

    Attributes
    ----------
    methods : tuple of Method or None
        None is no correction.
    modes : tuple of {"global", "classwise"}
    labels : tuple of int
    """

    methods: tuple[Method | None, ...]
    modes: tuple[str, ...]
    labels: tuple[int, ...]


@dataclass(frozen=True)
class Outcome:
    """One row of the transfer table and the scores behind it.

    Attributes
    ----------
    label, train_set, test_set, method, mode : str
    metrics : dict of str to float
        As `measure` gives them, and ``C``, ``n_train``.
    scores : np.ndarray [shape=(n_test,)]
        Decision values of the test clips, in the order of `Task.rows`.
    """

    label: str
    train_set: str
    test_set: str
    method: str
    mode: str
    metrics: dict[str, float]
    scores: NDArray[np.float64]

    def row(self) -> dict[str, Any]:
        """Row as it is published, scores left out."""
        return {
            "instrument": self.label,
            "train_set": self.train_set,
            "test_set": self.test_set,
            "method": self.method,
            "mode": self.mode,
            **self.metrics,
        }


@dataclass(frozen=True)
class TransferResult:
    """All outcomes of a transfer study.

    Attributes
    ----------
    task : Task
    outcomes : tuple of Outcome
    notes : tuple of str
        What the user should know about the run.
    """

    task: Task
    outcomes: tuple[Outcome, ...]
    notes: tuple[str, ...] = ()

    def rows(self) -> list[dict[str, Any]]:
        """Tidy rows, one per (label, train set, test set, method, mode)."""
        return [outcome.row() for outcome in self.outcomes]

    def to_frame(self) -> pd.DataFrame:
        """Table of `rows`."""
        import pandas as pd

        return pd.DataFrame(self.rows())

    def __repr__(self) -> str:
        """Size in words."""
        methods = name_some(dict.fromkeys(o.method for o in self.outcomes), 9)
        return f"TransferResult({len(self.outcomes)} rows, methods {methods})"


class Records(list[_Record]):
    """List of results of one kind, which knows its columns even where it is empty.

    Parameters
    ----------
    kind : type
        Their dataclass.
    items : iterable
    """

    def __init__(self, kind: type[_Record], items: Iterable[_Record] = ()) -> None:
        super().__init__(items)
        self.kind = kind

    def to_frame(self) -> pd.DataFrame:
        """Table of the results, one row each and one column per attribute."""
        import pandas as pd

        names = [one.name for one in fields(self.kind)]  # type: ignore[arg-type]
        return pd.DataFrame([asdict(item) for item in self], columns=names)  # type: ignore[call-overload]


def measure(truth: NDArray[np.bool_], scores: NDArray[np.float64]) -> dict[str, float]:
    """Metrics of one classifier on one test set, as they are published.

    Parameters
    ----------
    truth : np.ndarray of bool [shape=(n,)]
    scores : np.ndarray [shape=(n,)]
        Decision values; positive ones are predicted present.

    Returns
    -------
    dict of str to float
        precision, recall, f1-score and support of the positives, accuracy,
        roc_auc, ap, prevalence, n_test, and constant: whether all clips got
        the same score.

    Examples
    --------
    >>> import numpy as np
    >>> found = measure(np.array([False, True, True]), np.array([-1.0, -0.5, 2.0]))
    >>> found["roc_auc"], found["precision"], found["recall"], found["support"]
    (1.0, 1.0, 0.5, 2.0)
    """
    predicted = scores > 0
    precision, recall, f1, _ = precision_recall_fscore_support(
        truth, predicted, average="binary", zero_division=0.0
    )
    return {
        "precision": float(precision),
        "recall": float(recall),
        "f1-score": float(f1),
        "support": float(truth.sum()),
        "accuracy": float((predicted == truth).mean()),
        "roc_auc": float(roc_auc_score(truth, scores)),
        "ap": float(average_precision_score(truth, scores)),
        "prevalence": float(truth.mean()),
        "n_test": len(truth),
        "constant": bool(np.ptp(scores) <= 1e-12 * np.abs(scores).max(initial=0.0)),
    }
