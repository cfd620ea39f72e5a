"""The batch solver equals scikit-learn's logistic regression, problem by problem."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression

from biasaudio.transfer.logistic import LogisticBatch

EXACT = 1e-9


def theirs(X, y, weights, C):
    model = LogisticRegression(C=C, tol=1e-10, max_iter=50_000)
    return model.fit(X, y, sample_weight=weights)


def objective(X, y, weights, C, W, b):
    margin = np.where(y, 1, -1) * (X @ W + b)
    return weights @ np.logaddexp(0, -margin) + W @ W / (2 * C)


def assert_same(X, y, weights, C, W, b, tolerance=1e-4):
    """Check the scores, and that the objective is no worse than scikit-learn's."""
    model = theirs(X, y, weights, C)
    expected = model.decision_function(X)
    assert X @ W + b == pytest.approx(expected, abs=tolerance * max(1, np.abs(expected).max()))
    ours = objective(X, y, weights, C, W, b)
    best = objective(X, y, weights, C, model.coef_[0], model.intercept_[0])
    assert ours <= best * (1 + 1e-7) + 1e-9


@pytest.fixture(params=[(120, 8), (30, 70), (25, 25)], ids=["n > d", "n < d", "n = d"])
def data(request, rng):
    n, d = request.param
    X = rng.normal(size=(n, d)) * np.arange(1, d + 1) ** -0.5 + 3
    y = X[:, 0] + X[:, 1] + rng.normal(size=n) > 6
    return X, y


@pytest.mark.parametrize("C", [1e-5, 1e-2, 1.0, 100.0])
def test_one_problem(data, C):
    X, y = data
    W, b = LogisticBatch(X, tolerance=EXACT).solve(y[:, None], np.ones((len(X), 1)), C)
    assert W.shape == (X.shape[1], 1)
    assert b.shape == (1,)
    assert_same(X, y, np.ones(len(X)), C, W[:, 0], b[0])


def test_several_labels_folds_and_penalties_in_one_batch(data, rng):
    X, y = data
    n = len(X)
    Y = np.stack([y, ~y, rng.random(n) < 0.3, y], axis=1)
    weights = np.stack(
        [np.ones(n), rng.random(n), rng.integers(0, 3, n), np.arange(n) % 3 != 0], axis=1
    )
    C = np.array([1e-3, 0.1, 1.0, 10.0])
    W, b = LogisticBatch(X, tolerance=EXACT).solve(Y, weights, C)
    for j in range(4):
        assert_same(X, Y[:, j], weights[:, j].astype(float), C[j], W[:, j], b[j])


def test_a_clip_without_weight_is_not_there(data, rng):
    X, y = data
    kept = rng.random(len(X)) < 0.7
    Y = y.copy()
    Y[~kept] = rng.random((~kept).sum()) < 0.5
    W, b = LogisticBatch(X, tolerance=EXACT).solve(Y[:, None], kept[:, None].astype(float), 1.0)
    model = theirs(X[kept], y[kept], None, 1.0)
    assert X @ W + b == pytest.approx(model.decision_function(X)[:, None], abs=2e-4)


def test_balanced_weights_equal_the_balanced_option(data):
    X, y = data
    n = len(y)
    weights = np.where(y, n / (2 * y.sum()), n / (2 * (~y).sum()))
    W, b = LogisticBatch(X, tolerance=EXACT).solve(y[:, None], weights[:, None], 0.1)
    model = LogisticRegression(C=0.1, class_weight="balanced", tol=1e-10, max_iter=50_000)
    assert X @ W + b == pytest.approx(model.fit(X, y).decision_function(X)[:, None], abs=1e-4)


def test_the_gradient_vanishes_at_the_solution(data):
    X, y = data
    W, b = LogisticBatch(X, tolerance=EXACT).solve(y[:, None], np.ones((len(X), 1)), 1.0)
    residual = 1 / (1 + np.exp(-(X @ W + b))) - y[:, None]
    assert np.abs(X.T @ residual + W).max() < 1e-6
    assert abs(residual.sum()) < 1e-6


