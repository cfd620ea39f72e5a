"""The planted truth of make_domains is what its vectors show."""

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from biasaudio._validation import check_groups_do_not_straddle
from biasaudio.datasets.synthetic import make_domains
from biasaudio.errors import ParameterError


def cells(table):
    clips = table.clips
    label = clips.labels.to_numpy().argmax(axis=1)
    return clips.dataset, clips.genre, np.array(clips.label_names)[label]


def test_the_same_seed_gives_the_same_table():
    one, _ = make_domains(60, 4, random_state=5)
    two, _ = make_domains(60, 4, random_state=5)
    other, _ = make_domains(60, 4, random_state=6)
    np.testing.assert_array_equal(one.X, two.X)
    assert one.clips.frame.equals(two.clips.frame)
    assert not np.array_equal(one.X, other.X)


def test_random_state_is_an_int_a_generator_or_none():
    one, two = (make_domains(60, 4, random_state=np.random.default_rng(3))[0] for _ in range(2))
    np.testing.assert_array_equal(one.X, two.X)
    assert not np.array_equal(one.X, make_domains(60, 4, random_state=None)[0].X)
    with pytest.raises(ParameterError, match="random_state='x' is not allowed"):
        make_domains(60, 4, random_state="x")


def test_shape_names_and_splits():
    table, truth = make_domains(121, 7, domains=("x", "y", "z"), group_size=4)
    assert table.X.shape == (121, 7)
    assert table.X.dtype == np.float32
    assert table.clips.datasets == ["x", "y", "z"]
    assert truth.domain_means.shape == (3, 7)
    assert truth.domain_directions.shape == (2, 7)
    assert set(table.clips.split) == {"train", "test"}
    check_groups_do_not_straddle(table.clips.group_id, table.clips.split)
    check_groups_do_not_straddle(table.clips.group_id, table.clips.genre, what="genre")
    assert np.bincount(table.clips.group_id).max() == 4


def test_means_of_the_cells_are_the_planted_ones():
    table, truth = make_domains(24_000, 6, class_shift=0.8, group_effect=0.1)
    domain, genre, label = cells(table)
    for i, d in enumerate(truth.domains):
        for j, g in enumerate(truth.genres):
            for k, c in enumerate(truth.labels):
                rows = (domain == d) & (genre == g) & (label == c)
                planted = (
                    truth.domain_means[i]
                    + truth.genre_means[j]
                    + truth.label_means[k]
                    + truth.class_shifts[i, k]
                )
                # Five standard errors of 1,000 clips with deviations up to 1.4.
                np.testing.assert_allclose(table.X[rows].mean(0), planted, atol=0.22)


def test_offsets_lie_in_the_planted_directions_at_the_planted_length():
    _, truth = make_domains(30, 9, domains=("a", "b", "c"), shift=2.0)
    means, basis = truth.domain_means, truth.domain_directions
    np.testing.assert_allclose(np.linalg.norm(means, axis=1), 2.0)
    np.testing.assert_allclose(means.sum(0), 0.0, atol=1e-12)
    np.testing.assert_allclose(basis @ basis.T, np.eye(2), atol=1e-12)
    np.testing.assert_allclose(means @ basis.T @ basis, means, atol=1e-12)


def test_covariance_is_the_planted_one():
    table, truth = make_domains(
        20_000, 5, shift=0, genre_effect=0, label_effect=0, group_effect=0.5
    )
    np.testing.assert_allclose(np.cov(table.X.T), truth.covariance, atol=0.06)
    assert not np.allclose(truth.covariance, np.eye(5), atol=0.3)


def test_the_best_direction_reaches_the_analytic_auc():
    table, truth = make_domains(20_000, 6, genre_effect=0, label_effect=0, shift=0.7)
    gap = truth.domain_means[1] - truth.domain_means[0]
    best = np.linalg.solve(truth.covariance, gap)
    auc = roc_auc_score(table.clips.dataset == "b", table.X @ best)
    assert auc == pytest.approx(norm.cdf(np.sqrt(gap @ best / 2)), abs=0.012)


def test_no_shift_means_no_offset():
    _, truth = make_domains(30, 4, shift=0.0)
    assert not truth.domain_means.any()


def test_mix_sets_how_much_the_class_mix_differs():
    def far(mix):
        table, truth = make_domains(600, 4, mix=mix)
        domain, genre, label = cells(table)
        return [
            max(abs((x[domain == "a"] == v).mean() - (x[domain == "b"] == v).mean()) for v in names)
            for x, names in ((genre, truth.genres), (label, truth.labels))
        ]

    assert max(far(0.0)) < 0.02
    assert far(0.5) == pytest.approx([0.5, 0.5], abs=0.02)
    assert min(far(1.0)) == 1.0


def test_every_genre_and_label_is_in_every_split():
    table, _ = make_domains(120, 4)
    domain, genre, label = cells(table)
    seen = set(zip(domain, table.clips.split, genre, strict=True))
    assert len(seen) == 2 * 2 * 4
    assert len(set(zip(domain, table.clips.split, label, strict=True))) == 2 * 2 * 3


def test_one_domain_one_dimension_and_many_names():
    table, truth = make_domains(30, 1, domains=("only",), n_labels=12, n_genres=6)
    assert table.clips.datasets == ["only"]
    assert truth.labels[-1] == "label11"
    assert truth.genres[-2:] == ("genre4", "genre5")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n": 1}, "n=1 is too small; give 2 or more"),
        ({"d": 0}, "d=0 is too small; give 1 or more"),
        ({"d": 1, "domains": "abc"}, "d=1 is too small; give 2 or more"),
        ({"n_labels": 0}, "n_labels=0 is too small"),
        ({"n_genres": 0}, "n_genres=0 is too small"),
        ({"group_size": 0}, "group_size=0 is too small"),
        ({"mix": 1.5}, r"mix=1.5 is not allowed; give a number from 0"),
        ({"domains": ("a", "a")}, r"domains=\('a', 'a'\) is not allowed; give different names"),
        ({"domains": ()}, r"domains=\(\) is not allowed"),
    ],
)
def test_what_is_not_allowed_is_named(change, message):
    with pytest.raises(ParameterError, match=message):
        make_domains(**change)
