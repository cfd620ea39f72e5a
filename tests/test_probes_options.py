"""What probes and studies of transfer take and give, whichever way it is said."""

import warnings

import numpy as np
import pytest
from threadpoolctl import threadpool_info
from transfer_fixtures import as_task

from biasaudio import probes
from biasaudio._validation import as_seed
from biasaudio.datasets.synthetic import make_domains
from biasaudio.errors import BiasAudioWarning, ParameterError
from biasaudio.probes import probe_domain, probe_genre
from biasaudio.transfer import compare, evaluate, few_shot_curve, measure_drops, resample
from biasaudio.transfer.logistic import LogisticPath
from biasaudio.transforms import LEACE, METHODS, DomainCentering

FAST = {"n_permutations": 5, "n_resamples": 20, "n_repeats": 1}
CURVE = {"source": "a", "target": "b", "counts": [0, 2], "n_draws": 1, "n_resamples": 10}


@pytest.fixture(scope="module")
def table():
    return make_domains(n=240, d=6, n_labels=2, random_state=0)[0]


@pytest.fixture(scope="module")
def task():
    return as_task(n=240, d=6)


def domain_probe(table, **options):
    clips = table.clips
    return probe_domain(table.X, clips.dataset, groups=clips.group_id, **FAST, **options)


def genre_probe(table, **options):
    clips = table.clips
    names = {"domain": clips.dataset, "groups": clips.group_id}
    return probe_genre(table.X, clips.genre, **names, **FAST, **options)


@pytest.mark.parametrize("probe", [domain_probe, genre_probe])
def test_a_correction_may_be_named(table, probe):
    assert probe(table, correction="leace") == probe(table, correction=LEACE())
    assert probe(table, correction="center") == probe(table, correction=DomainCentering())
    with pytest.raises(ParameterError, match=r"correction 'leaec' is not known; .*mean 'leace'"):
        probe(table, correction="leaec")
    with pytest.raises(ParameterError, match=r"is the class LEACE; give an estimator such as LEAC"):
        probe(table, correction=LEACE)


def test_a_correction_of_scikit_learn_can_be_probed(table):
    from sklearn.preprocessing import FunctionTransformer

    class Halved(FunctionTransformer):
        def fit(self, X, y=None, *, domain=None):
            return super().fit(X)

    plain = domain_probe(table, design="three-way")
    halved = domain_probe(table, correction=Halved(lambda X: X / 2))
    assert halved.auc == pytest.approx(plain.auc, abs=1e-6)


def test_methods_and_modes_may_be_one_name(task):
    named = evaluate(task, methods="leace", modes="global")
    assert named.rows() == evaluate(task, methods=["leace"], modes=["global"]).rows()
    assert named.rows() == evaluate(task, methods=METHODS["leace"]).rows()
    mixed = evaluate(task, methods=["center", METHODS["leace"], "original", "center"])
    assert list(dict.fromkeys(row["method"] for row in mixed.rows())) == [
        "original",
        "center",
        "leace",
    ]


@pytest.mark.parametrize(
    "run",
    [
        lambda table, task, state: domain_probe(table, random_state=state),
        lambda table, task, state: evaluate(task, methods="leace", random_state=state).rows(),
        lambda table, task, state: few_shot_curve(task, random_state=state, **CURVE).rows(),
        lambda table, task, state: compare(
            evaluate(task, methods="leace"), n_resamples=20, random_state=state
        ),
    ],
    ids=["probe_domain", "evaluate", "few_shot_curve", "compare"],
)
def test_a_random_state_is_an_int_a_generator_or_none(table, task, run):
    one, again = (run(table, task, np.random.default_rng(7)) for _ in range(2))
    assert one == again
    # What a generator gives can be had again by the seed that was drawn from it.
    assert one == run(table, task, as_seed(np.random.default_rng(7)))
    assert run(table, task, None)
    for wrong in (-1, 0.5, "0", True):
        with pytest.raises(ParameterError, match=r"random_state=.* give a whole number from 0"):
            run(table, task, wrong)


def threads():
    return {lib["num_threads"] for lib in threadpool_info() if lib["user_api"] == "blas"}


def test_everything_that_fits_limits_blas_to_one_thread(table, task, monkeypatch):
    """Many small products are 2 to 24 times slower where BLAS splits each over all cores."""
    seen, fit = [], LEACE.fit

    def spied(self, X, y=None, **columns):
        seen.append(threads())
        return fit(self, X, y, **columns)

    monkeypatch.setattr(LEACE, "fit", spied)
    calls = [
        lambda: domain_probe(table, correction="leace"),
        lambda: genre_probe(table, correction="leace"),
        lambda: evaluate(task, methods="leace"),
        lambda: few_shot_curve(task, methods="leace", **CURVE),
    ]
    before = threads()
    for call in calls:
        seen.clear()
        call()
        assert seen
        assert all(found == {1} for found in seen)
    assert threads() == before
    # LEACE limits itself, so what reads the vectors is looked at too.
    read = []
    monkeypatch.setattr(
        probes.domain, "RidgeProbe", lambda *a, **k: (read.append(threads()), RIDGE(*a, **k))[1]
    )
    domain_probe(table)
    assert read
    assert all(found == {1} for found in read)


RIDGE = probes.domain.RidgeProbe


def test_every_result_is_a_table_with_one_schema(table, task):
    probe = domain_probe(table)
    frame = probe.to_frame()
    assert frame.to_dict("records") == [probe.row()]
    assert list(frame) == [
        *("auc", "low", "high", "p_value", "balanced_accuracy", "chance_accuracy"),
        *("n", "n_groups", "design", "mix", "kind", "n_classes"),
    ]
    values = probe.to_frame(by_value=True)
    assert list(values) == ["value", "n", "auc", "recall", "design", "mix", "kind"]
    assert values["value"].tolist() == ["a", "b"]
    result = evaluate(task, methods="leace")
    assert result.to_frame().to_dict("records") == result.rows()
    curves = resample(result, n_resamples=20)
    for found in (compare(result, curves=curves), measure_drops(curves)):
        assert found.to_frame().to_dict("records") == [vars(one) for one in found]
        assert found[0].to_frame().to_dict("records") == [vars(found[0])]
    bare = evaluate(task, methods=[])
    empty = compare(bare, n_resamples=20)
    assert empty == []
    assert list(empty.to_frame()) == list(compare(result, n_resamples=20).to_frame())
    curve = few_shot_curve(task, methods="nap", **CURVE)
    assert curve.to_frame()["strategy"].tolist() == [point.strategy for point in curve.points]
    assert curve.to_frame()["count"].dtype == "Int64"


def test_a_warning_points_at_the_line_of_the_caller(rng, monkeypatch):
    from biasaudio.transfer import logistic

    monkeypatch.setattr(logistic, "_STEPS", 1)
    path = LogisticPath(np.c_[rng.normal(size=(60, 6)), np.ones(60)], rng.random(60) < 0.4)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", BiasAudioWarning)
        path.solve(1e3)
    assert [one.filename for one in caught] == [__file__]
