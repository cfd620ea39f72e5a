"""The theorems of each correction hold for any planted clips, and can fail."""

import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.linear_model import LogisticRegression
from transforms_fixtures import (
    EXACT,
    PROPERTY,
    TRAITS,
    correct,
    each,
    each_method,
    fit,
    is_affine,
    maps,
    plant,
    planted,
    taking,
)

from biasaudio.errors import BiasAudioWarning, DataError
from biasaudio.transforms import METHODS


def coefficients(X, domain):
    """Return the coefficients of a linear probe for the domain, fitted on X."""
    X = (X - X.mean(axis=0)) / X.std()
    return LogisticRegression(C=10, tol=1e-10, max_iter=10_000).fit(X, domain).coef_


def test_every_method_has_its_traits():
    assert [name for name in METHODS if name not in TRAITS] == []


@each(lambda t: t.erases)
@PROPERTY
@given(clips=planted())
def test_a_refitted_probe_has_no_coefficients_and_had_some_before(name, clips):
    Z = correct(fit(name, clips), clips)
    assert np.abs(coefficients(clips.X, clips.domain)).max() > 0.1
    assert np.abs(coefficients(Z, clips.domain)).max() < 1e-5
    assert clips.gap() > 0.3
    assert clips.gap(Z) < EXACT


@each(lambda t: not t.erases)
@PROPERTY
@given(clips=planted())
def test_a_probe_still_finds_the_domain_where_erasure_is_not_promised(name, clips):
    Z = correct(fit(name, clips), clips)
    assert np.abs(coefficients(Z, clips.domain)).max() > 0.01


@each(lambda t: t.idempotent)
@PROPERTY
@given(clips=planted())
def test_correcting_twice_is_correcting_once(name, clips):
    fitted = fit(name, clips)
    once = correct(fitted, clips)
    assert np.abs(once - clips.X).max() > 0.1
    np.testing.assert_allclose(correct(fitted, clips.using(X=once)), once, atol=EXACT)


@each(lambda t: t.erases and t.affine and not t.random)
@PROPERTY
@given(clips=planted())
def test_what_is_corrected_needs_no_correction(name, clips):
    once = clips.using(X=correct(fit(name, clips), clips))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "nothing is erased", BiasAudioWarning)
        twice = correct(fit(name, once), once)
    np.testing.assert_allclose(twice, once.X, atol=1e-7)


@each(lambda t: t.rank)
@PROPERTY
@given(clips=planted(d=12))
def test_the_rank_of_the_change(name, clips):
    numbers = len(np.unique(clips.domain)), len(np.unique(clips.genre))
    for affine in maps(fit(name, clips), clips).values():
        sizes = np.linalg.svd(affine.matrix - np.eye(12), compute_uv=False)
        assert (sizes > 1e-9).sum() == TRAITS[name].rank(*numbers)


@each(lambda t: t.mean)
@PROPERTY
@given(clips=planted(mean=2.0))
def test_the_mean_stays(name, clips):
    Z = correct(fit(name, clips), clips)
    groups = [slice(None)] if TRAITS[name].mean == "clips" else clips.masks()
    before, after = (np.mean([V[g].mean(axis=0) for g in groups], axis=0) for V in (clips.X, Z))
    np.testing.assert_allclose(after, before, atol=EXACT)
    assert np.abs(Z.mean(axis=0) - clips.X.mean(axis=0)).max() < 1
    assert np.abs(Z - clips.X).max() > 0.1


@PROPERTY
@given(clips=planted(), seed=st.integers(0, 99))
def test_leace_goes_along_with_any_invertible_map(clips, seed):
    A = np.random.default_rng(seed).normal(size=(clips.X.shape[1],) * 2)
    mapped = clips.using(X=clips.X @ A)
    exact = {"shrinkage": 0.0}
    Z = correct(fit("leace", clips, exact), clips)
    np.testing.assert_allclose(correct(fit("leace", mapped, exact), mapped), Z @ A, atol=1e-6)
    flat = correct(fit("meandiff", mapped), mapped) - correct(fit("meandiff", clips), clips) @ A
    assert np.abs(flat).max() > 0.01


@PROPERTY
@given(clips=planted(), seed=st.integers(0, 99))
def test_leace_changes_least_of_all_erasing_maps(clips, seed):
    rng, d = np.random.default_rng(seed), clips.X.shape[1]
    X = clips.X - clips.X.mean(axis=0)
    Z = correct(fit("leace", clips, {"shrinkage": 0.0}), clips)
    least = np.square(Z - clips.X).sum()
    means = np.stack([X[mask].mean(axis=0) for mask in clips.masks()])
    C = np.linalg.svd(means.T, full_matrices=False)[0][:, : len(means) - 1]
    for spread in (0.0, 0.01, 1.0):
        # x - ((x - m) W) C' with W' C = I erases, whatever is then done to it.
        W = C + spread * rng.normal(size=C.shape)
        erased = X - X @ (W @ np.linalg.inv(C.T @ W)) @ C.T
        after = erased @ (np.eye(d) + 0.1 * spread * rng.normal(size=(d, d)))
        assert clips.gap(after) < EXACT
        assert np.square(after - X).sum() >= least * (1 - 1e-9)
    assert np.square(after - X).sum() > 1.1 * least
    assert np.square(correct(fit("meandiff", clips), clips) - clips.X).sum() >= least * (1 - 1e-9)


