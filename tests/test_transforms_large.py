"""Large float32 data take products of float32, and give what float64 gives."""

import tracemalloc

import numpy as np
import pytest
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from biasaudio._validation import check_categories
from biasaudio.moments import Cell
from biasaudio.transforms import CORAL, LEACE, DomainCentering, DomainStandardizer, LDAProjection

N, D = 40_000, 64


@pytest.fixture
def dtypes(monkeypatch):
    """Give the precisions of the products, in the order in which they were made."""
    seen = []
    of = Cell.of.__func__

    def recorded(cls, X, *args, dtype=np.float32, **options):
        seen.append(np.dtype(dtype).name)
        return of(cls, X, *args, dtype=dtype, **options)

    monkeypatch.setattr(Cell, "of", classmethod(recorded))
    return seen


def clips(condition, *, spread=1.0, mean=0.0, seed=0, n=N):
    """Return float32 clips of two domains whose correlation has this condition."""
    rng = np.random.default_rng(seed)
    turn = np.linalg.qr(rng.normal(size=(D, D)))[0]
    root = turn * np.sqrt(np.geomspace(1, 1 / condition, D))
    root = root @ np.linalg.qr(rng.normal(size=(D, D)))[0]
    scale = np.geomspace(1, spread, D)
    root *= scale / np.linalg.norm(root, axis=0)
    domain = rng.integers(0, 2, n)
    X = rng.normal(size=(n, D)) @ root
    X += np.where(domain[:, None] == 1, 0.3 * scale * rng.normal(size=D), 0.0)
    return (X + mean * scale).astype(np.float32), domain


def cosine(a, b):
    return abs(a.ravel() @ b.ravel()) / np.linalg.norm(a) / np.linalg.norm(b)


def direction(X, domain, shrinkage="auto"):
    model = LinearDiscriminantAnalysis(solver="eigen", shrinkage=shrinkage)
    return model.fit(X.astype(np.float64), domain).coef_


def covariance(X):
    Z = X.astype(np.float64) - X.mean(axis=0, dtype=np.float64)
    return Z.T @ Z / len(Z)


HARD = [
    (1e2, 1.0, 0.0),
    (1e2, 1e-4, 1000.0),
    (1e4, 1.0, 1000.0),
    (1e4, 1e-4, 0.0),
    (1e6, 1.0, 0.0),
    (1e6, 1e-4, 1000.0),
    (1e8, 1.0, 0.0),
    (1e8, 1e-4, 1000.0),
]


@pytest.mark.parametrize(("condition", "spread", "mean"), HARD)
@pytest.mark.parametrize("shrinkage", ["auto", 0.0])
def test_lda_is_that_of_scikit_learn(condition, spread, mean, shrinkage, dtypes):
    X, domain = clips(condition, spread=spread, mean=mean)
    ours = LDAProjection(shrinkage=shrinkage).fit(X, domain=domain).directions_
    assert dtypes[:2] == ["float32", "float32"]
    assert cosine(ours, direction(X, domain, None if shrinkage == 0 else shrinkage)) > 1 - 1e-9
    assert cosine(ours, direction(X, domain, 0.5)) < 1 - 1e-3


@pytest.mark.parametrize(("condition", "spread", "mean"), HARD)
def test_leace_is_its_definition_and_exact(condition, spread, mean, dtypes):
    X, domain = clips(condition, spread=spread, mean=mean)
    fitted = LEACE(shrinkage=0.0).fit(X, domain=domain)
    assert dtypes[0] == "float32"
    exact = X.astype(np.float64)
    gap = exact[domain == 1].mean(axis=0) - exact[domain == 0].mean(axis=0)
    read = np.linalg.solve(covariance(X), gap)
    center = exact.mean(axis=0)
    should = np.outer((exact - center) @ read / (gap @ read), gap)
    # In units of what each feature changes by.
    change = (fitted.transform(exact) - exact) / gap
    np.testing.assert_allclose(change, -should / gap, atol=1e-6 * np.abs(should / gap).max())
    Z = fitted.transform(exact)
    left = Z[domain == 1].mean(axis=0) - Z[domain == 0].mean(axis=0)
    assert np.abs(left / exact.std(axis=0)).max() < 1e-9
    assert np.abs(gap / exact.std(axis=0)).max() > 0.3


def test_products_of_float32_are_used_where_they_do_and_only_there(dtypes):
    def made(X, domain):
        dtypes.clear()
        LDAProjection(shrinkage=0.0).fit(X, domain=domain)
        return dtypes

    X, domain = clips(1e4)
    assert made(X, domain) == ["float32"] * 2
    assert made(*clips(1e9)) == ["float32"] * 2 + ["float64"] * 2
    assert made(X[:2_000], domain[:2_000]) == ["float64"] * 2
    assert made(X.astype(np.float64), domain) == ["float64"] * 2


@pytest.mark.parametrize("scale", [1e-25, 1e25])
def test_numbers_whose_squares_float32_does_not_hold(scale, dtypes):
    X, domain = clips(1e2)
    ours = LDAProjection().fit((X * scale).astype(np.float32), domain=domain).directions_
    assert dtypes[-1] == "float64"
    assert cosine(ours, direction(X, domain)) > 1 - 1e-9


