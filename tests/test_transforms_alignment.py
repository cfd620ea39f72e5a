"""CORAL gives every domain one mean and covariance, and is the published map."""

import warnings

import numpy as np
import pytest
from scipy.linalg import fractional_matrix_power

from biasaudio.errors import BiasAudioWarning, DataError, ParameterError
from biasaudio.moments import Moments
from biasaudio.transforms._covariance import Group
from biasaudio.transforms.coral import CORAL

EXACT = 1e-9


def planted(rng, n=600, d=8, domains=("a", "b", "c"), offset=0.0):
    """Return clips whose domains differ in mean and in covariance."""
    domain = rng.choice(domains, n)
    X = rng.normal(size=(n, d))
    for name in domains[1:]:
        rows = domain == name
        mix = np.linspace(0.4, 2.5, d)[:, None] * np.linalg.qr(rng.normal(size=(d, d)))[0]
        X[rows] = X[rows] @ mix + rng.normal(size=d)
    return X + offset, domain


def covariance(X):
    return np.cov(X.T.astype(float), ddof=0)


def textbook(X, source, to):
    """Return the map of Sun, Feng and Saenko 2016, without their ridge."""
    root = fractional_matrix_power(to, 0.5)
    return fractional_matrix_power(covariance(X[source]), -0.5) @ root


@pytest.mark.parametrize("scale", [True, False])
@pytest.mark.parametrize("domains", [("a", "b"), ("a", "b", "c", "d")])
def test_means_and_covariances_are_equal_after_and_were_not_before(rng, scale, domains):
    X, domain = planted(rng, domains=domains)
    before = [covariance(X[domain == k]) for k in domains]
    Z = CORAL(shrinkage=0, scale=scale).fit_transform(X, domain=domain)
    assert np.abs(before[0] - before[1]).max() > 1
    assert np.abs(X[domain == "a"].mean(0) - X[domain == "b"].mean(0)).max() > 0.5
    pooled = np.mean(before, axis=0)
    mean = np.mean([X[domain == k].mean(0) for k in domains], axis=0)
    for k in domains:
        np.testing.assert_allclose(covariance(Z[domain == k]), pooled, atol=EXACT)
        np.testing.assert_allclose(Z[domain == k].mean(0), mean, atol=EXACT)


def test_it_is_the_textbook_map(rng):
    X, domain = planted(rng)
    fitted = CORAL(shrinkage=0, scale=False).fit(X, domain=domain)
    pooled = np.mean([covariance(X[domain == k]) for k in "abc"], axis=0)
    for k in "abc":
        expected = textbook(X, domain == k, pooled)
        np.testing.assert_allclose(fitted.to_affine()[k].matrix, expected, atol=EXACT)
        assert np.abs(expected - np.eye(8)).max() > 0.2
    aligned = CORAL(shrinkage=0, scale=False, target="b").fit(X, domain=domain)
    expected = textbook(X, domain == "a", covariance(X[domain == "b"]))
    np.testing.assert_allclose(aligned.to_affine()["a"].matrix, expected, atol=EXACT)


def test_with_scale_it_is_the_textbook_map_of_standardised_features(rng):
    X, domain = planted(rng)
    size = np.sqrt(np.mean([X[domain == k].var(axis=0) for k in "abc"], axis=0))
    plain = CORAL(shrinkage=0.2, scale=False).fit_transform(X / size, domain=domain)
    ours = CORAL(shrinkage=0.2).fit_transform(X, domain=domain)
    np.testing.assert_allclose(ours / size, plain, atol=EXACT)


@pytest.mark.parametrize("shrinkage", ["auto", 0.3])
def test_units_do_not_matter(rng, shrinkage):
    X, domain = planted(rng)
    units = 10.0 ** np.arange(-4, 4)
    Z = CORAL(shrinkage=shrinkage).fit_transform(X, domain=domain)
    W = CORAL(shrinkage=shrinkage).fit_transform(X * units, domain=domain)
    np.testing.assert_allclose(W / units, Z, atol=1e-7)
    letter = CORAL(shrinkage=shrinkage, scale=False)
    assert np.abs(letter.fit_transform(X * units, domain=domain) / units - Z).max() > 0.1


