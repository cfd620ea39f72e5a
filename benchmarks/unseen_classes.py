"""What a correction does to a class whose shift it has not seen.

Each class in turn loses its labels when the correction is fitted, so that the
shifts come from the other classes only; the classifier of this class is then
trained on one dataset and scored on the other.  Run

    python -m benchmarks.unseen_classes FILE.npz FILE.npz [SEED ...]

where each file holds ``X`` (n, d), ``label`` and ``group``, one row per clip.
Prints the mean ROC-AUC over classes and both directions, across and within
datasets: uncorrected, fitted on all classes, and on the others only.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from biasaudio.transfer.protocol import DefaultProtocol
from biasaudio.transfer.task import Piece, Task
from biasaudio.transforms import NuisanceProjection, WithinClassNormalization

METHODS = {"nap": NuisanceProjection, "wccn": WithinClassNormalization}


def load(paths: list[str], seed: int) -> tuple[Task, np.ndarray]:
    """Return the task of the classes that both sets have, and each clip's class."""
    rng = np.random.default_rng(seed)
    parts = []
    for path in paths:
        with np.load(path, allow_pickle=False) as data:
            label, group = data["label"].astype(str), data["group"].astype(str)
            names, codes = np.unique(group, return_inverse=True)
            order = rng.permutation(len(names))
            is_train = (order % 3 != 0)[codes]
            name = Path(path).stem
            groups = np.char.add(name + "/", group)
            parts.append((data["X"], label, groups, np.full(len(label), name), is_train))
    X, label, groups, domain, is_train = (np.concatenate(part) for part in zip(*parts))
    shared = sorted(set(parts[0][1]) & set(parts[1][1]))
    kept = np.isin(label, shared)
    Y = label[kept, None] == np.array(shared)
    codes = np.unique(groups[kept], return_inverse=True)[1]
    X = X[kept].astype(np.float32)
    task = Task(X, domain[kept], is_train[kept], Y, np.ones_like(Y), tuple(shared), codes)
    return task, label[kept]


def score(task: Task, X: np.ndarray, labels: tuple[int, ...]) -> np.ndarray:
    """Return the ROC-AUC across and within datasets, of these labels."""
    known = Task(X, task.domain, task.is_train, task.Y, task.mask, task.label_names, task.groups)
    found = DefaultProtocol().run(known, Piece((None,), ("global",), labels))
    values = np.array([outcome.metrics["roc_auc"] for outcome in found])
    is_across = np.array([outcome.train_set != outcome.test_set for outcome in found])
    return 100 * np.array([values[is_across].mean(), values[~is_across].mean()])


def corrected(task: Task, label: np.ndarray, method: str) -> np.ndarray:
    """Return all clips through a correction fitted on the training clips with a label."""
    rows = task.is_train
    fitted = METHODS[method]().fit(
        task.X[rows], domain=task.domain[rows], label=label[rows], groups=task.groups[rows]
    )
    return fitted.transform(task.X)


def main(paths: list[str], seeds: list[int]) -> None:
    """Print one line a method and what it was fitted on."""
    found: dict[str, list[np.ndarray]] = {}
    for seed in seeds:
        task, label = load(paths, seed)
        everything = tuple(range(len(task.label_names)))
        found.setdefault("original", []).append(score(task, task.X, everything))
        for method in METHODS:
            Z = corrected(task, label, method)
            found.setdefault(f"{method}, all classes", []).append(score(task, Z, everything))
            others = []
            for j, name in enumerate(task.label_names):
                Z = corrected(task, np.where(label == name, "", label), method)
                others.append(score(task, Z, (j,)))
            found.setdefault(f"{method}, other classes", []).append(np.mean(others, axis=0))
    print(f"{' and '.join(Path(path).stem for path in paths)}, {len(seeds)} split(s)")
    for name, values in found.items():
        across, within = np.mean(values, axis=0)
        print(f"{name:24s} across {across:5.1f}  within {within:5.1f}")


if __name__ == "__main__":
    if "--help" in sys.argv:
        print(__doc__)
    elif len(sys.argv) < 3:
        sys.exit(__doc__)
    else:
        main(sys.argv[1:3], [int(seed) for seed in sys.argv[3:]] or [0])
