"""The domain probe: which dataset does this clip come from.

A correction is fitted on part A of the clips, the probe on part B, and scored
on part C; without a correction there is no A.  The parts of one split take
turns (a *turn* says which part does what), and splits are redrawn.  Everything
that is reported is an average over turns.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.stats import rankdata
from sklearn.base import clone

from biasaudio._parallel import one_blas_thread
from biasaudio._validation import as_seed, check_categories, check_choice, check_features
from biasaudio.errors import DataError, ParameterError
from biasaudio.probes.metrics import group_weights, interval, mean_known, resampled_auc
from biasaudio.probes.result import ProbeResult, ValueScore
from biasaudio.probes.ridge import RidgeProbe, choose_penalty, common_units, spread
from biasaudio.probes.splits import assign_parts, equal_mix, majority

__all__ = [
    "KINDS",
    "Clips",
    "Split",
    "as_clips",
    "check_columns",
    "make_splits",
    "permute_values",
    "probe_domain",
    "run_probe",
]

KINDS = ("linear", "scaled")
_DESIGNS = ("cross-fit", "three-way")
# Where clips are few, redrawing steadies the number; with many it costs and adds nothing.
_MANY_CLIPS = 4000
_Array = NDArray[np.float64]
_Codes = NDArray[np.intp]
_Floats = NDArray[np.floating[Any]]


@one_blas_thread()
def probe_domain(
    X: ArrayLike,
    domain: ArrayLike,
    *,
    groups: ArrayLike | None = None,
    strata: ArrayLike | None = None,
    correction: Any = None,
    fit_params: Mapping[str, ArrayLike] | None = None,
    design: str | None = None,
    kind: str = "linear",
    n_splits: int = 5,
    n_repeats: int | None = None,
    n_permutations: int = 200,
    n_resamples: int = 1000,
    random_state: int | np.random.Generator | None = 0,
) -> ProbeResult:
    """Measure how well a linear probe names the dataset of held-out clips.

    Parameters
    ----------
    X : array_like [shape=(n, d)]
        One vector per clip.
    domain : array_like of str or int [shape=(n,)]
        The dataset of each clip.
    groups : array_like of str or int [shape=(n,)], optional
        Song or artist; no group is on two sides of a split.  None: every clip
        is its own group.
    strata : array_like of str or int [shape=(n,)], optional
        The class of each clip.  If given, every domain is subsampled to the
        same class mix, so that different instruments are not taken for
        different datasets.  An empty string leaves a clip out.
    correction : str or transformer, optional
        An unfitted correction of `biasaudio.transforms`, or its name in
        `biasaudio.transforms.METHODS`.
    fit_params : mapping of str to array_like [shape=(n,)], optional
        Further keywords of the correction's ``fit``, such as ``genre``.
    design : {"cross-fit", "three-way"}, optional
        "three-way": a correction is fitted on part A, the probe on part B and
        scored on part C, in three rotations.  The default with a correction;
        ask for it without one to get the number that compares with it.
        "cross-fit": the probe alone, in ``n_splits`` folds.
    kind : {"linear", "scaled"}
        "linear" reads the vectors as they are, features in different units
        apart (see `biasaudio.probes.ridge`); "scaled" divides every feature
        by its spread first, which reads more out of features that hardly
        vary, and so most of what an imperfect erasure left.
    n_splits : int
        Folds of the cross-fit design.
    n_repeats : int, optional
        How often the split is redrawn; default 1 for a cross-fit of all
        clips and for 4,000 clips or more, else 3.
    n_permutations : int
        For the p-value; 0 for none.
    n_resamples : int
        Bootstrap resamples of groups for the interval.
    random_state : int, np.random.Generator or None
        Of the splits, resamples and permutations; an int gives the same numbers
        again.

    Returns
    -------
    ProbeResult

    Raises
    ------
    ParameterError
        If an option is not allowed, a correction is unknown, or it is asked for
        in sample.
    DataError
        If arrays disagree, there is one domain, a domain has fewer groups
        than there are parts, or no class is shared.

    Notes
    -----
    Eraser and probe fitted on the same clips give an AUC of exactly .5 by
    construction, and cross-validation on the eraser's own clips gives less
    than .5; neither says anything about new clips.  Hence the three parts.
    The interval resamples groups of the scored clips; it does not contain the
    variation of training the probe.

    Examples
    --------
    >>> from biasaudio.datasets.synthetic import make_domains
    >>> table, _ = make_domains(n=600, d=8, random_state=0)
    >>> clips = table.clips
    >>> before = probe_domain(table.X, clips.dataset, groups=clips.group_id, design="three-way")
    >>> after = probe_domain(table.X, clips.dataset, groups=clips.group_id, correction="leace")
    >>> before.auc > 0.8 > 0.65 > after.auc
    True
    """
    X = common_units(check_features(X))
    clips = as_clips(X, domain, "domain", groups, strata)
    columns = check_columns(fit_params, domain, len(X))
    return run_probe(
        clips,
        correction=correction,
        columns=columns,
        design=design,
        kind=kind,
        n_splits=n_splits,
        n_repeats=n_repeats,
        n_permutations=n_permutations,
        n_resamples=n_resamples,
        random_state=random_state,
    )


@dataclass(frozen=True)
class Clips:
    """What a probe knows of the clips: vectors [shape=(n, d)] and codes [shape=(n,)].

    Attributes
    ----------
    X : np.ndarray [shape=(n, d)]
    values : np.ndarray of codes [shape=(n,)]
        What is read off the vectors.
    names : np.ndarray of str
        What these codes stand for.
    groups : np.ndarray of codes [shape=(n,)]
    strata : np.ndarray of codes [shape=(n,)] or None
        Below zero where a clip has none.
    """

    X: _Floats
    values: _Codes
    names: NDArray[Any]
    groups: _Codes
    strata: _Codes | None


@dataclass(frozen=True)
class _Turn:
    """Row numbers of the clips of each part; ``fit`` may be empty."""

    fit: _Codes
    train: _Codes
    test: _Codes


@dataclass(frozen=True)
class Split:
    """One split of the clips, or of a subsample, and the turns of its parts.

    ``rows`` are sorted row numbers, ``part`` is the part of each.
    """

    rows: _Codes
    part: _Codes
    turns: tuple[_Turn, ...]


@dataclass(frozen=True)
class _Scored:
    """What one turn gave.

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


