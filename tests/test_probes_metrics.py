"""The numbers behind every interval and p-value, against slower second opinions."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score

from biasaudio.probes.metrics import (
    bootstrap_p_value,
    group_weights,
    holm,
    interval,
    mean_known,
    resampled_auc,
    weighted_auc,
)


@pytest.mark.parametrize("levels", [3, 20, None], ids=["many ties", "some ties", "no ties"])
def test_weighted_auc_equals_scikit_learn_and_the_double_sum(rng, levels):
    for _ in range(20):
        n = int(rng.integers(5, 60))
        scores = rng.normal(size=n) if levels is None else rng.integers(levels, size=n) / 7
        truth = np.arange(n) % 3 == 0
        weights = rng.integers(0, 4, size=n) + (rng.random(n) if rng.random() < 0.5 else 0.0)
        weights[:2] += 1  # both classes have weight
        found = weighted_auc(scores, truth, weights)
        assert found == pytest.approx(
            roc_auc_score(truth, scores, sample_weight=weights), abs=1e-12
        )
        s, q = scores[truth][:, None], scores[~truth]
        pairs = weights[truth][:, None] * weights[~truth]
        double_sum = (pairs * ((s > q) + (s == q) / 2)).sum() / pairs.sum()
        assert found == pytest.approx(double_sum, abs=1e-12)


def test_weighted_auc_of_many_weightings_is_each_one_alone(rng):
    scores, truth = rng.integers(6, size=40) / 3, rng.random(40) < 0.4
    weights = rng.multinomial(40, np.full(40, 1 / 40), size=25)
    together = weighted_auc(scores, truth, weights)
    assert together.shape == (25,)
    for one, w in zip(together, weights, strict=True):
        assert one == weighted_auc(scores, truth, w)


def test_weighted_auc_counts_a_clip_as_often_as_its_weight(rng):
    scores, truth = rng.normal(size=30).round(1), rng.random(30) < 0.5
    weights = rng.integers(0, 3, size=30)
    repeated = np.repeat(np.arange(30), weights)
    assert weighted_auc(scores, truth, weights) == pytest.approx(
        roc_auc_score(truth[repeated], scores[repeated]), abs=1e-12
    )


@pytest.mark.parametrize(
    ("scores", "auc"),
    [
        ([0, 1, 2, 3], 1.0),
        ([3, 2, 1, 0], 0.0),
        ([5, 5, 5, 5], 0.5),
        ([0, 2, 1, 3], 0.75),
        ([0, 1, 1, 2], 0.875),
    ],
    ids=["identity", "reversed", "constant", "one swap", "one tie"],
)
def test_weighted_auc_of_cases_that_can_be_counted(scores, auc):
    truth = np.array([False, False, True, True])
    assert weighted_auc(np.array(scores, float), truth, np.ones(4)) == auc


def test_weighted_auc_is_at_chance_for_scores_that_know_nothing(rng):
    truth = rng.random(4000) < 0.2
    assert abs(weighted_auc(rng.normal(size=4000), truth, np.ones(4000)) - 0.5) < 0.04


def test_weighted_auc_of_two_normals_is_the_known_integral(rng):
    # P(x > y) for unit normals whose means are sqrt(2) apart is Phi(1) = .8413.
    truth = np.arange(200_000) % 2 == 0
    scores = rng.normal(size=200_000) + np.sqrt(2) * truth
    assert weighted_auc(scores, truth, np.ones(200_000)) == pytest.approx(0.8413, abs=0.003)


def test_weighted_auc_ignores_any_increasing_map_and_flips_with_the_sign(rng):
    scores, truth, w = rng.normal(size=50).round(1), rng.random(50) < 0.3, rng.random(50)
    auc = weighted_auc(scores, truth, w)
    assert weighted_auc(np.exp(scores), truth, w) == auc
    assert weighted_auc(-scores, truth, w) == pytest.approx(1 - auc, abs=1e-12)
    order = rng.permutation(50)
    assert weighted_auc(scores[order], truth[order], w[order]) == pytest.approx(auc, abs=1e-14)


def test_weighted_auc_is_nan_where_one_class_has_no_weight():
    scores, truth = np.arange(4.0), np.array([False, False, True, True])
    weights = np.array([[1, 1, 0, 0], [0, 0, 1, 1], [0, 1, 1, 0]])
    found = weighted_auc(scores, truth, weights)
    assert np.isnan(found[:2]).all()
    assert found[2] == 1.0
    assert np.isnan(weighted_auc(scores, np.zeros(4, bool), np.ones(4)))
    assert np.isnan(weighted_auc(scores[:0], truth[:0], np.ones(0)))


@pytest.mark.parametrize("levels", [1, 4, None], ids=["constant", "ties", "no ties"])
@pytest.mark.parametrize("share", [0.0, 0.1, 0.7, 1.0])
def test_resampled_auc_is_weighted_auc_to_the_last_bit(rng, levels, share):
    for n in (1, 2, 7, 90):
        truth = rng.random(n) < share
        scores = rng.normal(size=n) if levels is None else rng.integers(levels, size=n) / 7
        groups = rng.integers(0, n, size=n)  # some have many clips, some none
        weights = group_weights(n, 50, rng)
        found = resampled_auc(scores, truth, weights, groups)
        expected = [weighted_auc(scores, truth, one) for one in weights[:, groups]]
        assert np.array_equal(found, expected, equal_nan=True)


def test_resampled_auc_takes_other_weights_and_layouts(rng):
    scores, truth, groups = rng.normal(size=60), rng.random(60) < 0.4, np.arange(60) // 3
    weights = rng.random((30, 20))
    expected = weighted_auc(scores, truth, weights[:, groups])
    assert resampled_auc(scores, truth, weights, groups) == pytest.approx(expected, abs=1e-14)
    counts = rng.integers(0, 4, size=(30, 20))
    expected = weighted_auc(scores, truth, counts[:, groups])
    for same in (counts, counts.astype(np.uint8), np.asfortranarray(counts, dtype=np.float32)):
        assert np.array_equal(resampled_auc(scores, truth, same, groups), expected, equal_nan=True)


def test_resampled_auc_of_a_part_is_that_part_of_the_resamples(rng):
    scores, truth, groups = rng.normal(size=40), rng.random(40) < 0.4, np.arange(40) // 2
    weights = group_weights(20, 30, rng)
    whole = resampled_auc(scores, truth, weights, groups)
    part = resampled_auc(scores, truth, weights[3::5], groups)
    assert np.array_equal(part, whole[3::5], equal_nan=True)


def test_group_weights_are_draws_with_replacement(rng):
    weights = group_weights(7, 5000, rng)
    assert weights.shape == (5000, 7)
    assert (weights.sum(axis=1) == 7).all()
    assert (weights == weights.astype(int)).all()
    # Each count is binomial(7, 1/7): mean 1, variance 6/7.
    assert np.allclose(weights.mean(axis=0), 1, atol=0.06)
    assert np.allclose(weights.var(axis=0), 6 / 7, atol=0.08)


def test_group_weights_of_one_group_change_nothing(rng):
    assert (group_weights(1, 10, rng) == 1).all()


def test_interval_is_the_percentile_interval_of_what_is_known():
    low, high = interval(np.linspace(0, 1, 101))
    assert (low, high) == pytest.approx((0.025, 0.975))
    assert interval([0.2, np.nan, 0.2]) == (0.2, 0.2)
    assert interval(np.linspace(0, 1, 101), confidence=0.5) == pytest.approx((0.25, 0.75))
    assert np.isnan(interval([np.nan, np.nan])).all()
    assert np.isnan(interval([])).all()


def test_interval_covers_the_mean_as_often_as_it_says(rng):
    covered = 0
    for _ in range(300):
        x = rng.normal(size=80)
        low, high = interval(group_weights(80, 400, rng) @ x / 80)
        covered += low <= 0 <= high
    assert 0.90 <= covered / 300 <= 0.985


def test_mean_known_leaves_nan_out():
    samples = np.array([[1.0, np.nan, np.nan], [3.0, 4.0, np.nan]])
    assert mean_known(samples)[:2].tolist() == [2.0, 4.0]
    assert np.isnan(mean_known(samples)[2])


@pytest.mark.parametrize(
    ("samples", "p"),
    [
        ([0.0] * 99, 1.0),
        ([1.0] * 99, 0.02),
        ([-1.0] * 99, 0.02),
        ([1.0] * 97 + [-1.0] * 2, 0.06),
        ([1.0] * 50 + [-1.0] * 49, 1.0),
        ([1.0] * 98 + [np.nan] + [-1.0], 0.04),
    ],
    ids=["no difference", "all above", "all below", "two below", "both sides", "one unknown"],
)
def test_bootstrap_p_value_counts_the_smaller_side(samples, p):
    assert bootstrap_p_value(samples) == pytest.approx(p)


def test_bootstrap_p_value_is_the_definition_and_two_sided(rng):
    x = rng.normal(0.8, 1, size=499)
    count = min((x <= 0).sum(), (x >= 0).sum())
    assert bootstrap_p_value(x) == 2 * (count + 1) / 500
    assert bootstrap_p_value(-x) == bootstrap_p_value(x)
    assert np.isnan(bootstrap_p_value([np.nan]))


def test_bootstrap_p_value_is_uniform_when_nothing_differs(rng):
    p = []
    for _ in range(300):
        x = rng.normal(size=60)
        p.append(bootstrap_p_value(group_weights(60, 300, rng) @ x / 60))
    assert 0.42 < np.mean(p) < 0.58
    assert 0.01 < np.mean(np.array(p) < 0.05) < 0.10


def test_holm_of_a_hand_worked_example():
    # Sorted .005 .01 .03 .04 times 4 3 2 1 is .02 .03 .06 .04; the maximum so far rules.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.4, 0.9]).tolist() == [0.8, 0.9]
    assert holm([0.6, 0.9]).tolist() == [1.0, 1.0]
    assert holm([0.2]).tolist() == [0.2]
    assert holm([]).shape == (0,)


def test_holm_equals_the_definition_and_rejects_what_the_steps_reject(rng):
    for _ in range(50):
        p = rng.random(int(rng.integers(1, 9))) ** 3
        m, order = len(p), np.argsort(p, kind="stable")
        expected = np.empty(m)
        for i in range(m):
            expected[order[i]] = min(1, max((m - j) * p[order[j]] for j in range(i + 1)))
        assert holm(p) == pytest.approx(expected, abs=1e-15)
        # Step down at level .05: reject while p_(i) <= .05 / (m - i), then stop.
        rejected = np.zeros(m, bool)
        for i in range(m):
            if p[order[i]] * (m - i) > 0.05:
                break
            rejected[order[i]] = True
        assert (rejected == (holm(p) <= 0.05)).all()


def test_holm_leaves_nan_out_of_the_count():
    found = holm([0.02, np.nan, 0.03])
    assert np.isnan(found[1])
    assert found[[0, 2]] == pytest.approx([0.04, 0.04])


def test_holm_keeps_the_error_rate_of_a_family(rng):
    p = rng.random((2000, 5))
    wrong = np.mean([holm(row).min() <= 0.05 for row in p])
    assert 0.03 < wrong < 0.07