def test_the_target_stays_as_it_is_and_the_others_come_to_it(rng):
    X, domain = planted(rng)
    Z = CORAL(shrinkage=0, target="b").fit_transform(X, domain=domain)
    np.testing.assert_array_equal(Z[domain == "b"], X[domain == "b"])
    for k in "ac":
        assert np.abs(covariance(X[domain == k]) - covariance(X[domain == "b"])).max() > 1
        np.testing.assert_allclose(
            covariance(Z[domain == k]), covariance(X[domain == "b"]), atol=EXACT
        )
    codes = np.searchsorted(["a", "b", "c"], domain)
    same = CORAL(shrinkage=0, target=1).fit_transform(X, domain=codes)
    np.testing.assert_allclose(same, Z, atol=EXACT)
    with pytest.raises(ParameterError, match=r"target='bb' is not a domain.*did you mean 'b'"):
        CORAL(target="bb").fit(X, domain=domain)


def test_weight_one_moves_the_means_only(rng):
    X, domain = planted(rng)
    fitted = CORAL(shrinkage=1).fit(X, domain=domain)
    for k in "abc":
        np.testing.assert_allclose(fitted.to_affine()[k].matrix, np.eye(8), atol=EXACT)
    Z = fitted.transform(X, domain=domain)
    np.testing.assert_allclose(Z[domain == "a"].mean(0), Z[domain == "b"].mean(0), atol=EXACT)


def test_the_automatic_weight_follows_the_noise(rng):
    X, domain = planted(rng, n=6000)
    few = CORAL().fit(X[:120], domain=domain[:120]).shrinkage_
    many = CORAL().fit(X, domain=domain).shrinkage_
    assert (many < 0.05).all()
    assert (few > many).all()
    same = CORAL().fit(rng.normal(size=(400, 8)), domain=np.repeat(["a", "b"], 200)).shrinkage_
    assert (same > 0.5).all()


def test_the_automatic_weight_is_near_the_best(rng):
    d = 30
    mix = np.linalg.qr(rng.normal(size=(d, d)))[0] * np.linspace(0.3, 2, d)
    truth = np.stack([np.eye(d) + 0.5, mix.T @ mix])
    root = [np.linalg.cholesky(S).T for S in truth]
    weights = np.linspace(0, 1, 101)[:, None, None, None]
    chosen, errors = [], np.zeros(101)
    for _ in range(20):
        X = np.concatenate([rng.normal(size=(60, d)) @ S for S in root])
        domain = np.repeat(["a", "b"], 60)
        chosen.append(CORAL(scale=False).fit(X, domain=domain).shrinkage_)
        sample = np.stack([covariance(X[:60]), covariance(X[60:])])
        prior = np.trace(sample.mean(axis=0)) / d * np.eye(d)
        shrunk = sample + weights * (prior - sample)
        errors += np.square(shrunk - truth).sum(axis=(1, 2, 3))
    assert (np.ptp(chosen, axis=1) == 0).all()
    assert 0.05 < weights[errors.argmin()].item() < 0.95
    np.testing.assert_allclose(np.mean(chosen), weights[errors.argmin()].item(), atol=0.05)


def test_auto_is_the_textbook_map_of_the_shrunk_covariances(rng):
    X, domain = planted(rng, n=100)
    X[domain == "c", 3] = 5.0
    fitted = CORAL().fit(X, domain=domain)
    g = fitted.shrinkage_[0]
    sample = [covariance(X[domain == k]) for k in "abc"]
    diagonal = np.diag(np.mean(sample, axis=0).diagonal())
    size = np.sqrt(diagonal.diagonal())
    shrunk = [((1 - g) * S + g * diagonal) / np.outer(size, size) for S in sample]
    root = fractional_matrix_power(np.mean(shrunk, axis=0), 0.5)
    for k, S in zip("abc", shrunk):
        expected = fractional_matrix_power(S, -0.5) @ root * size / size[:, None]
        np.testing.assert_allclose(fitted.to_affine()[k].matrix, expected, atol=EXACT)
    assert 0 < g < 0.5