def as_clips(
    X: _Floats,
    values: ArrayLike,
    name: str,
    groups: ArrayLike | None,
    strata: ArrayLike | None,
) -> Clips:
    """Codes of the clips, checked; ``name`` is what messages call the values."""
    names, codes = check_categories(values, name, len(X), at_least=2)
    group_codes = np.arange(len(X))
    if groups is not None:
        group_codes = check_categories(groups, "groups", len(X))[1]
    stratum_codes = None
    if strata is not None:
        classes, stratum_codes = check_categories(strata, "strata", len(X))
        stratum_codes = np.where((classes.astype(str) == "")[stratum_codes], -1, stratum_codes)
    return Clips(X, codes, names, group_codes, stratum_codes)


def check_columns(
    fit_params: Mapping[str, ArrayLike] | None, domain: ArrayLike | None, n: int
) -> dict[str, NDArray[Any]]:
    """Columns for the ``fit`` of a correction, checked; the domain is one of them."""
    columns = {name: np.asarray(column) for name, column in (fit_params or {}).items()}
    if domain is not None:
        columns["domain"] = np.asarray(domain)
    for name, column in columns.items():
        check_categories(column, name, n)
    return columns


def run_probe(
    clips: Clips,
    *,
    correction: Any,
    columns: Mapping[str, NDArray[Any]],
    design: str | None,
    kind: str,
    n_splits: int,
    n_repeats: int | None,
    n_permutations: int,
    n_resamples: int,
    random_state: int | np.random.Generator | None,
) -> ProbeResult:
    """All turns of a probe on checked clips, summed up; parameters as in `probe_domain`."""
    check_choice(kind, "kind", KINDS)
    design = check_choice(
        design or ("cross-fit" if correction is None else "three-way"), "design", _DESIGNS
    )
    if correction is not None:
        if design != "three-way":
            raise ParameterError(
                "a correction cannot be probed on the clips it was fitted on; leave design out "
                "(it is then 'three-way')"
            )
        # Rooms to the right of this one are imported where they are asked for.
        from biasaudio.transforms.methods import as_correction

        correction = as_correction(correction)
    _check_counts(n_splits, n_repeats, n_permutations, n_resamples)
    if n_repeats is None:
        few = len(clips.values) < _MANY_CLIPS
        n_repeats = 3 if few and (design == "three-way" or clips.strata is not None) else 1
    rng = np.random.default_rng(as_seed(random_state))
    splits = make_splits(
        clips, three_way=design == "three-way", n_splits=n_splits, n_repeats=n_repeats, rng=rng
    )
    weights = group_weights(int(clips.groups.max()) + 1, n_resamples, rng)
    scored: list[list[_Scored]] = []
    for split in splits:
        # One split carries the test: a mean of p-values is none, and the splits
        # share their clips.
        n = 0 if scored else n_permutations
        permutations = permute_values(clips, split, n, rng)
        found = []
        for turn in split.turns:
            train, test = _corrected(clips.X, correction, columns, turn)
            if kind == "scaled":
                scale = spread(train)
                train, test = train / scale, test / scale
            found.append(_score(clips, turn, train, test, weights, permutations))
        scored.append(found)
    return _sum_up(clips, scored, design, kind)


