"""Measure what each correction leaves readable on new clips, and what it costs the task.

    python -m benchmarks.leakage A.npz B.npz [C.npz ...] [--seeds 6] [--tree] [--methods ...]

Each file is one dataset: arrays ``X`` (n, d), ``label`` and ``group`` (n,).  Each pair is compared
over the labels that both have.  Correction, probe and score take a third of the clips each, in
rotation, split by group, at equal class mix.  The task is the classes, by the default transfer
protocol: correction and classifiers are fitted on two thirds, and scored within and across.
"""

from __future__ import annotations

import argparse
import itertools
import json
import sys
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier
from sklearn.metrics import roc_auc_score

from biasaudio.probes import probe_domain
from biasaudio.probes.domain import Clips, make_splits
from biasaudio.probes.splits import assign_parts
from biasaudio.transfer.protocol import DefaultProtocol
from biasaudio.transfer.task import Piece, Task
from biasaudio.transforms.methods import METHODS, Method, apply_correction

Array = NDArray[Any]
BALANCED = "+balance"
COLUMNS = ("X", "label", "group")
SHOWN = (
    *("original", "lda", "meandiff", "leace", "leace+balance", "inlp", "rleace", "rleace+balance"),
    *("standardize", "coral", "nap", "wccn"),
)


@dataclass(frozen=True)
class Pair:
    """Hold the clips of two datasets that have a label in both."""

    name: str
    X: Array
    domain: Array
    label: Array
    group: Array

    @classmethod
    def load(cls, paths: Sequence[Path]) -> Pair:
        """Read two files."""
        names = [path.stem for path in paths]
        parts = [np.load(path, allow_pickle=False) for path in paths]
        shared = sorted(set.intersection(*(set(part["label"].tolist()) for part in parts)))
        if len(shared) < 2:
            raise SystemExit(f"{' and '.join(names)} share {len(shared)} label(s); two are needed")
        keep = [np.isin(part["label"], shared) for part in parts]
        columns = [[part[key][rows] for part, rows in zip(parts, keep)] for key in COLUMNS]
        X, label, group = map(np.concatenate, columns)
        domain = np.repeat(names, [int(rows.sum()) for rows in keep])
        group = np.unique(np.char.add(domain, group.astype(str)), return_inverse=True)[1]
        return cls(" / ".join(names), X.astype(np.float32), domain, label, group.ravel())

    def columns(self, rows: Array) -> dict[str, Array]:
        """Return what a correction may ask for, of these clips."""
        return {"domain": self.domain[rows], "label": self.label[rows], "groups": self.group[rows]}


class Balanced(Method):
    """Compare the domains at equal class mix in ``fit``."""

    def fit(self, X: Any, *, compat: str | None = None, **columns: Any) -> Any:
        """Return the fitted estimator."""
        label = columns["label"]
        balance = label.argmax(axis=1) if label.ndim == 2 else label
        used = {key: columns[key] for key in (*self.needs, *self.takes) if key in columns}
        return self.make(compat=compat).fit(X, **used, balance=balance)


class Fitting:
    """Look like an estimator to the probe, and be fitted as the method says."""

    def __init__(self, method: Method) -> None:
        self.method = method
        self.domain_aware = method.domain_at_transform

    def __sklearn_clone__(self) -> Fitting:
        """Return itself: it keeps nothing."""
        return self

    def fit(self, X: Array, **columns: Array) -> Any:
        """Return the fitted correction."""
        return self.method.fit(X, **columns)


def find(name: str) -> Method | None:
    """Return the method of a name, None for the original vectors."""
    if name == "original":
        return None
    method = METHODS.get(name.removesuffix(BALANCED))
    if method is None or method.is_per_target:
        raise SystemExit(f"method {name!r} is not one that can be probed; known: {list(METHODS)}")
    if not name.endswith(BALANCED):
        return method
    return Balanced(**{f.name: getattr(method, f.name) for f in fields(Method)} | {"name": name})


def leakage(pair: Pair, method: Method | None, kind: str, seed: int) -> float:
    """Return the ROC-AUC of a probe for the dataset, on new clips."""
    if kind == "tree":
        return float(np.mean(list(_trees(pair, method, seed))))
    options: dict[str, Any] = {"design": "three-way", "n_permutations": 0, "n_resamples": 0}
    if method is not None:
        extra = {"label": pair.label, "groups": pair.group}
        options |= {"correction": Fitting(method), "fit_params": extra}
    options |= {"groups": pair.group, "strata": pair.label, "random_state": seed, "kind": kind}
    return probe_domain(pair.X, pair.domain, **options).auc


