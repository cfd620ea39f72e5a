"""Time, memory, leakage and error of one call, and the arrays to measure them on."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import roc_auc_score

from benchmarks._entries import ENTRIES, Entry
from benchmarks._timing import peak_growth

Array = NDArray[Any]


@dataclass(frozen=True)
class Clips:
    """Hold the clips of one split.

    Attributes
    ----------
    X : np.ndarray [shape=(n, d)]
    domain, label : np.ndarray of int [shape=(n,)]
    """

    X: Array
    domain: Array
    label: Array

    def select(self, rows: Array) -> Clips:
        """Return some of the clips."""
        return Clips(self.X[rows], self.domain[rows], self.label[rows])

    def astype(self, dtype: str) -> Clips:
        """Return the same clips in another precision."""
        return Clips(self.X.astype(dtype), self.domain, self.label)

    @property
    def columns(self) -> tuple[Array, Array, Array]:
        """What an entry takes."""
        return self.X, self.domain, self.label


def planted(n: int, d: int, *, random_state: int = 0) -> list[Clips]:
    """Return three splits of n clips in all, half of each of two planted domains."""
    from biasaudio.datasets.synthetic import make_domains

    table, _ = make_domains(3 * n, d, group_size=1, random_state=random_state)
    domain = (table.clips.dataset == "b").astype(np.intp)
    label = np.argmax(table.clips.labels.to_numpy(), axis=1)
    clips = Clips(np.array(table.X), domain, label)
    return [clips.select(np.arange(k, 3 * n, 3)) for k in range(3)]


def real(first: Path, second: Path) -> list[Clips]:
    """Return three splits by group of two files, at equal class mix.

    Parameters
    ----------
    first, second : Path
        ``.npz`` files with X, label and group.
    """
    rng = np.random.default_rng(0)
    parts = [np.load(path, allow_pickle=False) for path in (first, second)]
    shared = sorted(set.intersection(*(set(part["label"].tolist()) for part in parts)))
    splits = []
    side = []
    for part in parts:
        groups, codes = np.unique(part["group"], return_inverse=True)
        side.append((rng.permutation(len(groups)) % 3)[codes.ravel()])
    for split in range(3):
        rows: list[list[Array]] = [[], []]
        for name in shared:
            found = [
                np.flatnonzero((part["label"] == name) & (where == split))
                for part, where in zip(parts, side)
            ]
            count = min(map(len, found))
            for k in (0, 1):
                rows[k].append(rng.permutation(found[k])[:count])
        picked = [np.concatenate(found) for found in rows]
        X = np.concatenate([part["X"][at] for part, at in zip(parts, picked)])
        label = [np.searchsorted(shared, part["label"][at]) for part, at in zip(parts, picked)]
        domain = np.repeat([0, 1], [len(at) for at in picked])
        order = rng.permutation(len(X))
        splits.append(Clips(X, domain, np.concatenate(label)).select(order))
    return splits


def wide_mean(clips: Clips) -> Clips:
    """Return float32 clips with a mean of about 1000 standard deviations."""
    X = clips.X + 1000 * clips.X.std(axis=0)
    return Clips(X.astype(np.float32), clips.domain, clips.label)


def extra_memory(entry: Entry, clips: Clips) -> float:
    """Return by how many MiB the peak of a fresh process grows, its result included."""
    rng = np.random.default_rng(0)
    X = rng.standard_normal((90, 4)).astype(clips.X.dtype)
    small = Clips(X, np.arange(90) % 2, np.arange(90) % 3)
    number = ENTRIES.index(entry)
    grown = peak_growth(_call, number, clips, small=(number, small))
    return float("nan") if grown is None else grown


def _call(number: int, clips: Clips) -> Callable[[], Any]:
    return lambda: ENTRIES[number].correct(*clips.columns)


def coefficient(entry: Entry, clips: Clips) -> float:
    """Return the largest coefficient of a probe for the domain, refitted on the fitted clips."""
    Z, _ = entry.correct(*clips.columns)
    return float(np.abs(probe(Z, clips.domain)[0]).max())


def held_out_auc(correct: Any, splits: Sequence[Clips]) -> float:
    """Return the AUC of a probe for the domain: fitted on A, trained on B, scored on C."""
    _, again = correct(*splits[0].columns)
    Z = [np.asarray(again(*part.columns), dtype=np.float64) for part in splits[1:]]
    domain = [part.domain for part in splits[1:]]
    scores = [roc_auc_score(domain[1 - k], Z[1 - k] @ probe(Z[k], domain[k])[1]) for k in (0, 1)]
    return float(np.mean(scores))


def probe(Z: Array, domain: Array) -> tuple[Array, Array]:
    """Return the ridge coefficients for the domain, in units of each feature and as they are."""
    Z = np.asarray(Z, dtype=np.float64)
    scale = Z.std(axis=0)
    scale[scale == 0] = 1.0
    Z = (Z - Z.mean(axis=0)) / scale
    gram = Z.T @ Z / len(Z)
    gram.flat[:: len(gram) + 1] += 1e-3
    coef = np.linalg.solve(gram, Z.T @ (domain - domain.mean()) / len(Z))
    return coef, coef / scale


def error(entry: Entry, clips: Clips) -> float:
    """Return the largest distance from the definition, as a share of the largest change.

    A common offset of all clips is no part of the change.
    """
    X, domain, label = clips.columns
    Z, _ = entry.correct(*clips.columns)
    exact = X.astype(np.float64)
    should = entry.define(exact, domain, label)
    change = should - exact
    change -= change.mean(axis=0)
    return float(np.abs(Z - should).max() / np.abs(change).max())