def _check_counts(
    n_splits: int, n_repeats: int | None, n_permutations: int, n_resamples: int
) -> None:
    for name, value, least in (
        ("n_splits", n_splits, 2),
        ("n_repeats", 1 if n_repeats is None else n_repeats, 1),
        ("n_permutations", n_permutations, 0),
        ("n_resamples", n_resamples, 0),
    ):
        if value < least:
            raise ParameterError(f"{name}={value!r} is not allowed; give {least} or more")


def make_splits(
    clips: Clips, *, three_way: bool, n_splits: int, n_repeats: int, rng: np.random.Generator
) -> list[Split]:
    """Random splits of the clips, with the turns of their parts."""
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
        turns = []
        for k in range(n_parts):
            test = rows[part == k]
            if three_way:
                fit, train = rows[part == (k + 1) % 3], rows[part == (k + 2) % 3]
                turns.append(_Turn(fit, train, test))
            else:
                turns.append(_Turn(none, rows[part != k], test))
        splits.append(Split(rows, part, tuple(turns)))
    for turn in (turn for split in splits for turn in split.turns):
        for what, rows in (("train", turn.train), ("test", turn.test)):
            missing = np.setdiff1d(np.arange(len(clips.names)), clips.values[rows])
            if missing.size:
                raise DataError(
                    f"{str(clips.names[missing[0]])!r} has no clip in the {what} part of a split "
                    "by group; its groups are too few or too uneven, ask for fewer splits"
                )
    return splits


