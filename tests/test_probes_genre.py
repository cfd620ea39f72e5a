"""The genre probe: planted genres are found, none are not, and domain is needed to correct."""

import numpy as np
import pytest

from biasaudio.datasets.synthetic import make_domains
from biasaudio.errors import DataError, ParameterError
from biasaudio.probes import probe_domain, probe_genre
from biasaudio.transforms import LEACE, METHODS, DomainCentering

FAST = {"n_permutations": 40, "n_resamples": 100}


def planted(genre_effect, n=480, seed=0, **options):
    table, _ = make_domains(n=n, d=10, genre_effect=genre_effect, random_state=seed, **options)
    clips = table.clips
    return table.X, clips.genre.astype(str), clips.dataset.astype(str), clips.group_id


def test_planted_genres_are_found_with_everything_that_is_reported():
    X, genre, _, groups = planted(3.0)
    result = probe_genre(X, genre, groups=groups, **FAST)
    assert result.low > 0.75
    assert result.p_value < 0.03
    assert result.n_classes == 4
    assert result.chance_accuracy == 0.25
    assert result.balanced_accuracy > 0.5
    assert [v.value for v in result.by_value] == sorted(set(genre))
    assert [v.n for v in result.by_value] == [(genre == g).sum() for g in sorted(set(genre))]
    assert result.auc == pytest.approx(np.mean([v.auc for v in result.by_value]))
    assert (result.n, result.n_groups) == (480, len(set(groups)))


def test_genres_that_were_not_planted_are_at_chance():
    X, genre, _, groups = planted(0.0)
    result = probe_genre(X, genre, groups=groups, **FAST)
    assert abs(result.auc - 0.5) < 0.08
    assert result.p_value > 0.05


def test_songs_give_their_genre_away_where_they_are_split(rng):
    groups = np.repeat(np.arange(30), 8)
    genre = np.array(["jazz", "pop", "classical"])[groups % 3]
    X = rng.normal(size=(30, 20))[groups] + 0.1 * rng.normal(size=(240, 20))
    assert probe_genre(X, genre, **FAST).auc > 0.9
    sound = probe_genre(X, genre, groups=groups, **FAST)
    assert abs(sound.auc - 0.5) < 0.2
    assert sound.p_value > 0.05


def test_the_probe_does_not_read_the_domain():
    X, genre, domain, groups = planted(2.0)
    without = probe_genre(X, genre, groups=groups, **FAST)
    assert probe_genre(X, genre, domain=domain, groups=groups, **FAST) == without


def test_a_genre_mix_that_differs_between_classes_is_read_raw_and_not_at_equal_mix(rng):
    genre = np.repeat(["jazz", "pop"], 200)
    sax = rng.random(400) < np.where(genre == "jazz", 0.9, 0.1)
    X = rng.normal(size=(400, 6))
    X[:, 2] += 2.5 * sax
    raw = probe_genre(X, genre, **FAST)
    equal = probe_genre(X, genre, strata=np.where(sax, "sax", "voice"), **FAST)
    assert raw.auc > 0.75
    assert abs(equal.auc - 0.5) < 0.1


@pytest.mark.filterwarnings(
    "ignore:on held-out groups no strength:biasaudio.errors.BiasAudioWarning"
)
@pytest.mark.parametrize("name", [n for n, m in METHODS.items() if not m.is_per_target])
def test_every_correction_keeps_the_genre_that_is_not_the_domain(name):
    X, genre, domain, groups = planted(3.0, n=600)
    options = {"domain": domain, "groups": groups, **FAST}
    known = {"genre": genre, "label": np.arange(len(X)) % 2}
    params = {key: known[key] for key in METHODS[name].needs if key != "domain"}
    before = probe_genre(X, genre, design="three-way", **options)
    after = probe_genre(X, genre, correction=METHODS[name].make(), fit_params=params, **options)
    assert after.design == "three-way"
    assert after.auc > before.auc - 0.15
    assert after.auc > 0.7


def test_a_correction_takes_a_genre_away_that_is_the_domain(rng):
    # One dataset is jazz and the other pop: who erases the dataset erases the genre.
    domain = np.repeat(["a", "b"], 200)
    X = rng.normal(size=(400, 5)) + 1.5 * (domain == "b")[:, None]
    genre = np.where(domain == "a", "jazz", "pop")
    before = probe_genre(X, genre, design="three-way", **FAST)
    after = probe_genre(X, genre, domain=domain, correction=LEACE(), **FAST)
    assert before.auc > 0.95
    assert after.auc < 0.65
    alike = probe_domain(X, domain, correction=LEACE(), **FAST)
    assert after.auc == pytest.approx(alike.auc, abs=1e-9)


def test_a_domain_aware_correction_is_given_the_domain():
    X, genre, domain, groups = planted(2.0)
    result = probe_genre(
        X, genre, domain=domain, groups=groups, correction=DomainCentering(), **FAST
    )
    assert result.design == "three-way"
    assert result.auc > 0.65


@pytest.mark.parametrize(
    ("change", "error", "match"),
    [
        ({"correction": LEACE()}, ParameterError, r"without domain; call probe_genre\(X, genre, d"),
        ({"genre": ["jazz"] * 20}, DataError, r"genre has 1 different value\(s\) \('jazz'\)"),
        ({"genre": [""] * 9 + ["jazz"] * 11}, DataError, r"genre is not known \(''\) for 9 of 20"),
        ({"genre": ["jazz"] * 3}, DataError, r"genre has shape \(3,\), but X has 20 clips"),
        ({"genre": ["jazz"] * 17 + ["pop"] * 3}, DataError, r"'pop' has 3 group\(s\) of clips"),
        ({"domain": ["a"] * 3}, DataError, r"domain has shape \(3,\), but X has 20 clips"),
        ({"kind": "cubic"}, ParameterError, "kind='cubic' is not known; choose one of 'linear'"),
        ({"n_splits": 1}, ParameterError, "n_splits=1 is not allowed; give 2 or more"),
    ],
)
def test_each_bad_input_has_its_message(rng, change, error, match):
    given = {"genre": ["jazz"] * 10 + ["pop"] * 10} | change
    with pytest.raises(error, match=match) as caught:
        probe_genre(rng.normal(size=(20, 2)), given.pop("genre"), **given)
    assert "\n" not in str(caught.value)


def test_genre_of_real_irmas_clips_is_readable_by_song(shared):
    with np.load(shared / "data" / "librosa25_irmas_train.npz", allow_pickle=False) as file:
        X, genre, song = (file[name] for name in ("X", "genre", "song_id"))
    result = probe_genre(X, genre, groups=song, **FAST)
    assert result.n == 6705
    assert 0.5 < result.low < result.auc < result.high < 1
    assert result.p_value < 0.03
    # Clips of one song in both parts would look better than they are.
    assert probe_genre(X, genre, **FAST).auc > result.auc + 0.01
