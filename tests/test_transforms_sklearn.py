"""Every correction is a scikit-learn citizen: its check battery, and pipelines."""

import warnings

import numpy as np
import pytest
import sklearn
from sklearn.base import clone
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, cross_val_score
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.utils.estimator_checks import check_estimator
from transforms_fixtures import TRAITS, correct, fit, fixed, make, plant, promising, taking

from biasaudio.errors import BiasAudioWarning, ParameterError
from biasaudio.transforms import LEACE, METHODS

FREE = [name for name in METHODS if not METHODS[name].domain_at_transform]
AWARE = [name for name in METHODS if METHODS[name].domain_at_transform]
SHRINKABLE = [name for name in METHODS if "shrinkage" in make(name).get_params()]

VERSION = tuple(int(part) for part in sklearn.__version__.split(".")[:2])

OBJECTS = {"check_dtype_object": "vectors of Python objects are refused: mostly they are ragged"}
STREAMED = {
    "check_fit_score_takes_y": "calls partial_fit after fit, which keeps no moments to add to; "
    "forgetting the clips of fit without a word would be worse than the error"
}
FEW = "too few for two genres with three clips in each domain"
EXPECTED = {
    name: OBJECTS | (STREAMED if hasattr(METHODS[name].estimator, "partial_fit") else {})
    for name in METHODS
}
TEN = {
    "check_estimators_nan_inf": f"ten clips: {FEW}",
    "check_fit2d_1feature": f"ten clips: {FEW}",
}
WEIGHTS = "check_sample_weight_equivalence_on_dense_data"
REASONS = {
    "mlda": TEN | {WEIGHTS: f"ten clips with a weight: {FEW}"},
    "mklda": TEN,
    "combat": {"check_fit2d_1feature": "a prior over features needs two, as the message says"},
}
for _name in METHODS:
    EXPECTED[_name] |= REASONS.get(_name, {})
for _name in promising(lambda traits: not traits.copies):
    EXPECTED[_name][WEIGHTS] = "how noisy a mean is goes by how many different clips it is of"
if VERSION < (1, 7):
    for _name in taking("sample_weight"):
        EXPECTED[_name]["check_sample_weight_equivalence_on_sparse_data"] = "1.6 asks all for it"
if VERSION < (1, 8):
    for _name in ("mlda", "mklda"):
        EXPECTED.get(_name, {})["check_n_features_in_after_fitting"] = f"ten clips: {FEW}"


