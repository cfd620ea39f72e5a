"""The identity probe finds what was planted, repeats itself, and refuses what it must."""

import warnings

import numpy as np
import pytest

from biasaudio.datasets.synthetic import make_domains
from biasaudio.errors import DataError, ParameterError
from biasaudio.probes import ProbeResult, probe_domain
from biasaudio.transforms import LEACE, METHODS, DomainCentering, MultiLDAProjection

FAST = {"n_permutations": 40, "n_resamples": 100}


def planted(shift=1.5, n=300, domains=("a", "b"), seed=0, **options):
    table, _ = make_domains(n=n, d=8, domains=domains, shift=shift, random_state=seed, **options)
    return table.X, table.clips.dataset.astype(str), table.clips.group_id


@pytest.fixture(scope="module")
def data():
    return planted()


def numbers(result):
    return (result.auc, result.low, result.high, result.p_value, result.balanced_accuracy)


def test_a_planted_offset_is_found_with_everything_that_is_reported(data):
    X, domain, groups = data
    result = probe_domain(X, domain, groups=groups, n_permutations=99)
    assert 0.85 < result.low < result.auc < result.high < 1
    assert result.p_value == 0.01
    assert 0.75 < result.balanced_accuracy < 1
    assert result.chance_accuracy == 0.5
    assert (result.n, result.n_groups, result.n_classes) == (300, len(set(groups)), 2)
    assert (result.design, result.mix, result.kind) == ("cross-fit", "raw", "linear")
    assert [v.value for v in result.by_value] == ["a", "b"]
    assert sum(v.n for v in result.by_value) == 300
    assert [v.auc for v in result.by_value] == pytest.approx([result.auc] * 2)
    assert np.mean([v.recall for v in result.by_value]) == pytest.approx(result.balanced_accuracy)
    assert "chance .500" in str(result)
    assert f"n = 300 clips in {result.n_groups} groups" in str(result)


def test_the_auc_is_the_one_that_the_offset_implies(rng):
    # Two unit normals 2 apart along one axis: AUC = Phi(2 / sqrt(2)) = .9214.
    domain = np.repeat(["a", "b"], 2000)
    X = rng.normal(size=(4000, 4))
    X[:, 0] += 2.0 * (domain == "b")
    result = probe_domain(X, domain, n_permutations=0, n_resamples=200)
    assert result.auc == pytest.approx(0.9214, abs=0.01)
    assert result.low < 0.9214 < result.high
    assert result.balanced_accuracy == pytest.approx(0.8413, abs=0.015)
    assert np.isnan(result.p_value)


def test_a_perfect_separation_is_one_and_constant_vectors_are_chance():
    domain = np.repeat(["a", "b"], 30)
    X = np.c_[np.where(domain == "a", -1.0, 1.0), np.zeros(60)]
    assert numbers(probe_domain(X, domain, **FAST))[:3] == (1.0, 1.0, 1.0)
    flat = probe_domain(np.full((60, 4), 0.1), domain, **FAST)
    assert (flat.auc, flat.low, flat.high, flat.p_value) == (0.5, 0.5, 0.5, 1.0)


def test_more_offset_is_more_readable():
    found = []
    for shift in (0.0, 0.3, 0.8, 2.0):
        X, domain, groups = planted(shift, n=600)
        found.append(probe_domain(X, domain, groups=groups, **FAST).auc)
    assert found == sorted(found)
    assert abs(found[0] - 0.5) < 0.1
    assert found[-1] > 0.97


def test_three_domains_are_told_one_against_the_rest(rng):
    X, domain, groups = planted(1.5, n=450, domains=("a", "b", "c"))
    result = probe_domain(X, domain, groups=groups, design="three-way", **FAST)
    assert result.n_classes == 3
    assert result.chance_accuracy == pytest.approx(1 / 3)
    assert result.auc == pytest.approx(np.mean([v.auc for v in result.by_value]))
    assert min(v.auc for v in result.by_value) > 0.85
    assert result.balanced_accuracy > 0.7
    noise = probe_domain(X, rng.permutation(domain), **FAST)
    assert abs(noise.auc - 0.5) < 0.08
    assert noise.p_value > 0.02


def test_one_domain_of_three_that_stands_apart_is_named():
    X, domain, groups = planted(0.0, n=450, domains=("a", "b", "c"))
    X = X + 3.0 * (domain == "c")[:, None].astype(np.float32)
    result = probe_domain(X, domain, groups=groups, **FAST)
    one = {v.value: v for v in result.by_value}
    assert one["c"].auc > 0.99
    assert one["c"].recall > 0.95
    assert max(one["a"].auc, one["b"].auc) < 0.9


def test_domains_of_unequal_size_do_not_win_by_being_many(rng):
    domain = np.repeat(["few", "many"], [40, 400])
    result = probe_domain(rng.normal(size=(440, 5)), domain, **FAST)
    assert abs(result.balanced_accuracy - 0.5) < 0.12


