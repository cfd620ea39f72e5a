"""A task is checked as a whole, and metrics equal scikit-learn's and hand counts."""

import dataclasses

import numpy as np
import pytest
from sklearn.metrics import classification_report

from biasaudio.errors import DataError
from biasaudio.transfer import Outcome, Task, TransferResult
from biasaudio.transfer.task import measure


@pytest.fixture
def arrays(rng):
    """Give the arguments of a sound task: 2 datasets x 2 parts x 6 clips, 2 labels."""
    n = 24
    Y = np.stack([np.arange(n) % 2 == 0, np.arange(n) % 3 == 0], axis=1)
    return {
        "X": rng.normal(size=(n, 3)),
        "domain": np.repeat(["a", "b"], 12),
        "is_train": np.tile(np.repeat([True, False], 6), 2),
        "Y": Y,
        "mask": np.ones_like(Y),
        "label_names": ("cello", "flute"),
        "groups": np.arange(n) // 3,
        "genre": np.tile(["classical", "pop_rock"], 12),
    }


def test_rows_are_the_annotated_clips_of_one_part(arrays):
    arrays["mask"][[0, 13], 0] = False
    task = Task(**arrays)
    assert task.domains == ("a", "b")
    assert task.rows(0, "a", train=True).tolist() == [1, 2, 3, 4, 5]
    assert task.rows(1, "a", train=True).tolist() == [0, 1, 2, 3, 4, 5]
    assert task.rows(0, "b", train=False).tolist() == [18, 19, 20, 21, 22, 23]


def test_a_task_is_frozen_and_genres_are_optional(arrays):
    task = Task(**{**arrays, "genre": None})
    with pytest.raises(dataclasses.FrozenInstanceError):
        task.genre = arrays["genre"]


def without_positives(arrays, part, dataset, value=False):
    rows = (arrays["is_train"] == (part == "train")) & (arrays["domain"] == dataset)
    arrays["Y"][rows, 1] = value


@pytest.mark.parametrize("part", ["train", "test"])
@pytest.mark.parametrize("dataset", ["a", "b"])
def test_a_label_without_positives_or_negatives_in_a_part_is_named(arrays, part, dataset):
    without_positives(arrays, part, dataset)
    told = f"label 'flute' has no positives among the 6 annotated {part} clips of '{dataset}'"
    with pytest.raises(DataError, match=f"{told}; leave this label out"):
        Task(**arrays)
    without_positives(arrays, part, dataset, value=True)
    with pytest.raises(DataError, match=told.replace("positives", "negatives")):
        Task(**arrays)


def test_a_label_that_nobody_annotated_is_named(arrays):
    arrays["mask"][:12, 0] = False
    with pytest.raises(DataError, match="'cello' has no positives among the 0 annotated train"):
        Task(**arrays)


def test_what_is_not_annotated_is_never_absent(arrays):
    # All negatives of flute in a part are not annotated: there are positives only.
    rows = arrays["is_train"] & (arrays["domain"] == "a")
    arrays["mask"][rows, 1] = arrays["Y"][rows, 1]
    with pytest.raises(DataError, match="'flute' has no negatives among the 2 annotated train"):
        Task(**arrays)


def test_a_group_on_both_sides_of_the_split_is_named(arrays):
    arrays["groups"][[5, 6]] = 77
    with pytest.raises(DataError, match=r"1 group\(s\) are on both sides of the split.*'77'"):
        Task(**arrays)


