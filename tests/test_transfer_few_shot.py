"""The few-shot curve draws by group, only scores the test clips, and repeats itself."""

from dataclasses import replace

import numpy as np
import pytest
from transfer_fixtures import as_task

from biasaudio.errors import DataError, ParameterError
from biasaudio.transfer.few_shot import _Study, few_shot_curve
from biasaudio.transforms import METHODS

OPTIONS = {"source": "a", "target": "b", "counts": [0, 2, None], "n_draws": 2, "n_resamples": 40}


@pytest.fixture
def task():
    return as_task(n=300, random_state=0)


def shifted(task):
    """Move one class of the target far along a direction that tells classes apart."""
    X = np.random.default_rng(0).normal(size=task.X.shape).astype(np.float32)
    X[:, 0] += np.where(task.Y[:, 0], 3, 0)
    X[:, 0] -= np.where(task.Y[:, 0] & (task.domain == "b"), 4, 0)
    X[:, 2] += np.where(task.Y[:, 0], 1, 0)
    return replace(task, X=X)


def test_every_strategy_has_a_point_where_it_can(task):
    result = few_shot_curve(task, methods=["nap", "leace"], **OPTIONS)
    found = [(point.count, point.strategy) for point in result.points]
    labelled = ["add clips", "nap", "nap + add clips", "leace + add clips"]
    expected = [(0, "source only"), (0, "leace"), *((k, s) for k in (2, None) for s in labelled)]
    assert found == expected
    assert result.points[0].delta == 0
    for point in result.points:
        assert point.low <= point.auc + 0.1
        assert point.low <= point.high
    assert result.rows()[0]["strategy"] == "source only"
    assert len(result.columns()["auc"]) == len(result.points)
    assert result.best(0).count == 0
    with pytest.raises(ParameterError, match="count=7 was not measured"):
        result.best(7)


def test_the_correction_pays_where_a_class_was_moved(task):
    hard = replace(METHODS["nap"], name="hard", options={"rank": 1})
    result = few_shot_curve(shifted(task), methods=[hard], **OPTIONS)
    values = {(p.count, p.strategy): p for p in result.points}
    assert values[0, "source only"].auc < 0.75
    assert values[None, "hard"].delta_low > 0.02
    assert values[None, "add clips"].delta > 0.02


def test_draws_come_from_training_clips_a_group_at_a_time_and_are_nested(task):
    task = replace(task, groups=task.groups // 2 * 2 + task.is_train)
    study = _Study(task, "a", "b", (), 0)
    jobs = {(job.count, job.draw): job.picked for job in study.jobs([1, 3, None], 2)}
    few, more = jobs[1, 0], jobs[3, 0]
    assert set(few) < set(more) < set(jobs[None, 0])
    assert set(few) != set(jobs[1, 1])
    assert (task.is_train & (task.domain == "b"))[jobs[None, 0]].all()
    order = study._orders(0)[0]
    groups = task.groups[order]
    n = len(np.unique(groups))
    assert len(np.unique(groups[:n])) == n < len(groups)


def test_the_numbers_depend_on_the_seed_only(task):
    one = few_shot_curve(task, methods=["wccn"], **OPTIONS)
    assert one.rows() == few_shot_curve(task, methods=["wccn"], n_jobs=2, **OPTIONS).rows()
    other = few_shot_curve(task, methods=["wccn"], random_state=1, **OPTIONS)
    assert one.rows() != other.rows()


def test_test_clips_only_score(task):
    """Labels of the target's test clips change no score, only what it is compared with."""
    study = _Study(task, "a", "b", (), 0)
    picked = np.flatnonzero(task.is_train & (task.domain == "b"))
    hidden = replace(task, Y=np.where(task.is_train[:, None], task.Y, ~task.Y))
    ours, theirs = (replace(study, task=t).scores(task.X, picked) for t in (task, hidden))
    for a, b in zip(ours, theirs):
        np.testing.assert_array_equal(a, b)


def test_errors_name_the_way_out(task):
    with pytest.raises(ParameterError, match="source='x' is not known"):
        few_shot_curve(task, source="x", target="b")
    with pytest.raises(ParameterError, match="both 'a'"):
        few_shot_curve(task, source="a", target="a")
    with pytest.raises(ParameterError, match="counts=-1"):
        few_shot_curve(task, source="a", target="b", counts=[-1])
    with pytest.raises(ParameterError, match="n_draws=0"):
        few_shot_curve(task, source="a", target="b", n_draws=0)
    with pytest.raises(ParameterError, match="'nab' is not known"):
        few_shot_curve(task, source="a", target="b", methods=["nab"])
    with pytest.raises(DataError, match="Y has shape"):
        replace(task, Y=task.Y[:, :1])
