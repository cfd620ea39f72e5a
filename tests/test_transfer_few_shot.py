"""The few-shot curve draws by group, only scores the test clips, and repeats itself."""

from dataclasses import replace

import numpy as np
import pytest
from transfer_fixtures import as_task

from biasaudio.errors import DataError, ParameterError
from biasaudio.transfer import few_shot_curve
from biasaudio.transfer.few_shot import draw_clips
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
    table = result.to_frame()
    assert table["auc"].tolist() == [point.auc for point in result.points]
    assert table["count"].isna().sum() == len(labelled)
    assert result.best(0).count == 0
    with pytest.raises(ParameterError, match="count=7 was not measured"):
        result.best(7)


def test_the_correction_pays_where_a_class_was_moved(task):
    hard = replace(METHODS["nap"], name="hard", options={"n_components": 1})
    result = few_shot_curve(shifted(task), methods=[hard], **OPTIONS)
    values = {(p.count, p.strategy): p for p in result.points}
    assert values[0, "source only"].auc < 0.75
    assert values[None, "hard"].delta_low > 0.02
    assert values[None, "add clips"].delta > 0.02


def test_draws_come_from_training_clips_a_group_at_a_time_and_are_nested(task):
    task = replace(task, groups=task.groups // 2 * 2 + task.is_train)
    counts = [*range(1, 60), None]
    found = draw_clips(task, "b", counts, n_draws=2, seed=0)
    drawn = {(draw.count, draw.number): draw.rows for draw in found}
    few, more = drawn[1, 0], drawn[3, 0]
    assert set(few) < set(more) < set(drawn[None, 0])
    assert set(few) != set(drawn[1, 1])
    assert (task.is_train & (task.domain == "b"))[drawn[None, 0]].all()
    # With one label alone every new clip is of a new group, until each group had its turn.
    alone = replace(task, Y=task.Y[:, :1], mask=task.mask[:, :1], label_names=("one",))
    have = alone.Y[:, 0] & alone.is_train & (alone.domain == "b") & alone.mask[:, 0]
    n = len(np.unique(alone.groups[have]))
    for draw in draw_clips(alone, "b", range(1, n + 1), n_draws=1, seed=0)[1:]:
        assert len(np.unique(alone.groups[draw.rows])) == draw.count == len(draw.rows)
    assert n < have.sum()


def test_the_numbers_depend_on_the_seed_only(task):
    one = few_shot_curve(task, methods=["wccn"], **OPTIONS)
    assert one.rows() == few_shot_curve(task, methods=["wccn"], n_jobs=2, **OPTIONS).rows()
    other = few_shot_curve(task, methods=["wccn"], random_state=1, **OPTIONS)
    assert one.rows() != other.rows()


def test_test_clips_only_score(task):
    """Labels of the target's test clips change no score, only what it is compared with."""
    turned = replace(task, Y=np.where(task.is_train[:, None], task.Y, ~task.Y))
    ours, theirs = (few_shot_curve(t, methods=["nap"], **OPTIONS).points for t in (task, turned))
    for a, b in zip(ours, theirs, strict=True):
        assert a.auc == pytest.approx(1 - b.auc, abs=1e-12)


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