@pytest.mark.parametrize("design", ["cross-fit", "three-way"])
def test_same_seed_same_numbers_and_another_seed_others(data, design):
    X, domain, groups = data
    one, again, other = (
        probe_domain(X, domain, groups=groups, design=design, random_state=seed, **FAST)
        for seed in (3, 3, 4)
    )
    assert one == again
    assert one.auc != other.auc
    assert one.auc == pytest.approx(other.auc, abs=0.03)


def test_nothing_global_is_seeded_or_changed(data):
    X, domain, groups = data
    before, copy = np.random.get_state()[1].copy(), X.copy()  # noqa: NPY002
    probe_domain(X, domain, groups=groups, correction=LEACE(), **FAST)
    assert (np.random.get_state()[1] == before).all()  # noqa: NPY002
    assert (X == copy).all()


def test_how_domains_and_groups_are_called_does_not_matter(data):
    X, domain, groups = data
    result = probe_domain(X, domain, groups=groups, **FAST)
    as_numbers = probe_domain(X, np.where(domain == "a", 3, 7), groups=groups * 10 + 5, **FAST)
    assert numbers(as_numbers) == numbers(result)
    assert [v.value for v in as_numbers.by_value] == ["3", "7"]
    as_lists = probe_domain(X.tolist(), domain.tolist(), groups=groups.tolist(), **FAST)
    assert as_lists.auc == pytest.approx(result.auc, abs=1e-6)


def test_scale_shift_and_rotation_of_the_vectors_do_not_matter(data, rng):
    X, domain, groups = data
    X = X.astype(np.float64)
    Q = np.linalg.qr(rng.normal(size=(8, 8)))[0]
    result = probe_domain(X, domain, groups=groups, **FAST)
    for Z in (X * 1000, X + 50, X @ Q):
        assert numbers(probe_domain(Z, domain, groups=groups, **FAST)) == pytest.approx(
            numbers(result), abs=1e-6
        )


def test_the_order_of_clips_changes_the_draw_and_not_the_finding(data, rng):
    X, domain, groups = data
    order = rng.permutation(len(X))
    result = probe_domain(X, domain, groups=groups, **FAST)
    shuffled = probe_domain(X[order], domain[order], groups=groups[order], **FAST)
    # Groups are dealt by their number, whatever the order of their clips.
    assert numbers(shuffled) == pytest.approx(numbers(result), abs=1e-9)


def test_a_song_in_both_parts_would_be_recognised(rng):
    # 40 songs of 10 near-identical clips, and no domain effect at all.
    groups = np.repeat(np.arange(40), 10)
    domain = np.where(groups % 2 == 0, "a", "b")
    X = rng.normal(size=(40, 30))[groups] + 0.1 * rng.normal(size=(400, 30))
    leaky = probe_domain(X, domain, **FAST)
    sound = probe_domain(X, domain, groups=groups, **FAST)
    assert leaky.auc > 0.9
    assert abs(sound.auc - 0.5) < 0.2
    assert sound.p_value > 0.05


def test_pairs_of_the_same_song_in_both_domains_stay_together(rng):
    groups = np.tile(np.arange(60), 2)
    domain = np.repeat(["dry", "wet"], 60)
    X = rng.normal(size=(60, 6))[groups] + 0.2 * rng.normal(size=(120, 6))
    assert abs(probe_domain(X, domain, groups=groups, **FAST).auc - 0.5) < 0.2
    X[domain == "wet"] += 0.8
    found = probe_domain(X, domain, groups=groups, **FAST)
    assert found.auc > 0.75
    assert found.n_groups == 60


def test_scaled_probe_reads_features_that_hardly_vary(rng):
    domain = np.repeat(["a", "b"], 150)
    X = rng.normal(size=(300, 40))
    X[:, 0] = 1e-4 * (rng.normal(size=300) + 2 * (domain == "b"))
    linear = probe_domain(X, domain, **FAST)
    scaled = probe_domain(X, domain, kind="scaled", **FAST)
    assert scaled.kind == "scaled"
    assert scaled.auc > 0.85 > 0.65 > linear.auc


@pytest.mark.filterwarnings(
    "ignore:on held-out groups no strength:biasaudio.errors.BiasAudioWarning"
)
@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if not m.is_per_target])
def test_every_correction_can_be_probed(name):
    table, _ = make_domains(n=360, d=8, random_state=0)
    clips = table.clips
    options = {"groups": clips.group_id, "n_resamples": 50, "n_permutations": 19}
    domain = clips.dataset.astype(str)
    known = {"genre": clips.genre.astype(str), "label": clips.labels.idxmax(axis=1).to_numpy()}
    params = {key: known[key] for key in METHODS[name].needs if key != "domain"}
    before = probe_domain(table.X, domain, design="three-way", **options)
    after = probe_domain(
        table.X, domain, correction=METHODS[name].make(), fit_params=params, **options
    )
    assert after.design == "three-way"
    assert after.n == before.n == 360
    # What evens classes out, or makes new features, need not make the domain harder to read.
    assert after.auc < before.auc + (0.1 if name in ("wccn", "k") else 0.02)
    if name in ("leace", "center", "standardize", "meandiff"):
        assert before.auc > 0.8 > 0.68 > after.auc


