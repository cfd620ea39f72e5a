"""The identity probe: which dataset does this clip come from."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray
from sklearn.base import clone

from biasaudio._validation import check_categories, check_choice, check_features
from biasaudio.errors import ParameterError
from biasaudio.probes._engine import (
    Clips,
    Plan,
    Scored,
    aucs,
    make_splits,
    permute_values,
    run_plan,
)
from biasaudio.probes.inference import group_weights, interval, mean_known
from biasaudio.probes.result import ProbeResult, ValueScore
from biasaudio.probes.scaling import common_units

__all__ = ["KINDS", "probe_domain"]

KINDS = ("linear", "scaled")
_DESIGNS = ("cross-fit", "three-way")
_Floats = NDArray[np.floating[Any]]


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
    random_state: int = 0,
) -> ProbeResult:
    """Measure how well a linear probe names the dataset of held-out clips.

    Parameters
    ----------
    X : array_like [shape=(n, d)]
        One vector a clip.
    domain : array_like of str or int [shape=(n,)]
        The dataset of each clip.
    groups : array_like of str or int [shape=(n,)], optional
        Song or artist; no group is on two sides of a split.  None: every clip
        is its own group.
    strata : array_like of str or int [shape=(n,)], optional
        The class of each clip.  If given, every domain is subsampled to the
        same class mix, so that different instruments are not taken for
        different datasets.  An empty string leaves a clip out.
    correction : transformer, optional
        An unfitted correction of `biasaudio.transforms`.
    fit_params : mapping of str to array_like [shape=(n,)], optional
        Further keywords of the correction's ``fit``, such as ``genre``.
    design : {"cross-fit", "three-way"}, optional
        "three-way": a correction is fitted on part A, the probe on part B and
        scored on part C, in three rotations.  The default with a correction;
        ask for it without one to get the number that compares with it.
        "cross-fit": the probe alone, in ``n_splits`` folds.
    kind : {"linear", "scaled"}
        "linear" reads the vectors as they are, features in different units
        apart (see `biasaudio.probes.scaling`); "scaled" divides every feature
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
    random_state : int

    Returns
    -------
    ProbeResult

    Raises
    ------
    ParameterError
        If an option is not allowed, or a correction is asked for in sample.
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
    >>> from biasaudio.transforms import LEACE
    >>> table, _ = make_domains(n=600, d=8, random_state=0)
    >>> clips = table.clips
    >>> before = probe_domain(table.X, clips.dataset, groups=clips.group_id, design="three-way")
    >>> after = probe_domain(table.X, clips.dataset, groups=clips.group_id, correction=LEACE())
    >>> before.auc > 0.8 > 0.65 > after.auc
    True
    """
    X = common_units(check_features(X))
    clips = _as_clips(X, domain, "domain", groups, strata)
    columns = {k: np.asarray(v) for k, v in (fit_params or {}).items()}
    columns["domain"] = np.asarray(domain)
    for name, column in columns.items():
        check_categories(column, name, len(X))
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


def _as_clips(
    X: _Floats,
    values: ArrayLike,
    name: str,
    groups: ArrayLike | None,
    strata: ArrayLike | None,
) -> Clips:
    """Return the checked codes of the clips."""
    names, codes = check_categories(values, name, len(X), at_least=2)
    group_codes = np.arange(len(X))
    if groups is not None:
        group_codes = check_categories(groups, "groups", len(X))[1]
    stratum_codes = None
    if strata is not None:
        classes, stratum_codes = check_categories(strata, "strata", len(X))
        stratum_codes = np.where((classes.astype(str) == "")[stratum_codes], -1, stratum_codes)
    return Clips(X, codes, names, group_codes, stratum_codes)


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
    random_state: int,
) -> ProbeResult:
    """Run all plans of a probe on checked clips and sum them up."""
    check_choice(kind, "kind", KINDS)
    design = check_choice(
        design or ("cross-fit" if correction is None else "three-way"), "design", _DESIGNS
    )
    if correction is not None and design != "three-way":
        raise ParameterError(
            "a correction cannot be probed on the clips it was fitted on; leave design out "
            "(it is then 'three-way')"
        )
    _check_counts(n_splits, n_repeats, n_permutations, n_resamples)
    if n_repeats is None:
        # Redrawing steadies the number where clips are few; with many it costs and adds nothing.
        few = len(clips.values) < 4000
        n_repeats = 3 if few and (design == "three-way" or clips.strata is not None) else 1
    rng = np.random.default_rng(random_state)
    splits = make_splits(
        clips, three_way=design == "three-way", n_splits=n_splits, n_repeats=n_repeats, rng=rng
    )
    weights = group_weights(int(clips.groups.max()) + 1, n_resamples, rng)

    scored: list[list[Scored]] = []
    for split in splits:
        # One split carries the test: a mean of p-values is none, and the splits
        # share their clips.
        n = 0 if scored else n_permutations
        permutations = permute_values(clips, split, n, rng)
        scored.append(
            [
                run_plan(
                    clips,
                    plan,
                    *_correct(clips.X, correction, columns, plan),
                    scaled=kind == "scaled",
                    weights=weights,
                    permutations=permutations,
                )
                for plan in split.plans
            ]
        )
    return _sum_up(clips, scored, design, kind)


def _correct(
    X: _Floats, correction: Any, columns: Mapping[str, NDArray[Any]], plan: Plan
) -> tuple[_Floats, _Floats]:
    """Return the training and the test vectors, corrected by what the third part shows."""
    train, test = X[plan.train], X[plan.test]
    if correction is None:
        return train, test
    params = {name: column[plan.fit] for name, column in columns.items()}
    fitted = clone(correction).fit(X[plan.fit], **params)
    if not fitted.domain_aware:
        return fitted.transform(train), fitted.transform(test)
    domain = columns["domain"]
    return (
        fitted.transform(train, domain=domain[plan.train]),
        fitted.transform(test, domain=domain[plan.test]),
    )


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


def _sum_up(clips: Clips, scored: list[list[Scored]], design: str, kind: str) -> ProbeResult:
    """Average the plans of all splits."""
    k = len(clips.names)
    plans = [s for split in scored for s in split]
    by_plan = np.array(
        [
            aucs(s.scores, clips.values[s.test], np.ones((1, len(clips.groups))), s.test)[0]
            for s in plans
        ]
    )
    hits = np.zeros(k)
    counts = np.zeros(k)
    for s in plans:
        values = clips.values[s.test]
        hits += np.bincount(values[s.predicted == values], minlength=k)
        counts += np.bincount(values, minlength=k)
    rows = np.unique(np.concatenate([s.test for s in plans]))
    low, high = interval(mean_known(np.array([s.resampled for s in plans])))
    by_value = tuple(
        ValueScore(str(name), int(n), float(one), float(recall))
        for name, n, one, recall in zip(
            clips.names,
            np.bincount(clips.values[rows], minlength=k),
            by_plan.mean(axis=0),
            hits / counts,
        )
    )
    return ProbeResult(
        auc=float(by_plan.mean()),
        low=low,
        high=high,
        p_value=_p_value(by_plan[: len(scored[0])], scored[0]),
        balanced_accuracy=float(np.mean(hits / counts)),
        chance_accuracy=1 / k,
        n=len(rows),
        n_groups=len(np.unique(clips.groups[rows])),
        by_value=by_value,
        design=design,
        mix="raw" if clips.strata is None else "equal",
        kind=kind,
    )


def _p_value(observed: NDArray[np.float64], plans: list[Scored]) -> float:
    """Return the p-value of one split: its mean AUC against that of its permutations."""
    permuted = np.mean([s.permuted for s in plans], axis=0)
    if not len(permuted):
        return float("nan")
    return float((1 + (permuted >= observed.mean() - 1e-12).sum()) / (1 + len(permuted)))
