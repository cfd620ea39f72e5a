"""ComBat is the published adjustment, with and without what is preserved."""

import contextlib
import io

import numpy as np
import pytest
from sklearn.base import clone

from biasaudio.errors import DataError
from biasaudio.transforms.combat import ComBat

EXACT = 1e-9


def planted(rng, n=150, d=20, offset=0.0):
    """Return clips with a class, a level and a domain in every feature."""
    domain = rng.choice(["a", "b", "c"], n, p=[0.5, 0.35, 0.15])
    label = np.where(rng.random(n) < np.where(domain == "a", 0.7, 0.3), "flute", "oboe")
    label[rng.random(n) < 0.2] = "horn"
    # neuroCombat reads continuous columns in float32.
    level = rng.normal(size=n).astype(np.float32).astype(float)
    X = rng.normal(size=(n, d)) * rng.gamma(3, size=d)
    X += np.outer(label == "flute", rng.normal(size=d) * 3) + np.outer(level, rng.normal(size=d))
    for name in "bc":
        rows = domain == name
        X[rows] = X[rows] * rng.gamma(5, 0.2, size=d) + rng.normal(size=d)
    return X + offset, domain, label, level


def one_hot(values):
    return (values[:, None] == np.unique(values)).astype(float)


def by_the_paper(X, domain, columns=None, shrinkage=True):
    """Return ComBat as Johnson, Li and Rabinovic write it, a feature at a time."""
    n, names = len(X), np.unique(domain)
    batch = one_hot(domain)
    extra = np.zeros((n, 0)) if columns is None else columns
    design, sizes = np.c_[batch, extra], batch.sum(axis=0)
    coefficients = np.linalg.lstsq(design, X, rcond=None)[0]
    fixed = sizes / n @ coefficients[: len(names)] + extra @ coefficients[len(names) :]
    sigma = np.sqrt(np.mean((X - design @ coefficients) ** 2, axis=0))
    standard, result = (X - fixed) / sigma, np.empty_like(X)
    for i, name in enumerate(names):
        rows, m = domain == name, sizes[i]
        g_hat, d_hat = standard[rows].mean(axis=0), standard[rows].var(axis=0, ddof=1)
        g, d = g_hat.copy(), d_hat.copy()
        mean, var = d_hat.mean(), d_hat.var(ddof=1)
        a, b, t2 = (mean**2 + 2 * var) / var, (mean**3 + mean * var) / var, g_hat.var(ddof=1)
        for _ in range(60 * shrinkage):
            for f in range(X.shape[1]):
                g[f] = (m * t2 * g_hat[f] + d[f] * g_hat.mean()) / (m * t2 + d[f])
                rest = np.sum((standard[rows, f] - g[f]) ** 2)
                d[f] = (b + rest / 2) / (m / 2 + a - 1)
        result[rows] = sigma * (standard[rows] - g) / np.sqrt(d) + fixed[rows]
    return result


