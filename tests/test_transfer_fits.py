"""The transfer study: what is fitted on which clips, and how often."""

from collections import Counter

import numpy as np
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from transfer_fixtures import as_task

from biasaudio.probes.splits import deal_groups
from biasaudio.transfer import Task, evaluate, protocol, wang2023
from biasaudio.transforms import LEACE, METHODS


@pytest.fixture(scope="module")
def task():
    return as_task(class_shift=0.7)


def test_the_classifier_is_the_one_that_scikit_learn_would_fit(task):
    result = evaluate(task, methods=[])
    j, source = 1, "b"
    rows = np.flatnonzero(task.is_train & (task.domain == source))
    mean = task.X[rows].mean(axis=0, dtype=float)
    scale = np.sqrt(task.X[rows].var(axis=0, dtype=float).mean())
    for outcome in result.outcomes:
        if (outcome.label, outcome.train_set) != (task.label_names[j], source):
            continue
        model = LogisticRegression(
            C=outcome.metrics["C"], class_weight="balanced", tol=1e-10, max_iter=10_000
        ).fit((task.X[rows] - mean) / scale, task.Y[rows, j])
        test = task.rows(j, outcome.test_set, train=False)
        expected = model.decision_function((task.X[test] - mean) / scale)
        assert np.abs(outcome.scores - expected).max() < 2e-3 * np.abs(expected).max()
        assert np.corrcoef(outcome.scores, expected)[0, 1] > 0.99999


def test_unannotated_clips_are_neither_trained_nor_tested_on(rng):
    def mask(clips):
        return rng.random((len(clips), 2)) < 0.6

    task = as_task(mask=mask, label_effect=3.0)
    turned = Task(
        **{k: getattr(task, k) for k in ("X", "domain", "is_train", "mask", "label_names")},
        Y=np.where(task.mask, task.Y, ~task.Y),
        groups=task.groups,
        genre=task.genre,
    )
    one, other = (evaluate(t, methods=["leace"], modes=["classwise"]) for t in (task, turned))
    assert one.rows() == other.rows()
    assert {row["n_test"] for row in one.rows()} < set(range(20, 60))


def spy_on_fits(monkeypatch, name):
    """Count the fits of a correction by what it saw."""
    seen = []
    cls = METHODS[name].estimator
    fit = cls.fit

    def counted(self, X, y=None, **columns):
        seen.append((len(X), X.tobytes()))
        return fit(self, X, y, **columns)

    monkeypatch.setattr(cls, "fit", counted)
    return seen


def test_a_correction_is_fitted_once_for_each_label_mode_and_method(task, monkeypatch):
    seen = spy_on_fits(monkeypatch, "leace")
    evaluate(task, methods=["leace"], modes=["global", "classwise"])
    n_train = task.is_train.sum()
    positives = [(task.Y[:, j] & task.is_train).sum() for j in range(2)]
    # Globally the correction is the same for every label, so it is fitted once for all.
    assert sorted(n for n, _ in seen) == sorted([n_train, *positives])
    assert len({x for _, x in seen}) == 3


def test_no_correction_sees_a_test_clip(task, monkeypatch):
    seen = spy_on_fits(monkeypatch, "lda")
    for name in ("default", "wang2023"):
        evaluate(task, methods=["lda"], modes=["global", "classwise"], protocol=name)
    tests = {row.tobytes() for row in task.X[~task.is_train]}
    width = task.X.shape[1] * task.X.itemsize
    assert len(seen) == 3 + 4
    for _, x in seen:
        assert not tests & {x[i : i + width] for i in range(0, len(x), width)}


def test_a_classifier_is_fitted_once_and_scored_on_every_test_set(task, monkeypatch):
    calls = Counter()
    classifier = protocol.BalancedLogistic
    fit, scores = classifier.fit, classifier.scores
    monkeypatch.setattr(
        classifier,
        "fit",
        lambda self, rng: (calls.update(["fit"]), fit(self, rng))[1],
    )
    monkeypatch.setattr(
        classifier,
        "scores",
        lambda self, X, label: (calls.update(["scores"]), scores(self, X, label))[1],
    )
    evaluate(task, methods=["lda"], modes=["global", "classwise"])
    # (original + global) x 2 train sets, all labels in one fit, and classwise 2 labels apart.
    assert calls["fit"] == 2 * 2 + 2 * 2
    assert calls["scores"] == 3 * 2 * 2 * 2


def test_the_published_protocol_fits_once_too(task, monkeypatch):
    seen, searches = spy_on_fits(monkeypatch, "lda"), []
    fit_path = wang2023.fit_path
    monkeypatch.setattr(
        wang2023, "fit_path", lambda *a, **k: (searches.append(1), fit_path(*a, **k))[1]
    )
    result = evaluate(task, methods=["lda"], protocol="wang2023", modes=["global", "classwise"])
    assert len(result.rows()) == 2 * 2 * 4 * 2
    assert len(seen) == 2 * 2  # labels x modes
    assert len(searches) == 2 * 2 * 3  # train sets x labels x (original, global, classwise)


def test_folds_keep_groups_together_and_are_of_one_size(rng):
    groups = rng.permutation(np.arange(400) % 50)
    fold = deal_groups(groups, 3, rng)
    sizes = np.bincount(fold[np.unique(groups, return_index=True)[1]])
    assert sizes.tolist() == [17, 17, 16]
    assert all(len(set(fold[groups == g])) == 1 for g in groups)


def test_leace_makes_training_sets_exchangeable_for_a_domain_probe(task):
    # A positive control that the correction is really applied to both sets.
    rows = task.is_train
    leace = LEACE().fit(task.X[rows], domain=task.domain[rows])
    gap = [
        np.subtract(*(Z[rows & (task.domain == k)].mean(axis=0) for k in "ab"))
        for Z in (task.X, leace.transform(task.X))
    ]
    assert np.abs(gap[0]).max() > 0.3
    assert np.abs(gap[1]).max() < 1e-5


def test_the_penalty_is_the_one_that_does_best_on_held_out_groups(task):
    seed, source = 3, "a"
    rows = np.flatnonzero(task.is_train & (task.domain == source))
    X, groups = task.X[rows].astype(float), task.groups[rows]
    Z = (X - X.mean(axis=0)) / np.sqrt(X.var(axis=0).mean())
    fold = deal_groups(groups, protocol.N_FOLDS, np.random.default_rng(seed))
    chosen = {
        outcome.label: outcome.metrics["C"]
        for outcome in evaluate(task, methods=[], random_state=seed).outcomes
        if outcome.train_set == source
    }
    for j, label in enumerate(task.label_names):
        y, mean_auc = task.Y[rows, j], {}
        for C in protocol.PENALTIES:
            model = LogisticRegression(C=C, class_weight="balanced", tol=1e-6, max_iter=5000)
            aucs = []
            for k in range(protocol.N_FOLDS):
                model.fit(Z[fold != k], y[fold != k])
                aucs.append(roc_auc_score(y[fold == k], model.decision_function(Z[fold == k])))
            mean_auc[C] = np.mean(aucs)
        assert max(mean_auc.values()) - min(mean_auc.values()) > 0.003
        assert mean_auc[chosen[label]] > max(mean_auc.values()) - 0.001
