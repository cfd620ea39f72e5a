"""What RobustLEACE keeps, what it promises of new clips, and when it is LEACE."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.base import clone

from biasaudio.errors import BiasAudioWarning, ParameterError
from biasaudio.probes import probe_domain
from biasaudio.transforms import LEACE, RobustLEACE


def plant(rng, sizes=(60, 60), d=128, gap=2.0):
    """Return clips with a steep spectrum, whose domains differ in every direction a little."""
    scale = (1.0 + np.arange(d)) ** -0.7
    codes = np.repeat(np.arange(len(sizes)), sizes)
    means = gap * rng.standard_normal((len(sizes), d)) / np.sqrt(d)
    # Turned, so that no feature looks like one in another unit.
    turn = np.linalg.qr(rng.standard_normal((d, d)))[0]
    X = (rng.standard_normal((len(codes), d)) + means[codes]) * scale @ turn
    return X, np.array(["a", "b", "c", "d"])[codes]


def gap(X, domain):
    """Return the largest difference between the domain means."""
    means = [X[domain == name].mean(axis=0) for name in np.unique(domain)]
    return np.abs(np.stack(means) - means[0]).max()


@pytest.mark.parametrize("n", [60, 400])
def test_it_erases_on_the_fitted_clips_and_keeps_their_mean(rng, n):
    X, domain = plant(rng, (n, n))
    assert gap(X, domain) > 0.1
    eraser = RobustLEACE(leakage=0.7).fit(X, domain=domain)
    Z = eraser.transform(X)
    assert gap(Z, domain) < 1e-10
    assert np.allclose(Z.mean(axis=0), X.mean(axis=0), atol=1e-12)
    assert np.allclose(eraser.transform(Z), Z, atol=1e-10)
    assert np.linalg.matrix_rank(Z - Z.mean(axis=0), tol=1e-8) == eraser.rank_ - 1 < 127


def test_on_new_clips_less_is_left_than_by_leace_and_not_more_than_was_allowed(rng):
    found = {"before": [], "leace": [], 0.7: [], 0.6: []}
    for seed in range(4):
        X, domain = plant(rng, (180, 180))
        known = {"design": "three-way", "n_permutations": 0, "n_resamples": 0}
        for key, scores in found.items():
            if key == "before":
                eraser = None
            else:
                eraser = LEACE() if key == "leace" else RobustLEACE(leakage=key)
            probe = probe_domain(X, domain, correction=eraser, random_state=seed, **known)
            scores.append(probe.auc)
    mean = {key: np.mean(scores) for key, scores in found.items()}
    assert mean["before"] > 0.8
    assert mean["leace"] > mean[0.7] + 0.05 > mean[0.6] + 0.05
    assert mean[0.7] < 0.7
    assert mean[0.6] < 0.6


def test_the_rank_is_what_the_bound_gives(rng):
    X, domain = plant(rng, (90, 150))
    for leakage in (0.6, 0.65, 0.7, 0.8):
        rank = 2 * norm.ppf(leakage) ** 2 / (1 / 90 + 1 / 150)
        eraser = RobustLEACE(leakage=leakage).fit(X, domain=domain)
        assert eraser.rank_ == int(rank)
        # A probe that knows the error of the means has the ROC-AUC that was allowed.
        error = eraser.rank_ * (1 / 90 + 1 / 150)
        assert norm.cdf(np.sqrt(error / 2)) <= leakage


def test_of_several_domains_the_smallest_decides(rng):
    X, domain = plant(rng, (200, 200, 60))
    eraser = RobustLEACE(leakage=0.7).fit(X, domain=domain)
    assert eraser.rank_ == int(2 * norm.ppf(0.7) ** 2 / (1 / 60 + 1 / 400))
    assert gap(eraser.transform(X), domain) < 1e-10 < gap(X, domain)


def test_weights_count_as_fewer_clips_and_the_class_mix_is_that_of_balance(rng):
    X, domain = plant(rng, (90, 90))
    even = RobustLEACE(leakage=0.7).fit(X, domain=domain, sample_weight=np.full(180, 3.0))
    assert even.rank_ == RobustLEACE(leakage=0.7).fit(X, domain=domain).rank_
    uneven = RobustLEACE(leakage=0.7).fit(X, domain=domain, sample_weight=np.tile([1.0, 4.0], 90))
    assert uneven.rank_ == int(90 * norm.ppf(0.7) ** 2 * 25 / 34)
    label = np.where(rng.random(180) < np.where(domain == "a", 0.2, 0.7), "x", "y")
    Z = RobustLEACE(leakage=0.7).fit(X, domain=domain, balance=label).transform(X)
    means = {(a, c): Z[(domain == a) & (label == c)].mean(axis=0) for a in "ab" for c in "xy"}
    first, second = (means["a", c] - means["b", c] for c in "xy")
    # Equal class mix: the classes' own gaps cancel, while those of all clips do not.
    assert first @ second == pytest.approx(-np.linalg.norm(first) * np.linalg.norm(second))
    assert np.linalg.norm(first) > 0.1
    assert gap(Z, domain) > 0.01


def test_what_is_preserved_stays_and_the_rest_of_the_domain_goes(rng):
    X, domain = plant(rng, (90, 90))
    label = (rng.random(180) < np.where(domain == "a", 0.3, 0.7)).astype(float)
    X[:, -1] += 3 * label
    Z = RobustLEACE(leakage=0.7).fit(X, domain=domain, preserve=label).transform(X)
    y = label - label.mean()
    assert np.allclose(Z.T @ y, X.T @ y, atol=1e-9)
    z = (domain == "a") - np.mean(domain == "a")
    left = z - y * (z @ y) / (y @ y)
    assert np.abs((X - X.mean(axis=0)).T @ left).max() > 1
    assert np.abs((Z - Z.mean(axis=0)).T @ left).max() < 1e-9


def test_a_continuous_nuisance_goes(rng):
    X, domain = plant(rng, (90, 90))
    level = rng.standard_normal(180)
    X += level[:, None] * rng.standard_normal(128) / 10
    eraser = RobustLEACE(leakage=0.7).fit(X, nuisance=level)
    assert eraser.rank_ == int(180 / 2 * norm.ppf(0.7) ** 2)
    Z = eraser.transform(X)
    assert np.abs(np.cov(Z.T, level)[-1, :-1]).max() < 1e-10
    assert np.abs(np.cov(X.T, level)[-1, :-1]).max() > 0.1


@pytest.mark.parametrize("shrinkage", ["auto", "oas", 0.1])
def test_keeping_all_is_leace(rng, shrinkage):
    X, domain = plant(rng)
    all_kept = RobustLEACE(leakage=1, shrinkage=shrinkage).fit(X, domain=domain)
    assert (all_kept.rank_, all_kept.kept_variance_) == (128, 1.0)
    expected = LEACE(shrinkage=shrinkage).fit(X, domain=domain).transform(X)
    assert np.array_equal(all_kept.transform(X), expected)
    some = RobustLEACE(leakage=0.7, shrinkage=shrinkage).fit(X, domain=domain)
    assert some.rank_ < 128
    assert np.abs(some.transform(X) - expected).max() > 1e-3


def test_with_many_clips_it_is_leace(rng):
    X, domain = plant(rng, (300, 300), d=32)
    eraser = RobustLEACE(leakage=0.7).fit(X, domain=domain)
    assert eraser.rank_ == 32
    assert np.array_equal(eraser.transform(X), LEACE().fit(X, domain=domain).transform(X))


def test_streaming_is_batch_in_either_form_of_the_covariance(rng):
    X, domain = plant(rng)
    batch = RobustLEACE(leakage=0.7, shrinkage=0.1).fit(X, domain=domain)
    stream = RobustLEACE(leakage=0.7, shrinkage=0.1)
    for rows in np.array_split(rng.permutation(len(X)), 5):
        stream.partial_fit(X[rows], domain=domain[rows])
    assert stream.rank_ == batch.rank_ < 120
    assert stream.kept_variance_ == pytest.approx(batch.kept_variance_)
    assert np.allclose(stream.transform(X), batch.transform(X), atol=1e-8)


def test_kept_variance_is_the_share_that_the_directions_hold(rng):
    X, domain = plant(rng)
    eraser = RobustLEACE(leakage=0.7).fit(X, domain=domain)
    values = np.linalg.eigvalsh(np.cov(X.T))[::-1]
    assert eraser.kept_variance_ == pytest.approx(values[: eraser.rank_].sum() / values.sum())
    label = rng.random(120) < 0.5
    kept = RobustLEACE(leakage=0.7).fit(X, domain=domain, preserve=label)
    assert kept.rank_ == eraser.rank_
    assert 0.5 < kept.kept_variance_ < eraser.kept_variance_


def test_float32_with_large_means_loses_nothing_and_the_map_is_thin(rng):
    X, domain = plant(rng)
    X32 = (X + 1000).astype(np.float32)
    eraser = RobustLEACE(leakage=0.7).fit(X32, domain=domain)
    exact = RobustLEACE(leakage=0.7).fit(X32.astype(np.float64), domain=domain)
    change = exact.transform(X32.astype(np.float64)) - X32
    Z = eraser.transform(X32)
    assert Z.dtype == np.float32
    assert np.abs((Z - X32) - change).max() < 1e-3 * np.abs(change).max()
    affine = eraser.to_affine()
    assert affine.rank == eraser.rank_
    assert np.allclose(X @ affine.matrix + affine.intercept, eraser.transform(X), atol=1e-6)
    half = clone(eraser).set_params(alpha=0.5).fit(X, domain=domain).transform(X)
    assert np.allclose(half, (X + RobustLEACE(leakage=0.7).fit(X, domain=domain).transform(X)) / 2)


def test_bad_values_are_named_and_too_few_clips_warn(rng):
    X, domain = plant(rng)
    for leakage in (0.5, 1.1, "auto", True, float("nan")):
        with pytest.raises(ParameterError, match=r"leakage=.* ROC-AUC above 0.5"):
            RobustLEACE(leakage=leakage).fit(X, domain=domain)
    with pytest.raises(ParameterError, match="leakage=2"):
        RobustLEACE(leakage=2, shrinkage="oas").partial_fit(X, domain=domain)
    whitened = rng.standard_normal(X.shape)
    with pytest.warns(BiasAudioWarning, match="allow 2 of 128 directions at leakage=0.55, which"):
        RobustLEACE(leakage=0.55).fit(whitened[::5], domain=domain[::5])