def test_covariances_that_are_equal_already_stay_as_they_are(rng):
    d = 20
    size = np.linspace(0.2, 3, d)[:, None] * np.linalg.qr(rng.normal(size=(d, d)))[0]
    half = rng.normal(size=(100, d)) @ size
    X = np.concatenate([half, half + 1])
    domain = np.repeat(["a", "b"], 100)
    fitted = CORAL().fit(X, domain=domain)
    assert (fitted.shrinkage_ == 1).all()
    Z = fitted.transform(X, domain=domain)
    np.testing.assert_allclose(Z[:100] - X[:100], np.full((100, d), 0.5), atol=EXACT)
    # New clips of the same covariance are as far apart as noise is, which is no reason.
    X[100:] = rng.normal(size=(100, d)) @ size
    assert (CORAL().fit(X, domain=domain).shrinkage_ < 0.9).all()


def test_different_numbers_of_clips_are_not_different_covariances(rng):
    d = 20
    size = np.linspace(0.2, 3, d) * np.linalg.qr(rng.normal(size=(d, d)))[0]
    X = rng.normal(size=(4040, d)) @ size
    domain = np.repeat(["a", "b"], [4000, 40])
    matrix = CORAL().fit(X, domain=domain).to_affine()["a"].matrix
    own = CORAL(shrinkage=0).fit(X, domain=domain).to_affine()["a"].matrix
    assert np.abs(matrix - np.eye(d)).max() < 0.6 * np.abs(own - np.eye(d)).max()


@pytest.mark.parametrize(("n", "d", "is_thin"), [(60, 200, True), (90, 120, False)])
@pytest.mark.parametrize("shrinkage", ["auto", 0.2])
def test_fewer_clips_than_features(rng, n, d, is_thin, shrinkage):
    X, domain = planted(rng, n=n, d=d)
    fitted = CORAL(shrinkage=shrinkage).fit(X, domain=domain)
    Z = fitted.transform(X, domain=domain)
    np.testing.assert_allclose(Z[domain == "a"].mean(0), Z[domain == "b"].mean(0), atol=1e-7)
    affine = fitted.to_affine()["b"]
    assert (affine.up is not None) == is_thin
    size = np.sqrt(np.mean([X[domain == k].var(axis=0) for k in "abc"], axis=0))
    stretch = np.linalg.norm(affine.matrix * size[:, None] / size, 2)
    g, largest = fitted.shrinkage_.max(), 1.0
    if shrinkage == "auto":
        pooled = np.mean([covariance(X[domain == k] / size) for k in "abc"], axis=0)
        largest = (1 - g) * np.linalg.eigvalsh(pooled).max() + g
    assert stretch < (largest / g) ** 0.5 + 1e-6
    new = rng.normal(size=(50, d))
    assert np.isfinite(fitted.transform(new, domain=np.repeat("b", 50))).all()


def test_the_automatic_thin_map_is_the_dense_one(rng):
    X, domain = planted(rng, n=60, d=90)
    thin = CORAL().fit(X, domain=domain)
    cells = Moments(dtype=np.float64).update(X, domain=domain).by("domain")
    groups = [Group(cell, X[domain == k]) for k, cell in sorted(cells.items())]
    dense = CORAL().fit(X, domain=domain)
    dense._solve(groups)
    assert dense.shrinkage_[0] == pytest.approx(thin.shrinkage_[0], abs=EXACT)
    new = rng.normal(size=(30, 90))
    where = np.repeat(["a", "b", "c"], 10)
    np.testing.assert_allclose(
        dense.transform(new, domain=where), thin.transform(new, domain=where), atol=1e-7
    )


def test_the_thin_map_is_the_dense_one(rng):
    X, domain = planted(rng, n=60, d=90)
    thin = CORAL(shrinkage=0.2).fit(X, domain=domain)
    dense = CORAL(shrinkage=0.2).partial_fit(X, domain=domain)
    Z = thin.transform(X, domain=domain)
    np.testing.assert_allclose(dense.transform(X, domain=domain), Z, atol=1e-6)


