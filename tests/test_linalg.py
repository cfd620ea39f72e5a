"""The linear algebra that several rooms share, beside what numpy says directly."""

import numpy as np
import pytest

from biasaudio._linalg import orthogonal, right_vectors, smaller_gram_eigh, woodbury_solver


@pytest.mark.parametrize("shape", [(7, 20), (20, 7), (7, 7)])
def test_the_smaller_gram_matrix_gives_the_singular_values_and_right_vectors(rng, shape):
    X = rng.normal(size=shape)
    values, vectors, is_dual = smaller_gram_eigh(X)
    assert is_dual == (shape[0] < shape[1])
    np.testing.assert_allclose(np.sqrt(values[::-1]), np.linalg.svd(X)[1])
    V = right_vectors(X, values, vectors) if is_dual else vectors
    np.testing.assert_allclose(V.T @ V, np.eye(7), atol=1e-10)
    np.testing.assert_allclose(X @ V @ V.T, X, atol=1e-10)


@pytest.mark.parametrize("columns", [1, 3])
def test_woodbury_solves_what_the_dense_matrix_does(rng, columns):
    root, ridge = rng.normal(size=(6, 40)), rng.uniform(0.1, 2, 40)
    B = rng.normal(size=(40, columns))
    dense = root.T @ root + np.diag(ridge)
    solve = woodbury_solver(root, ridge)
    for right in (B, 2 * B):
        np.testing.assert_allclose(solve(right), np.linalg.solve(dense, right), atol=1e-10)


def test_a_basis_has_no_direction_twice(rng):
    rows = rng.normal(size=(2, 9))
    basis = orthogonal(np.r_[rows, rows.sum(axis=0)[None], np.zeros((1, 9))])
    np.testing.assert_allclose(basis @ basis.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(rows @ basis.T @ basis, rows, atol=1e-12)
    assert orthogonal(np.zeros((2, 9))).shape == (0, 9)
