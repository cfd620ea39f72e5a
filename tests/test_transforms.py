"""Every correction keeps its promise, and the promise was not kept before."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn.base import clone
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.pipeline import make_pipeline

from biasaudio.errors import BiasAudioWarning, DataError, ParameterError
from biasaudio.transforms import (
    LEACE,
    METHODS,
    DomainCentering,
    DomainStandardizer,
    LDAProjection,
    MeanProjection,
    MultiLDAProjection,
)
from biasaudio.transforms._directions import domain_groups
from biasaudio.transforms._shrinkage import shrunk_covariance
from biasaudio.transforms.methods import apply_correction, check_methods

# What is measured on the fitted clips is a theorem up to float32 rounding.
THEOREM = 1e-4


def data(rng, n=600, d=16, domains=("a", "b"), offset=0.0):
    domain = rng.choice(domains, n, p=rng.dirichlet(np.full(len(domains), 20)))
    genre = rng.choice(["classical", "jazz", "pop"], n)
    label = rng.random(n) < 0.5
    mix = np.linalg.qr(rng.normal(size=(d, d)))[0] * np.arange(1, d + 1) ** -0.5
    X = rng.normal(size=(n, d)) @ mix + offset
    X += {name: i * rng.normal(size=d) * 0.4 for i, name in enumerate(domains)}["b"] * (
        domain == domains[1]
    )[:, None]
    if len(domains) > 2:
        X += rng.normal(size=d) * 0.4 * (domain == domains[2])[:, None]
    X += np.outer(label, rng.normal(size=d) * 0.7)
    return X.astype(np.float32), domain, genre, label


@pytest.fixture(params=METHODS)
def method(request):
    return METHODS[request.param]


def fit(method, X, domain, genre, **kwargs):
    return method.fit(X, domain=domain, genre=genre, **kwargs)


def mean_gap(X, domain):
    means = [X[domain == k].mean(axis=0, dtype=float) for k in np.unique(domain)]
    return np.abs(np.subtract(means[1:], means[0])).max()


def in_sample_auc(X, domain):
    X = X.astype(float)
    probe = LogisticRegression(C=100, max_iter=5000).fit(X, domain)
    return roc_auc_score(domain == probe.classes_[1], probe.decision_function(X))


@pytest.mark.parametrize("name", ["meandiff", "leace", "center", "standardize"])
@pytest.mark.parametrize("domains", [("a", "b"), ("a", "b", "c")])
def test_domain_means_are_equal_after_and_were_not_before(rng, name, domains):
    X, domain, genre, _ = data(rng, domains=domains)
    Z = apply_correction(METHODS[name].fit(X, domain=domain), X, domain)
    assert mean_gap(X, domain) > 0.2
    assert mean_gap(Z, domain) < THEOREM


@pytest.mark.parametrize("name", ["meandiff", "leace", "center", "standardize"])
def test_a_refit_probe_finds_nothing_and_found_something_before(rng, name):
    X, domain, _, _ = data(rng)
    Z = apply_correction(METHODS[name].fit(X, domain=domain), X, domain)
    assert in_sample_auc(X, domain) > 0.8
    assert abs(in_sample_auc(Z, domain) - 0.5) < 0.08


def test_lda_removes_its_direction_and_the_probe_still_finds_the_domain(rng):
    X, domain, _, _ = data(rng, n=1500)
    lda = LDAProjection().fit(X, domain=domain)
    Z = lda.transform(X)
    assert np.abs(Z @ lda.directions_.T).max() < THEOREM
    assert mean_gap(Z, domain) > 0.1
    assert in_sample_auc(Z, domain) > 0.6


@pytest.mark.parametrize(("n", "d"), [(400, 12), (80, 120)])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_lda_direction_is_that_of_scikit_learn(rng, n, d, dtype):
    X, domain, _, _ = data(rng, n=n, d=d)
    X = X.astype(dtype)
    reference = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")
    w = reference.fit(X.astype(float), domain).coef_[0]
    v = LDAProjection().fit(X, domain=domain).directions_[0]
    assert abs(w @ v) / np.linalg.norm(w) > 1 - 1e-9


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, "auto"])
def test_shrunk_covariance_is_that_of_scikit_learn(rng, shrinkage):
    X = data(rng, n=300)[0].astype(float)
    X[:, 3] = 7.0
    domain = np.repeat(["a", "b"], 150)
    if shrinkage == 0.0:
        X = np.delete(X, 3, axis=1)
    reference = LinearDiscriminantAnalysis(
        solver="eigen", shrinkage=shrinkage, store_covariance=True
    ).fit(X, domain)
    groups = domain_groups(X, np.repeat([0, 1], 150))
    ours = shrunk_covariance(groups, shrinkage).dense()
    np.testing.assert_allclose(ours, reference.covariance_, atol=1e-12)


def test_leace_is_the_smallest_of_the_erasing_changes(rng):
    X, domain, _, _ = data(rng, n=4000)
    X = X.astype(float)
    change = {
        name: np.square(METHODS[name].fit(X, domain=domain).transform(X) - X).sum()
        for name in ("leace", "meandiff")
    }
    assert change["leace"] < change["meandiff"]


def test_leace_erases_exactly_where_the_covariance_is_singular(rng):
    X = rng.normal(size=(40, 90)).astype(np.float32)
    domain = np.repeat(["a", "b"], 20)
    for shrinkage in ("auto", 0.0, 0.5):
        Z = LEACE(shrinkage=shrinkage).fit_transform(X, domain=domain)
        assert mean_gap(Z, domain) < THEOREM
    assert mean_gap(X, domain) > 0.2


def test_mlda_removes_one_direction_a_genre(rng):
    X, domain, genre, _ = data(rng)
    mlda = MultiLDAProjection().fit(X, domain=domain, genre=genre)
    assert mlda.directions_.shape == (3, 16)
    for name in np.unique(genre):
        rows = genre == name
        v = LDAProjection().fit(X[rows], domain=domain[rows]).directions_[0]
        assert np.linalg.norm(mlda.directions_ @ v) == pytest.approx(1, abs=1e-6)


def test_mlda_leaves_a_one_sided_genre_out_and_compat_takes_one_class_lda(rng):
    X, domain, genre, _ = data(rng)
    genre = np.where((genre == "pop") & (domain == "a"), "jazz", genre)
    with pytest.warns(BiasAudioWarning, match="genre 'pop' .* is left out"):
        sound = MultiLDAProjection().fit(X, domain=domain, genre=genre)
    assert sound.genres_ == ("classical", "jazz")
    with pytest.warns(BiasAudioWarning, match="one-class direction"):
        compat = MultiLDAProjection(compat="wang2023").fit(X, domain=domain, genre=genre)
    rows = genre == "pop"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        reference = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")
        w = reference.fit(X[rows].astype(float), domain[rows]).coef_[0]
    v = w / np.linalg.norm(w)
    assert np.linalg.norm(compat.directions_ @ v) == pytest.approx(1, abs=1e-8)
    assert np.linalg.norm(sound.directions_ @ v) < 0.99


def test_centering_with_balance_does_not_take_class_mix_for_domain(rng):
    label = np.r_[np.repeat([0, 1], [300, 100]), np.repeat([0, 1], [100, 300])]
    domain = np.repeat(["a", "b"], 400)
    X = rng.normal(size=(800, 4)) * 0.1
    X[:, 0] += 5 * label
    plain = DomainCentering().fit_transform(X, domain=domain)
    fair = DomainCentering().fit_transform(X, domain=domain, balance=label)
    class_gap = {
        k: Z[(domain == "b") & (label == 1), 0].mean() - Z[(domain == "a") & (label == 1), 0].mean()
        for k, Z in (("plain", plain), ("fair", fair))
    }
    assert abs(class_gap["plain"]) > 2
    assert abs(class_gap["fair"]) < 0.1


def test_task_signal_survives(rng, method):
    X, domain, genre, label = data(rng, n=1500)
    Z = apply_correction(fit(method, X, domain, genre), X, domain)
    auc = [
        roc_auc_score(label, LogisticRegression(max_iter=2000).fit(V, label).decision_function(V))
        for V in (X, Z)
    ]
    assert auc[0] > 0.75
    assert auc[1] > auc[0] - 0.05


def test_dtype_order_refit_and_clone_change_nothing(rng, method):
    X, domain, genre, _ = data(rng)
    fitted = fit(method, X, domain, genre)
    Z = apply_correction(fitted, X, domain)
    assert Z.dtype == np.float32
    assert Z is not X
    double = fit(method, X.astype(float), domain, genre)
    np.testing.assert_allclose(apply_correction(double, X.astype(float), domain), Z, atol=1e-4)
    order = rng.permutation(len(X))
    shuffled = fit(method, X[order], domain[order], genre[order])
    np.testing.assert_allclose(apply_correction(shuffled, X, domain), Z, atol=1e-4)
    assert clone(fitted).get_params() == fitted.get_params()


def test_integer_domains_are_categories(rng, method):
    X, domain, genre, _ = data(rng)
    codes = np.where(domain == "a", 7, -3)
    Z = apply_correction(fit(method, X, domain, genre), X, domain)
    W = apply_correction(fit(method, X, codes, genre), X, codes)
    np.testing.assert_allclose(W, Z, atol=1e-4)


def test_large_means_lose_nothing(rng, method):
    X, domain, genre, _ = data(rng, offset=1000.0)
    Z = apply_correction(fit(method, X, domain, genre), X, domain)
    exact = X.astype(float)
    W = apply_correction(fit(method, exact, domain, genre), exact, domain)
    change = np.abs(W - exact).max()
    # The rounding of float32 at 1000 is 6e-5, whatever the correction does.
    assert np.abs(Z - W).max() <= 1e-3 * change + 1.3e-4


def test_alpha_blends_and_zero_changes_nothing(rng, method):
    X, domain, genre, _ = data(rng)
    X = X.astype(float)
    fitted = fit(method, X, domain, genre)
    full = apply_correction(fitted, X, domain)
    half = apply_correction(fitted.set_params(alpha=0.5), X, domain)
    none = apply_correction(fitted.set_params(alpha=0.0), X, domain)
    np.testing.assert_allclose(half, (X + full) / 2, atol=1e-9)
    np.testing.assert_allclose(none, X, atol=1e-12)
    with pytest.raises(ParameterError, match="alpha=2 is not allowed"):
        apply_correction(fitted.set_params(alpha=2), X, domain)


def test_affine_is_the_transform(rng, method):
    X, domain, genre, _ = data(rng)
    X = X.astype(float)
    fitted = fit(method, X, domain, genre)
    affine = fitted.to_affine()
    maps = affine if fitted.domain_aware else dict.fromkeys(np.unique(domain), affine)
    for name, one in maps.items():
        rows = domain == name
        expected = apply_correction(fitted, X[rows], domain[rows])
        np.testing.assert_allclose(X[rows] @ one.matrix + one.intercept, expected, atol=1e-9)


def test_pipeline_takes_the_domain_as_a_step_parameter(rng):
    X, domain, _, label = data(rng)
    pipeline = make_pipeline(LEACE(), LogisticRegression(max_iter=1000))
    pipeline.fit(X, label, leace__domain=domain)
    assert pipeline.predict(X).shape == label.shape


def test_set_output_keeps_names(rng):
    pd = pytest.importorskip("pandas")
    X, domain, _, _ = data(rng, d=3)
    frame = pd.DataFrame(X, columns=["x", "y", "z"])
    out = MeanProjection().set_output(transform="pandas").fit(frame, domain=domain)
    assert list(out.transform(frame).columns) == ["x", "y", "z"]


def test_columns_with_names_of_two_types_are_named(rng):
    pd = pytest.importorskip("pandas")
    X, domain, _, _ = data(rng, d=3)
    with pytest.raises(DataError, match=r"all input features have string names.*\['int', 'str'\]"):
        LEACE().fit(pd.DataFrame(X, columns=["x", 1, "z"]), domain=domain)


@pytest.mark.parametrize("cls", [DomainCentering, DomainStandardizer])
def test_unseen_domains(rng, cls):
    X, domain, _, _ = data(rng)
    new = np.full(len(X), "c")
    with pytest.raises(DataError, match="domain 'c' was not seen in fit, which saw"):
        cls().fit(X, domain=domain).transform(X, domain=new)
    same = cls(unseen="identity").fit(X, domain=domain).transform(X, domain=new)
    np.testing.assert_allclose(same, X, atol=1e-6)
    moved = cls(unseen="global").fit(X, domain=domain).transform(X, domain=new)
    assert np.isfinite(moved).all()
    with pytest.raises(ParameterError, match="unseen='ignore' is not known"):
        cls(unseen="ignore").fit(X, domain=domain)


def test_standardizer_leaves_constant_features_alone(rng):
    X, domain, _, _ = data(rng)
    X[:, 2] = 5.0
    X[domain == "a", 3] = 1.0
    Z = DomainStandardizer().fit_transform(X, domain=domain)
    np.testing.assert_allclose(Z[:, 2], 5.0, atol=1e-5)
    assert np.isfinite(Z).all()
    assert np.abs(Z).max() < 100


def test_bad_input_is_named(rng, method):
    X, domain, genre, _ = data(rng, n=60)
    name = method.estimator.__name__
    with pytest.raises(ParameterError, match=rf"{name}.fit was called without domain; call .*fit"):
        method.make().fit(X)
    with pytest.raises(DataError, match="domain has 1 different value"):
        fit(method, X, np.full(60, "a"), genre)
    with pytest.raises(DataError, match=r"domain has shape \(59,\), but X has 60 clips"):
        fit(method, X, domain[:-1], genre)
    with pytest.raises(DataError, match="all 60 clips have the same vector"):
        fit(method, np.ones_like(X), domain, genre)
    with pytest.raises(DataError, match="NaN or Inf in 1 of 60 clips"):
        fit(method, np.where(np.arange(60)[:, None] == 4, np.nan, X), domain, genre)
    with pytest.raises(DataError, match="domain holds floats"):
        fit(method, X, np.linspace(0, 1, 60), genre)
    with pytest.raises(DataError, match="15 features, but 16 were seen in fit"):
        apply_correction(fit(method, X, domain, genre), X[:, :15], domain)


def test_specific_bad_input_is_named(rng):
    X, domain, genre, _ = data(rng, n=60)
    with pytest.raises(ParameterError, match="without genre"):
        MultiLDAProjection().fit(X, domain=domain)
    with pytest.raises(DataError, match="mlda needs two genres"):
        MultiLDAProjection().fit(X, domain=domain, genre=np.full(60, "pop"))
    with pytest.raises(ParameterError, match="shrinkage='none' is not allowed"):
        LDAProjection(shrinkage="none").fit(X, domain=domain)
    with pytest.raises(DataError, match="singular at shrinkage=0"):
        LDAProjection(shrinkage=0).fit(np.c_[X, np.ones(60)], domain=domain)
    with pytest.raises(ParameterError, match="transform was called without domain"):
        DomainCentering().fit(X, domain=domain).transform(X)
    with pytest.raises(DataError, match="no class of balance has clips in every domain"):
        DomainCentering().fit(X, domain=domain, balance=domain)
    with pytest.raises(ParameterError, match=r"method 'leaec' is not known.*did you mean 'leace'"):
        check_methods(["leaec"])


def test_transforms_import_nothing_heavy():
    # scikit-learn may itself import pandas, so what counts is what is added.
    code = (
        "import sys, sklearn.base, sklearn.utils.validation; before = set(sys.modules)\n"
        "import biasaudio.transforms\n"
        "print({'h5py', 'librosa', 'pandas', 'matplotlib'} & (set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_frames_get_the_same_errors_as_arrays(rng, method):
    pd = pytest.importorskip("pandas")
    X, domain, genre, _ = data(rng, n=60, d=3)
    frame = pd.DataFrame(X, columns=["x", "y", "z"])
    fitted = fit(method, frame, domain, genre)
    with pytest.raises(DataError, match="NaN or Inf in 1 of 60 clips"):
        fit(method, frame.mask(np.outer(frame.index == 4, np.ones(3, dtype=bool))), domain, genre)
    with pytest.raises(DataError, match="feature names"):
        apply_correction(fitted, frame.rename(columns={"x": "w"}), domain)
    again = fitted.fit(X, domain=domain, **({"genre": genre} if "genre" in method.needs else {}))
    assert not hasattr(again, "feature_names_in_")


@pytest.mark.parametrize("cls", [DomainCentering, DomainStandardizer])
def test_the_type_of_a_domain_does_not_matter(rng, cls):
    X, domain, _, _ = data(rng)
    codes = np.where(domain == "a", 0, 1)
    fitted = cls(unseen="identity").fit(X, domain=codes)
    expected = fitted.transform(X, domain=codes)
    assert np.abs(expected - X).max() > 0.1
    for other in (codes.astype(object), codes.astype(str)):
        np.testing.assert_array_equal(fitted.transform(X, domain=other), expected)
    assert list(fitted.to_affine()) == ["0", "1"]