@pytest.mark.parametrize(
    ("change", "match"),
    [
        ({"domain": np.repeat("a", 24)}, r"domain has 1 different value\(s\) \('a'\)"),
        ({"domain": np.repeat(["a", "b"], 5)}, r"domain has shape \(10,\), but X has 24 clips"),
        ({"is_train": np.ones(23, bool)}, r"is_train has shape \(23,\) and dtype bool; .*\(24,\)"),
        ({"is_train": np.ones(24, int)}, "is_train has shape .* and dtype int64; a bool array"),
        ({"Y": np.ones((24, 3), bool)}, r"Y has shape \(24, 3\) .* \(24, 2\) \(clips, labels\)"),
        ({"Y": np.ones((24, 2))}, "Y has shape .* and dtype float64; a bool array of shape"),
        ({"mask": np.ones((24, 1), bool)}, r"mask has shape \(24, 1\)"),
        ({"groups": np.arange(5)}, r"groups has shape \(5,\), but X has 24 clips"),
        ({"genre": np.array(["x"])}, r"genre has shape \(1,\), but X has 24 clips"),
        ({"X": np.full((24, 2), np.inf)}, "X has NaN or Inf in 24 of 24 clips"),
        ({"X": np.zeros((0, 2))}, "X is empty"),
    ],
)
def test_arrays_that_disagree_are_errors(arrays, change, match):
    with pytest.raises(DataError, match=match) as caught:
        Task(**{**arrays, **change})
    assert "\n" not in str(caught.value)


def test_metrics_of_a_case_that_can_be_counted():
    truth = np.array([True, True, True, False, False, False, False, False])
    scores = np.array([3.0, 1.0, -1.0, 2.0, -2.0, -3.0, -4.0, -5.0])
    found = measure(truth, scores)
    # Said present: 3, 1 and 2; two of them are, one of three present is missed.
    assert found["precision"] == pytest.approx(2 / 3)
    assert found["recall"] == pytest.approx(2 / 3)
    assert found["f1-score"] == pytest.approx(2 / 3)
    assert found["accuracy"] == 6 / 8
    assert (found["support"], found["n_test"], found["prevalence"]) == (3.0, 8, 3 / 8)
    # Of 15 pairs, 2 against 1 and 2 against -1 are the wrong way round.
    assert found["roc_auc"] == pytest.approx(13 / 15)
    assert found["ap"] == pytest.approx((1 + 2 / 3 + 3 / 4) / 3)
    assert found["constant"] is False


def test_metrics_equal_the_classification_report(rng):
    truth = rng.random(300) < 0.3
    scores = rng.normal(size=300) + truth
    report = classification_report(truth, scores > 0, output_dict=True)
    found = measure(truth, scores)
    for name in ("precision", "recall", "f1-score", "support"):
        assert found[name] == pytest.approx(report["True"][name])
    assert found["accuracy"] == pytest.approx(report["accuracy"])


def test_a_perfect_a_reversed_and_a_constant_classifier():
    truth = np.array([False, False, True])
    perfect, reverse = (measure(truth, s * np.array([-1.0, -2.0, 3.0])) for s in (1, -1))
    assert [perfect[k] for k in ("roc_auc", "ap", "f1-score", "accuracy")] == [1.0] * 4
    assert (reverse["roc_auc"], reverse["recall"], reverse["f1-score"]) == (0.0, 0.0, 0.0)
    constant = measure(truth, np.full(3, -0.7))
    assert constant["constant"] is True
    assert (constant["roc_auc"], constant["ap"]) == (0.5, pytest.approx(1 / 3))
    assert (constant["precision"], constant["recall"]) == (0.0, 0.0)
    assert measure(truth, np.zeros(3))["constant"] is True
    assert measure(truth, np.array([1e6, 1e6, 1e6 + 1]))["constant"] is False


def test_rows_of_a_result_are_tidy(arrays):
    task = Task(**arrays)
    truth = task.Y[task.rows(0, "b", train=False), 0]
    metrics = measure(truth, truth.astype(float))
    outcome = Outcome("cello", "a", "b", "lda", "global", metrics, truth.astype(float))
    result = TransferResult(task, (outcome,))
    (row,) = result.rows()
    assert row["instrument"] == "cello"
    assert [row[k] for k in ("train_set", "test_set", "method", "mode")] == [
        *("a", "b", "lda", "global")
    ]
    assert "scores" not in row
    assert repr(result) == "TransferResult(1 rows, methods 'lda')"
