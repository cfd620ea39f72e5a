"""No group in two parts, the same mix in every part, and a null that keeps it."""

import numpy as np
import pytest

from biasaudio.errors import DataError
from biasaudio.probes.domain import Clips, make_splits, permute_values
from biasaudio.probes.splits import assign_parts, equal_mix, majority

NAMES = np.array(["a", "b"])


def as_clips(values, groups=None, strata=None, names=NAMES):
    groups = np.arange(len(values)) if groups is None else groups
    return Clips(np.zeros((len(values), 1)), values, names, groups, strata)


@pytest.fixture
def songs(rng):
    """Give values, groups and strata of songs of one to five clips each."""
    size = rng.integers(1, 6, size=90)
    groups = np.repeat(np.arange(90), size)
    values = (rng.random(90) < 0.6).astype(int)[groups]
    strata = rng.integers(3, size=len(groups))
    return values, groups, strata


def test_majority_is_the_most_frequent_value():
    groups, values = np.array([0, 0, 0, 1, 2, 2]), np.array([1, 1, 0, 0, 2, 2])
    assert majority(groups, values).tolist() == [1, 0, 2]


@pytest.mark.parametrize("n_parts", [2, 3, 5])
def test_a_group_is_in_one_part_and_every_part_has_the_same_mix(rng, songs, n_parts):
    values, groups, strata = songs
    part = assign_parts(groups, values, strata, n_parts, rng, NAMES)
    assert set(part) == set(range(n_parts))
    for g in np.unique(groups):
        assert len(set(part[groups == g])) == 1
    value = majority(groups, values)
    first = np.unique(groups, return_index=True)[1]
    for k in range(2):
        share = np.bincount(part[first][value == k], minlength=n_parts)
        assert np.ptp(share) <= 1


def test_single_clips_are_dealt_evenly_in_every_cell_of_value_and_stratum(rng):
    values, strata = np.repeat([0, 1], 60), np.tile(np.arange(4), 30)
    part = assign_parts(np.arange(120), values, strata, 3, rng, NAMES)
    counts = np.zeros((2, 4, 3), int)
    np.add.at(counts, (values, strata, part), 1)
    assert (counts == 5).all()


def test_parts_are_drawn_anew(rng):
    values = np.repeat([0, 1], 20)
    draws = [assign_parts(np.arange(40), values, 0 * values, 2, rng, NAMES) for _ in range(2)]
    assert (draws[0] != draws[1]).any()


def test_fewer_groups_than_parts_is_an_error_that_names_the_value(rng):
    values, groups = np.array([0] * 9 + [1] * 9), np.array([*range(9), *[9] * 5, *[10] * 4])
    with pytest.raises(DataError, match=r"'b' has 2 group\(s\) of clips, fewer than the 3 parts"):
        assign_parts(groups, values, 0 * values, 3, rng, NAMES)


def test_equal_mix_takes_as_many_of_each_value_as_the_rarest_has(rng):
    values = np.repeat([0, 0, 1, 1], [30, 5, 8, 20])
    strata = np.repeat([0, 1, 0, 1], [30, 5, 8, 20])
    rows = equal_mix(values, strata, rng, NAMES)
    assert (np.diff(rows) > 0).all()
    counts = np.zeros((2, 2), int)
    np.add.at(counts, (values[rows], strata[rows]), 1)
    assert counts.tolist() == [[8, 5], [8, 5]]


def test_equal_mix_takes_every_clip_in_time_and_none_without_a_class(rng):
    values, strata = np.repeat([0, 1], 20), np.tile([0, 0, 1, -1], 10)
    values[1] = 1  # one more of b in class 0
    seen = np.concatenate([equal_mix(values, strata, rng, NAMES) for _ in range(200)])
    assert set(seen) == set(np.flatnonzero(strata >= 0))


def test_equal_mix_without_a_shared_class_is_an_error(rng):
    values = np.repeat([0, 1], 5)
    with pytest.raises(DataError, match=r"'a', 'b' share no class, so equal class mix is imposs"):
        equal_mix(values, values, rng, NAMES)
    strata = np.where(np.arange(10) < 2, 0, values)
    strata[0] = -1
    with pytest.raises(DataError, match="probe without strata"):
        equal_mix(values, strata, rng, NAMES)


