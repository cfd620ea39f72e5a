"""How a probe is run: plans of parts, held-out scores, interval and null.

A *plan* is one split of the clips into parts: a correction is fitted on part
A, the probe on part B, and scored on part C.  Without a correction there is
no A.  The plans of one split rotate its parts, and splits are redrawn.
Everything that is reported is an average over plans.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.stats import rankdata

from biasaudio.errors import DataError
from biasaudio.probes._splits import assign_parts, equal_mix, majority
from biasaudio.probes.inference import resampled_auc
from biasaudio.probes.ridge import RidgeProbe, choose_penalty
from biasaudio.probes.scaling import spread

__all__ = ["Clips", "Plan", "Scored", "Split", "aucs", "make_splits", "permute_values", "run_plan"]

_Array = NDArray[np.float64]
_Codes = NDArray[np.intp]
_Floats = NDArray[np.floating[Any]]


@dataclass(frozen=True)
class Clips:
    """Hold what a probe knows of the clips, as codes [shape=(n,)]."""

    X: NDArray[np.floating[Any]]
    values: _Codes
    names: NDArray[Any]
    groups: _Codes
    strata: _Codes | None


@dataclass(frozen=True)
class Plan:
    """Hold the row numbers of the three parts; ``fit`` may be empty."""

    fit: _Codes
    train: _Codes
    test: _Codes


@dataclass(frozen=True)
class Split:
    """Hold one split of the clips, or of a subsample, and its rotations.

    ``rows`` are sorted row numbers, ``part`` is the part of each.
    """

    rows: _Codes
    part: _Codes
    plans: tuple[Plan, ...]


@dataclass(frozen=True)
class Scored:
    """Hold the outcome of one plan.

    Attributes
    ----------
    test : np.ndarray of int [shape=(m,)]
        Row numbers of the scored clips.
    scores : np.ndarray [shape=(m, k)]
    predicted : np.ndarray of int [shape=(m,)]
    resampled : np.ndarray [shape=(n_resamples,)]
        Mean AUC under each weighting of the groups.
    permuted : np.ndarray [shape=(n_permutations,)]
        Mean AUC of the probe refitted on each permutation of the values.
    """

    test: _Codes
    scores: _Array
    predicted: _Codes
    resampled: _Array
    permuted: _Array


def make_splits(
    clips: Clips, *, three_way: bool, n_splits: int, n_repeats: int, rng: np.random.Generator
) -> list[Split]:
    """Return the splits, each redrawn, and the rotations of each."""
    splits = []
    n_parts = 3 if three_way else n_splits
    none = np.zeros(0, dtype=np.intp)
    for _ in range(n_repeats):
        rows = np.arange(len(clips.values))
        strata = np.zeros_like(rows)
        if clips.strata is not None:
            rows = equal_mix(clips.values, clips.strata, rng, clips.names)
            strata = clips.strata
        part = assign_parts(
            clips.groups[rows], clips.values[rows], strata[rows], n_parts, rng, clips.names
        )
        plans = []
        for k in range(n_parts):
            test = rows[part == k]
            if three_way:
                fit, train = rows[part == (k + 1) % 3], rows[part == (k + 2) % 3]
                plans.append(Plan(fit, train, test))
            else:
                plans.append(Plan(none, rows[part != k], test))
        splits.append(Split(rows, part, tuple(plans)))
    for plan in (plan for split in splits for plan in split.plans):
        for what, rows in (("train", plan.train), ("test", plan.test)):
            missing = np.setdiff1d(np.arange(len(clips.names)), clips.values[rows])
            if missing.size:
                raise DataError(
                    f"{str(clips.names[missing[0]])!r} has no clip in the {what} part of a split "
                    "by group; its groups are too few or too uneven, ask for fewer splits"
                )
    return splits


def run_plan(
    clips: Clips,
    plan: Plan,
    train: _Floats,
    test: _Floats,
    *,
    scaled: bool,
    weights: _Array,
    permutations: _Codes,
) -> Scored:
    """Fit the probe, score the test part, resample it and refit the null.

    Parameters
    ----------
    clips : Clips
    plan : Plan
    train, test : np.ndarray [shape=(m, d)]
        The vectors of these parts, corrected.
    scaled : bool
        Whether every feature is scaled by its spread on the training part,
        also where all have one unit.
    weights : np.ndarray [shape=(n_resamples, n_groups)]
    permutations : np.ndarray of codes [shape=(n_permutations, n)]

    Returns
    -------
    Scored
    """
    if scaled:
        scale = spread(train)
        train, test = train / scale, test / scale
    k = len(clips.names)
    targets = np.equal(clips.values[plan.train][:, None], np.arange(k)).astype(np.float64)
    penalty = choose_penalty(train, targets, clips.groups[plan.train])
    probe = RidgeProbe(train, penalty=penalty)
    rotated = probe.rotate(test)
    own, scores = probe.fit(targets).score(probe.rotate(train)), probe.score(rotated)
    positive = targets > 0
    middle = [(own[p, j].mean() + own[~p, j].mean()) / 2 for j, p in enumerate(positive.T)]
    values = clips.values[plan.test]
    groups = clips.groups[plan.test]
    resampled = aucs(scores, values, weights, groups).mean(axis=-1)
    return Scored(
        plan.test,
        scores,
        (scores - middle).argmax(axis=1),
        resampled,
        _null(probe, rotated, permutations[:, plan.train], permutations[:, plan.test], k),
    )


def _null(
    probe: RidgeProbe, test: _Array, train_values: _Codes, test_values: _Codes, k: int
) -> _Array:
    """Return the mean AUC of the probe refitted on permuted values."""
    columns = range(k) if k > 2 else range(1)
    total = np.zeros(len(train_values))
    for j in columns:
        scores = probe.fit((train_values == j).T.astype(np.float64)).score(test)
        positive = (test_values == j).T
        up = positive.sum(axis=0)
        pairs = up * (len(test) - up)
        wins = np.where(positive, rankdata(scores, axis=0), 0.0).sum(axis=0) - up * (up + 1) / 2
        # A permuted part without one of the values cannot be scored: it is chance.
        total += np.where(pairs > 0, wins / np.maximum(pairs, 1), 0.5)
    return total / len(columns)


def aucs(scores: _Array, values: _Codes, weights: _Array, groups: _Codes) -> _Array:
    """Return the one-vs-rest ROC-AUC of each value [shape=(..., k)]."""
    k = scores.shape[1]
    # Two values give the same AUC twice, so it is computed once.
    columns = [
        resampled_auc(scores[:, j], values == j, weights, groups) for j in range(k if k > 2 else 1)
    ]
    return np.stack(columns if k > 2 else columns * 2, axis=-1)


def permute_values(clips: Clips, split: Split, n: int, rng: np.random.Generator) -> _Codes:
    """Return n permutations of the values of all clips [shape=(n, n_clips)].

    Where every group has one value, whole groups get new values, else single
    clips do; clips outside the split keep theirs.  In each part of the split
    and each stratum the values keep their numbers of clips, a group give or
    take.  A permutation across the parts, or of all clips and not of the
    subsample, or one that counts groups where a domain has many small ones,
    would undo the equal class mix and measure the classes.
    """
    rows, values = split.rows, clips.values[split.rows]
    strata = np.zeros_like(rows) if clips.strata is None else clips.strata[rows]
    unit = np.unique(clips.groups[rows], return_inverse=True)[1]
    if (majority(unit, values)[unit] != values).any():
        unit = np.arange(len(rows))
    cell = majority(unit, strata)
    cell += majority(unit, split.part) * (cell.max() + 1)
    dealt = values[np.lexsort((values, cell[unit]))]
    size = np.bincount(unit)
    permuted = np.tile(clips.values, (n, 1))
    for one in permuted:
        order = np.lexsort((rng.random(len(cell)), cell))
        place = np.cumsum(size[order]) - 1 - rng.integers(size[order])
        shuffled = np.empty(len(cell), dtype=np.intp)
        shuffled[order] = dealt[place]
        one[rows] = shuffled[unit]
    return permuted
