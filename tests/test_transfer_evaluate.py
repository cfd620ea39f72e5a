"""The transfer study: its rows, what cannot change, and what it refuses."""

import numpy as np
import pytest
from sklearn.metrics import roc_auc_score
from transfer_fixtures import as_task, keyed

from biasaudio.errors import DataError, ParameterError
from biasaudio.probes.splits import deal_groups
from biasaudio.transfer import Task, evaluate, protocol, wang2023

COLUMNS = [
    *("instrument", "train_set", "test_set", "method", "mode", "precision", "recall"),
    *("f1-score", "support", "accuracy", "roc_auc", "ap", "prevalence", "n_test", "constant"),
    *("n_train", "C"),
]
PAIRS = [("a", "a"), ("a", "b"), ("b", "a"), ("b", "b")]


@pytest.fixture(scope="module")
def task():
    return as_task(class_shift=0.7)


@pytest.fixture(scope="module")
def result(task):
    return evaluate(task, methods=["lda", "leace"], modes=["global", "classwise"])


def test_there_is_one_row_for_each_of_everything(task, result):
    rows = result.rows()
    assert len(rows) == 3 * 2 * 4 * 2
    assert len(keyed(result)) == len(rows)
    assert all(list(row) == COLUMNS for row in rows)
    assert {row["method"] for row in rows} == {"original", "lda", "leace"}
    assert {(row["train_set"], row["test_set"]) for row in rows} == set(PAIRS)
    assert {row["instrument"] for row in rows} == set(task.label_names)


def test_rows_count_the_clips_that_they_stand_for(task, result):
    for row in result.rows():
        j = task.label_names.index(row["instrument"])
        test = task.rows(j, row["test_set"], train=False)
        assert row["n_test"] == len(test)
        assert row["n_train"] == len(task.rows(j, row["train_set"], train=True))
        assert row["support"] == task.Y[test, j].sum()
        assert row["prevalence"] == pytest.approx(task.Y[test, j].mean())
        assert row["C"] in protocol.PENALTIES
        assert row["constant"] is False


def test_metrics_of_a_row_follow_from_its_scores(task, result):
    for outcome in result.outcomes:
        j = task.label_names.index(outcome.label)
        truth = task.Y[task.rows(j, outcome.test_set, train=False), j]
        assert outcome.metrics["roc_auc"] == roc_auc_score(truth, outcome.scores)
        assert outcome.metrics["accuracy"] == ((outcome.scores > 0) == truth).mean()


def test_a_planted_label_is_learned_and_lost_on_the_way(result):
    auc = keyed(result)
    for y, x in ("ab", "ba"):
        within, across = (
            np.mean([auc["original", "global", s, y, label] for label in result.task.label_names])
            for s in (y, x)
        )
        assert 0.95 > within > 0.75
        assert 0.5 < across < within - 0.03


def test_global_and_classwise_are_fitted_on_different_clips(task, result):
    auc = keyed(result)
    differ = [
        auc[(method, "global", *rest)] != auc[(method, "classwise", *rest)]
        for method, mode, *rest in auc
        if mode == "global" and method != "original"
    ]
    assert np.mean(differ) > 0.5
    for _, _, *rest in auc:
        assert auc[("original", "global", *rest)] == auc[("original", "classwise", *rest)]


def test_modes_can_be_asked_for_alone_and_twice(task, result):
    both = keyed(result)
    alone = keyed(evaluate(task, methods=["lda"], modes=["classwise", "classwise"]))
    assert len(alone) == 16
    assert all(both[key] == value for key, value in alone.items())


def test_numbers_do_not_depend_on_the_number_of_jobs(task):
    options = {"methods": ["lda", "center"], "modes": ["global", "classwise"]}
    one, two = (evaluate(task, n_jobs=n, **options) for n in (1, 2))
    assert one.rows() == two.rows()
    for a, b in zip(one.outcomes, two.outcomes, strict=True):
        assert a.scores.tobytes() == b.scores.tobytes()


def test_same_seed_same_numbers(task):
    first, again = (evaluate(task, methods=["leace"], random_state=5) for _ in range(2))
    assert first.rows() == again.rows()
    folds = [deal_groups(task.groups, 3, np.random.default_rng(seed)) for seed in (5, 6)]
    assert (folds[0] != folds[1]).any()