def permute_values(clips: Clips, split: Split, n: int, rng: np.random.Generator) -> _Codes:
    """Permutations of the values of all clips [shape=(n, n_clips)].

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


def _corrected(
    X: _Floats, correction: Any, columns: Mapping[str, NDArray[Any]], turn: _Turn
) -> tuple[_Floats, _Floats]:
    """Training and test vectors, corrected by what the third part shows."""
    train, test = X[turn.train], X[turn.test]
    if correction is None:
        return train, test
    params = {name: column[turn.fit] for name, column in columns.items()}
    fitted = clone(correction).fit(X[turn.fit], **params)
    if not getattr(fitted, "domain_aware", False):
        return fitted.transform(train), fitted.transform(test)
    domain = columns["domain"]
    return (
        fitted.transform(train, domain=domain[turn.train]),
        fitted.transform(test, domain=domain[turn.test]),
    )


def _score(
    clips: Clips,
    turn: _Turn,
    train: _Floats,
    test: _Floats,
    weights: _Array,
    permutations: _Codes,
) -> _Scored:
    """Scores of the test part by the probe of the training part, resampled, and their null.

    Parameters
    ----------
    clips : Clips
    turn : _Turn
    train, test : np.ndarray [shape=(m, d)]
        The vectors of these parts, corrected.
    weights : np.ndarray [shape=(n_resamples, n_groups)]
    permutations : np.ndarray of codes [shape=(n_permutations, n)]

    Returns
    -------
    _Scored
    """
    k = len(clips.names)
    targets = np.equal(clips.values[turn.train][:, None], np.arange(k)).astype(np.float64)
    penalty = choose_penalty(train, targets, clips.groups[turn.train])
    probe = RidgeProbe(train, penalty=penalty)
    rotated = probe.rotate(test)
    own, scores = probe.fit(targets).score(probe.rotate(train)), probe.score(rotated)
    positive = targets > 0
    # Scores of a rare value lie low: its own clips and the rest meet half way.
    middle = [(own[p, j].mean() + own[~p, j].mean()) / 2 for j, p in enumerate(positive.T)]
    values, groups = clips.values[turn.test], clips.groups[turn.test]
    return _Scored(
        turn.test,
        scores,
        (scores - middle).argmax(axis=1),
        _aucs(scores, values, weights, groups).mean(axis=-1),
        _null(probe, rotated, permutations[:, turn.train], permutations[:, turn.test], k),
    )


def _null(
    probe: RidgeProbe, test: _Array, train_values: _Codes, test_values: _Codes, k: int
) -> _Array:
    """Mean AUC of the probe refitted on permuted values."""
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


def _aucs(scores: _Array, values: _Codes, weights: _Array, groups: _Codes) -> _Array:
    """One-vs-rest ROC-AUC of each value [shape=(..., k)]."""
    k = scores.shape[1]
    # Two values give the same AUC twice, so it is computed once.
    columns = [
        resampled_auc(scores[:, j], values == j, weights, groups) for j in range(k if k > 2 else 1)
    ]
    return np.stack(columns if k > 2 else columns * 2, axis=-1)


def _sum_up(clips: Clips, scored: list[list[_Scored]], design: str, kind: str) -> ProbeResult:
    """Average over the turns of all splits."""
    k = len(clips.names)
    turns = [s for split in scored for s in split]
    flat = np.ones((1, len(clips.groups)))
    by_turn = np.array([_aucs(s.scores, clips.values[s.test], flat, s.test)[0] for s in turns])
    hits = np.zeros(k)
    counts = np.zeros(k)
    for s in turns:
        values = clips.values[s.test]
        hits += np.bincount(values[s.predicted == values], minlength=k)
        counts += np.bincount(values, minlength=k)
    rows = np.unique(np.concatenate([s.test for s in turns]))
    low, high = interval(mean_known(np.array([s.resampled for s in turns])))
    by_value = tuple(
        ValueScore(str(name), int(n), float(one), float(recall))
        for name, n, one, recall in zip(
            clips.names,
            np.bincount(clips.values[rows], minlength=k),
            by_turn.mean(axis=0),
            hits / counts,
        )
    )
    return ProbeResult(
        auc=float(by_turn.mean()),
        low=low,
        high=high,
        p_value=_p_value(by_turn[: len(scored[0])], scored[0]),
        balanced_accuracy=float(np.mean(hits / counts)),
        chance_accuracy=1 / k,
        n=len(rows),
        n_groups=len(np.unique(clips.groups[rows])),
        by_value=by_value,
        design=design,
        mix="raw" if clips.strata is None else "equal",
        kind=kind,
    )


def _p_value(observed: NDArray[np.float64], turns: list[_Scored]) -> float:
    """P-value of one split: its mean AUC against that of its permutations."""
    permuted = np.mean([s.permuted for s in turns], axis=0)
    if not len(permuted):
        return float("nan")
    return float((1 + (permuted >= observed.mean() - 1e-12).sum()) / (1 + len(permuted)))
