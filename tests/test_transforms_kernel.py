"""The kernel map: scikit-learn's features, and a linear correction of them."""

import numpy as np
import pytest
from scipy.spatial.distance import pdist, squareform
from sklearn.base import clone
from sklearn.kernel_approximation import Nystroem, RBFSampler
from sklearn.linear_model import LogisticRegression
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from biasaudio.errors import DataError, ParameterError
from biasaudio.transforms import (
    LEACE,
    DomainCentering,
    KernelMap,
    LDAProjection,
    MeanProjection,
    MultiLDAProjection,
    load,
    save,
)
from biasaudio.transforms.methods import method_of


def clips(rng, n=300, d=6):
    X = rng.normal(size=(n, d)) * np.arange(1, d + 1) + 5.0
    domain = np.resize(["a", "b"], n)
    X[domain == "b"] += rng.normal(size=d)
    return X, domain


def rings(rng, n=1200, d=4):
    """Return domains that differ in their covariance only."""
    domain = np.resize(["a", "b"], n)
    return rng.normal(size=(n, d)) * np.where(domain == "a", 0.4, 1.4)[:, None], domain


def auc(train, test, domain, held_out):
    probe = LogisticRegression(C=10, max_iter=5000).fit(train, domain == "b")
    return roc_auc_score(held_out == "b", probe.decision_function(test))


def test_a_correction_may_be_given_by_its_name(rng, tmp_path):
    X, domain = clips(rng)
    named = KernelMap("leace").fit(X, domain=domain)
    given = KernelMap(LEACE()).fit(X, domain=domain)
    np.testing.assert_array_equal(named.transform(X), given.transform(X))
    assert clone(named).correction == "leace"
    save(named, tmp_path / "named.npz")
    np.testing.assert_array_equal(load(tmp_path / "named.npz").transform(X), given.transform(X))
    assert method_of(named).name == "kleace"
    with pytest.raises(ParameterError, match="did you mean 'leace'"):
        KernelMap("leece").fit(X, domain=domain)
    with pytest.raises(ParameterError, match="needs the domain at transform"):
        KernelMap("center").fit(X, domain=domain)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_fourier_features_are_those_of_scikit_learn(rng, dtype):
    X, domain = clips(rng)
    X = X.astype(dtype)
    ours = KernelMap(random_state=3).fit(X, domain=domain)
    gamma = 0.5 / ours.width_**2
    sampler = RBFSampler(gamma=gamma, n_components=48, random_state=3)
    theirs = make_pipeline(StandardScaler(), sampler).fit(X.astype(float))
    Z = ours.transform(X)
    assert Z.dtype == dtype
    atol = 1e-12 if dtype == np.float64 else 1e-5
    np.testing.assert_allclose(Z, theirs.transform(X.astype(float)), atol=atol)


def test_a_correction_is_one_step_more(rng):
    X, domain = clips(rng)
    klda = KernelMap(LDAProjection()).fit(X, domain=domain)
    sampler = RBFSampler(gamma=0.5 / klda.width_**2, n_components=48, random_state=0)
    features = make_pipeline(StandardScaler(), sampler).fit_transform(X)
    expected = LDAProjection().fit_transform(features, domain=domain)
    np.testing.assert_allclose(klda.transform(X), expected, atol=1e-9)
    assert np.abs(klda.transform(X) - KernelMap().fit(X).transform(X)).max() > 1e-3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_nystroem_features_are_those_of_scikit_learn(rng, dtype):
    X, _ = clips(rng)
    ours = KernelMap(n_components=40, method="nystroem").fit(X.astype(dtype))
    Z = StandardScaler().fit_transform(X)
    theirs = Nystroem(gamma=0.5 / ours.width_**2, n_components=40, random_state=0)
    theirs.fit(ours.landmarks_)
    # They draw the same clips in another order, and order their columns by it.
    expected = theirs.transform(Z)[:, np.argsort(theirs.component_indices_)]
    atol = 1e-9 if dtype == np.float64 else 1e-3
    np.testing.assert_allclose(ours.transform(X.astype(dtype)), expected, atol=atol)
    is_clip = (np.abs(ours.landmarks_[:, None] - Z).max(axis=-1) < 1e-4).any(axis=1)
    assert is_clip.all()


def test_products_of_features_are_the_kernel(rng):
    X, _ = clips(rng, 200)
    Z = StandardScaler().fit_transform(X)
    distances = squareform(pdist(Z))
    for options, tolerance in (
        ({"n_components": 20000}, 0.05),
        ({"method": "nystroem", "n_components": 200}, 1e-6),
    ):
        kernel = KernelMap(width=2.0, **options).fit(X)
        F = kernel.transform(X)
        np.testing.assert_allclose(F @ F.T, np.exp(-(distances**2) / 8), atol=tolerance)
    median = KernelMap().fit(X).width_
    assert median == pytest.approx(np.median(pdist(Z)))