@pytest.mark.parametrize("three_way", [False, True])
def test_parts_of_every_plan_share_no_group(rng, songs, three_way):
    values, groups, strata = songs
    clips = as_clips(values, groups, strata)
    splits = make_splits(clips, three_way=three_way, n_splits=4, n_repeats=2, rng=rng)
    assert [len(split.turns) for split in splits] == [3 if three_way else 4] * 2
    for split in splits:
        for turn in split.turns:
            parts = [set(groups[rows]) for rows in (turn.fit, turn.train, turn.test)]
            assert not parts[0] & parts[1]
            assert not parts[1] & parts[2]
            assert not parts[0] & parts[2]
            used = np.sort(np.concatenate([turn.fit, turn.train, turn.test]))
            assert used.tolist() == split.rows.tolist()
            assert bool(turn.fit.size) is three_way
        tested = np.sort(np.concatenate([turn.test for turn in split.turns]))
        assert tested.tolist() == split.rows.tolist()


def test_a_value_that_is_missing_in_a_part_is_an_error(rng):
    # Songs are dealt by what most of their clips are, so the few clips of b may come together.
    values, groups = np.zeros(60, int), np.repeat(np.arange(20), 3)
    values[[0, 3, 6, 9]] = 1
    with pytest.raises(DataError, match=r"'b' has no clip in the (train|test) part of a split"):
        make_splits(as_clips(values, groups), three_way=False, n_splits=4, n_repeats=1, rng=rng)
    values[[6, 9]] = 0
    with pytest.raises(DataError, match=r"'b' has 2 group\(s\) of clips, fewer than the 4 parts"):
        make_splits(as_clips(values, groups), three_way=False, n_splits=4, n_repeats=1, rng=rng)


def cells_of(split, values, strata):
    """Return the number of clips of each (part, stratum, value)."""
    counts = np.zeros((split.part.max() + 1, strata.max() + 1, values.max() + 1), int)
    np.add.at(counts, (split.part, strata[split.rows], values[split.rows]), 1)
    return counts


def test_permuted_clips_keep_the_mix_of_every_part_of_the_subsample(rng):
    # Domain a is nearly all class 0, b nearly all class 1: the subsample is even, and
    # a permutation of all clips would make it uneven again.
    strata = np.r_[np.repeat([0, 1], [80, 20]), np.repeat([0, 1], [20, 80])]
    values = np.repeat([0, 1], 100)
    clips = as_clips(values, strata=strata)
    (split,) = make_splits(clips, three_way=True, n_splits=2, n_repeats=1, rng=rng)
    permuted = permute_values(clips, split, 50, rng)
    observed = cells_of(split, values, strata)
    assert (observed[..., 0] == observed[..., 1]).mean() > 0.3
    for one in permuted:
        assert (cells_of(split, one, strata) == observed).all()
        assert (np.delete(one, split.rows) == np.delete(values, split.rows)).all()
    rows = split.rows
    assert 0.3 < (permuted[:, rows] == values[rows]).mean() < 0.7


def test_permuted_songs_keep_their_clips_together_and_the_mix_nearly(rng, songs):
    values, groups, _ = songs
    clips = as_clips(values, groups)
    (split,) = make_splits(clips, three_way=True, n_splits=2, n_repeats=1, rng=rng)
    permuted = permute_values(clips, split, 50, rng)
    for one in permuted:
        assert (majority(groups, one)[groups] == one).all()
    for k in range(3):
        inside = split.rows[split.part == k]
        share = permuted[:, inside].mean(axis=1)
        assert abs(share.mean() - values[inside].mean()) < 0.03
        assert np.abs(share - values[inside].mean()).max() <= 5 / len(inside)


def test_many_small_groups_against_few_large_ones_stay_even_under_permutation(rng):
    # By number of groups a would keep 40 of 44 groups of class 0 and class would tell a from b.
    groups = np.r_[np.arange(40), np.repeat(np.arange(40, 48), 5)]
    values = np.repeat([0, 1], 40)
    clips = as_clips(values, groups, 0 * values)
    (split,) = make_splits(clips, three_way=False, n_splits=2, n_repeats=1, rng=rng)
    permuted = permute_values(clips, split, 200, rng)
    assert abs(permuted.mean() - 0.5) < 0.02


def test_a_group_with_clips_of_both_values_is_permuted_clip_by_clip(rng):
    values, groups = np.tile([0, 1], 20), np.repeat(np.arange(20), 2)
    clips = as_clips(values, groups)
    (split,) = make_splits(clips, three_way=False, n_splits=2, n_repeats=1, rng=rng)
    permuted = permute_values(clips, split, 20, rng)
    assert (permuted.sum(axis=1) == 20).all()
    together = permuted[:, 0::2] != permuted[:, 1::2]
    assert 0.3 < together.mean() < 0.7