@pytest.mark.parametrize("n_domains", [2, 3])
def test_centering_cannot_change_the_auc_of_a_linear_classifier_inside_a_domain(n_domains):
    # A constant a domain moves all scores of one test set alike, and no weight of its training.
    task = as_task(450, domains=("a", "b", "c")[:n_domains], dtype=np.float64)
    auc = keyed(evaluate(task, methods=["center", "standardize"]))
    for method, mode, *rest in auc:
        change = abs(auc[(method, mode, *rest)] - auc[("original", mode, *rest)])
        assert change < 1e-9 or method == "standardize"
    assert max(auc.values()) < 0.98
    moved = [
        auc[("standardize", mode, *rest)] != auc[("original", mode, *rest)]
        for _, mode, *rest in auc
    ]
    assert any(moved)


def test_three_datasets_make_nine_pairs():
    task = as_task(450, domains=("a", "b", "c"))
    rows = evaluate(task, methods=["leace"]).rows()
    assert len(rows) == 2 * 2 * 9
    assert len({(row["train_set"], row["test_set"]) for row in rows}) == 9


@pytest.mark.parametrize("name", ["default", "wang2023"])
def test_a_constant_predictor_is_flagged(task, name):
    flat = Task(
        np.full_like(task.X, 0.1),
        *(task.domain, task.is_train, task.Y, task.mask),
        *(task.label_names, task.groups, task.genre),
    )
    for row in evaluate(flat, methods=[], protocol=name).rows():
        assert row["constant"] is True
        assert row["roc_auc"] == 0.5


def test_few_groups_and_few_positives_still_give_numbers(rng):
    # Two groups a part: one of three folds is empty; one positive group: folds without positives.
    domain = np.repeat(["a", "b"], 16)
    is_train = np.tile(np.repeat([True, False], 8), 2)
    groups = np.arange(32) // 4
    Y = (groups % 2 == 0)[:, None] & (np.arange(32) % 4 < 3)[:, None]
    task = Task(rng.normal(size=(32, 3)), domain, is_train, Y, np.ones_like(Y), ("cello",), groups)
    rows = evaluate(task, methods=["leace"]).rows()
    assert len(rows) == 8
    assert all(0 <= row["roc_auc"] <= 1 for row in rows)
    assert {row["C"] for row in rows} == {protocol.PENALTIES[0]}


def test_a_method_that_needs_genres_needs_genres(task):
    bare = Task(
        *(task.X, task.domain, task.is_train, task.Y, task.mask, task.label_names, task.groups)
    )
    with pytest.raises(DataError, match="'mlda' needs a genre for every clip and there is none"):
        evaluate(bare, methods=["lda", "mlda"])
    assert evaluate(bare, methods=["lda"]).rows()


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"methods": ["leaec"]}, ParameterError, "method 'leaec' is not known; .* mean 'leace'"),
        ({"protocol": "wang"}, ParameterError, "protocol='wang' is not known; .* mean 'wang2023'"),
        ({"modes": ["locally"]}, ParameterError, "mode='locally' is not known; choose one of"),
        ({"modes": []}, ParameterError, "modes is empty; give one or both of global, classwise"),
        ({"n_jobs": 0}, ParameterError, "n_jobs=0 is not allowed; give 1 or more, or -1"),
    ],
)
def test_each_bad_option_has_its_message(task, options, error, match):
    with pytest.raises(error, match=match) as caught:
        evaluate(task, **options)
    assert "\n" not in str(caught.value)


def test_the_published_protocol_says_what_it_cannot_do(task):
    three = as_task(450, domains=("a", "b", "c"))
    with pytest.raises(DataError, match="wang2023 compares two datasets, and there are 3"):
        evaluate(three, protocol="wang2023")
    parts = (task.X, task.domain, task.is_train, task.Y, task.mask, task.label_names, task.groups)
    for genre in (None, np.where(task.genre == "classical", "schlager", task.genre)):
        with pytest.raises(DataError, match="needs one of the genres pop_rock, jazz_blue"):
            evaluate(Task(*parts, genre), protocol="wang2023")


def test_the_published_protocol_needs_as_many_clips_as_folds(rng):
    domain, is_train = np.repeat(["a", "b"], 16), np.tile(np.repeat([True, False], 8), 2)
    Y = (np.arange(32) % 4 == 0)[:, None]
    genre = np.array(wang2023.GENRES)[np.arange(32) // 4 % 2]
    task = Task(
        *(rng.normal(size=(32, 3)), domain, is_train, Y, np.ones_like(Y)),
        *(("cello",), np.arange(32), genre),
    )
    with pytest.raises(
        DataError, match=r"'cello' keeps 2 positives and 6 negatives of 'a'.*3 fold"
    ):
        evaluate(task, protocol="wang2023")