@pytest.mark.parametrize("make", [LEACE, LDAProjection])
@pytest.mark.parametrize("what", ["copy", "sum", "constant", "tiny"])
def test_singular_features_give_what_float64_gives(make, what):
    X, domain = clips(1e2)
    X[:, 5] = {
        "copy": X[:, 9],
        "sum": X[:, 9] + X[:, 10] - X[:, 11],
        "constant": np.full(N, 7.25),
        "tiny": 1e-4 * X[:, 5] + 1,
    }[what]
    ours = make(shrinkage=0.01).fit(X, domain=domain).transform(X)
    exact = make(shrinkage=0.01).fit(X.astype(np.float64), domain=domain).transform(X)
    np.testing.assert_allclose(ours, exact, atol=2e-6)
    assert np.abs(ours - X).max() > 0.1


@pytest.mark.parametrize("make", [LEACE, LDAProjection])
def test_weights_order_and_more_domains(make):
    X, domain = clips(1e3)
    rng = np.random.default_rng(1)
    domain[rng.random(N) < 0.2] = 2
    X[domain == 2] += 0.5 * rng.normal(size=D).astype(np.float32)
    weights = rng.choice([0.0, 1.0, 2.5], N)
    order = np.argsort(domain, kind="stable")
    ours = make().fit(X, domain=domain, sample_weight=weights).transform(X)
    runs = make().fit(X[order], domain=domain[order], sample_weight=weights[order]).transform(X)
    wide = X.astype(np.float64)
    exact = make().fit(wide, domain=domain, sample_weight=weights).transform(X)
    np.testing.assert_allclose(ours, exact, atol=2e-6)
    np.testing.assert_allclose(runs, exact, atol=2e-6)
    plain = make().fit(X, domain=domain).transform(X)
    assert np.abs(plain - exact).max() > 1e-3


METHODS = [LEACE, LDAProjection, DomainCentering, DomainStandardizer, CORAL]


@pytest.mark.parametrize("make", METHODS)
@pytest.mark.parametrize("is_sorted", [False, True])
def test_every_place_to_write_to_gets_the_same(make, is_sorted):
    X, domain = clips(1e2, n=9_000)
    if is_sorted:
        order = np.argsort(domain, kind="stable")
        X, domain = X[order], domain[order]
    fitted = make().fit(X, domain=domain)
    keywords = {"domain": domain} if fitted.domain_aware else {}
    Z = fitted.transform(X, **keywords)
    wide = np.empty((len(X), 2 * D), X.dtype)
    for out in (np.empty_like(X), np.empty_like(X, order="F"), wide[:, ::2]):
        assert fitted.transform(X, out=out, **keywords) is out
        np.testing.assert_allclose(out, Z, atol=1e-6)
    maps = fitted.to_affine()
    exact = X.astype(np.float64)
    for code in (0, 1):
        rows = domain == code
        affine = maps[str(code)] if fitted.domain_aware else maps
        should = exact[rows] @ affine.matrix + affine.intercept
        np.testing.assert_allclose(Z[rows], should, atol=5e-6)
    assert np.abs(Z - X).max() > 0.1
    assert fitted.transform(X, copy=False, **keywords) is X
    np.testing.assert_array_equal(X, Z)


@pytest.mark.parametrize("make", METHODS[:-1])
def test_no_copy_of_the_clips_is_made(make):
    X, domain = clips(1e2)
    X = np.tile(X, (2, 4))
    domain = np.tile(domain, 2)
    make().fit(X[:3000], domain=domain[:3000])
    block, square = 4096 * X.shape[1] * 4, 8 * X.shape[1] ** 2
    of_clips = 40 * len(X)
    fitted, used = measured(lambda: make().fit(X, domain=domain))
    assert used < 2 * square + block + of_clips + 2**20 < X.nbytes / 4
    keywords = {"domain": domain} if fitted.domain_aware else {}
    Z, used = measured(lambda: fitted.transform(X, **keywords))
    assert used < Z.nbytes + block + of_clips


def measured(call):
    """Return a result, and the most bytes that were in use beside what was before."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        result = call()
        return result, tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("k", [1, 2, 8, 9, 300])
@pytest.mark.parametrize("dtype", [int, "U6", object, "S6", bool])
def test_categories_are_those_of_numpy(k, dtype, rng):
    values = rng.integers(0, k, 3_000)
    array = values == 1 if dtype is bool else values.astype(str).astype(dtype)
    names, codes = check_categories(array, "domain", len(array))
    plain = np.char.decode(array, "utf-8") if dtype == "S6" else array
    should = np.unique(plain.astype(str) if dtype is object else plain, return_inverse=True)
    np.testing.assert_array_equal(names, should[0])
    np.testing.assert_array_equal(codes, should[1])
    assert codes.dtype == np.intp


@pytest.mark.parametrize("kind", ["unaligned", "swapped", "half", "fortran"])
def test_memory_that_blas_does_not_write_to_is_corrected_too(rng, kind):
    X = rng.normal(size=(60, 5)).astype(np.float32)
    domain = np.arange(60) % 2
    X[domain == 1] += 1
    leace = LEACE().fit(X, domain=domain)
    expected = leace.transform(X)
    affine = leace.to_affine()
    if kind == "unaligned":
        memory = bytearray(X.nbytes + 3)
        found = np.frombuffer(memory, np.float32, offset=3, count=X.size).reshape(X.shape)
        leace.transform(X, out=found)
    elif kind == "fortran":
        found = leace.transform(X, out=np.empty(X.shape, np.float32, order="F"))
    else:
        found = affine(X.astype(">f4" if kind == "swapped" else np.float16))
    assert np.abs(expected - X).max() > 0.3
    assert found.astype(float) == pytest.approx(expected, abs=2e-2 if kind == "half" else 1e-5)