def test_a_domain_aware_correction_gets_the_domain_of_every_part(data):
    X, domain, groups = data
    seen = []

    class Spy(DomainCentering):
        def fit(self, X, y=None, *, domain=None, balance=None):
            seen.append(("fit", len(X), domain, balance))
            return super().fit(X, y, domain=domain, balance=balance)

        def transform(self, X, *, domain=None):
            seen.append(("transform", len(X), domain, None))
            return super().transform(X, domain=domain)

    spy = Spy()
    classes = np.tile(["x", "y"], 150)
    options = {"correction": spy, "fit_params": {"balance": classes}, "n_repeats": 1, **FAST}
    probe_domain(X, domain, groups=groups, **options)
    assert [what for what, *_ in seen] == ["fit", "transform", "transform"] * 3
    assert all(len(d) == n for _, n, d, _ in seen)
    assert sum(n for what, n, *_ in seen if what == "fit") == 300
    assert sum(n for _, n, *_ in seen) == 900
    assert all(set(b) == {"x", "y"} for what, _, _, b in seen if what == "fit")
    assert not hasattr(spy, "affines_")


def test_strata_leave_clips_without_a_class_out(data):
    X, domain, groups = data
    classes = np.tile(["x", "y", ""], 100)
    result = probe_domain(X, domain, groups=groups, strata=classes, **FAST)
    assert result.mix == "equal"
    assert result.n <= 200


@pytest.mark.parametrize("per_domain", [5, 8])
def test_few_groups_still_get_an_interval_from_nearly_all_resamples(per_domain, rng):
    # One group of a domain in each fold: a resample misses one in some fold nearly always.
    groups = np.repeat(np.arange(2 * per_domain), 6)
    domain = np.where(groups < per_domain, "a", "b")
    X = rng.normal(size=(len(groups), 4)) + 0.7 * (domain == "b")[:, None]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        result = probe_domain(X, domain, groups=groups, n_permutations=0, n_resamples=400)
    assert result.low < result.auc < result.high
    assert result.high - result.low > 0.05


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"kind": "forest"}, ParameterError, "kind='forest' is not known; choose one of 'linear'"),
        ({"kind": "liner"}, ParameterError, "did you mean 'linear'"),
        ({"design": "threeway"}, ParameterError, "did you mean 'three-way'"),
        ({"n_splits": 1}, ParameterError, "n_splits=1 is not allowed; give 2 or more"),
        ({"n_repeats": 0}, ParameterError, "n_repeats=0 is not allowed; give 1 or more"),
        ({"n_permutations": -1}, ParameterError, "n_permutations=-1 is not allowed"),
        ({"n_resamples": -1}, ParameterError, "n_resamples=-1 is not allowed; give 0 or more"),
        ({"correction": LEACE(), "design": "cross-fit"}, ParameterError, "clips it was fitted on"),
        ({"correction": MultiLDAProjection()}, ParameterError, "fit was called without genre"),
        ({"domain": ["a"] * 20}, DataError, r"domain has 1 different value\(s\) \('a'\)"),
        ({"domain": ["a"] * 19}, DataError, r"domain has shape \(19,\), but X has 20 clips"),
        ({"domain": [0.5] * 20}, DataError, "domain holds floats"),
        ({"domain": [None, *["a", "b"] * 9, "a"]}, DataError, "domain is missing for 1 of 20"),
        ({"groups": [1] * 3}, DataError, r"groups has shape \(3,\), but X has 20 clips"),
        ({"groups": [0] * 10 + [1] * 10}, DataError, r"has 1 group\(s\).*fewer than the 5 parts"),
        ({"strata": ["x"] * 10 + ["y"] * 10}, DataError, "share no class.*probe without strata"),
        ({"strata": [""] * 20}, DataError, "share no class"),
        ({"fit_params": {"genre": ["x"]}}, DataError, r"genre has shape \(1,\), but X has 20"),
        ({"X": np.full((20, 2), np.nan)}, DataError, "X has NaN or Inf in 20 of 20 clips: 'row 0'"),
        ({"X": np.zeros(20)}, DataError, r"X has shape \(20,\); give a 2-d array"),
    ],
)
def test_each_bad_input_has_its_message(rng, change, error, match):
    given = {"X": rng.normal(size=(20, 2)), "domain": ["a"] * 10 + ["b"] * 10} | change
    with pytest.raises(error, match=match) as caught:
        probe_domain(given.pop("X"), given.pop("domain"), **given)
    assert "\n" not in str(caught.value)


def test_fewer_groups_than_parts_names_the_domain(rng):
    domain = ["big"] * 30 + ["tiny"] * 4
    with pytest.raises(DataError, match=r"'tiny' has 4 group\(s\) of clips, fewer than the 5"):
        probe_domain(rng.normal(size=(34, 2)), domain)
    assert isinstance(probe_domain(rng.normal(size=(34, 2)), domain, n_splits=4), ProbeResult)