def _trees(pair: Pair, method: Method | None, seed: int) -> Iterator[float]:
    """Yield the ROC-AUC of boosted trees in each rotation of the parts."""
    names, codes = np.unique(pair.domain, return_inverse=True)
    strata = np.unique(pair.label, return_inverse=True)[1]
    clips = Clips(pair.X, codes, names, pair.group, strata)
    once = {"n_splits": 3, "n_repeats": 1, "rng": np.random.default_rng(seed)}
    for turn in make_splits(clips, three_way=True, **once)[0].turns:
        fitted = None if method is None else method.fit(pair.X[turn.fit], **pair.columns(turn.fit))
        parts = [(pair.X[rows], pair.domain[rows]) for rows in (turn.train, turn.test)]
        train, test = (apply_correction(fitted, *part) for part in parts)
        # Few leaves and rounds: with some hundred clips deeper ones read no more.
        trees = HistGradientBoostingClassifier(max_iter=60, max_leaf_nodes=8, random_state=seed)
        scores = trees.fit(train, codes[turn.train]).predict_proba(test)[:, 1]
        yield float(roc_auc_score(codes[turn.test], scores))


def transfer(pair: Pair, method: Method | None, seed: int) -> dict[str, float]:
    """Return the mean ROC-AUC of the classes for each training and test set."""
    rng = np.random.default_rng(seed)
    is_train = np.ones(len(pair.X), dtype=bool)
    for name in np.unique(pair.domain):
        rows = np.flatnonzero(pair.domain == name)
        strata = np.unique(pair.label[rows], return_inverse=True)[1]
        one = (np.zeros_like(strata), strata, 3, rng, np.array([name]))
        is_train[rows] = assign_parts(pair.group[rows], *one) != 0
    names = np.unique(pair.label)
    Y = pair.label[:, None] == names
    task = Task(pair.X, pair.domain, is_train, Y, np.ones_like(Y), tuple(names), pair.group)
    found: dict[str, list[float]] = {}
    piece = Piece((method,), ("global",), tuple(range(len(names))))
    for row in DefaultProtocol(seed).run(task, piece):
        key = "within" if row.train_set == row.test_set else f"{row.train_set} > {row.test_set}"
        found.setdefault(key, []).append(row.metrics["roc_auc"])
    return {key: float(np.mean(values)) for key, values in found.items()}


def measure(pair: Pair, name: str, kinds: Sequence[str], seeds: int) -> dict[str, Any]:
    """Return one row of the table, means over the seeds."""
    method = find(name)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tasks = [transfer(pair, method, seed) for seed in range(seeds)]
        found = {k: [leakage(pair, method, k, s) for s in range(seeds)] for k in kinds}
    read = {kind: float(np.mean(values)) for kind, values in found.items()}
    task = {key: float(np.mean([one[key] for one in tasks])) for key in tasks[0]}
    across = float(np.mean([task[key] for key in task if key != "within"]))
    return {"pair": pair.name, "method": name, **read, **task, "across": across}


def main(arguments: Sequence[str] | None = None) -> int:
    """Print the table; return 0."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("files", nargs="+", type=Path, help="one .npz a dataset, two or more")
    parser.add_argument("--methods", nargs="+", help=f"names; {BALANCED} after one for balance=")
    parser.add_argument("--seeds", type=int, default=6, help="splits (default 6)")
    parser.add_argument("--tree", action="store_true", help="also probe with boosted trees")
    parser.add_argument("--out", type=Path, help="write all numbers as JSON")
    options = parser.parse_args(arguments)
    if len(options.files) < 2:
        parser.error("one file was given; give two datasets or more")
    kinds = ["linear", "scaled"] + ["tree"] * options.tree
    heads = ["pair", "method", *(f"dataset, {kind}" for kind in kinds), "within", "across"]
    print(f"| {' | '.join(heads)} |\n|{'---|' * len(heads)}", flush=True)
    rows = []
    for paths in itertools.combinations(options.files, 2):
        pair = Pair.load(paths)
        for name in options.methods or SHOWN:
            rows.append(measure(pair, name, kinds, options.seeds))
            cells = [f"{rows[-1][key]:.3f}" for key in (*kinds, "within", "across")]
            print(f"| {pair.name} | {name} | {' | '.join(cells)} |", flush=True)
    if options.out:
        options.out.write_text(json.dumps(rows, indent=1), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