CASES = {
    "nothing": (lambda label, level: None, [], []),
    "classes": (lambda label, level: label, ["label"], []),
    "a number": (lambda label, level: level, [], ["level"]),
    "both": (lambda label, level: np.c_[one_hot(label), level], ["label"], ["level"]),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("shrinkage", [True, False])
def test_it_is_neurocombat(rng, case, shrinkage):
    reference = pytest.importorskip("neuroCombat").neuroCombat
    pd = pytest.importorskip("pandas")
    preserve, categorical, continuous = CASES[case]
    X, domain, label, level = planted(rng)
    frame = pd.DataFrame({"domain": domain, "label": label, "level": level})
    with contextlib.redirect_stdout(io.StringIO()):
        found = reference(X.T.copy(), frame, "domain", categorical, continuous, eb=shrinkage)
    expected = found["data"].T
    combat = ComBat(empirical_bayes=shrinkage)
    Z = combat.fit_transform(X, domain=domain, preserve=preserve(label, level))
    assert np.abs(expected - X).max() > 1
    np.testing.assert_allclose(Z, expected, atol=1e-6)


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize(
    ("n", "d", "shrinkage"), [(150, 20, True), (60, 90, True), (60, 90, False)]
)
def test_it_is_the_paper(rng, case, n, d, shrinkage):
    preserve = CASES[case][0]
    X, domain, label, level = planted(rng, n, d)
    columns = preserve(label, level)
    Z = ComBat(empirical_bayes=shrinkage).fit_transform(X, domain=domain, preserve=columns)
    if case == "classes":
        columns = one_hot(label)[:, 1:]
    elif case == "a number":
        columns = level[:, None]
    expected = by_the_paper(X, domain, columns, shrinkage)
    # The published stopping rule leaves the iteration this far from its end.
    tolerance = 1e-3 if shrinkage else EXACT
    np.testing.assert_allclose(Z, expected, atol=tolerance)
    assert np.abs(expected - X).max() > 1


def test_without_shrinkage_means_and_scales_are_equal_and_were_not(rng):
    X, domain, _, _ = planted(rng)
    Z = ComBat(empirical_bayes=False).fit_transform(X, domain=domain)
    for statistic in (lambda V: V.mean(axis=0), lambda V: V.std(axis=0, ddof=1)):
        gaps = [
            np.abs(statistic(V[domain == "a"]) - statistic(V[domain == "b"])).max() for V in (X, Z)
        ]
        assert gaps[0] > 0.5
        assert gaps[1] < EXACT


def test_shrinkage_takes_out_less_of_small_domains(rng):
    X = rng.normal(size=(206, 40))
    domain = np.repeat(["a", "b"], [200, 6])
    plain = ComBat(empirical_bayes=False).fit(X, domain=domain)
    shrunk = ComBat().fit(X, domain=domain)
    # Nothing differs but by chance, so the right location is 0 and the right scale 1.
    for name, right in (("locations_", 0), ("scales_", 1)):
        error = [np.square(getattr(one, name)[1] - right).mean() for one in (plain, shrunk)]
        assert error[1] < 0.5 * error[0]


def test_what_is_preserved_survives_and_would_not(rng):
    label = np.r_[np.repeat(["x", "y"], [270, 30]), np.repeat(["x", "y"], [30, 270])]
    domain = np.repeat(["a", "b"], 300)
    X = rng.normal(size=(600, 10))
    X[label == "y"] += 2
    X[domain == "b"] += 0.5
    gap = {}
    for name, preserve in (("plain", None), ("kept", label)):
        fitted = ComBat().fit(X, domain=domain, preserve=preserve)
        for kind, Z in (
            ("given", fitted.transform(X, domain=domain, preserve=preserve)),
            ("not given", fitted.transform(X, domain=domain)),
        ):
            gap[name, kind] = (Z[label == "y"].mean(0) - Z[label == "x"].mean(0)).mean()
            within = Z[(domain == "b") & (label == "y")].mean(0)
            within = within - Z[(domain == "a") & (label == "y")].mean(0)
            assert (np.abs(within).mean() < 0.3) == (name == "kept")
    assert gap["plain", "given"] < 1.2
    assert gap["kept", "given"] == pytest.approx(2, abs=0.15)
    assert gap["kept", "not given"] == pytest.approx(2, abs=0.15)


def test_the_affine_map_needs_no_labels_and_has_the_same_means(rng):
    X, domain, label, _ = planted(rng)
    fitted = ComBat().fit(X, domain=domain, preserve=label)
    full = fitted.transform(X, domain=domain, preserve=label)
    plain = fitted.transform(X, domain=domain)
    assert np.abs(full - plain).max() > 0.1
    for name, affine in fitted.to_affine().items():
        rows = domain == name
        np.testing.assert_allclose(plain[rows].mean(0), full[rows].mean(0), atol=EXACT)
        np.testing.assert_allclose(X[rows] @ affine.matrix + affine.intercept, plain[rows])


def test_redundant_columns_and_their_units_do_not_matter(rng):
    X, domain, label, level = planted(rng)
    columns = np.c_[one_hot(label)[:, 1:], level]
    expected = ComBat().fit_transform(X, domain=domain, preserve=columns)
    for same in (
        np.c_[one_hot(label), level],
        np.c_[columns * [1e3, 1, 1e-4], np.ones(len(X)), level],
    ):
        Z = ComBat().fit_transform(X, domain=domain, preserve=same)
        np.testing.assert_allclose(Z, expected, atol=1e-7)


def test_streaming_is_batch_whatever_the_type_of_the_domain(rng):
    X, domain, _, _ = planted(rng)
    batch = ComBat().fit(X, domain=domain).transform(X, domain=domain)
    codes = np.array([2, 10, 7])[np.searchsorted(["a", "b", "c"], domain)]
    streamed = ComBat()
    for rows in np.array_split(rng.permutation(len(X)), 3):
        streamed.partial_fit(X[rows], domain=codes[rows])
    Z = streamed.transform(X, domain=codes.astype(str))
    np.testing.assert_allclose(Z, batch, atol=EXACT)


@pytest.mark.parametrize("is_preserving", [True, False])
def test_weights_are_copies_and_zero_is_absence(rng, is_preserving):
    X, domain, label, _ = planted(rng)
    weights = rng.integers(0, 4, len(X))
    again = np.repeat(np.arange(len(X)), weights)
    preserve = label if is_preserving else None
    weighted = ComBat().fit(X, domain=domain, preserve=preserve, sample_weight=weights)
    kept = None if preserve is None else preserve[again]
    copied = ComBat().fit(X[again], domain=domain[again], preserve=kept)
    np.testing.assert_allclose(
        weighted.transform(X, domain=domain, preserve=preserve),
        copied.transform(X, domain=domain, preserve=preserve),
        atol=EXACT,
    )


def test_dtype_large_means_and_alpha(rng):
    X, domain, label, _ = planted(rng, offset=1000.0)
    X32 = X.astype(np.float32)
    exact = ComBat().fit_transform(X32.astype(float), domain=domain, preserve=label)
    Z = ComBat().fit_transform(X32, domain=domain, preserve=label)
    assert Z.dtype == np.float32
    # The rounding of float32 at 1000 is 6e-5, whatever the correction does.
    assert np.abs(Z - exact).max() < 1e-3 * np.abs(exact - X).max() + 2e-4
    for preserve in (None, label):
        fitted = ComBat().fit(X, domain=domain, preserve=label)
        full = fitted.transform(X, domain=domain, preserve=preserve)
        half = clone(fitted).set_params(alpha=0.5).fit(X, domain=domain, preserve=label)
        np.testing.assert_allclose(
            half.transform(X, domain=domain, preserve=preserve), (X + full) / 2, atol=1e-9
        )
        none = fitted.set_params(alpha=0.0).transform(X, domain=domain, preserve=preserve)
        np.testing.assert_array_equal(none, X)


def test_the_result_goes_where_it_is_asked_for(rng):
    pd = pytest.importorskip("pandas")
    X, domain, label, _ = planted(rng)
    fitted = ComBat().fit(X, domain=domain, preserve=label)
    expected = fitted.transform(X, domain=domain, preserve=label)
    out = np.empty_like(X)
    assert fitted.transform(X, domain=domain, preserve=label, out=out) is out
    np.testing.assert_array_equal(out, expected)
    mine = X.copy()
    fitted.transform(mine, domain=domain, preserve=label, copy=False)
    np.testing.assert_array_equal(mine, expected)
    columns = [f"f{i}" for i in range(X.shape[1])]
    frame = pd.DataFrame(X, columns=columns, index=np.arange(len(X)) + 7)
    framed = ComBat().set_output(transform="pandas").fit(frame, domain=domain, preserve=label)
    Z = framed.transform(frame, domain=domain, preserve=label)
    assert list(Z.columns) == columns
    assert Z.index[0] == 7
    np.testing.assert_allclose(Z.to_numpy(), expected, atol=1e-12)


def test_constant_features_and_features_constant_in_a_domain(rng):
    X, domain, _, _ = planted(rng)
    clean = ComBat().fit_transform(X, domain=domain)
    fixed = np.c_[X, np.full(len(X), 5.0), np.where(domain == "a", 1.0, 3.0)]
    Z = ComBat().fit_transform(fixed, domain=domain)
    np.testing.assert_allclose(Z[:, :-2], clean, atol=EXACT)
    np.testing.assert_allclose(Z[:, -2], 5.0, atol=EXACT)
    assert np.ptp(Z[:, -1]) < EXACT
    X[domain == "c", 0] = 0.25
    fitted = ComBat().fit(X, domain=domain)
    assert fitted.scales_[2, 0] == 1
    assert np.isfinite(fitted.transform(X + 1, domain=domain)).all()


def test_the_same_clips_give_the_same_map(rng):
    X, domain, label, _ = planted(rng)
    first = ComBat().fit_transform(X, domain=domain, preserve=label)
    np.testing.assert_array_equal(
        ComBat().fit_transform(X, domain=domain, preserve=label.astype(object)), first
    )


def test_an_unseen_domain_has_the_usual_columns_of_all_clips(rng):
    X, domain, _, level = planted(rng)
    level = level + 2.0 * (domain == "a")
    combat = ComBat(unseen="global").fit(X, domain=domain, preserve=level[:, None])
    new = np.full(len(X), "new")
    usual = np.full((len(X), 1), level.mean())
    expected = combat.transform(X, domain=new)
    found = combat.transform(X, domain=new, preserve=usual)
    np.testing.assert_allclose(found, expected, atol=1e-9)
    other = combat.transform(X, domain=new, preserve=usual + 1)
    assert np.abs(other - expected).max() > 0.01


def test_unseen_domains(rng):
    X, domain, label, _ = planted(rng)
    new = np.full(len(X), "z")
    with pytest.raises(DataError, match="domain 'z' was not seen in fit"):
        ComBat().fit(X, domain=domain).transform(X, domain=new)
    kept = ComBat(unseen="identity").fit(X, domain=domain, preserve=label)
    np.testing.assert_array_equal(kept.transform(X, domain=new, preserve=label), X)
    moved = ComBat(unseen="global").fit(X, domain=domain)
    Z = moved.transform(X, domain=new)
    np.testing.assert_allclose(Z.mean(0), X.mean(0), atol=EXACT)
    within = sum(((domain == k).mean() * X[domain == k].var(axis=0)) for k in "abc")
    assert np.abs(X.var(axis=0) - within).max() > 0.01
    np.testing.assert_allclose(Z.var(axis=0), within, atol=EXACT)
