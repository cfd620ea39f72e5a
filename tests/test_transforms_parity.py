"""LDA is scikit-learn's to nine digits, LEACE that of its authors to six."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis
from transforms_fixtures import PROPERTY, correct, fit, plant, planted

from biasaudio.transforms import LEACE, LDAProjection


def scikit_learn(clips, shrinkage="auto", **options):
    model = LinearDiscriminantAnalysis(solver="eigen", shrinkage=shrinkage, **options)
    return model.fit(clips.X.astype(np.float64), clips.domain)


def cosines(ours, theirs):
    """Return the cosines of the angles between the spans of rows."""
    theirs = np.linalg.qr(theirs.T)[0].T
    return np.linalg.svd(np.linalg.qr(ours.T)[0].T @ theirs.T, compute_uv=False)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mean", [0, 128])
@pytest.mark.parametrize("d", [12, 400])
@PROPERTY
@given(seed=st.integers(0, 2**32 - 1), domains=st.integers(2, 4))
def test_lda_is_that_of_scikit_learn(d, mean, dtype, seed, domains):
    clips = plant(seed, n=120, d=d, domains=domains, mean=mean, dtype=dtype)
    ours = fit("lda", clips).directions_
    coef = scikit_learn(clips).coef_
    # With k domains scikit-learn has k coefficients; their differences span k - 1 directions.
    theirs = coef[1:] - coef[0] if domains > 2 else coef
    assert ours.shape == (domains - 1, d)
    assert cosines(ours, theirs).min() > 1 - 1e-9
    gaps = np.diff([clips.X[mask].mean(axis=0) for mask in clips.masks()], axis=0)
    assert cosines(ours, gaps).min() < 1 - 1e-3


@PROPERTY
@given(seed=st.integers(0, 2**32 - 1), domains=st.integers(2, 4))
def test_the_formula_for_few_clips_is_the_one_for_many(seed, domains):
    clips = plant(seed, n=60, d=90, domains=domains)
    # Clips that count for nothing make the same problem one of more clips than features.
    padded = np.r_[clips.X, np.zeros((100, 90))]
    domain = np.r_[clips.domain, np.full(100, clips.domain[0])]
    weight = np.r_[np.ones(len(clips.X)), np.full(100, 1e-300)]
    for shrinkage in ("oas", 0.1, 0.7):
        lda = LDAProjection(shrinkage=shrinkage)
        few = lda.fit(clips.X, domain=clips.domain).directions_
        many = lda.fit(padded, domain=domain, sample_weight=weight).directions_
        assert cosines(few, many).min() > 1 - 1e-9


@pytest.mark.parametrize("shrinkage", [0.0, 0.3, "auto"])
@pytest.mark.parametrize("d", [10, 150])
@PROPERTY
@given(seed=st.integers(0, 2**32 - 1), domains=st.integers(2, 4))
def test_the_shrinkage_is_that_of_scikit_learn(d, shrinkage, seed, domains):
    clips = plant(seed, n=200 if d == 10 else 100, d=d, domains=domains)
    if d > 100 and shrinkage == 0.0:
        shrinkage = 0.01
    if shrinkage != 0.0:
        clips.X[:, 3] = 7.0
    coef = scikit_learn(clips, shrinkage).coef_
    theirs = coef[1:] - coef[0] if domains > 2 else coef
    ours = fit("lda", clips, {"shrinkage": shrinkage}).directions_
    assert cosines(ours, theirs).min() > 1 - 1e-9
    other = 0.5 if shrinkage == "auto" else "auto"
    assert cosines(fit("lda", clips, {"shrinkage": other}).directions_, theirs).min() < 1 - 1e-5


@pytest.fixture(scope="module")
def eraser():
    """Give the maps of concept-erasure, which needs torch."""
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        concept_erasure = pytest.importorskip("concept_erasure")

    def make(clips, rows=slice(None), fitter=None, **options):
        onehot = np.eye(9)[np.unique(clips.domain, return_inverse=True)[1]]
        x, z = torch.tensor(clips.X[rows]), torch.tensor(onehot[rows])
        if fitter is None:
            options = {"shrinkage": False, "constrain_cov_trace": False} | options
            fitter = concept_erasure.LeaceFitter(*x.shape[1:], 9, dtype=torch.float64, **options)
        return fitter.update(x, z)

    make.apply = lambda fitter, X: fitter.eraser(torch.tensor(X)).numpy()
    make.matrix = lambda fitter: fitter.eraser.P.numpy().T
    return make


@PROPERTY
@given(clips=planted(), mean=st.sampled_from((0.0, 128.0)))
def test_leace_is_that_of_concept_erasure(eraser, clips, mean):
    clips = clips.using(X=clips.X + mean)
    theirs = eraser.apply(eraser(clips), clips.X)
    np.testing.assert_allclose(
        correct(fit("leace", clips, {"shrinkage": 0}), clips), theirs, atol=1e-6
    )
    assert np.abs(correct(fit("leace", clips, {"shrinkage": 0.3}), clips) - theirs).max() > 1e-3


@PROPERTY
@given(clips=planted())
def test_leace_a_batch_at_a_time_is_that_of_concept_erasure(eraser, clips):
    theirs, ours = None, LEACE(shrinkage=0)
    for rows in np.array_split(np.arange(len(clips.X)), 5):
        theirs = eraser(clips, rows, theirs)
        ours.partial_fit(clips.X[rows], domain=clips.domain[rows])
    np.testing.assert_allclose(ours.transform(clips.X), eraser.apply(theirs, clips.X), atol=1e-6)


@PROPERTY
@given(clips=planted())
def test_mean_projection_is_the_orthogonal_one_of_concept_erasure(eraser, clips):
    ours = fit("meandiff", clips).to_affine().matrix
    np.testing.assert_allclose(
        ours, eraser.matrix(eraser(clips, method="orth", svd_tol=1e-6)), atol=1e-6
    )
    assert np.abs(ours - eraser.matrix(eraser(clips))).max() > 1e-3


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_with_fewer_clips_than_features_leace_is_still_that_of_concept_erasure(eraser, dtype):
    clips = plant(4, n=40, d=90, domains=3, dtype=dtype)
    exact = clips.using(X=clips.X.astype(np.float64))
    theirs = eraser.apply(eraser(exact), exact.X)
    ours = correct(fit("leace", clips, {"shrinkage": 0}), exact)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert np.abs(correct(fit("leace", clips), exact) - theirs).max() > 1e-3
