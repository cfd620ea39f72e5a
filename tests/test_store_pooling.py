"""Pooling of frames: against the direct float64 formula, however they are cut."""

import numpy as np
import pytest

from biasaudio.store.pooling import pool_blocks

FORMULAS = {
    "mean": lambda x: x.mean(axis=0),
    "max": lambda x: x.max(axis=0),
    "std": lambda x: x.std(axis=0),
    "mean+std": lambda x: np.r_[x.mean(axis=0), x.std(axis=0)],
}


def direct(pool, rows, X, n_clips):
    return np.stack([FORMULAS[pool](X[rows == i].astype(np.float64)) for i in range(n_clips)])


def in_blocks(pool, rows, X, n_clips, size):
    out = np.full((n_clips, X.shape[1] * (2 if pool == "mean+std" else 1)), np.nan, np.float32)
    blocks = ((start, X[start : start + size]) for start in range(0, len(X), size))
    assert not len(pool_blocks(blocks, rows, np.arange(n_clips), out, pool))
    return out


@pytest.mark.parametrize("size", [1, 7, 64, 1000])
@pytest.mark.parametrize("pool", FORMULAS)
def test_frames_in_any_order_and_blocks_give_the_direct_formula(rng, pool, size):
    rows = np.r_[np.arange(20), rng.integers(0, 20, 400)]
    X = rng.normal(size=(420, 5)).astype(np.float32)
    got = in_blocks(pool, rows, X, 20, size)
    assert got.dtype == np.float32
    np.testing.assert_allclose(got, direct(pool, rows, X, 20), rtol=2e-6, atol=1e-7)


@pytest.mark.parametrize("size", [3, 1000])
@pytest.mark.parametrize("mean", [1000.0, -1e6])
def test_spread_far_from_zero_loses_nothing(rng, mean, size):
    rows = np.repeat(np.arange(8), 50)
    X = (mean * (1 + np.arange(8))[rows][:, None] + rng.normal(size=(400, 4))).astype(np.float32)
    got = in_blocks("std", rows, X, 8, size)
    # X itself is rounded to float32, so the formula is taken of what is left of it.
    np.testing.assert_allclose(got, direct("std", rows, X, 8), rtol=1e-6)
    # The textbook formula in float32 fails here: the test is able to tell.
    naive = np.stack([np.mean(X[rows == i] ** 2, axis=0) for i in range(8)])
    naive -= np.stack([np.mean(X[rows == i], axis=0) ** 2 for i in range(8)])
    assert not np.allclose(np.sqrt(np.abs(naive)), got, rtol=1e-2)


def test_constant_frames_have_no_spread_and_one_frame_neither():
    X = np.full((5, 2), 1000.1, dtype=np.float32)
    found = in_blocks("mean+std", np.array([0, 0, 0, 0, 1]), X, 2, 9)
    assert (found[:, 2:] == 0).all()
    assert (found[:, :2] == X[0]).all()


def ulps(got, expected):
    """Return the largest error in units in the last place of float32."""
    return (np.abs(got - expected) / np.spacing(np.abs(expected).astype("f4"))).max()


@pytest.mark.parametrize("n_frames", [1, 5, 16, 25, 95, 1000])
def test_means_far_from_zero_are_exact_to_a_few_units_in_the_last_place(rng, n_frames):
    rows = np.repeat(np.arange(20), n_frames)
    X = rng.normal(1000, 1, (len(rows), 64)).astype(np.float32)
    expected = X.reshape(20, n_frames, 64).mean(axis=1, dtype=np.float64)
    got = in_blocks("mean", rows, X, 20, len(rows))
    assert ulps(got, expected) <= 3
    if n_frames == 1000:
        # A sum of all frames in float32 fails here: the test is able to tell.
        naive = np.add.reduce(X.reshape(20, n_frames, 64), axis=1) / np.float32(n_frames)
        assert ulps(naive, expected) > 10


def test_means_around_zero_are_exact_to_a_millionth_of_the_values(rng):
    X = rng.normal(size=(40 * 95, 64)).astype(np.float32)
    rows = np.repeat(np.arange(40), 95)
    got = in_blocks("mean", rows, X, 40, len(rows))
    assert np.abs(got - X.reshape(40, 95, 64).mean(axis=1, dtype=np.float64)).max() < 1e-6


@pytest.mark.parametrize("lengths", [[3, 70, 70, 70, 1, 200], [64] * 5, [1] * 300])
def test_clips_of_any_lengths_that_come_back_later(rng, lengths):
    once = np.repeat(np.arange(len(lengths)), lengths)
    rows = np.r_[once, once[::-1]]
    X = rng.normal(size=(len(rows), 5)).astype(np.float32)
    expected = direct("mean", rows, X, len(lengths))
    np.testing.assert_allclose(in_blocks("mean", rows, X, len(lengths), 10**6), expected, atol=1e-6)


def test_a_bad_frame_is_of_its_clip_only_and_huge_values_are_not_bad():
    X = np.array([[1.0], [np.nan], [3e38], [3e38], [5.0]], np.float32)
    rows, out = np.array([0, 0, 1, 1, 2]), np.zeros((3, 1), np.float32)
    for pool, expected in (("mean", [3e38, 5]), ("max", [3e38, 5]), ("std", [0, 0])):
        bad = pool_blocks([(0, X)], rows, np.arange(3), out, pool)
        assert bad.tolist() == [0]
        np.testing.assert_allclose(out[1:, 0], expected, rtol=1e-6)
    assert not len(pool_blocks([(0, X)], rows, np.array([-1, 0, 1]), out[:2], "mean"))
