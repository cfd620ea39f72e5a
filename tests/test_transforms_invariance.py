"""What must not matter to a correction does not matter, and what must, does."""

import copy
import pickle

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.base import clone
from transforms_fixtures import (
    EXACT,
    PROPERTY,
    TRAITS,
    correct,
    each,
    each_method,
    fit,
    fixed,
    is_affine,
    make,
    plant,
    planted,
    streamed,
    taking,
)

from biasaudio.errors import ParameterError
from biasaudio.transforms import METHODS

OAS = {"shrinkage": "oas"}


@pytest.mark.filterwarnings("ignore:domain .* has fewer than 3 clips")
@pytest.mark.parametrize(
    ("name", "params"),
    [(name, fixed(name)) for name in streamed()]
    + [(n, {"shrinkage": "oas"}) for n in ("lda", "leace")],
)
@PROPERTY
@given(clips=planted(), seed=st.integers(0, 99))
def test_a_batch_at_a_time_is_all_at_once_in_any_order(name, params, clips, seed):
    rng = np.random.default_rng(seed)
    Z = correct(fit(name, clips, params), clips)
    batches = np.array_split(rng.permutation(len(clips.X)), rng.integers(2, 9))
    stream = make(name, params)
    for rows in batches:
        part = clips.rows(rows)
        stream.partial_fit(part.X, **part.columns(METHODS[name]))
    np.testing.assert_allclose(correct(stream, clips), Z, atol=1e-8)
    first = fit(name, clips.rows(np.concatenate(batches[:-1])), params)
    assert np.abs(correct(first, clips) - Z).max() > 1e-4


@each(is_affine)
@PROPERTY
@given(clips=planted(), seed=st.integers(0, 99))
def test_the_order_of_clips_and_features_does_not_matter(name, clips, seed):
    rng = np.random.default_rng(seed)
    Z = correct(fit(name, clips), clips)
    order = rng.permutation(len(clips.X))
    np.testing.assert_allclose(correct(fit(name, clips.rows(order)), clips), Z, atol=1e-8)
    places = rng.permutation(clips.X.shape[1])
    swapped = clips.using(X=clips.X[:, places])
    W = correct(fit(name, swapped), swapped)
    np.testing.assert_allclose(W, Z[:, places], atol=1e-8)
    others = clips.using(domain=rng.permutation(clips.domain))
    assert np.abs(correct(fit(name, others), others) - Z).max() > 0.01


@each(lambda t: t.rotates is not None)
@PROPERTY
@given(clips=planted(), seed=st.integers(0, 99))
def test_rotated_vectors_get_the_rotated_correction(name, clips, seed):
    d = clips.X.shape[1]
    Q = np.linalg.qr(np.random.default_rng(seed).normal(size=(d, d)))[0]
    turned = clips.using(X=clips.X @ Q)
    Z = correct(fit(name, clips, TRAITS[name].rotates), clips)
    np.testing.assert_allclose(
        correct(fit(name, turned, TRAITS[name].rotates), turned), Z @ Q, atol=1e-8
    )


@each(is_affine)
@pytest.mark.parametrize("mean", [0, 128, 1000])
@PROPERTY
@given(seed=st.integers(0, 2**32 - 1))
def test_float32_loses_a_thousandth_of_the_correction_at_most(name, mean, seed):
    clips = plant(seed, mean=mean, dtype=np.float32)
    exact = clips.using(X=clips.X.astype(np.float64))
    fine, coarse = fit(name, exact), fit(name, clips)
    Z = correct(coarse, clips)
    assert Z.dtype == np.float32
    change = np.abs(correct(fine, exact) - exact.X).max()
    assert change > 0.3
    # float32 cannot hold the result itself better than to half a digit of its mean.
    rounding = np.spacing(np.abs(exact.X).max().astype(np.float32)) / 2
    assert np.abs(Z - correct(fine, exact)).max() <= 1e-3 * change + 2 * rounding
    digits = correct(coarse, exact) - correct(fine, exact)
    assert np.abs(digits).max() <= 1e-3 * change


@each(is_affine)
@PROPERTY
@given(clips=planted(), alpha=st.floats(0.1, 0.9))
def test_alpha_goes_from_nothing_to_all_in_a_straight_line(name, clips, alpha):
    fitted = fit(name, clips)
    full = correct(fitted, clips)
    assert np.abs(full - clips.X).max() > 0.1
    np.testing.assert_array_equal(correct(fitted.set_params(alpha=1), clips), full)
    np.testing.assert_allclose(correct(fitted.set_params(alpha=0), clips), clips.X, atol=1e-12)
    between = clips.X + alpha * (full - clips.X)
    np.testing.assert_allclose(correct(fitted.set_params(alpha=alpha), clips), between, atol=EXACT)


