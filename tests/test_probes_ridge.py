"""The probe's classifier equals scikit-learn's, and its scaling keeps its rules."""

import numpy as np
import pytest
from sklearn.linear_model import Ridge

from biasaudio.probes.ridge import (
    PENALTIES,
    RidgeProbe,
    choose_penalty,
    common_scale,
    common_units,
    has_units,
    spread,
)


@pytest.fixture(params=[(80, 12), (25, 60), (30, 30)], ids=["n > d", "n < d", "n = d"])
def data(request, rng):
    n, d = request.param
    X = rng.normal(size=(n, d)) * np.arange(1, d + 1) ** -0.5 + 2
    Y = np.stack([X[:, 0] + rng.normal(size=n) > 2, rng.random(n) < 0.3], axis=1)
    return X, Y.astype(float), rng.normal(size=(9, d)) + 2


def largest_eigenvalue(X):
    Z = X - X.mean(axis=0)
    return np.linalg.eigvalsh(Z @ Z.T)[-1]


@pytest.mark.parametrize("relative", [1e-4, 1e-2, 1.0])
def test_scores_equal_scikit_learn_at_a_given_penalty(data, relative):
    X, Y, new = data
    probe = RidgeProbe(X, penalty=relative).fit(Y)
    theirs = Ridge(alpha=relative * largest_eigenvalue(X), solver="svd").fit(X, Y)
    assert probe.score(probe.rotate(new)) == pytest.approx(theirs.predict(new), abs=1e-8)


def test_the_penalty_is_chosen_on_held_out_groups_and_not_on_held_out_takes(rng):
    # Eight takes of each note: a held-out take is easy, a held-out note is not.
    notes = rng.normal(size=(60, 200)) * np.arange(1, 201) ** -0.5
    value = np.arange(60) % 2
    notes[:, 3] += value
    X = np.repeat(notes, 8, axis=0) + 0.01 * rng.normal(size=(480, 200))
    Y = np.eye(2)[np.repeat(value, 8)]
    by_note = choose_penalty(X, Y, np.repeat(np.arange(60), 8))
    by_take = choose_penalty(X, Y, np.arange(480))
    assert by_note >= 1e-3
    assert by_take < by_note


def test_a_steep_spectrum_with_many_clips_gets_a_small_penalty(rng):
    X = rng.normal(size=(4000, 60)) * np.arange(1, 61) ** -2.0
    value = (X[:, 40] + 1e-4 * rng.normal(size=4000) > 0).astype(int)
    assert choose_penalty(X, np.eye(2)[value], np.arange(4000)) <= 1e-5


def test_the_chosen_penalty_is_one_of_the_grid_for_any_labels(rng):
    X = rng.normal(size=(12, 5))
    Y = np.eye(2)[np.r_[0, np.ones(11, dtype=int)]]
    assert choose_penalty(X, Y, np.arange(12)) in PENALTIES
    assert choose_penalty(X, Y, np.zeros(12, dtype=int)) in PENALTIES


def test_many_targets_are_each_one_alone(data):
    X, Y, new = data
    probe = RidgeProbe(X)
    rotated = probe.rotate(new)
    together = probe.fit(Y).score(rotated)
    for j in range(Y.shape[1]):
        alone = probe.fit(Y[:, [j]]).score(rotated)
        assert together[:, [j]] == pytest.approx(alone, abs=1e-12)


def test_the_order_of_the_clips_and_a_shift_do_not_matter(data, rng):
    X, Y, new = data
    order, shift = rng.permutation(len(X)), 100 * rng.normal(size=X.shape[1])
    one, other = RidgeProbe(X).fit(Y), RidgeProbe(X[order] + shift).fit(Y[order])
    assert other.score(other.rotate(new + shift)) == pytest.approx(
        one.score(one.rotate(new)), abs=1e-7
    )


def test_a_planted_target_is_found_and_a_random_one_is_flat(rng):
    X = rng.normal(size=(400, 20))
    planted = (X[:, 3] > 0).astype(float)
    noise = rng.permutation(planted)
    probe = RidgeProbe(X).fit(np.stack([planted, noise], axis=1))
    new = rng.normal(size=(4000, 20))
    scores = probe.score(probe.rotate(new))
    assert np.corrcoef(scores[:, 0], new[:, 3])[0, 1] > 0.95
    assert scores[:, 1].std() < 0.25 * scores[:, 0].std()


@pytest.mark.parametrize("value", [0.0, 0.1, 1e6])
def test_constant_features_give_constant_scores(value):
    X, Y = np.full((12, 5), value), (np.arange(12) < 4).astype(float)[:, None]
    probe = RidgeProbe(X).fit(Y)
    assert probe.score(probe.rotate(X)) == pytest.approx(np.full((12, 1), 1 / 3))


def test_spread_is_the_standard_deviation_and_never_zero(rng):
    X = rng.normal(size=(500, 4)) * [1, 10, 0.1, 0] + [0, 0, 0, 50]
    found = spread(X.astype(np.float32))
    assert found[:3] == pytest.approx(X[:, :3].std(axis=0), rel=1e-5)
    assert 0 < found[3] <= 1e-4
    assert (spread(np.zeros((5, 3))) > 0).all()


def test_embeddings_have_no_units_and_hand_crafted_features_do(rng):
    d = 64
    embedding = rng.normal(size=(200, d)) * np.linspace(0.3, 3, d)
    assert not has_units(embedding)
    crafted = embedding.copy()
    crafted[:, 5] *= 2000
    assert has_units(crafted)


def test_few_dimensions_need_more_than_a_quarter(rng):
    # One of two features always carries half the variance or more.
    assert not has_units(rng.normal(size=(50, 1)))
    assert not has_units(rng.normal(size=(50, 2)) * [1, 30])
    assert has_units(rng.normal(size=(500, 8)) * [1, 1, 1, 1, 1, 1, 1, 30])
    assert not has_units(rng.normal(size=(500, 8)) * [1, 1, 1, 1, 1, 1, 1, 1.5])


def test_units_are_changed_only_where_they_differ(rng):
    X = rng.normal(size=(300, 16)) * np.linspace(0.5, 1.5, 16)
    assert common_units(X) is X
    assert common_scale(X) == pytest.approx(np.sqrt(X.var(axis=0).mean()))
    X[:, 0] *= 1000
    assert common_units(X).std(axis=0) == pytest.approx(np.ones(16))


def test_only_the_given_clips_decide_about_units(rng):
    X = rng.normal(size=(300, 16)).astype(np.float32)
    X[200:, 0] *= 1000
    train = np.arange(300) < 200
    assert common_units(X, train) is X
    assert common_units(X).dtype == np.float32
    assert common_units(X, ~train)[200:].std(axis=0) == pytest.approx(np.ones(16), rel=1e-4)
