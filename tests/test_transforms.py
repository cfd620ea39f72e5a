"""What each class does with parameters, destinations and input of any kind."""

import subprocess
import sys
import warnings

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from sklearn.utils import estimator_html_repr
from threadpoolctl import threadpool_info, threadpool_limits
from transforms_fixtures import (
    EXACT,
    TRAITS,
    correct,
    each,
    each_method,
    fit,
    is_affine,
    make,
    maps,
    plant,
    taking,
)

from biasaudio.errors import BiasAudioWarning, DataError, ParameterError
from biasaudio.transforms import (
    LEACE,
    METHODS,
    DomainCentering,
    DomainStandardizer,
    LDAProjection,
    MultiLDAProjection,
    NullspaceProjection,
    RobustLEACE,
)
from biasaudio.transforms.methods import apply_correction, check_methods


@pytest.fixture
def clips():
    return plant(11, d=12)


@pytest.fixture
def small():
    return plant(11, n=60, d=12, dtype=np.float32)


@each(is_affine)
def test_the_affine_map_is_the_transform(name, clips):
    fitted = fit(name, clips)
    Z = correct(fitted, clips)
    for domain, one in maps(fitted, clips).items():
        here = clips.domain == domain
        expected = clips.X[here] @ one.matrix + one.intercept
        np.testing.assert_allclose(Z[here], expected, atol=EXACT)


@each_method
def test_frames_keep_their_names(name, clips):
    pd = pytest.importorskip("pandas")
    names = [f"f{i}" for i in range(12)]
    frame = pd.DataFrame(clips.X, columns=names, index=np.arange(len(clips.X)) + 100)
    method = METHODS[name]
    fitted = make(name).set_output(transform="pandas").fit(frame, **clips.columns(method))
    out = apply_correction(fitted, frame, clips.domain)
    same = names if TRAITS[name].affine else out.columns
    assert list(out.columns) == list(fitted.get_feature_names_out()) == list(same)
    assert list(out.index) == list(frame.index)
    np.testing.assert_allclose(out.to_numpy(), correct(fit(name, clips), clips), atol=EXACT)
    assert list(fitted.feature_names_in_) == names


@each_method
def test_a_notebook_shows_the_correction(name):
    html = estimator_html_repr(make(name))
    assert METHODS[name].estimator.__name__ in html


@each(is_affine)
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_the_result_is_written_where_it_is_asked_for(name, dtype, clips):
    clips = clips.using(X=clips.X.astype(dtype))
    fitted = fit(name, clips)
    domain = {"domain": clips.domain} if fitted.domain_aware else {}
    X, before = clips.X, clips.X.copy()
    Z = fitted.transform(X, **domain)
    np.testing.assert_array_equal(X, before)
    assert Z.dtype == dtype
    out = np.full_like(X, np.nan)
    assert fitted.transform(X, out=out, **domain) is out
    np.testing.assert_array_equal(out, Z)
    np.testing.assert_array_equal(X, before)
    assert fitted.transform(X, copy=False, **domain) is X
    np.testing.assert_array_equal(X, Z)
    columns = np.asfortranarray(before)
    assert fitted.transform(columns, out=columns, **domain) is columns
    np.testing.assert_allclose(columns, Z, rtol=1e-5, atol=1e-5)


@each(is_affine)
def test_a_place_that_does_not_fit_is_refused(name, small):
    fitted = fit(name, small)
    domain = {"domain": small.domain} if fitted.domain_aware else {}
    shape = small.X.shape
    frozen = np.empty_like(small.X)
    frozen.flags.writeable = False
    for out in (frozen, np.empty(shape), np.empty(shape[::-1], dtype=np.float32)):
        with pytest.raises(ParameterError, match=r"out has shape .*; give a writable array of sh"):
            fitted.transform(small.X, out=out, **domain)
    with pytest.raises(ParameterError, match="out= works for numpy arrays only"):
        fitted.transform(small.X, out=[[0.0]], **domain)
    small.X.flags.writeable = False
    with pytest.raises(ParameterError, match="X, which is write-protected"):
        fitted.transform(small.X, copy=False, **domain)
    assert fitted.transform(small.X, **domain).flags.writeable
    # Integers are no float array, and are left as they are.
    whole = small.X.astype(int)
    assert fitted.transform(whole, copy=False, **domain).dtype == np.float64
    np.testing.assert_array_equal(whole, small.X.astype(int))


