"""Moments equal the direct formula, add, subtract and select."""

import numpy as np
import pytest

from biasaudio.errors import DataError, ParameterError
from biasaudio.moments import Cell, Moments


def direct(X):
    Z = X.astype(np.float64) - X.mean(axis=0, dtype=np.float64)
    return Z.T @ Z


def relative(a, b):
    return np.abs(a - b).max() / np.abs(b).max()


@pytest.mark.parametrize("mean", [0.0, 128.0, 1000.0])
@pytest.mark.parametrize(("dtype", "tolerance"), [(np.float32, 1e-6), (np.float64, 1e-12)])
def test_scatter_equals_the_direct_formula(rng, mean, dtype, tolerance):
    X = (rng.normal(size=(10_000, 24)) * rng.uniform(0.1, 3, 24) + mean).astype(np.float32)
    cell = Moments(dtype=dtype).update(X).total()
    assert cell.n == 10_000
    assert relative(cell.scatter, direct(X)) < tolerance
    assert relative(cell.mean, X.mean(axis=0, dtype=np.float64)) < 1e-12 if mean else True


def test_unshifted_float32_would_fail_the_same_check(rng):
    X = (rng.normal(size=(10_000, 24)) + 1000).astype(np.float32)
    naive = X.T @ X - len(X) * np.outer(X.mean(0), X.mean(0))
    assert relative(naive, direct(X)) > 1e-3


@pytest.fixture
def labelled(rng):
    X = rng.normal(size=(500, 6)) + 50
    domain, genre = rng.choice(["a", "b", "c"], 500), rng.integers(0, 4, 500)
    return X, domain, genre


def make(X, domain, genre):
    return Moments(dtype=np.float64).update(X, domain=domain, genre=genre)


def test_cells_hold_their_own_clips(labelled):
    X, domain, genre = labelled
    moments = make(X, domain, genre)
    for (d, g), cell in moments.cells.items():
        rows = (domain == d) & (genre == g)
        assert cell.n == rows.sum()
        np.testing.assert_allclose(cell.mean, X[rows].mean(axis=0))
        np.testing.assert_allclose(cell.scatter, direct(X[rows]), atol=1e-9)


def test_merge_equals_one_pass_and_leaves_its_parts_alone(labelled):
    X, domain, genre = labelled
    first, second = (
        make(X[:200], domain[:200], genre[:200]),
        make(X[200:], domain[200:], genre[200:]),
    )
    merged, whole = first.merge(second), make(X, domain, genre)
    assert first.n == 200
    assert merged.counts == whole.counts
    np.testing.assert_allclose(merged.total().scatter, whole.total().scatter, rtol=1e-11)


def test_subtract_is_the_inverse_of_merge(labelled):
    X, domain, genre = labelled
    part, rest = make(X[:200], domain[:200], genre[:200]), make(X[200:], domain[200:], genre[200:])
    left = make(X, domain, genre).subtract(part)
    assert left.counts == rest.counts
    for key in rest.cells:
        np.testing.assert_allclose(left.cells[key].mean, rest.cells[key].mean, rtol=1e-11)
        np.testing.assert_allclose(left.cells[key].scatter, rest.cells[key].scatter, atol=1e-8)


def test_subtracting_everything_leaves_nothing(labelled):
    moments = make(*labelled)
    assert moments.subtract(moments).cells == {}


def test_select_and_by_agree_with_the_rows(labelled):
    X, domain, genre = labelled
    moments = make(X, domain, genre)
    np.testing.assert_allclose(
        moments.select(domain="a").total().scatter, direct(X[domain == "a"]), atol=1e-8
    )
    by = moments.by("genre")
    assert list(by) == [0, 1, 2, 3]
    np.testing.assert_allclose(by[2].mean, X[genre == 2].mean(axis=0))


def test_order_of_clips_does_not_matter(labelled, rng):
    X, domain, genre = labelled
    order = rng.permutation(len(X))
    a, b = make(X, domain, genre), make(X[order], domain[order], genre[order])
    np.testing.assert_allclose(a.total().scatter, b.total().scatter, rtol=1e-11)


def test_cell_sum_is_associative(rng):
    a, b, c = (Cell.of(rng.normal(size=(k, 3)), dtype=np.float64) for k in (1, 5, 9))
    np.testing.assert_allclose(((a + b) + c).scatter, (a + (b + c)).scatter, atol=1e-12)


def test_bad_input_is_named(labelled):
    X, domain, genre = labelled
    moments = make(X, domain, genre)
    with pytest.raises(ParameterError, match="same columns"):
        moments.update(X, domain=domain)
    with pytest.raises(DataError, match="5 features, but Moments is expecting 6"):
        moments.update(X[:, :5], domain=domain, genre=genre)
    with pytest.raises(ParameterError, match="no column 'year'"):
        moments.select(year=1)
    with pytest.raises(DataError, match="no clips with"):
        moments.select(domain="z")
    with pytest.raises(DataError, match="cannot be taken out"):
        make(X[:10], domain[:10], genre[:10]).subtract(moments)
    with pytest.raises(DataError, match="hold no clips"):
        Moments().total()
    with pytest.raises(ParameterError, match="float32 or float64"):
        Moments(dtype=np.int8)
    X[3, 2] = np.nan
    with pytest.raises(DataError, match="NaN or Inf in 1 of 500 clips: 'row 3'"):
        make(X, domain, genre)
