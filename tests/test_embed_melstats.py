"""Librosa features as an embedding: analytic signals and odd input."""

import numpy as np
import pytest
import soundfile

from biasaudio.embed import AudioModel, LibrosaFeatures
from biasaudio.errors import DataError, ParameterError

SR = 22050
MODEL = LibrosaFeatures()


def tone(hertz, seconds=1.5, sr=SR):
    return 0.5 * np.sin(2 * np.pi * hertz * np.arange(round(seconds * sr)) / sr)


def feature(vectors, name):
    return vectors[:, MODEL.feature_names.index(name)]


def test_it_is_an_audio_model_with_named_dimensions():
    assert isinstance(MODEL, AudioModel)
    assert MODEL.name == "melstats"
    assert len(set(MODEL.feature_names)) == MODEL.embedding_size
    vectors, timestamps = MODEL.embed(tone(440))
    assert vectors.shape == (len(timestamps), MODEL.embedding_size)
    assert vectors.dtype == np.float32


@pytest.mark.parametrize("hertz", [500.0, 1000.0, 3000.0])
def test_a_tone_has_the_centroid_and_the_crossings_of_its_frequency(hertz):
    middle = MODEL.embed(tone(hertz)).vectors[1:2]
    assert feature(middle, "centroid_mean")[0] == pytest.approx(hertz / 1000, rel=0.02)
    assert feature(middle, "zcr_mean")[0] == pytest.approx(2 * hertz / SR, rel=0.02)
    assert feature(middle, "rolloff_mean")[0] == pytest.approx(hertz / 1000, rel=0.05)
    assert feature(middle, "rms_mean")[0] == pytest.approx(20 * np.log10(0.5 / 2**0.5), abs=0.5)
    assert feature(middle, "rms_std")[0] < 0.1


def test_noise_is_flat_and_a_tone_is_not(rng):
    noise = MODEL.embed(0.1 * rng.standard_normal(SR)).vectors
    assert (feature(noise, "flatness_mean") > -4).all()
    assert (feature(MODEL.embed(tone(440)).vectors, "flatness_mean") < -30).all()


def test_ten_times_louder_moves_levels_by_20_db_and_no_shape(rng):
    quiet = MODEL.embed(0.01 * rng.standard_normal(SR)).vectors
    loud = MODEL.embed(0.1 * np.random.default_rng(20230).standard_normal(SR)).vectors
    for name in ("rms_mean", "band00_mean", "band15_mean"):
        np.testing.assert_allclose(feature(loud - quiet, name), 20.0, atol=0.01)
    for name in ("centroid_mean", "bandwidth_mean", "zcr_mean", "mfcc01_mean", "contrast3_mean"):
        np.testing.assert_allclose(feature(loud - quiet, name), 0.0, atol=0.01)


def test_a_frame_does_not_depend_on_the_loudness_of_others(rng):
    wave = 0.001 * rng.standard_normal(2 * SR)
    shouted = wave.copy()
    shouted[-SR // 4 :] *= 1000
    np.testing.assert_allclose(
        MODEL.embed(wave).vectors[:2], MODEL.embed(shouted).vectors[:2], atol=1e-5
    )


@pytest.mark.parametrize(
    ("seconds", "n_frames"), [(0.02, 1), (0.3, 1), (0.5, 1), (0.9, 2), (1.5, 3), (3.0, 6)]
)
def test_there_is_a_frame_each_half_second(seconds, n_frames):
    vectors, timestamps = MODEL.embed(tone(440, seconds))
    assert len(vectors) == n_frames
    np.testing.assert_allclose(np.diff(timestamps), 511, atol=130)
    assert timestamps[-1] < 1000 * max(seconds, 2048 / SR)


@pytest.mark.parametrize("wave", [np.zeros(SR), np.zeros(1), np.ones(SR), np.full(SR, 1e-30)])
def test_silence_and_a_constant_give_finite_vectors(wave):
    assert np.isfinite(MODEL.embed(wave).vectors).all()


@pytest.mark.parametrize("sr", [8000, 16000, 44100, 48000])
def test_other_sample_rates(sr):
    vectors = LibrosaFeatures(sample_rate=sr).embed(tone(1000.0, sr=sr)).vectors
    assert vectors.shape == (3, MODEL.embedding_size)
    np.testing.assert_allclose(feature(vectors[1:2], "centroid_mean"), 1.0, rtol=0.02)


def test_float64_and_float32_agree():
    np.testing.assert_array_equal(
        MODEL.embed(tone(300)).vectors, MODEL.embed(tone(300).astype(np.float32)).vectors
    )


@pytest.mark.parametrize(
    ("wave", "message"),
    [
        (np.zeros((2, SR)), r"the waveform has shape \(2, 22050\); give mono audio"),
        (np.zeros(SR, dtype=np.int16), "has dtype int16; give floats from -1 to 1"),
        (np.zeros(0), "the waveform has no samples"),
        (np.array([0.0, np.nan, np.inf]), "has NaN or Inf in 2 of 3 samples"),
    ],
)
def test_bad_waveforms_are_named(wave, message):
    with pytest.raises(DataError, match=message):
        MODEL.embed(wave)


def test_bad_options_are_named():
    with pytest.raises(ParameterError, match="sample_rate=4000 is too low; give 8000 Hz"):
        LibrosaFeatures(sample_rate=4000)
    with pytest.raises(ParameterError, match=r"frame_seconds=0 is too short; give 0\.1"):
        LibrosaFeatures(frame_seconds=0)


def test_half_of_a_real_clip_is_nearest_to_its_other_half(shared):
    folder = shared / "audio" / "medley_solos"
    files = sorted(folder.glob("*.flac"))[:8]
    if not files:
        pytest.skip("real audio (../shared/audio) is absent")
    vectors = []
    for file in files:
        wave, sr = soundfile.read(file)
        model = LibrosaFeatures(sample_rate=sr)
        halves = [model.embed(half) for half in np.array_split(wave, 2)]
        vectors.append([half.vectors.mean(axis=0) for half in halves])
    X = np.array(vectors)
    X = (X - X.mean(axis=(0, 1))) / X.std(axis=(0, 1))
    far = np.linalg.norm(X[:, None, 0] - X[None, :, 1], axis=-1)
    assert (far.argmin(axis=1) == np.arange(len(files))).mean() >= 0.75
