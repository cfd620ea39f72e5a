"""What it costs to train on another dataset, with an interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from biasaudio.probes.metrics import bootstrap_p_value, interval, mean_known
from biasaudio.transfer.resample import Curve

__all__ = ["Drop", "measure_drops"]


@dataclass(frozen=True)
class Drop:
    """Hold the transfer drop of one method on one (train set, test set) pair.

    Attributes
    ----------
    method, mode, train_set, test_set : str
    within : float
        Mean ROC-AUC over labels when the test set's own training clips train.
    across : float
        The same when the clips of ``train_set`` do.
    drop : float
        ``within - across``, on the same test clips.
    low, high : float
        95 % bootstrap interval of the drop, over the test groups.
    p_value : float
        Two-sided, of no drop.
    n_labels, n_groups : int
    """

    method: str
    mode: str
    train_set: str
    test_set: str
    within: float
    across: float
    drop: float
    low: float
    high: float
    p_value: float
    n_labels: int
    n_groups: int


def measure_drops(curves: Mapping[tuple[str, str, str, str], Curve]) -> list[Drop]:
    """Measure the drop of every method on every pair of different datasets.

    Parameters
    ----------
    curves : mapping of (mode, train set, test set, method) to Curve
        As `biasaudio.transfer.resample.resample` returns them.

    Returns
    -------
    list of Drop

    Notes
    -----
    Test groups are resampled, the same for both classifiers.  The interval
    holds for new test groups of the same dataset, not for new training clips.
    """
    drops = []
    for (mode, train_set, test_set, method), curve in curves.items():
        if train_set == test_set:
            continue
        own = curves[mode, test_set, test_set, method]
        within, across = float(own.observed.mean()), float(curve.observed.mean())
        samples = mean_known(own.samples - curve.samples)
        low, high = interval(samples)
        drops.append(
            Drop(
                method=method,
                mode=mode,
                train_set=train_set,
                test_set=test_set,
                within=within,
                across=across,
                drop=within - across,
                low=low,
                high=high,
                p_value=bootstrap_p_value(samples),
                n_labels=len(curve.observed),
                n_groups=curve.n_groups,
            )
        )
    return drops