def test_no_shrinkage_on_few_clips_warns(rng):
    X, domain = planted(rng, n=60, d=90)
    with pytest.warns(BiasAudioWarning, match=r"clips for .* dimensions, so at shrinkage=0 its"):
        CORAL(shrinkage=0).fit(X, domain=domain)


def test_constant_features_are_moved_and_not_mixed(rng):
    X, domain = planted(rng)
    X[:, 2] = 5.0
    X[:, 3] = np.where(domain == "a", 1.0, X[:, 3])
    Z = CORAL(shrinkage=0).fit_transform(X, domain=domain)
    np.testing.assert_allclose(Z[:, 2], 5.0, atol=EXACT)
    assert np.ptp(Z[domain == "a", 3]) < EXACT
    np.testing.assert_allclose(
        Z[domain == "b", 3] - Z[domain == "b", 3].mean(),
        X[domain == "b", 3] - X[domain == "b", 3].mean(),
        atol=EXACT,
    )
    every = CORAL().fit_transform(np.c_[domain == "a", domain == "b"] * 2.0, domain=domain)
    np.testing.assert_allclose(every, every[:1].repeat(len(every), axis=0), atol=EXACT)


def test_a_domain_of_two_clips_is_only_moved_and_one_is_refused(rng):
    X, domain = planted(rng, domains=("a", "b"))
    few = np.r_[np.flatnonzero(domain == "a"), np.flatnonzero(domain == "b")[:2]]
    with pytest.warns(BiasAudioWarning, match="domain 'b' has fewer than 3 clips"):
        assert CORAL().fit(X[few], domain=domain[few]).shrinkage_[1] == 1
    with (
        pytest.warns(BiasAudioWarning, match="domain 'b' has fewer than 3 clips"),
        pytest.raises(DataError, match="domain 'b' has one clip, which has no covariance"),
    ):
        CORAL().fit(X[few[:-1]], domain=domain[few[:-1]])


def test_streaming_is_batch_and_the_order_does_not_matter(rng):
    X, domain = planted(rng)
    batch = CORAL(shrinkage=0.1).fit_transform(X, domain=domain)
    np.testing.assert_array_equal(CORAL(shrinkage=0.1).fit_transform(X, domain=domain), batch)
    streamed = CORAL(shrinkage=0.1)
    for rows in np.array_split(rng.permutation(len(X)), 4):
        streamed.partial_fit(X[rows], domain=domain[rows])
    np.testing.assert_allclose(streamed.transform(X, domain=domain), batch, atol=EXACT)
    with pytest.raises(ParameterError, match="shrinkage='auto' needs all clips at once"):
        CORAL().partial_fit(X, domain=domain)


def test_weights_are_copies_and_zero_is_absence(rng):
    X, domain = planted(rng, n=200)
    weights = rng.integers(0, 4, len(X))
    again = np.repeat(np.arange(len(X)), weights)
    weighted = CORAL(shrinkage=0.1).fit(X, domain=domain, sample_weight=weights)
    copied = CORAL(shrinkage=0.1).fit(X[again], domain=domain[again])
    np.testing.assert_allclose(
        weighted.transform(X, domain=domain), copied.transform(X, domain=domain), atol=EXACT
    )
    auto = CORAL().fit(X, domain=domain, sample_weight=weights > 0).shrinkage_
    without = CORAL().fit(X[weights > 0], domain=domain[weights > 0]).shrinkage_
    np.testing.assert_allclose(auto, without, atol=EXACT)


def test_balance_does_not_take_class_mix_for_domain(rng):
    label = np.r_[np.repeat([0, 1], [300, 100]), np.repeat([0, 1], [100, 300])]
    domain = np.repeat(["a", "b"], 400)
    X = rng.normal(size=(800, 4)) * 0.1 + np.outer(5 * label, [1, 0, 0, 0])
    move = {}
    for name, balance in (("plain", None), ("fair", label)):
        Z = CORAL().fit_transform(X, domain=domain, balance=balance)
        move[name] = np.abs(Z - X).max()
    assert move["plain"] > 1
    assert move["fair"] < 0.2