@pytest.mark.parametrize("options", [{"n_components": 100}, {"method": "nystroem"}])
@pytest.mark.parametrize("correction", [LEACE(), MeanProjection()])
def test_a_difference_of_covariance_is_found_and_then_erased(rng, options, correction):
    X, domain = rings(rng)
    X_new, new = rings(rng)
    options = {"n_components": 100, **options}
    plain = KernelMap(**options).fit(X, domain=domain)
    erased = KernelMap(correction, **options).fit(X, domain=domain)
    assert abs(auc(X, X_new, domain, new) - 0.5) < 0.1
    assert auc(plain.transform(X), plain.transform(X_new), domain, new) > 0.9
    Z = erased.transform(X)
    assert np.abs(Z[domain == "a"].mean(axis=0) - Z[domain == "b"].mean(axis=0)).max() < 1e-9
    assert auc(Z, Z, domain, domain) < 0.6
    assert auc(Z, erased.transform(X_new), domain, new) < 0.7
    # The positive control: erasing in the coordinates of x leaves what the kernel finds.
    W = KernelMap(**options).fit_transform(LEACE().fit_transform(X, domain=domain))
    assert auc(W, W, domain, domain) > 0.9


def test_genres_go_to_the_correction(rng):
    X, domain = clips(rng)
    genre = rng.choice(["jazz", "pop"], 300)
    mklda = KernelMap(MultiLDAProjection(), n_components=30).fit(X, domain=domain, genre=genre)
    assert mklda.correction_.genres_ == ("jazz", "pop")
    assert mklda.transform(X).shape == (300, 30)
    with pytest.raises(ParameterError, match="without genre"):
        KernelMap(MultiLDAProjection()).fit(X, domain=domain)


@pytest.mark.parametrize("name", ["balance", "sample_weight", "preserve"])
def test_other_columns_go_to_the_correction(rng, name):
    X, domain = clips(rng)
    column = rng.integers(1, 3, 300)
    given = KernelMap(LEACE()).fit(X, domain=domain, **{name: column})
    features = KernelMap().fit_transform(X)
    expected = LEACE().fit(features, domain=domain, **{name: column}).transform(features)
    np.testing.assert_allclose(given.transform(X), expected, atol=1e-9)
    assert np.abs(expected - LEACE().fit_transform(features, domain=domain)).max() > 1e-6


def test_names_and_frames_are_those_of_the_output(rng):
    pandas = pytest.importorskip("pandas")
    X, domain = clips(rng)
    frame = pandas.DataFrame(X, columns=[f"dim {i}" for i in range(6)])
    klda = KernelMap(LDAProjection(), n_components=10).set_output(transform="pandas")
    Z = klda.fit_transform(frame, domain=domain)
    assert (
        list(Z.columns)
        == list(klda.get_feature_names_out())
        == [f"kernelmap{i}" for i in range(10)]
    )
    assert list(Z.index) == list(frame.index)
    with pytest.raises(DataError, match="feature names"):
        klda.transform(frame.rename(columns={"dim 0": "other"}))


def test_default_widths_of_the_output(rng):
    X, _ = clips(rng, 1100)
    assert KernelMap().fit_transform(X).shape == (1100, 48)
    assert KernelMap(method="nystroem").fit(X).n_components_ == 1024
    assert KernelMap(method="nystroem").fit(X[:50]).transform(X[:7]).shape == (7, 50)
    wide = rng.normal(size=(20, 1100))
    assert KernelMap().fit(wide).n_components_ == 8192


def test_it_goes_into_a_grid_search_with_nested_parameters(rng):
    X, domain = clips(rng, 120)
    y = rng.random(120) < 0.5
    pipe = make_pipeline(KernelMap(LDAProjection(), n_components=20), LogisticRegression())
    grid = {"kernelmap__correction__shrinkage": [0.1, 0.9], "kernelmap__width": ["median", 1.0]}
    search = GridSearchCV(pipe, grid, cv=3).fit(X, y, kernelmap__domain=domain)
    assert len(search.cv_results_["params"]) == 4
    best = search.best_estimator_[0]
    assert best.correction_.shrinkage == search.best_params_["kernelmap__correction__shrinkage"]
    inner = LDAProjection(shrinkage=0.5)
    copy = clone(KernelMap(inner))
    assert copy.correction is not inner
    assert copy.correction.shrinkage == 0.5


def test_fitting_changes_no_parameter_and_can_be_repeated(rng):
    X, domain = clips(rng)
    inner = LDAProjection()
    klda = KernelMap(inner, n_components=20).fit(X, domain=domain)
    first = klda.transform(X)
    assert not hasattr(inner, "affine_")
    np.testing.assert_array_equal(klda.fit(X, domain=domain).transform(X), first)
    other = clone(klda).set_params(random_state=1).fit(X, domain=domain)
    assert np.abs(other.transform(X) - first).max() > 0.1
    klda.set_params(method="nystroem", correction=None).fit(X)
    fresh = KernelMap(n_components=20, method="nystroem").fit(X)
    np.testing.assert_array_equal(klda.transform(X), fresh.transform(X))
    assert not hasattr(klda, "weights_")