def test_lda_removes_its_direction(clips):
    lda = fit("lda", clips)
    assert np.abs(correct(lda, clips) @ lda.directions_.T).max() < EXACT
    assert np.ptp(clips.X @ lda.directions_.T) > 1


def test_leace_erases_exactly_where_the_covariance_is_singular():
    clips = plant(1, n=40, d=90, dtype=np.float32)
    for shrinkage in ("auto", 0.0, 0.5):
        assert clips.gap(correct(fit("leace", clips, {"shrinkage": shrinkage}), clips)) < 1e-4
    assert clips.gap() > 0.3


def test_mlda_removes_one_direction_per_genre():
    clips = plant(11, d=12, genres=3)
    mlda = fit("mlda", clips)
    assert mlda.directions_.shape == (3, 12)
    for genre in np.unique(clips.genre):
        v = fit("lda", clips.rows(clips.genre == genre)).directions_[0]
        assert np.linalg.norm(mlda.directions_ @ v) == pytest.approx(1, abs=1e-9)
    other = fit("lda", clips).directions_[0]
    assert np.linalg.norm(mlda.directions_ @ other) < 0.999


def test_mlda_leaves_a_one_sided_genre_out_and_compat_takes_one_class_lda():
    clips = plant(11, d=12, genres=3)
    one_sided = (clips.genre == "pop") & (clips.domain == "a")
    clips = clips.using(genre=np.where(one_sided, "jazz", clips.genre))
    with pytest.warns(BiasAudioWarning, match="genre 'pop' .* is left out"):
        sound = fit("mlda", clips)
    assert sound.genres_ == ("jazz", "rock")
    with pytest.warns(BiasAudioWarning, match="one-class direction"):
        compat = fit("mlda", clips, {"compat": "wang2023"})
    pop = clips.rows(clips.genre == "pop")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        reference = LinearDiscriminantAnalysis(solver="eigen", shrinkage="auto")
        w = reference.fit(pop.X, pop.domain).coef_[0]
    v = w / np.linalg.norm(w)
    assert np.linalg.norm(compat.directions_ @ v) == pytest.approx(1, abs=1e-8)
    assert np.linalg.norm(sound.directions_ @ v) < 0.99


def test_centering_with_balance_does_not_take_class_mix_for_domain(rng):
    label = np.r_[np.repeat([0, 1], [300, 100]), np.repeat([0, 1], [100, 300])]
    domain = np.repeat(["a", "b"], 400)
    X = rng.normal(size=(800, 4)) * 0.1
    X[:, 0] += 5 * label
    a, b = (label == 1) & (domain == "a"), (label == 1) & (domain == "b")
    plain = DomainCentering().fit_transform(X, domain=domain)
    fair = DomainCentering().fit_transform(X, domain=domain, balance=label)
    assert abs(plain[b, 0].mean() - plain[a, 0].mean()) > 2
    assert abs(fair[b, 0].mean() - fair[a, 0].mean()) < 0.1


@pytest.mark.parametrize("name", taking("domain", "transform"))
def test_unseen_domains(name, clips):
    columns, new = clips.columns(METHODS[name]), np.full(len(clips.X), "c")

    def corrected(unseen):
        fitted = make(name).set_params(unseen=unseen).fit(clips.X, **columns)
        return fitted.transform(clips.X, domain=new)

    with pytest.raises(DataError, match="domain 'c' was not seen in fit, which saw"):
        corrected("raise")
    np.testing.assert_array_equal(corrected("identity"), clips.X)
    Z = corrected("global")
    assert np.isfinite(Z).all()
    assert np.abs(Z.mean(axis=0) - clips.X.mean(axis=0)).max() < 0.5
    with pytest.raises(ParameterError, match="unseen='ignore' is not known"):
        corrected("ignore")


