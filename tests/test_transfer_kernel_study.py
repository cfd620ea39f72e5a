"""The kernel branch of the published study equals a naive second opinion on the same map."""

import numpy as np
import pytest
from naive_wang2023 import naive_classifier, naive_projection, naive_sample, naive_scores

from biasaudio.errors import ParameterError
from biasaudio.transfer import Task, evaluate
from biasaudio.transfer.wang2023 import GENRES, KernelSpace
from biasaudio.transforms import KernelMap

pytestmark = pytest.mark.slow

METHODS = {"k": "original", "klda": "lda", "mklda": "mlda"}


@pytest.fixture(scope="module")
def task():
    rng = np.random.default_rng(5)
    n = 480
    domain = np.repeat(["irmas", "openmic"], n // 2)
    is_train = np.arange(n) % 3 != 0
    Y = (rng.random(n) < 0.45)[:, None]
    genre = np.array(GENRES)[rng.integers(4, size=n)]
    X = rng.normal(size=(n, 5)) + 0.9 * Y * (np.arange(5) < 2)
    X += (domain == "irmas")[:, None] * np.array([0, 0, 2.0, 1.0, 0])
    X *= 1 + 0.5 * Y * (np.arange(5) == 4)
    mask = np.ones((n, 1), dtype=bool)
    return Task(X, domain, is_train, Y, mask, ("cello",), np.arange(n), genre)


def training_rows(task):
    """Return the cut training set of each dataset, positives first."""
    parts = {}
    for name in task.domains:
        rows = np.flatnonzero(task.is_train & (task.domain == name))
        parts[name] = rows[task.Y[rows, 0]], rows[~task.Y[rows, 0]]
    found = {}
    for name, both in parts.items():
        kept = []
        for k in (0, 1):
            n = min(len(part[k]) for part in parts.values())
            kept += both[k][naive_sample(task.genre[both[k]].tolist(), n)].tolist()
        found[name] = np.array(kept)
    return found


def standardised(X, by):
    return (X - by.mean(axis=0)) / by.std(axis=0)


def naive_row(task, method, mode, source, target):
    """Return the metrics of one row, everything computed in the space of the features."""
    training = training_rows(task)
    X = task.X
    kernel = KernelMap().fit(np.concatenate([standardised(X[r], X[r]) for r in training.values()]))
    features, domain, genre = [], [], []
    for code, rows in enumerate(training.values()):
        used = rows if mode == "global" else rows[task.Y[rows, 0]]
        features.append(kernel.transform(standardised(X[used], X[used])))
        domain += [code] * len(used)
        genre += task.genre[used].tolist()
    P, _ = naive_projection(
        np.concatenate(features), np.array(domain), np.array(genre), METHODS[method]
    )
    rows = training[source]
    test = np.flatnonzero(~task.is_train & (task.domain == target))
    model = naive_classifier(kernel.transform(standardised(X[rows], X[rows])) @ P, task.Y[rows, 0])
    tested = kernel.transform(standardised(X[test], X[rows])) @ P
    return naive_scores(model, tested, task.Y[test, 0])


@pytest.mark.parametrize("mode", ["global", "classwise"])
def test_every_kernel_row_equals_the_naive_one(task, mode):
    rows = evaluate(task, methods=list(METHODS), protocol="wang2023", modes=[mode]).rows()
    rows = [row for row in rows if row["method"] in METHODS]
    assert len(rows) == 3 * 4
    for row in rows:
        naive = naive_row(task, row["method"], mode, row["train_set"], row["test_set"])
        assert row["roc_auc"] == pytest.approx(naive["roc_auc"], abs=1e-3)
        for name in ("precision", "recall", "accuracy"):
            assert row[name] == pytest.approx(naive[name], abs=0.03)


def test_the_corrections_and_the_standardising_matter(task):
    # A positive control for the comparison above.
    found = [naive_row(task, m, "global", "irmas", "openmic")["roc_auc"] for m in METHODS]
    assert np.ptp(found) > 5e-3
    rows = np.flatnonzero(task.is_train)
    joint = KernelMap().fit(task.X[rows])
    training = training_rows(task)
    space = KernelSpace(task.X, training)
    own = space.seen_from("irmas", rows)
    expected = space.seen_from("irmas", training["irmas"])
    assert space.training("irmas") == pytest.approx(expected, abs=1e-12)
    assert space.joint([training["irmas"]]) == pytest.approx(expected, abs=1e-12)
    assert (
        np.abs(
            space.joint([training["openmic"]]) - space.seen_from("irmas", training["openmic"])
        ).max()
        > 0.1
    )
    assert own.shape == (len(rows), 40)
    assert np.abs(own - joint.transform(task.X[rows])).max() > 0.1


def test_both_modes_share_the_uncorrected_features(task):
    rows = evaluate(task, methods=["k"], protocol="wang2023", modes=["global", "classwise"]).rows()
    by_mode = {
        mode: [{**row, "mode": ""} for row in rows if row["mode"] == mode]
        for mode in ("global", "classwise")
    }
    assert by_mode["global"] == by_mode["classwise"]
    assert len(by_mode["global"]) == 2 * 4  # original and k


def test_the_published_solver_agrees(task):
    options = {"methods": ["lda", "klda"], "protocol": "wang2023"}
    ours, published = (
        evaluate(task, solver=solver, **options).rows() for solver in ("newton", "liblinear")
    )
    for one, other in zip(ours, published, strict=True):
        assert one["roc_auc"] == pytest.approx(other["roc_auc"], abs=1e-3)
        assert one["method"] == other["method"]


def test_an_unknown_solver_is_refused(task):
    with pytest.raises(
        ParameterError, match=r"solver='newtn' is not known; .*did you mean 'newton'"
    ):
        evaluate(task, protocol="wang2023", solver="newtn")


def test_the_default_protocol_has_no_choice_of_solver(task):
    with pytest.raises(ParameterError, match="solver='liblinear' is for protocol 'wang2023'"):
        evaluate(task, methods=[], solver="liblinear")