@each_method
@PROPERTY
@given(clips=planted())
def test_integers_are_categories_and_not_numbers(name, clips):
    Z = correct(fit(name, clips), clips)
    codes = np.array([40, -7, 0, 12])
    numbers = clips.using(
        **{
            column: codes[np.unique(getattr(clips, column), return_inverse=True)[1]]
            for column in ("domain", "genre", "label")
        }
    )
    np.testing.assert_allclose(correct(fit(name, numbers), numbers), Z, atol=1e-8)


@pytest.mark.parametrize("name", taking("sample_weight"))
@PROPERTY
@given(clips=planted(n=180), seed=st.integers(0, 99))
def test_a_weight_of_three_is_three_copies(name, clips, seed):
    times = np.random.default_rng(seed).integers(0, 4, len(clips.X))
    weighted = fit(name, clips, fixed(name), sample_weight=times)
    copies = fit(name, clips.rows(np.repeat(np.arange(len(times)), times)), fixed(name))
    Z = correct(weighted, clips)
    if TRAITS[name].copies:
        np.testing.assert_allclose(Z, correct(copies, clips), atol=1e-8)
    doubled = fit(name, clips, fixed(name), sample_weight=2.0 * times)
    if TRAITS[name].shares:
        np.testing.assert_allclose(correct(doubled, clips), Z, atol=1e-8)
    assert np.abs(correct(fit(name, clips, fixed(name)), clips) - Z).max() > 0.01


@pytest.mark.parametrize("name", taking("balance"))
@PROPERTY
@given(clips=planted(labels=3))
def test_balance_is_weighting_by_hand(name, clips):
    only = clips.domain == "a"
    label = np.where(only & (clips.label == "voice"), "solo", clips.label)
    weights = np.zeros(len(label))
    for mask in clips.masks():
        for shared in ("flute", "guitar"):
            here = mask & (label == shared)
            weights[here] = 1 / here.sum()
    balanced = fit(name, clips, fixed(name), balance=label)
    by_hand = fit(name, clips, fixed(name), sample_weight=weights)
    Z = correct(balanced, clips)
    np.testing.assert_allclose(Z, correct(by_hand, clips), atol=1e-8)
    assert np.abs(Z - correct(fit(name, clips, fixed(name)), clips)).max() > 0.01
    if TRAITS[name].erases:
        assert clips.gap(Z, weights + 1e-300) < 1e-8
        assert clips.gap(None, weights + 1e-300) > 0.3


@each_method
def test_copies_of_a_fitted_correction_do_the_same(name):
    clips = plant(11)
    fitted = fit(name, clips)
    if TRAITS[name].affine:
        fitted.set_params(alpha=0.7)
    Z = correct(fitted, clips)
    for twin in (copy.deepcopy(fitted), pickle.loads(pickle.dumps(fitted))):
        np.testing.assert_array_equal(correct(twin, clips), Z)
    fresh = clone(fitted)
    assert repr(fresh.get_params()) == repr(fitted.get_params())
    assert not [key for key in vars(fresh) if key.endswith("_")]


@each_method
def test_a_second_fit_forgets_the_first(name):
    clips = plant(11)
    other = plant(12, d=15, domains=3)
    again = fit(name, clips).fit(other.X, **other.columns(METHODS[name]))
    np.testing.assert_array_equal(correct(again, other), correct(fit(name, other), other))
    assert again.n_features_in_ == 15
    if TRAITS[name].corrects:
        assert list(again.domains_) == ["a", "b", "c"]


@pytest.mark.parametrize("name", streamed())
def test_partial_fit_after_fit_is_refused_and_fit_after_it_starts_anew(name):
    clips = plant(11)
    columns = clips.columns(METHODS[name])
    fitted = fit(name, clips, fixed(name))
    with pytest.raises(ParameterError, match="was fitted by fit, which keeps no moments"):
        fitted.partial_fit(clips.X, **columns)
    stream = make(name, fixed(name))
    stream.partial_fit(2 * clips.X, **columns).fit(clips.X, **columns)
    fresh = fit(name, clips, fixed(name))
    np.testing.assert_array_equal(correct(stream, clips), correct(fresh, clips))
    with pytest.raises(ParameterError, match="was fitted by fit, which keeps no moments"):
        stream.partial_fit(clips.X, **columns)


@each_method
def test_fit_transform_takes_what_fit_takes(name):
    clips = plant(11)
    method = METHODS[name]
    columns = clips.columns(method)
    if name in taking("sample_weight"):
        columns["sample_weight"] = np.arange(len(clips.X)) % 3 + 1.0
    Z = make(name).fit_transform(clips.X, **columns)
    np.testing.assert_array_equal(Z, correct(make(name).fit(clips.X, **columns), clips))
    assert not np.array_equal(Z, clips.X)
