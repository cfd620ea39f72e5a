"""Librosa features as an embedding: analytic signals, librosa itself, odd input."""

import json
import pickle

import librosa
import numpy as np
import pytest
import soundfile

from biasaudio.embed import AudioModel, LibrosaFeatures, melstats
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
    assert len(set(MODEL.feature_names)) == MODEL.dims
    vectors, timestamps = MODEL.embed(tone(440))
    assert vectors.shape == (len(timestamps), MODEL.dims)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(np.diff(timestamps)[0], 1000 * MODEL.hop / SR)


def test_its_identity_is_json_and_says_what_decides_the_numbers():
    assert json.loads(json.dumps(MODEL.identity)) == MODEL.identity
    assert MODEL.identity == LibrosaFeatures().identity
    assert MODEL.identity["version"] == 2
    for other in (LibrosaFeatures(sample_rate=16000), LibrosaFeatures(frame_seconds=1)):
        assert MODEL.identity != other.identity


def test_a_copy_in_another_process_gives_the_same_numbers():
    packed = pickle.dumps(MODEL)
    assert len(packed) < 100_000
    np.testing.assert_array_equal(
        pickle.loads(packed).embed(tone(440)).vectors, MODEL.embed(tone(440)).vectors
    )
    again = eval(repr(MODEL), {"LibrosaFeatures": LibrosaFeatures})
    assert again.identity == MODEL.identity


def by_librosa(wave, sr):
    """Give the columns of the features, a call of librosa each."""
    size = {"frame_length": 2048, "hop_length": 512}
    S = np.abs(librosa.stft(wave, n_fft=2048, hop_length=512))
    mel = librosa.feature.melspectrogram(S=S**2, sr=sr, n_mels=64)
    log_mel = librosa.power_to_db(mel, top_db=None)
    flatness = librosa.feature.spectral_flatness(S=S)
    rms = librosa.feature.rms(y=wave, **size)
    fmin = min(200.0, 0.45 * sr / 64)
    return {
        "centroid": librosa.feature.spectral_centroid(S=S, sr=sr) / 1000,
        "bandwidth": librosa.feature.spectral_bandwidth(S=S, sr=sr) / 1000,
        "rolloff": librosa.feature.spectral_rolloff(S=S, sr=sr) / 1000,
        "flatness": librosa.power_to_db(flatness, top_db=None),
        "zcr": librosa.feature.zero_crossing_rate(wave, **size),
        "rms": librosa.amplitude_to_db(rms, top_db=None),
        "mfcc": librosa.feature.mfcc(S=log_mel, n_mfcc=20),
        "contrast": librosa.feature.spectral_contrast(S=S, sr=sr, fmin=fmin),
        "chroma": librosa.feature.chroma_stft(S=S**2, sr=sr, tuning=0.0),
        "band": librosa.power_to_db(mel.reshape(16, 4, -1).sum(axis=1), top_db=None),
    }


@pytest.mark.parametrize("sr", [8000, 22050, 44100])
def test_each_feature_is_the_one_of_librosa(rng, sr):
    noise = rng.standard_normal(2 * sr) * np.linspace(0.001, 0.3, 2 * sr)
    wave = (noise + tone(445, 2.0, sr)).astype(np.float32)
    model = LibrosaFeatures(sample_rate=sr)
    vectors = model.embed(wave).vectors
    step = model.hop // 512
    for name, columns in by_librosa(wave, sr).items():
        for k, row in enumerate(columns):
            width = {"mfcc": 2, "chroma": 2, "band": 2, "contrast": 1}.get(name, 0)
            full = f"{name}{k:0{width}d}" if width else name
            for part in ("mean", "std") if name not in ("chroma", "contrast") else ("mean",):
                got = vectors[:, model.feature_names.index(f"{full}_{part}")]
                frames = [row[at * step : (at + 1) * step] for at in range(len(got))]
                wanted = [getattr(frame, part)() for frame in frames]
                atol = {"zcr": 1e-6, "chroma": 2e-4}.get(name, 1e-3)
                np.testing.assert_allclose(got, wanted, rtol=2e-4, atol=atol, err_msg=full)


def test_long_audio_is_cut_into_blocks_that_leave_no_mark(rng, monkeypatch):
    wave = (0.1 * rng.standard_normal(3 * SR)).astype(np.float32)
    whole = MODEL.embed(wave).vectors
    monkeypatch.setattr(melstats, "_BLOCK", 7)
    np.testing.assert_allclose(MODEL.embed(wave).vectors, whole, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(("hertz", "pitch_class"), [(440.0, 9), (880.0, 9), (261.63, 0), (1568, 7)])
def test_a_tone_has_the_pitch_class_of_its_note(hertz, pitch_class):
    at = MODEL.feature_names.index("chroma00_mean")
    chroma = MODEL.embed(tone(hertz)).vectors[1, at : at + 12]
    assert chroma.argmax() == pitch_class
    assert chroma[pitch_class] == pytest.approx(1.0)
    assert np.sort(chroma)[-2] < 0.5


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


def test_decibels_have_a_floor():
    vectors = MODEL.embed(np.ones(2 * SR)).vectors
    assert feature(vectors, "flatness_mean")[1] == -100
    assert feature(MODEL.embed(np.zeros(SR)).vectors, "rms_mean")[0] == -100


def test_ten_times_louder_moves_levels_by_20_db_and_no_shape(rng):
    quiet = MODEL.embed(0.01 * rng.standard_normal(SR)).vectors
    loud = MODEL.embed(0.1 * np.random.default_rng(20230).standard_normal(SR)).vectors
    for name in ("rms_mean", "band00_mean", "band15_mean"):
        np.testing.assert_allclose(feature(loud - quiet, name), 20.0, atol=0.01)
    for name in ("centroid_mean", "bandwidth_mean", "zcr_mean", "mfcc01_mean", "contrast3_mean"):
        np.testing.assert_allclose(feature(loud - quiet, name), 0.0, atol=0.01)


@pytest.mark.parametrize("quiet", [0.0, 1e-6, 1e-3])
def test_a_frame_does_not_depend_on_the_loudness_of_others(rng, quiet):
    wave = quiet * rng.standard_normal(2 * SR)
    shouted = wave.copy()
    shouted[-5000:] = rng.standard_normal(5000)
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
    assert vectors.shape == (3, MODEL.dims)
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
    with pytest.raises(ParameterError, match="sample_rate=4000 is not allowed; give a whole"):
        LibrosaFeatures(sample_rate=4000)
    with pytest.raises(
        ParameterError, match=r"frame_seconds=0 is not allowed; give a number .* 0\.1"
    ):
        LibrosaFeatures(frame_seconds=0)
    with pytest.raises(ParameterError, match="sample_rate='16000' is not allowed"):
        LibrosaFeatures(sample_rate="16000")


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
