"""The path of penalties: the optimum itself, in both forms, and the published choice of C."""

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold

from biasaudio.errors import BiasAudioWarning
from biasaudio.probes.metrics import roc_auc
from biasaudio.transfer import logistic
from biasaudio.transfer.logistic import LogisticPath, fit_path, inner_products
from biasaudio.transfer.wang2023 import PENALTIES


def planted(rng, n, d, gap=1.0):
    y = rng.random(n) < 0.3
    spread = np.arange(1, d + 1) ** -0.5
    X = rng.normal(size=(n, d)) * spread + 0.5
    X[:, : d // 2] += gap * spread[: d // 2] * y[:, None] * rng.normal(size=d // 2)
    return X, y


def tight(X, y, C):
    """Return scikit-learn's weights and intercept, run until nothing moves."""
    model = LogisticRegression(
        C=C, solver="liblinear", class_weight="balanced", tol=1e-10, max_iter=100000
    ).fit(X, y)
    return np.append(model.coef_[0], model.intercept_[0])


def gradient(X, y, w, C):
    """Return the gradient of the objective in the docstring, relative to that at zero."""
    A, sign = np.c_[X, np.ones(len(y))], np.where(y, 1.0, -1.0)
    share = len(y) / (2 * np.where(y, y.sum(), (~y).sum()))
    pull = C * share * sign / (1 + np.exp(sign * (A @ w)))
    return np.linalg.norm(w - A.T @ pull) / np.linalg.norm(A.T @ (C * share * sign / 2))


@pytest.mark.parametrize("C", [1e-8, 1e-3, 1.0, 1e3])
@pytest.mark.parametrize("shape", [(60, 8), (40, 90)])
def test_both_forms_find_the_optimum_of_the_published_classifier(rng, shape, C):
    X, y = planted(rng, *shape)
    A = np.c_[X, np.ones(len(y))]
    primal = LogisticPath(A, y)
    dual = LogisticPath(A @ A.T, y, is_dual=True)
    for value in PENALTIES[PENALTIES <= C * 1.01]:
        found = primal.solve(value), A.T @ dual.solve(value)
    expected = tight(X, y, C)
    for w in found:
        assert gradient(X, y, w, C) < 5e-3
        assert np.linalg.norm(w - expected) < 5e-3 * np.linalg.norm(expected)


def test_one_feature_solves_the_equation_of_its_objective():
    # Two clips at +-1: the gradient is w - 2 C / (1 + exp(w)), and the intercept is 0.
    path = LogisticPath(np.array([[1.0, 1.0], [-1.0, 1.0]]), np.array([True, False]))
    for C in (0.01, 1.0, 100.0):
        w, b = path.solve(C)
        assert w == pytest.approx(2 * C / (1 + np.exp(w)), rel=1e-3)
        assert b == pytest.approx(0, abs=1e-9)


@pytest.mark.parametrize(("n", "d", "gap"), [(150, 20, 0.4), (150, 200, 0.4), (120, 60, 3.0)])
def test_the_search_chooses_the_published_penalty_or_a_tie(rng, n, d, gap):
    X, y = planted(rng, n, d, gap)
    folds = list(StratifiedKFold(3).split(X, y))
    found = fit_path(X.astype(np.float32), y, PENALTIES, folds)
    aucs = []
    for C in PENALTIES:
        scores = []
        for fit, check in folds:
            w = tight(X[fit], y[fit], C)
            scores.append(roc_auc_score(y[check], X[check] @ w[:-1]))
        aucs.append(np.mean(scores))
    assert found.fold_auc == pytest.approx(aucs, abs=2e-3)
    assert max(aucs) - aucs[list(PENALTIES).index(found.C)] < 1e-3
    expected = tight(X, y, found.C)
    ours = np.append(found.weights, found.offset)
    assert np.linalg.norm(ours - expected) < 1e-2 * np.linalg.norm(expected)
    assert max(aucs) - min(aucs) > 2e-3 or gap > 1  # there is something to choose


@pytest.mark.parametrize(("n", "d"), [(150, 200), (300, 20)])
@pytest.mark.parametrize("mean", [30.0, 3000.0])
def test_vectors_far_from_zero_are_solved_to_the_optimum(rng, n, d, mean):
    # The mean then rules every product, and hides what is left to be solved.
    X, y = planted(rng, n, d)
    X += mean
    folds = list(StratifiedKFold(3).split(X, y))
    found = fit_path(X, y, PENALTIES, folds)
    ours = np.append(found.weights, found.offset)
    expected = tight(X, y, found.C)
    scores = [X @ w[:-1] + w[-1] for w in (ours, expected)]
    assert np.abs(scores[0] - scores[1]).max() < 0.02 * np.ptp(scores[1])


def test_a_search_that_does_not_settle_is_warned_of(rng, monkeypatch):
    monkeypatch.setattr(logistic, "_STEPS", 1)
    X, y = planted(rng, 60, 6)
    with pytest.warns(BiasAudioWarning, match="C=1000 had not settled after 1 steps"):
        LogisticPath(np.c_[X, np.ones(60)], y).solve(1e3)


def test_known_products_change_nothing(rng):
    X, y = planted(rng, 90, 120)
    folds = list(StratifiedKFold(3).split(X, y))
    alone = fit_path(X, y, PENALTIES, folds)
    given = fit_path(X, y, PENALTIES, folds, products=inner_products(X))
    assert given.C == alone.C
    assert given.weights.tolist() == alone.weights.tolist()
    assert inner_products(X) == pytest.approx(X @ X.T, rel=1e-12)


def test_a_bad_guess_is_recovered_from(rng):
    X, y = planted(rng, 60, 6)
    A = np.c_[X, np.ones(len(y))]
    expected = LogisticPath(A, y).solve(1.0)
    found = LogisticPath(A, y).solve(1.0, start=1e4 * rng.normal(size=7))
    assert np.linalg.norm(found - expected) < 1e-3 * np.linalg.norm(expected)


def test_separable_clips_stay_finite_at_every_penalty(rng):
    y = np.arange(40) % 2 == 0
    X = np.where(y[:, None], 50.0, -50.0) + rng.normal(size=(40, 3))
    found = fit_path(X, y, PENALTIES, StratifiedKFold(3).split(X, y))
    assert np.isfinite([*found.weights, found.offset]).all()
    assert found.fold_auc.tolist() == [1.0] * len(PENALTIES)
    assert found.C == PENALTIES[0]


@pytest.mark.parametrize("scale", [1e-6, 1.0, 1e4, 1e8])
@pytest.mark.parametrize("d", [10, 100])
def test_vectors_of_any_length_and_rank_are_solved(rng, d, scale):
    X, y = planted(rng, 90, d)
    X = np.c_[X, X, np.ones((90, 2))] * scale
    folds = list(StratifiedKFold(3).split(X, y ^ (rng.random(90) < 0.2)))
    found = fit_path(X, y, PENALTIES, folds)
    assert np.isfinite(found.weights).all()
    assert (found.fold_auc > 0.55).all()


def test_vectors_without_any_difference_are_at_chance():
    y = np.arange(30) % 3 == 0
    found = fit_path(np.zeros((30, 4)), y, PENALTIES, StratifiedKFold(3).split(y, y))
    assert found.fold_auc.tolist() == [0.5] * len(PENALTIES)


def test_the_roc_auc_counts_ties_as_halves(rng):
    for _ in range(50):
        y = np.append(rng.random(30) < 0.5, [True, False])
        scores = rng.integers(0, 6, size=32).astype(float)
        assert roc_auc(scores, y) == pytest.approx(roc_auc_score(y, scores), abs=1e-12)
