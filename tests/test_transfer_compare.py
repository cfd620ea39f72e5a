"""Differences before and after, and drops: what is planted is found, what is not is not."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from biasaudio.datasets.synthetic import make_domains
from biasaudio.errors import ParameterError
from biasaudio.probes.metrics import bootstrap_p_value, group_weights, holm
from biasaudio.transfer import (
    Outcome,
    Task,
    TransferResult,
    compare,
    evaluate,
    measure_drops,
    resample,
)
from biasaudio.transfer.task import measure

SCALES = {"original": 1.0, "same": 1.0, "better": 0.4, "worse": 3.0}


def as_task(rng, n=240, n_labels=2, group_size=3):
    """Return a task whose vectors do not matter: the scores are made by hand."""
    domain = np.repeat(["a", "b"], n // 2)
    groups = np.arange(n) // group_size
    Y = rng.random((n, n_labels)) < 0.4
    mask = rng.random((n, n_labels)) < 0.8
    names = tuple(f"label{j}" for j in range(n_labels))
    return Task(rng.normal(size=(n, 2)), domain, groups % 2 == 0, Y, mask, names, groups)


def as_result(task, rng, scales, modes=("global",), pairs=("aa", "ab", "ba", "bb")):
    """Return scores that are the truth and noise of a scale for each method."""
    noise = {
        (j, target): rng.normal(size=len(task.rows(j, target, train=False)))
        for j in range(len(task.label_names))
        for target in "ab"
    }
    outcomes = []
    for method, scale in scales.items():
        for mode in modes:
            for source, target in pairs:
                for j, label in enumerate(task.label_names):
                    truth = task.Y[task.rows(j, target, train=False), j]
                    level = scale(source, target) if callable(scale) else scale
                    scores = truth + level * noise[j, target]
                    outcomes.append(
                        Outcome(label, source, target, method, mode, measure(truth, scores), scores)
                    )
    return TransferResult(task, tuple(outcomes))


@pytest.fixture
def task(rng):
    return as_task(rng)


def test_a_planted_improvement_is_found_and_identical_scores_are_no_change(task, rng):
    for one in compare(as_result(task, rng, SCALES), n_resamples=300):
        if one.method == "better":
            assert one.verdict == "better"
            assert 0 < one.low < one.delta < one.high
            assert one.p_holm < 0.05
        elif one.method == "worse":
            assert one.verdict == "worse"
            assert one.high < 0
        else:
            assert one.verdict == "no measurable change"
            assert (one.delta, one.low, one.high) == (0.0, 0.0, 0.0)
            assert (one.p_value, one.p_holm) == (1.0, 1.0)


def test_there_is_one_comparison_for_each_pair_mode_and_method(task, rng):
    result = as_result(task, rng, SCALES, modes=("global", "classwise"))
    found = compare(result, n_resamples=20)
    keys = {(c.mode, c.train_set, c.test_set, c.method) for c in found}
    assert len(found) == len(keys) == 2 * 4 * 3
    assert {c.n_labels for c in found} == {2}
    assert {c.n_groups for c in found} == {20}
    assert compare(as_result(task, rng, {"original": 1.0})) == []


def test_before_and_after_are_the_means_over_labels(task, rng):
    result = as_result(task, rng, SCALES)
    for one in compare(result, n_resamples=20):
        for method, value in (("original", one.before), (one.method, one.after)):
            rows = [
                row["roc_auc"]
                for row in result.rows()
                if (row["method"], row["train_set"], row["test_set"])
                == (method, one.train_set, one.test_set)
            ]
            assert value == pytest.approx(np.mean(rows))
        assert one.delta == pytest.approx(one.after - one.before)


def test_holm_counts_the_methods_of_a_pair_and_no_others(task, rng):
    result = as_result(task, rng, SCALES)
    found = compare(result, n_resamples=200)
    for source, target in ("aa", "ab", "ba", "bb"):
        pair = [c for c in found if (c.train_set, c.test_set) == (source, target)]
        expected = holm([c.p_value for c in pair])
        assert [c.p_holm for c in pair] == pytest.approx(list(expected))
    alone = compare(as_result(task, rng, {"original": 1.0, "better": 0.4}), n_resamples=200)
    assert all(c.p_holm == c.p_value for c in alone)


def test_a_small_p_value_is_not_enough_when_many_methods_were_tried(task, rng):
    # 2 * 1 / (n + 1) is the least there is: with 150 resamples Holm's step of 10 is above .05.
    scales = {"original": 1.0} | {f"better{i}": 0.4 for i in range(10)}
    found = compare(as_result(task, rng, scales), n_resamples=150)
    assert min(c.p_value for c in found) == pytest.approx(2 / 151)
    assert {c.verdict for c in found} == {"no measurable change"}


def test_the_bootstrap_equals_a_loop_with_scikit_learn(rng):
    task = as_task(rng, n=72)
    result = as_result(task, rng, {"original": 1.0, "better": 0.6}, pairs=("ab", "bb"))
    n_resamples, seed = 40, 3
    found = {c.train_set: c for c in compare(result, n_resamples=n_resamples, random_state=seed)}
    inside = ~task.is_train & (task.domain == "b")
    ids = np.unique(task.groups[inside])
    # Only "b" is a test set, so its weights are the first that are drawn.
    weights = group_weights(len(ids), n_resamples, np.random.default_rng(seed))
    for source in "ab":
        differences = []
        for draw in weights:
            by_label = []
            for j, label in enumerate(task.label_names):
                rows = task.rows(j, "b", train=False)
                counts = np.array([draw[ids.tolist().index(g)] for g in task.groups[rows]])
                truth = task.Y[rows, j]
                if not counts[truth].sum() or not counts[~truth].sum():
                    continue
                auc = {
                    o.method: roc_auc_score(truth, o.scores, sample_weight=counts)
                    for o in result.outcomes
                    if (o.label, o.train_set) == (label, source)
                }
                by_label.append(auc["better"] - auc["original"])
            differences.append(np.mean(by_label))
        one = found[source]
        assert [one.low, one.high] == pytest.approx(np.quantile(differences, [0.025, 0.975]))
        assert one.p_value == pytest.approx(bootstrap_p_value(differences))


def test_the_difference_is_paired(rng):
    # Both methods share their noise: the difference is far surer than either number.
    task = as_task(rng, n=480)
    curves = resample(as_result(task, rng, {"original": 1.0, "better": 0.8}), n_resamples=300)
    before = curves["global", "a", "b", "original"].samples.mean(axis=0)
    after = curves["global", "a", "b", "better"].samples.mean(axis=0)
    apart = np.sqrt(before.var() + after.var())
    assert (after - before).std() < 0.5 * apart


def test_groups_and_not_clips_are_resampled(rng):
    # Ten copies of every clip say no more than one: the interval must not shrink.
    one = as_task(rng, n=120, group_size=1)
    ten = Task(
        *(np.repeat(a, 10, axis=0) for a in (one.X, one.domain, one.is_train, one.Y, one.mask)),
        one.label_names,
        np.repeat(one.groups, 10),
    )
    result = as_result(one, rng, {"original": 1.0, "better": 0.6})
    copied = [
        Outcome(
            *(o.label, o.train_set, o.test_set, o.method, o.mode, o.metrics),
            np.repeat(o.scores, 10),
        )
        for o in result.outcomes
    ]
    a, b = (compare(r, n_resamples=200) for r in (result, TransferResult(ten, tuple(copied))))
    for first, second in zip(a, b, strict=True):
        assert (first.low, first.high) == pytest.approx((second.low, second.high), abs=1e-9)


def test_same_seed_same_numbers(task, rng):
    result = as_result(task, rng, SCALES)
    first = compare(result, n_resamples=100, random_state=1)
    assert compare(result, n_resamples=100, random_state=1) == first
    assert compare(result, n_resamples=100, random_state=2) != first


def test_curves_can_be_given_instead(task, rng):
    result = as_result(task, rng, SCALES)
    curves = resample(result, n_resamples=50, random_state=4)
    assert compare(result, curves=curves) == compare(result, n_resamples=50, random_state=4)


def test_a_label_that_a_resample_cannot_score_is_left_out_of_it(rng):
    task = as_task(rng, n=240, group_size=1)
    rare = task.Y.copy()
    tests = [task.rows(1, d, train=False) for d in "ab"]
    for rows in tests:
        rare[rows, 1] = False
        rare[rows[0], 1] = True  # one positive: a third of the resamples miss it
    task = Task(
        *(task.X, task.domain, task.is_train, rare, task.mask, task.label_names, task.groups)
    )
    result = as_result(task, rng, {"original": 1.0, "better": 0.4})
    curve = resample(result, n_resamples=200)["global", "a", "b", "better"]
    assert 0.2 < np.isnan(curve.samples[1]).mean() < 0.5
    assert not np.isnan(curve.samples[0]).any()
    for one in compare(result, n_resamples=200):
        assert np.isfinite([one.low, one.high, one.p_value]).all()


def test_no_resamples_is_an_error(task, rng):
    result = as_result(task, rng, SCALES)
    for call in (compare, resample):
        with pytest.raises(ParameterError, match="n_resamples=0 is not allowed; give 100 or more"):
            call(result, n_resamples=0)


def test_a_planted_drop_is_measured_for_every_method_and_pair(task, rng):
    def noisy(source, target):
        return 0.5 if source == target else 2.0

    result = as_result(task, rng, {"original": noisy, "flat": 1.0})
    drops = measure_drops(resample(result, n_resamples=300))
    assert {(d.method, d.train_set, d.test_set) for d in drops} == {
        (m, *pair) for m in ("original", "flat") for pair in ("ab", "ba")
    }
    for drop in drops:
        assert drop.drop == pytest.approx(drop.within - drop.across)
        if drop.method == "original":
            assert 0.05 < drop.low < drop.drop < drop.high
            assert drop.p_value < 0.02
        else:
            # The same scores from either training set: no drop, and no doubt about it.
            assert (drop.drop, drop.low, drop.high, drop.p_value) == (0.0, 0.0, 0.0, 1.0)


def test_p_values_of_no_difference_are_not_small(rng):
    p = []
    for _ in range(30):
        task = as_task(rng, n=120)
        result = as_result(task, rng, {"original": 1.0}, pairs=("aa",))
        other = as_result(task, rng, {"other": 1.0}, pairs=("aa",))
        both = TransferResult(task, result.outcomes + other.outcomes)
        p += [c.p_value for c in compare(both, n_resamples=100)]
    assert np.mean(np.array(p) < 0.05) < 0.2
    assert 0.3 < np.mean(p) < 0.7


def test_centering_is_no_measurable_change_on_real_classifiers():
    table, _ = make_domains(n=360, d=8, n_labels=2, label_effect=0.7, random_state=0)
    clips = table.clips
    task = Task(
        *(table.X.astype(np.float64), clips.dataset.astype(str), clips.split == "train"),
        *(clips.labels.to_numpy(), clips.mask.to_numpy(), tuple(clips.label_names)),
        clips.group_id,
    )
    for one in compare(evaluate(task, methods=["center"]), n_resamples=100):
        assert one.verdict == "no measurable change"
        assert abs(one.delta) < 1e-9
