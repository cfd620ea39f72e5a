"""Paired differences between before and after, with intervals and p-values."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass

from biasaudio.probes.metrics import bootstrap_p_value, holm, interval, mean_known
from biasaudio.transfer.resample import Curve, resample
from biasaudio.transfer.task import TransferResult
from biasaudio.transforms.methods import ORIGINAL

__all__ = ["Comparison", "compare"]

_LEVEL = 0.05


@dataclass(frozen=True)
class Comparison:
    """Hold one correction's effect on one (train set, test set) pair.

    Attributes
    ----------
    method, mode, train_set, test_set : str
    n_labels : int
    before, after : float
        Mean ROC-AUC over labels without and with the correction.
    delta : float
        ``after - before``.
    low, high : float
        95 % bootstrap interval of the difference, over the test groups.
    p_value, p_holm : float
        Two-sided, and adjusted for the number of methods of the pair.
    n_groups : int
        Test groups that were resampled.
    verdict : {"better", "worse", "no measurable change"}
        By ``p_holm < 0.05`` and an interval without zero.
    """

    method: str
    mode: str
    train_set: str
    test_set: str
    n_labels: int
    before: float
    after: float
    delta: float
    low: float
    high: float
    p_value: float
    p_holm: float
    n_groups: int
    verdict: str


def compare(
    result: TransferResult,
    *,
    curves: Mapping[tuple[str, str, str, str], Curve] | None = None,
    n_resamples: int = 1000,
    random_state: int = 0,
) -> list[Comparison]:
    """Compare every correction with the uncorrected vectors, pair by pair.

    Parameters
    ----------
    result : TransferResult
    curves : mapping, optional
        As `resample` returns them, where they are there already; the other
        options are then not used.
    n_resamples : int
    random_state : int

    Returns
    -------
    list of Comparison
        One a (mode, train set, test set, method).

    Raises
    ------
    ParameterError
        If there are no resamples.

    Notes
    -----
    Groups of the test set are drawn with replacement, the same for before and
    after and for all labels, so that the difference is paired.  The interval
    holds for new test groups from the same dataset and not for new datasets,
    nor for new training clips.
    """
    if curves is None:
        curves = resample(result, n_resamples=n_resamples, random_state=random_state)
    pairs: dict[tuple[str, str, str], dict[str, Curve]] = defaultdict(dict)
    for (mode, train_set, test_set, method), curve in curves.items():
        pairs[mode, train_set, test_set][method] = curve
    return [comparison for key, pair in pairs.items() for comparison in _one_pair(key, pair)]


def _one_pair(key: tuple[str, str, str], pair: Mapping[str, Curve]) -> list[Comparison]:
    """Return the comparisons of all methods on one (mode, train set, test set)."""
    methods = [method for method in pair if method != ORIGINAL]
    original = pair[ORIGINAL]
    before = float(original.observed.mean())
    samples = {m: mean_known(pair[m].samples - original.samples) for m in methods}
    p_values = {m: bootstrap_p_value(samples[m]) for m in methods}
    adjusted = dict(zip(methods, holm(list(p_values.values()))))
    comparisons = []
    for method in methods:
        after = float(pair[method].observed.mean())
        low, high = interval(samples[method])
        sure = adjusted[method] < _LEVEL and not low <= 0 <= high
        verdict = ("better" if low > 0 else "worse") if sure else "no measurable change"
        comparisons.append(
            Comparison(
                method=method,
                mode=key[0],
                train_set=key[1],
                test_set=key[2],
                n_labels=len(original.observed),
                before=before,
                after=after,
                delta=after - before,
                low=low,
                high=high,
                p_value=p_values[method],
                p_holm=float(adjusted[method]),
                n_groups=original.n_groups,
                verdict=verdict,
            )
        )
    return comparisons