def test_blocks_and_order_do_not_matter(rng):
    X, domain = clips(rng, 2500)
    klda = KernelMap(LDAProjection(), n_components=16).fit(X, domain=domain)
    Z = klda.transform(X)
    order = rng.permutation(2500)
    np.testing.assert_allclose(klda.transform(X[order]), Z[order], atol=1e-12)
    np.testing.assert_allclose(klda.transform(X[:1]), Z[:1], atol=1e-12)


@pytest.mark.parametrize("method", ["fourier", "nystroem"])
def test_float32_with_large_means_and_a_constant_feature_lose_nothing(rng, method):
    X, domain = clips(rng)
    X = np.c_[X + 1000.0, np.full(300, 0.1)].astype(np.float32)
    kernel = KernelMap(LEACE(), method=method, n_components=30)
    exact = clone(kernel).fit(X.astype(float), domain=domain)
    Z = clone(kernel).fit(X, domain=domain).transform(X)
    assert Z.dtype == np.float32
    assert exact.scale_[-1] == 1.0
    np.testing.assert_allclose(Z, exact.transform(X.astype(float)), atol=1e-3)


def test_fewer_clips_than_features_stay_thin(rng):
    X, domain = clips(rng, 40, 64)
    klda = KernelMap(LDAProjection()).fit(X, domain=domain)
    assert klda.n_components_ == 512
    assert klda.correction_.affine_.rank == 1


def test_torch_tensors_stay_tensors(rng):
    torch = pytest.importorskip("torch")
    X, domain = clips(rng)
    for method in ("fourier", "nystroem"):
        kernel = KernelMap(LEACE(), method=method, n_components=20).fit(X, domain=domain)
        Z = kernel.transform(torch.tensor(X))
        assert isinstance(Z, torch.Tensor)
        np.testing.assert_allclose(Z.numpy(), kernel.transform(X), atol=1e-9)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "rbf"}, "method='rbf' is not known"),
        ({"width": "mean"}, "width='mean' is not known"),
        ({"width": -1.0}, r"width=-1.0 is not allowed"),
        ({"n_components": 0}, "n_components=0 is not allowed"),
        ({"random_state": -1}, "random_state=-1 is not allowed"),
        ({"n_components": 301, "method": "nystroem"}, "301 is more than the 300 clips"),
        ({"correction": StandardScaler()}, "is not a linear correction of biasaudio"),
        ({"correction": KernelMap()}, "is not a linear correction of biasaudio"),
        ({"correction": DomainCentering()}, "needs the domain at transform.*give LEACE"),
    ],
)
def test_wrong_parameters_are_named(rng, options, message):
    X, domain = clips(rng)
    with pytest.raises(ParameterError, match=message):
        KernelMap(**options).fit(X, domain=domain)


def test_other_errors_say_what_to_do(rng):
    X, domain = clips(rng)
    with pytest.raises(ParameterError, match=r"KernelMap\.fit was called without domain"):
        KernelMap(LDAProjection()).fit(X)
    with pytest.raises(ParameterError, match="given genre, which correction=LDAProjection does"):
        KernelMap(LDAProjection()).fit(X, domain=domain, genre=domain)
    with pytest.raises(ParameterError, match="given balance, which correction=None"):
        KernelMap().fit(X, balance=domain)
    with pytest.raises(ParameterError, match="is not affine in x"):
        KernelMap().fit(X).to_affine()
    with pytest.raises(DataError, match="most clips have the same vector"):
        KernelMap().fit(np.r_[np.zeros((30, 2)), np.ones((2, 2))])
    with pytest.raises(DataError, match="expecting 6 features"):
        KernelMap().fit(X).transform(X[:, :5])


@pytest.mark.parametrize("seed", range(5))
def test_mostly_equal_clips_have_no_width(seed):
    rng = np.random.default_rng(seed)
    X = np.repeat(rng.normal(size=(1, 40)), 100, axis=0)
    X[:5] = rng.normal(size=(5, 40))
    with pytest.raises(DataError, match="width='median' is 0 here"):
        KernelMap().fit(X)


def test_the_random_state_may_be_a_generator_or_none(rng):
    X, _ = clips(rng)
    one, same, other = (
        KernelMap(random_state=np.random.default_rng(seed)).fit_transform(X) for seed in (1, 1, 2)
    )
    np.testing.assert_array_equal(one, same)
    for drawn in (other, KernelMap(random_state=None).fit_transform(X)):
        assert np.abs(drawn - one).max() > 0.1