def supplied(name):
    """Return a subclass that splits any clips into two domains by itself.

    The domain is the half that a clip's vector sorts into, the class and the
    genre alternate within it, so all depend on the vector alone.
    """
    cls, needs = METHODS[name].estimator, METHODS[name].needs

    class Supplied(cls):
        def _columns(self, X, sample_weight=None):
            found = rows(X)
            if found is None:
                return dict.fromkeys(needs, np.full(height(X), "a"))
            kept = np.ones(len(found), dtype=bool)
            weights = kept if sample_weight is None else np.asarray(sample_weight)
            if weights.shape == kept.shape and (weights > 0).any():
                kept = weights > 0
            self.clips_, where = np.unique(found[kept], axis=0, return_inverse=True)
            place = np.zeros(len(found), dtype=int)
            place[kept] = where.ravel()
            if len(self.clips_) < 8:
                # Copies of a few clips: alternate over the copies.
                place[np.argsort(place, kind="stable")] = np.arange(len(place))
            domain = 2 * place > place.max()
            other = np.array(["x", "y"])[place % 2]
            return {k: domain if k == "domain" else other for k in needs}

        if name in taking("sample_weight"):

            def fit(self, X, y=None, sample_weight=None):
                columns = self._columns(X, sample_weight)
                return super().fit(X, **columns, sample_weight=sample_weight)

        else:

            def fit(self, X, y=None):
                return super().fit(X, **self._columns(X))

        def fit_transform(self, X, y=None, **options):
            return self.fit(X, y, **options).transform(X)

        if hasattr(cls, "partial_fit"):

            def partial_fit(self, X, y=None):
                return super().partial_fit(X, **self._columns(X))

        if cls.domain_aware:

            def transform(self, X, **options):
                found = rows(X)
                domain = np.zeros(height(X), dtype=bool)
                if found is not None and hasattr(self, "clips_"):
                    middle = tuple(self.clips_[(len(self.clips_) - 1) // 2])
                    domain = np.array([tuple(row) > middle for row in found])
                return super().transform(X, domain=domain, **options)

    Supplied.__init__ = cls.__init__
    Supplied.__name__ = Supplied.__qualname__ = f"Supplied_{name}"
    return Supplied


def rows(X):
    """Return X as an array, or None where the correction has to refuse it."""
    if hasattr(X, "tocsr"):
        return None
    X = np.asarray(X)
    usable = X.ndim == 2 and X.size > 0 and X.dtype.kind in "fiu" and np.isfinite(X).all()
    return X if usable else None


def height(X):
    """Return the number of rows of anything."""
    return X.shape[0] if hasattr(X, "shape") else len(np.asarray(X))


# Pickling finds a class by its name in the module.
for _name in METHODS:
    globals()[f"Supplied_{_name}"] = supplied(_name)


@pytest.mark.parametrize("name", METHODS)
def test_the_checks_of_scikit_learn(name):
    # An automatic strength knows that copies of a clip are no news.
    estimator = globals()[f"Supplied_{name}"](**make(name, fixed(name)).get_params(deep=False))
    with warnings.catch_warnings():
        # The checks take a handful of clips, and are warned of it.
        warnings.simplefilter("ignore", BiasAudioWarning)
        results = check_estimator(
            estimator, expected_failed_checks=EXPECTED[name], on_skip=None, on_fail=None
        )
    failed = {r["check_name"]: repr(r["exception"]) for r in results if r["status"] == "failed"}
    assert failed == {}
    ran = [r["check_name"] for r in results if r["status"] in ("passed", "xfail")]
    assert len(ran) >= (50 if name in taking("sample_weight") else 44)
    passed = {r["check_name"] for r in results if r["status"] == "passed"}
    assert passed.isdisjoint(EXPECTED[name]), "listed as an expected failure, and passes"


def test_the_battery_can_fail():
    class Broken(globals()["Supplied_leace"]):
        def fit(self, X, y=None, sample_weight=None):
            super().fit(X, y, sample_weight)
            self.alpha = 0.5
            return self

    results = check_estimator(Broken(), on_skip=None, on_fail=None)
    failed = {r["check_name"] for r in results if r["status"] == "failed"}
    assert {"check_estimators_overwrite_params", "check_dict_unchanged"} & failed


@pytest.fixture(params=METHODS)
def name(request):
    return request.param


@pytest.fixture
def clips():
    return plant(3)


def expected_scores(name, clips):
    """Return the accuracy in each fold of a correction and a classifier, step by step."""
    scores = []
    for train, test in folds(clips):
        one, other = clips.rows(train), clips.rows(test)
        fitted = fit(name, one)
        classifier = LogisticRegression(max_iter=5000).fit(correct(fitted, one), one.label)
        scores.append(classifier.score(correct(fitted, other), other.label))
    return scores


def alternatives(name):
    """Return what to search over, the default last."""
    return {"alpha": [0.0, 1.0]} if TRAITS[name].affine else {"random_state": [1, 0]}


def folds(clips):
    rows = np.arange(len(clips.X))
    return [(rows[::2], rows[1::2]), (rows[1::2], rows[::2])]


def test_metadata_routing_gives_each_step_its_columns(name, clips):
    method, scores = METHODS[name], []
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(make(name), LogisticRegression(max_iter=5000))
        for train, test in folds(clips):
            one, other = clips.rows(train), clips.rows(test)
            fitted = clone(pipeline).fit(one.X, one.label, **one.columns(method))
            domain = {"domain": other.domain} if method.domain_at_transform else {}
            scores.append(fitted.score(other.X, other.label, **domain))
    np.testing.assert_allclose(scores, expected_scores(name, clips))


# Before 1.8 a pipeline in cross-validation is not given what its transformers want in score.
@pytest.mark.parametrize("name", METHODS if VERSION >= (1, 8) else FREE)
def test_metadata_routing_works_in_cross_validation(name, clips):
    columns = clips.columns(METHODS[name])
    with sklearn.config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(make(name), LogisticRegression(max_iter=5000))
        scores = cross_val_score(
            pipeline, clips.X, clips.label, cv=folds(clips), params=columns, error_score="raise"
        )
        grid = {f"{pipeline.steps[0][0]}__{k}": values for k, values in alternatives(name).items()}
        search = GridSearchCV(pipeline, grid, cv=folds(clips), error_score="raise")
        search.fit(clips.X, clips.label, **columns)
    np.testing.assert_allclose(scores, expected_scores(name, clips))
    found = [search.cv_results_[f"split{i}_test_score"][1] for i in (0, 1)]
    np.testing.assert_allclose(found, scores)


@pytest.mark.parametrize("name", FREE)
def test_without_routing_the_columns_are_parameters_of_the_step(name, clips):
    pipeline = Pipeline([("fix", make(name)), ("svm", LogisticRegression(max_iter=5000))])
    columns = {f"fix__{k}": v for k, v in clips.columns(METHODS[name]).items()}
    scores = cross_val_score(
        pipeline, clips.X, clips.label, cv=folds(clips), params=columns, error_score="raise"
    )
    np.testing.assert_allclose(scores, expected_scores(name, clips))
    grid = {f"fix__{k}": values for k, values in alternatives(name).items()}
    if name in SHRINKABLE:
        grid["fix__shrinkage"] = [0.1, 0.5]
    search = GridSearchCV(pipeline, grid, cv=folds(clips), error_score="raise")
    search.fit(clips.X, clips.label, **columns)
    assert len(search.cv_results_["params"]) == (4 if name in SHRINKABLE else 2)
    assert search.predict(clips.X).shape == clips.label.shape


@pytest.mark.parametrize("name", AWARE)
def test_without_routing_a_domain_aware_step_says_what_it_lacks(name, clips):
    pipeline = make_pipeline(make(name), LogisticRegression(max_iter=5000))
    step = pipeline.steps[0][0]
    columns = {f"{step}__{k}": v for k, v in clips.columns(METHODS[name]).items()}
    pipeline.fit(clips.X, clips.label, **columns)
    with pytest.raises(ParameterError, match="transform was called without domain, which it needs"):
        pipeline.predict(clips.X)


def test_a_request_can_be_changed_and_another_column_is_refused(clips):
    with sklearn.config_context(enable_metadata_routing=True):
        step = LEACE().set_fit_request(domain="dataset", sample_weight=True)
        pipeline = make_pipeline(step, LogisticRegression().set_fit_request(sample_weight=False))
        weights = np.arange(len(clips.X)) % 3 + 1.0
        pipeline.fit(clips.X, clips.label, dataset=clips.domain, sample_weight=weights)
        with pytest.raises(TypeError, match="domain"):
            pipeline.fit(clips.X, clips.label, domain=clips.domain)
    alone = LEACE().fit(clips.X, domain=clips.domain, sample_weight=weights)
    np.testing.assert_array_equal(pipeline[0].transform(clips.X), alone.transform(clips.X))


def test_nothing_touches_the_configuration(name, clips):
    before = sklearn.get_config()
    fitted = fit(name, clips)
    correct(
        clone(fitted).set_output(transform="pandas").fit(clips.X, **clips.columns(METHODS[name])),
        clips,
    )
    assert sklearn.get_config() == before