def covariance(X, columns):
    return (X - X.mean(axis=0)).T @ (columns - columns.mean(axis=0)) / len(X)


def onehot(values):
    return np.eye(9)[np.unique(values, return_inverse=True)[1]][:, : len(np.unique(values))]


@pytest.mark.parametrize("name", [n for n in taking("preserve") if TRAITS[n].preserves])
@PROPERTY
@given(clips=planted())
def test_what_is_preserved_keeps_its_covariance(name, clips):
    labels = onehot(clips.label)
    before = covariance(clips.X, labels)
    Z = correct(fit(name, clips, preserve=clips.label), clips)
    np.testing.assert_allclose(covariance(Z, labels), before, atol=EXACT)
    assert np.abs(covariance(correct(fit(name, clips), clips), labels) - before).max() > 0.01
    assert np.abs(Z - clips.X).max() > 0.1
    as_columns = fit(name, clips, preserve=labels.astype(bool))
    np.testing.assert_allclose(correct(as_columns, clips), Z, atol=EXACT)


@PROPERTY
@given(clips=planted())
def test_leace_erases_the_domain_given_what_is_preserved(clips):
    labels = np.c_[np.ones(len(clips.X)), onehot(clips.label)[:, 1:]]
    domain = onehot(clips.domain)
    left = domain - labels @ np.linalg.lstsq(labels, domain, rcond=None)[0]
    Z = correct(fit("leace", clips, preserve=clips.label), clips)
    assert np.abs(covariance(clips.X, left)).max() > 0.05
    assert np.abs(covariance(Z, left)).max() < EXACT
    assert np.abs(covariance(Z, domain)).max() > 1e-3


@pytest.mark.parametrize("name", taking("nuisance"))
@PROPERTY
@given(clips=planted(), curved=st.booleans())
def test_a_continuous_nuisance_is_decorrelated(name, clips, curved):
    level = np.c_[clips.level, clips.level**2] if curved else clips.level
    columns = level.reshape(len(level), -1)
    alone = fit(name, clips, domain=None, nuisance=level)
    Z = correct(alone, clips)
    assert np.abs(covariance(clips.X, columns)).max() > 0.1
    assert np.abs(covariance(Z, columns)).max() < EXACT
    assert alone.to_affine().rank == columns.shape[1]
    both = correct(fit(name, clips, nuisance=level), clips)
    assert np.abs(covariance(both, columns)).max() < EXACT
    assert clips.gap(both) < EXACT
    assert clips.gap(Z) > 0.01


@each_method
@PROPERTY
@given(clips=planted(domains=2, n=180))
def test_what_tells_classes_apart_survives(name, clips):
    # Where the class mix differs, a part of the classes is taken for the domain.
    columns = {"balance": clips.label} if name in taking("balance") else {}

    def accuracy(X):
        return LogisticRegression(max_iter=2000).fit(X, clips.label).score(X, clips.label)

    before = accuracy(clips.X)
    assert before > 0.8
    assert accuracy(correct(fit(name, clips, **columns), clips)) > before - TRAITS[name].lost


@each(is_affine)
@pytest.mark.parametrize("spread", [0.0, 1e-12, 1e-7])
def test_features_that_hardly_vary_are_not_blown_up(name, spread):
    clips = plant(5, d=12)
    rng = np.random.default_rng(0)
    clips.X[:, 2] = 5 + spread * (rng.normal(size=len(clips.X)) + (clips.domain == "a"))
    with warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        fitted = fit(name, clips)
    assert bool(seen) == (TRAITS[name].floor and spread > 0)
    assert all("feature '2'" in str(warning.message) for warning in seen)
    # A new clip may be off by what is nothing for the other features.
    moved = clips.X + np.eye(12)[2] * 1e-3 * rng.normal(size=(len(clips.X), 1))
    effect = correct(fitted, clips.using(X=moved)) - correct(fitted, clips)
    assert np.abs(effect).max() < 1
    assert np.abs(correct(fitted, clips) - clips.X)[:, np.arange(12) != 2].max() > 0.01


@each(lambda t: t.corrects)
@pytest.mark.parametrize("size", [1, 2])
def test_a_domain_of_one_or_two_clips_is_refused_or_warned_of(name, size):
    clips = plant(7)
    few = clips.rows(
        np.r_[np.flatnonzero(clips.domain == "a")[:size], np.flatnonzero(clips.domain == "b")]
    )
    # A warning is an error here.
    with pytest.raises((BiasAudioWarning, DataError), match="clip"):
        fit(name, few)
    fit(name, clips)
