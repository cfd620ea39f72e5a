"""What a correction is shown in a transfer study: labels of the target only where it may."""

from dataclasses import replace

import numpy as np
import pytest
from transfer_fixtures import as_task

from biasaudio.datasets.synthetic import make_domains
from biasaudio.errors import BiasAudioWarning, ParameterError
from biasaudio.transfer import Task, evaluate, few_shot_curve
from biasaudio.transfer.few_shot import ADD, SOURCE_ONLY, draw_clips
from biasaudio.transfer.protocol import warn_of_labels
from biasaudio.transforms import METHODS, NuisanceProjection
from biasaudio.transforms.methods import Method

ONCE = {"source": "a", "target": "b", "n_draws": 1, "n_resamples": 5}


@pytest.fixture
def task():
    return as_task(n=300, random_state=0)


@pytest.fixture
def seen(monkeypatch):
    """Record what every correction is fitted on; none changes anything."""
    found = []
    monkeypatch.setattr(Method, "fit", lambda self, X, **columns: found.append((X, columns)))
    return found


def single(task):
    """Give every clip one label, so that `single_labels` knows each."""
    first = np.arange(len(task.X)) % 2 == 0
    return replace(task, Y=np.c_[first, ~first], mask=np.ones((len(first), 2), dtype=bool))


@pytest.mark.parametrize("name", ["nap", "leace"])
def test_few_shot_shows_the_clips_that_were_picked(task, seen, name):
    method = METHODS[name]
    few_shot_curve(task, methods=name, counts=1, **ONCE)
    inside = task.is_train & (task.domain == "b")
    picked = draw_clips(task, "b", [1], n_draws=1, seed=0)[-1].rows
    source = task.is_train & (task.domain == "a")
    labelled = np.union1d(np.flatnonzero(source), picked)
    rows = labelled if method.sees_target_labels else np.flatnonzero(source | inside)
    X, columns = seen[-1]
    np.testing.assert_array_equal(X, task.X[rows])
    np.testing.assert_array_equal(columns["domain"], task.domain[rows])
    np.testing.assert_array_equal(columns["label"], (task.Y & task.mask)[rows])


def test_few_shot_hides_the_target_from_self_training(task, seen):
    task = single(task)
    few_shot_curve(task, methods="selftrain", counts=None, **ONCE)
    X, columns = seen[-1]
    np.testing.assert_array_equal(X, task.X[task.is_train])
    assert set(columns["label"][columns["domain"] == "b"]) == {""}
    assert set(columns["label"][columns["domain"] == "a"]) == set(task.label_names)


def test_evaluate_hides_each_target_from_self_training(task, seen):
    task = single(task)
    evaluate(task, methods="selftrain")
    assert len(seen) == 2
    for (X, columns), source in zip(seen, "ab"):
        np.testing.assert_array_equal(X, task.X[task.is_train])
        of_source = columns["domain"] == source
        assert set(columns["label"][~of_source]) == {""}
        expected = task.single_labels()[task.is_train][of_source]
        np.testing.assert_array_equal(columns["label"][of_source], expected)


def test_differences_are_paired(task):
    """The same groups are drawn for both, so what both share cancels."""
    same = replace(METHODS["leace"], name="same", options={"alpha": 0.0})
    options = {"source": "a", "target": "b", "n_draws": 3, "n_resamples": 60}
    points = few_shot_curve(task, methods=same, counts=[0, 2], **options).points
    values = {(p.count, p.strategy): p for p in points}
    before, after = values[0, SOURCE_ONLY], values[0, "same"]
    assert before.high - before.low > 0.02
    for low, high in ((after.delta_low, after.delta_high), (before.delta_low, before.delta_high)):
        assert abs(low) + abs(high) < 1e-9
    assert values[2, f"same + {ADD}"].delta == pytest.approx(values[2, ADD].delta)
    more = values[2, ADD]
    assert more.delta_high - more.delta_low < more.high - more.low


@pytest.mark.parametrize("name", ["k", "kleace"])
def test_few_shot_takes_methods_that_change_the_width(task, name):
    task = as_task(n=300, random_state=0, domains=("a", "b", "c"))
    options = {"source": "a", "target": "c", "n_draws": 1, "n_resamples": 20}
    points = few_shot_curve(task, methods=name, counts=2, **options).points
    assert [p.strategy for p in points] == [SOURCE_ONLY, name, ADD, f"{name} + {ADD}"]
    assert all(0.3 < p.auc <= 1 for p in points)
    with pytest.raises(ParameterError, match="random_state=-1"):
        few_shot_curve(task, random_state=-1, **options)
    with pytest.raises(ParameterError, match=r"counts=2\.5"):
        few_shot_curve(task, counts=2.5, **options)


def shifted(rng):
    """Return a task with a shift that all classes share, one label never being alone."""
    table, _ = make_domains(n=900, d=8, n_labels=2, random_state=0)
    clips, k = table.clips, rng.integers(4, size=900)
    X = rng.normal(size=(900, 8)).astype(np.float32)
    X[np.arange(900), k] += 6.0
    Y = k[:, None] == np.arange(4)
    Y = np.c_[Y, Y[:, 0] & (rng.random(900) < 0.5)]
    X[:, 5] += np.where(clips.dataset == "b", 3.0, 0.0)
    names = ("drums", "flute", "harp", "oboe", "tuba")
    train, mask = (clips.split == "train"), np.ones(Y.shape, dtype=bool)
    return Task(X, clips.dataset.astype(str), train, Y, mask, names, clips.group_id)


def test_labels_that_nothing_was_fitted_on_are_named_once(rng):
    task = shifted(rng)
    with pytest.warns(BiasAudioWarning, match="not fitted on in two domains: 'tuba'") as caught:
        evaluate(task, methods=["selftrain"])
    assert len(caught) == 1
    options = {"source": "a", "target": "b", "n_draws": 2, "n_resamples": 20}
    with pytest.warns(BiasAudioWarning, match="not fitted on in two domains: 'tuba'") as caught:
        few_shot_curve(task, methods="selftrain", counts=[0, 2], **options)
    assert len(caught) == 1
    evaluate(task, methods=["nap"])


def test_what_changes_nothing_does_no_harm(rng, task):
    X, label = rng.normal(size=(80, 3)), np.resize(["x", "y"], 80)
    domain = np.repeat(["a", "b"], 40)
    for strength, harms in ((3.0, True), (0.0, False)):
        fitted = NuisanceProjection(strength=strength).fit(X, domain=domain, label=label)
        if harms:
            with pytest.warns(BiasAudioWarning, match="2 class"):
                warn_of_labels(task, [fitted, object()])
        else:
            warn_of_labels(task, [fitted])