def test_alpha_dtype_and_large_means(rng):
    X, domain = planted(rng, offset=1000.0)
    exact = CORAL().fit_transform(X.astype(np.float32).astype(float), domain=domain)
    Z = CORAL().fit_transform(X.astype(np.float32), domain=domain)
    assert Z.dtype == np.float32
    change = np.abs(exact - X).max()
    # The rounding of float32 at 1000 is 6e-5, whatever the correction does.
    assert np.abs(Z - exact).max() < 1e-3 * change + 1.3e-4
    full = CORAL().fit(X, domain=domain)
    half = CORAL(alpha=0.5).fit(X, domain=domain).transform(X, domain=domain)
    np.testing.assert_allclose(half, (X + full.transform(X, domain=domain)) / 2, atol=1e-9)
    none = CORAL(alpha=0).fit(X, domain=domain).transform(X, domain=domain)
    np.testing.assert_array_equal(none, X)


def test_unseen_domains(rng):
    X, domain = planted(rng)
    new = np.full(len(X), "z")
    with pytest.raises(DataError, match="domain 'z' was not seen in fit"):
        CORAL().fit(X, domain=domain).transform(X, domain=new)
    same = CORAL(unseen="identity").fit(X, domain=domain).transform(X, domain=new)
    np.testing.assert_array_equal(same, X)
    # The clips of all domains, in equal parts and taken as one, come to the pooled covariance.
    parts = np.concatenate([np.flatnonzero(domain == k)[:150] for k in "abc"])
    fitted = CORAL(shrinkage=0.1, unseen="global").fit(X[parts], domain=domain[parts])
    Z = fitted.transform(X[parts], domain=new[parts])
    pooled = np.mean([covariance(X[parts][domain[parts] == k]) for k in "abc"], axis=0)
    assert np.abs(covariance(X[parts]) - pooled).max() > 0.05
    np.testing.assert_allclose(covariance(Z), pooled, atol=EXACT)


def test_integer_domains_keep_their_order(rng):
    X, domain = planted(rng, domains=("a", "b"))
    codes = np.where(domain == "a", 2, 10)
    fitted = CORAL(shrinkage=0.1).partial_fit(X, domain=codes)
    batch = CORAL(shrinkage=0.1).fit(X, domain=codes)
    for one in (fitted, batch):
        for name, mean in zip(one.domains_, one.means_):
            np.testing.assert_allclose(mean, X[codes == int(name)].mean(0), atol=EXACT)


@pytest.mark.parametrize("value", ["oas", -0.1, 1.1, None, True])
def test_wrong_weights_are_named(rng, value):
    X, domain = planted(rng, n=60)
    with pytest.raises(ParameterError, match=r"shrinkage=.* is not allowed; give"):
        CORAL(shrinkage=value).fit(X, domain=domain)


def test_other_errors_are_named(rng):
    X, domain = planted(rng, n=60)
    with pytest.raises(ParameterError, match="unseen='ignore' is not known"):
        CORAL(unseen="ignore").fit(X, domain=domain)
    with pytest.raises(DataError, match="no class of balance has clips in every domain"):
        CORAL().fit(X, domain=domain, balance=domain)
    with pytest.raises(DataError, match="a domain has no clip with a weight above 0"):
        CORAL().fit(X, domain=domain, sample_weight=domain != "a")


def test_real_vectors_with_dead_features(shared):
    parts = [np.load(shared / "data" / f"yamnet_{k}.npz") for k in ("fluidr3", "fsdkaggle18")]
    X = np.concatenate([part["X"][:200] for part in parts])
    domain = np.repeat(["fluidr3", "fsdkaggle18"], 200)
    assert (X[:200].std(axis=0) == 0).sum() > 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        Z = CORAL().fit_transform(X, domain=domain)
    assert np.abs(X[:200].mean(0, dtype=float) - X[200:].mean(0, dtype=float)).max() > 0.1
    np.testing.assert_allclose(Z[:200].mean(0), Z[200:].mean(0), atol=1e-4)
    assert np.abs(Z).max() < 10 * np.abs(X).max()
    # A feature that is silent in one set is compared too: what differs shrinks.
    silent = X[:200].std(axis=0) == 0
    assert Z[200:, silent].var(dtype=float) < 0.8 * X[200:, silent].var(dtype=float)