@pytest.mark.parametrize("name", taking("domain", "transform"))
def test_the_type_of_a_domain_does_not_matter(name, clips):
    codes = np.where(clips.domain == "a", 0, 1)
    fitted = fit(name, clips.using(domain=codes)).set_params(unseen="identity")
    expected = fitted.transform(clips.X, domain=codes)
    assert np.abs(expected - clips.X).max() > 0.1
    for other in (codes.astype(object), codes.astype(str)):
        np.testing.assert_array_equal(fitted.transform(clips.X, domain=other), expected)
    assert list(fitted.to_affine()) == ["0", "1"]


def test_standardizer_leaves_constant_features_alone(clips):
    clips.X[:, 2] = 5.0
    clips.X[clips.domain == "a", 3] = 1.0
    Z = correct(fit("standardize", clips), clips)
    np.testing.assert_allclose(Z[:, 2], 5.0, atol=1e-9)
    assert np.isfinite(Z).all()
    assert np.abs(Z).max() < 100


@each(lambda t: t.corrects)
def test_bad_input_is_named(name, small):
    X, cls = small.X, METHODS[name].estimator.__name__
    with pytest.raises(ParameterError, match=rf"{cls}.fit was called without domain; call .*fit"):
        make(name).fit(X)
    with pytest.raises(DataError, match="domain has 1 different value"):
        fit(name, small.using(domain=np.full(len(X), "a")))
    with pytest.raises(DataError, match=r"domain has shape \(59,\), but X has 60 clips"):
        fit(name, small, domain=small.domain[:-1])
    with pytest.raises(DataError, match="all 60 clips have the same vector"):
        fit(name, small.using(X=np.ones_like(X)))
    with pytest.raises(DataError, match="NaN or Inf in 1 of 60 clips"):
        fit(name, small.using(X=np.where(np.arange(60)[:, None] == 4, np.nan, X)))
    with pytest.raises(DataError, match="domain holds floats"):
        fit(name, small, domain=np.linspace(0, 1, 60))
    with pytest.raises(DataError, match=f"11 features, but {cls} is expecting 12"):
        apply_correction(fit(name, small), X[:, :11], small.domain)
    if TRAITS[name].affine:
        with pytest.raises(ParameterError, match="alpha=2 is not allowed"):
            correct(fit(name, small).set_params(alpha=2), small)


@each_method
def test_frames_get_the_same_errors_as_arrays(name, small):
    pd = pytest.importorskip("pandas")
    frame = pd.DataFrame(small.X, columns=[f"f{i}" for i in range(12)])
    fitted = fit(name, small.using(X=frame))
    with pytest.raises(DataError, match="NaN or Inf in 1 of 60 clips"):
        fit(name, small.using(X=frame.mask(np.outer(frame.index == 4, np.ones(12, dtype=bool)))))
    with pytest.raises(DataError, match="feature names"):
        apply_correction(fitted, frame.rename(columns={"f2": "w"}), small.domain)
    with pytest.raises(DataError, match=r"all input features have string names.*\['int', 'str'\]"):
        fit(name, small.using(X=frame.rename(columns={"f2": 2})))
    again = fitted.fit(small.X, **small.columns(METHODS[name]))
    assert not hasattr(again, "feature_names_in_")


