"""The synthetic audio holds what PLANTED says, and nothing straddles a split."""

from collections import Counter

import numpy as np
import pytest

from biasaudio._validation import check_groups_do_not_straddle
from biasaudio.datasets.synthesis import (
    BASS,
    DATASETS,
    ELECTRIC_ORGAN,
    INSTRUMENTS,
    PLANTED,
    Line,
    render,
    synthesize_datasets,
)
from biasaudio.datasets.vocabulary import GENRES
from biasaudio.errors import ParameterError

SR = 22050


@pytest.fixture(scope="module")
def clips():
    return list(synthesize_datasets(n_songs=40, clips_per_song=2, seconds=0.6))


def column(clips, name):
    return np.array([getattr(clip, name) for clip in clips])


def power_above(clip, hertz):
    power = np.square(np.abs(np.fft.rfft(clip.waveform)))
    return power[np.fft.rfftfreq(len(clip.waveform), 1 / SR) > hertz].sum() / power.sum()


def test_waveforms_are_finite_and_within_full_scale(clips):
    for clip in clips:
        assert clip.waveform.dtype == np.float32
        assert clip.waveform.shape == (round(0.6 * SR),)
        assert clip.sample_rate == SR
        assert np.isfinite(clip.waveform).all()
        assert 1e-4 < np.sqrt(np.square(clip.waveform).mean()) < 0.5
        assert np.abs(clip.waveform).max() <= 1.0


def test_the_same_seed_gives_the_same_audio():
    def first_two(seed):
        songs = synthesize_datasets(n_songs=4, seconds=0.3, random_state=seed)
        return np.stack([next(songs).waveform for _ in range(2)])

    np.testing.assert_array_equal(first_two(3), first_two(3))
    assert not np.allclose(first_two(3), first_two(4))


def test_clip_ids_are_unique_and_songs_stay_together(clips):
    groups = column(clips, "group")
    assert len(set(column(clips, "clip_id"))) == len(clips) == 2 * 40 * 2
    for name in ("split", "dataset", "genre"):
        check_groups_do_not_straddle(groups, column(clips, name), what=name)


def test_every_cell_that_an_audit_needs_is_there(clips):
    of_label = Counter((clip.dataset, clip.split, clip.label) for clip in clips)
    of_genre = Counter((clip.dataset, clip.split, clip.genre) for clip in clips)
    assert len(of_label) == 2 * 2 * len(INSTRUMENTS)
    assert len(of_genre) == 2 * 2 * len(GENRES)
    assert len(INSTRUMENTS) >= 6


def test_genre_mix_is_the_planted_one(clips):
    for name, recording in DATASETS.items():
        genres = column(clips, "genre")[column(clips, "dataset") == name]
        for genre, share in recording.genres.items():
            assert (genres == genre).mean() == pytest.approx(share, abs=1 / 40)


def test_recordings_differ_in_band_and_level(clips):
    studio, field = ([c for c in clips if c.dataset == name] for name in ("studio", "field"))
    high = [np.median([power_above(clip, 6000) for clip in each]) for each in (studio, field)]
    level = [np.median([clip.waveform.std() for clip in each]) for each in (studio, field)]
    assert high[0] > 3 * high[1]
    assert 20 * np.log10(level[0] / level[1]) == pytest.approx(6.0, abs=2.5)


def test_planted_says_what_the_recordings_are():
    text = " ".join(PLANTED.values())
    for name, recording in DATASETS.items():
        assert f"{recording.band[1]:g} Hz" in PLANTED[f"recording of {name}"]
    assert "pop_rock 40%" in PLANTED["genres of field"]
    for word in ("codec step", "no codec", "dBFS", "reverb", "noise at", *INSTRUMENTS):
        assert word in text


@pytest.mark.parametrize("name", [*INSTRUMENTS, "bass", "electric organ"])
@pytest.mark.parametrize("pitch", [57, 72])
def test_an_instrument_plays_the_pitch_it_is_given(rng, name, pitch):
    timbre = (INSTRUMENTS | {"bass": BASS, "electric organ": ELECTRIC_ORGAN})[name]
    line = Line(np.array([pitch]), np.array([0]), SR)
    wave = render(line, timbre, tilt=0.0, sr=SR, rng=rng)
    assert np.square(wave).mean() == pytest.approx(1.0, rel=1e-3)
    spectrum = np.square(np.abs(np.fft.rfft(wave * np.hanning(SR))))
    # One bin is 1 Hz; the fundamental beats everything a quarter tone away from it.
    hertz = 440.0 * 2.0 ** ((pitch - 69) / 12)
    low, high = (round(hertz * 2.0 ** (sign / 12)) for sign in (-6, 6))
    peak = low + spectrum[low:high].argmax()
    assert 12 * abs(np.log2(peak / hertz)) < 0.5


def test_instruments_do_not_sound_alike(rng):
    line = Line(np.array([64]), np.array([0]), SR)
    bands = []
    for timbre in [*INSTRUMENTS.values(), ELECTRIC_ORGAN]:
        power = np.square(
            np.abs(np.fft.rfft(render(line, timbre, tilt=0.0, sr=SR, rng=rng)[: SR // 2]))
        )
        octaves = np.add.reduceat(power, [64, 128, 256, 512, 1024, 2048, 4096])
        bands.append(10 * np.log10(octaves / octaves.sum()))
    far = np.abs(np.array(bands)[:, None] - np.array(bands)[None]).max(axis=-1)
    assert far[~np.eye(len(far), dtype=bool)].min() > 2.0


@pytest.mark.parametrize("sample_rate", [8000, 16000, 44100])
def test_other_sample_rates(sample_rate):
    clip = next(synthesize_datasets(n_songs=1, clips_per_song=1, sample_rate=sample_rate))
    assert clip.waveform.shape == (round(1.5 * sample_rate),)
    assert np.isfinite(clip.waveform).all()


def test_random_state_may_be_a_generator_or_none():
    def first(random_state):
        return next(synthesize_datasets(n_songs=8, seconds=0.1, random_state=random_state)).waveform

    one, two = first(np.random.default_rng(3)), first(np.random.default_rng(3))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, first(None))


def test_shortest_clips_of_all_genres_are_finite():
    for seed in range(3):
        for clip in synthesize_datasets(
            n_songs=8, clips_per_song=1, seconds=0.1, sample_rate=8000, random_state=seed
        ):
            assert np.isfinite(clip.waveform).all()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_songs": 0}, "n_songs=0 is too small; give 1 or more"),
        ({"clips_per_song": 0}, "clips_per_song=0 is too small"),
        ({"seconds": 0.05}, "seconds=0.05 is too small; give 0.1 or more"),
        ({"sample_rate": 4000}, "sample_rate=4000 is too small; give 8000 or more"),
    ],
)
def test_what_is_not_allowed_is_named_at_the_call(change, message):
    with pytest.raises(ParameterError, match=message):
        synthesize_datasets(**change)