def test_a_warm_start_ends_where_a_cold_one_does_and_gets_there_sooner(data, monkeypatch):
    X, y = data
    batch, Y, weights = LogisticBatch(X, tolerance=1e-7), y[:, None], np.ones((len(X), 1))
    near = batch.solve(Y, weights, 1.0)
    steps = []
    newton = LogisticBatch._newton
    monkeypatch.setattr(
        LogisticBatch, "_newton", lambda self, *args: (steps.append(1), newton(self, *args))[1]
    )
    cold = batch.solve(Y, weights, 3.0)
    n_cold = len(steps)
    warm = batch.solve(Y, weights, 3.0, near)
    assert len(steps) - n_cold <= n_cold
    assert X @ warm[0] + warm[1] == pytest.approx(X @ cold[0] + cold[1], abs=1e-3)
    steps.clear()
    batch.solve(Y, weights, 3.0, warm)
    assert len(steps) == 1


def test_a_path_of_penalties_by_warm_starts_equals_each_alone(data):
    X, y = data
    batch, Y, weights = LogisticBatch(X, tolerance=EXACT), y[:, None], np.ones((len(X), 1))
    start = None
    for C in (1e-4, 1e-2, 1.0, 10.0):
        start = batch.solve(Y, weights, C, start)
        assert_same(X, y, weights[:, 0], C, start[0][:, 0], start[1][0])


@pytest.mark.parametrize("C", [1.0, 1e3])
def test_separable_data_have_a_finite_solution(rng, C):
    X = np.r_[rng.normal(size=(30, 5)) - 6, rng.normal(size=(30, 5)) + 6]
    y = np.arange(60) >= 30
    W, b = LogisticBatch(X, tolerance=EXACT).solve(y[:, None], np.ones((60, 1)), C)
    assert np.isfinite(W).all()
    assert_same(X, y, np.ones(60), C, W[:, 0], b[0], tolerance=1e-3)
    assert (((X @ W + b)[:, 0] > 0) == y).all()


def test_a_constant_feature_gets_no_weight_and_changes_nothing(data):
    X, y = data
    wide = np.c_[X, np.full(len(X), 7.0), np.zeros(len(X))]
    weights = np.ones((len(X), 1))
    W, b = LogisticBatch(X, tolerance=EXACT).solve(y[:, None], weights, 1.0)
    V, c = LogisticBatch(wide, tolerance=EXACT).solve(y[:, None], weights, 1.0)
    assert np.abs(V[-2:]).max() < 1e-9
    assert wide @ V + c == pytest.approx(X @ W + b, abs=1e-6)


def test_a_repeated_feature_shares_its_weight(data):
    X, y = data
    W, _ = LogisticBatch(np.c_[X, X[:, :1]], tolerance=EXACT).solve(
        y[:, None], np.ones((len(X), 1)), 1.0
    )
    assert W[0] == pytest.approx(W[-1], abs=1e-6)


def test_all_features_constant_gives_the_log_odds():
    X, y = np.full((20, 3), 0.1), np.arange(20) < 5
    W, b = LogisticBatch(X, tolerance=EXACT).solve(y[:, None], np.ones((20, 1)), 1.0)
    assert np.abs(X @ W).max() < 1e-9
    assert b[0] == pytest.approx(np.log(5 / 15), abs=1e-6)


def test_large_means_lose_nothing(data):
    X, y = data
    weights = np.ones((len(X), 1))
    W, b = LogisticBatch(X - 3, tolerance=EXACT).solve(y[:, None], weights, 1.0)
    V, c = LogisticBatch(X + 1e4, tolerance=EXACT).solve(y[:, None], weights, 1.0)
    assert V == pytest.approx(W, abs=1e-6)
    assert (X + 1e4) @ V + c == pytest.approx((X - 3) @ W + b, abs=1e-5)


def test_problems_without_weight_or_with_one_class_stay_finite(data):
    X, y = data
    Y = np.stack([y, np.ones_like(y), y], axis=1)
    weights = np.stack([np.ones(len(y)), np.ones(len(y)), np.zeros(len(y))], axis=1)
    W, b = LogisticBatch(X).solve(Y, weights, 1.0)
    assert np.isfinite(W).all()
    assert np.isfinite(b).all()
    assert b[1] > 3
    assert (W[:, 2] == 0).all()
    assert_same(X, y, weights[:, 0], 1.0, W[:, 0], b[0], tolerance=1e-3)


def test_float32_vectors_are_solved_in_float64(data):
    X, y = data
    W, _ = LogisticBatch(X.astype(np.float32)).solve(y[:, None], np.ones((len(X), 1)), 1.0)
    assert W.dtype == np.float64