def test_specific_bad_input_is_named(small):
    X, domain = small.X, small.domain
    with pytest.raises(ParameterError, match="without genre"):
        MultiLDAProjection().fit(X, domain=domain)
    with pytest.raises(DataError, match="mlda needs two genres"):
        MultiLDAProjection().fit(X, domain=domain, genre=np.full(60, "pop"))
    with pytest.raises(ParameterError, match="shrinkage='none' is not allowed"):
        LDAProjection(shrinkage="none").fit(X, domain=domain)
    with pytest.raises(DataError, match="singular at shrinkage=0"):
        LDAProjection(shrinkage=0).fit(np.c_[X, np.ones(60)], domain=domain)
    with pytest.raises(ParameterError, match=r"shrinkage='auto' .* needs all clips at once"):
        LEACE().partial_fit(X, domain=domain)
    with pytest.raises(ParameterError, match="balance was given without domain"):
        LEACE().fit(X, nuisance=small.level, balance=small.label)
    with pytest.warns(BiasAudioWarning, match="nothing is erased: .* check that preserve"):
        LEACE().fit(X, domain=domain, preserve=domain)
    with pytest.raises(
        DataError, match="nuisance has NaN or Inf for 1 of 60 clips, first at row 7"
    ):
        LEACE().fit(X, nuisance=np.where(np.arange(60) == 7, np.nan, small.level))
    with pytest.raises(DataError, match=r"nuisance has dtype <U.; give numbers"):
        LEACE().fit(X, nuisance=small.label)
    with pytest.raises(DataError, match="sample_weight goes from -1 to 1"):
        DomainStandardizer().fit(X, domain=domain, sample_weight=np.r_[-1.0, np.ones(59)])
    with pytest.raises(DataError, match="a domain has no clip with a weight above 0"):
        LEACE().fit(X, domain=domain, sample_weight=domain == "a")
    with pytest.raises(ParameterError, match="transform was called without domain"):
        DomainCentering().fit(X, domain=domain).transform(X)
    with pytest.raises(DataError, match="no class of balance has clips in every domain"):
        DomainCentering().fit(X, domain=domain, balance=domain)
    with pytest.raises(ParameterError, match=r"method 'leaec' is not known.*did you mean 'leace'"):
        check_methods(["leaec"])


@pytest.mark.parametrize("call", ["fit", "fit_transform"])
@pytest.mark.parametrize(
    "transform",
    [
        LDAProjection(shrinkage=0.1),
        LEACE(),
        RobustLEACE(leakage=0.51),
        NullspaceProjection(n_iter=50, variance=1.0),
    ],
    ids=repr,
)
def test_a_warning_points_at_the_line_of_the_caller(transform, call, rng):
    X, domain = rng.normal(size=(40, 12)), np.r_[["a"] * 38, ["b"] * 2]
    with pytest.warns(BiasAudioWarning) as caught:
        getattr(transform, call)(X, domain=domain)
    assert {one.filename for one in caught} == {__file__}


@pytest.mark.parametrize("name", ["mlda", "rleace", "inlp"])
def test_many_small_products_are_made_by_one_thread(name, clips, monkeypatch):
    seen = []
    svd = np.linalg.svd

    def recorded(*args, **options):
        seen.append(blas_threads())
        return svd(*args, **options)

    monkeypatch.setattr(np.linalg, "svd", recorded)
    with threadpool_limits(2, user_api="blas"):
        np.linalg.svd(np.eye(2))
        fit(name, clips, {"leakage": 0.51} if name == "rleace" else {})
        assert blas_threads() == seen[0] == {2}
    assert seen[-1] == {1}


def blas_threads():
    """Return the numbers of threads of the BLAS libraries that are loaded."""
    return {one["num_threads"] for one in threadpool_info() if one["user_api"] == "blas"}


def test_transforms_import_nothing_heavy():
    # scikit-learn may itself import pandas, so what counts is what is added.
    code = (
        "import sys, sklearn.base, sklearn.utils.validation; before = set(sys.modules)\n"
        "import biasaudio.transforms\n"
        "print({'h5py', 'librosa', 'pandas', 'matplotlib'} & (set(sys.modules) - before))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
