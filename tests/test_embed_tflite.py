"""TFLite models: windows, tensors, pickling, bad files, and the real YAMNet."""

from __future__ import annotations

import csv
import pickle
import shutil
import sys
import warnings

import librosa
import numpy as np
import pytest
import soundfile
from embed_graphs import save_tflite

from biasaudio.embed.base import cut_windows, find_tensor
from biasaudio.embed.tflite import TFLiteModel, YAMNet
from biasaudio.errors import DataError, ParameterError

W = 100


@pytest.fixture
def weights(rng):
    return rng.normal(size=(3, W)).astype(np.float32)


@pytest.fixture
def toy(tmp_path, weights):
    return save_tflite(tmp_path / "toy.tflite", weights, (W,))


@pytest.mark.parametrize(
    ("n", "hop", "starts"),
    [
        (250, 100, [0, 100]),
        (299, 100, [0, 100]),
        (300, 100, [0, 100, 200]),
        (250, 40, [0, 40, 80, 120]),
        (60, 40, [0]),
        (100, 40, [0]),
        (350, 120, [0, 120, 240]),
    ],
)
def test_windows_are_whole_and_a_short_clip_is_padded(n, hop, starts, rng):
    wave = rng.normal(size=n).astype(np.float32)
    padded = np.pad(wave, (0, max(0, W - n)))
    wanted = np.stack([padded[at : at + W] for at in starts])
    np.testing.assert_array_equal(cut_windows(wave, W, hop), wanted)


@pytest.mark.parametrize("shape", [(W,), (1, W)])
def test_a_toy_gives_the_product_that_it_is(tmp_path, weights, rng, shape):
    path = save_tflite(tmp_path / "toy.tflite", weights, shape)
    model = TFLiteModel(path, sample_rate=1000, hop=50)
    wave = rng.normal(size=260).astype(np.float64)
    vectors, times = model.embed(wave)
    wanted = np.abs(np.stack([wave[at : at + W] for at in (0, 50, 100, 150)]) @ weights.T)
    np.testing.assert_allclose(vectors, wanted, rtol=1e-4, atol=1e-5)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(times, [50.0, 100.0, 150.0, 200.0])
    assert (model.dims, model.hop, model.window, model.name) == (3, 50, W, "toy")


def test_a_tensor_inside_is_taken_by_the_end_of_its_name(toy, weights, rng):
    wave = rng.normal(size=W).astype(np.float32)
    hidden = TFLiteModel(toy, sample_rate=1000, tensor="hidden")
    out = TFLiteModel(toy, sample_rate=1000)
    np.testing.assert_allclose(hidden.embed(wave).vectors, [wave @ weights.T], rtol=1e-4, atol=1e-5)
    assert hidden.embed(wave).vectors.min() < 0 <= out.embed(wave).vectors.min()
    assert hidden.identity["tensor"] == "body/hidden"
    assert hidden.identity != out.identity


def test_a_pickled_model_is_small_and_gives_the_same(toy, rng):
    model = TFLiteModel(toy, sample_rate=1000)
    wave = rng.normal(size=4 * W).astype(np.float32)
    before = model.embed(wave).vectors
    sent = pickle.dumps(model)
    assert len(sent) < 2000
    twin = pickle.loads(sent)
    np.testing.assert_array_equal(twin.embed(wave).vectors, before)
    assert repr(twin) == repr(model)
    assert twin.identity == model.identity


def test_a_file_that_changed_meanwhile_is_refused(toy, weights):
    twin = pickle.loads(pickle.dumps(TFLiteModel(toy, sample_rate=1000)))
    save_tflite(toy, 2 * weights, (W,))
    with pytest.raises(DataError, match="has changed since the model was made"):
        twin.embed(np.zeros(W, np.float32))


def test_repr_is_the_call_and_identity_says_what_decides(toy, tmp_path):
    model = TFLiteModel(toy, sample_rate=1000, hop=30, name="mine")
    twin = eval(repr(model))
    assert (twin.name, twin.identity) == ("mine", model.identity)
    moved = TFLiteModel(shutil.copy(toy, tmp_path / "b.tflite"), sample_rate=1000, hop=30)
    assert moved.identity == model.identity
    assert moved.identity != TFLiteModel(toy, sample_rate=1000, hop=31).identity


def test_it_opens_nothing_but_the_bytes_of_the_named_file(toy, monkeypatch):
    litert = sys.modules["ai_edge_litert.interpreter"]
    seen = []

    class Spy(litert.Interpreter):
        def __init__(self, *args, **options):
            seen.append((args, options))
            super().__init__(*args, **options)

    monkeypatch.setattr(litert, "Interpreter", Spy)
    TFLiteModel(toy, sample_rate=1000)
    ((args, options),) = seen
    assert args == ()
    assert options.pop("model_content") == toy.read_bytes()
    assert options == {"num_threads": 1, "experimental_preserve_all_tensors": False}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({}, "does not say its sample rate; give it"),
        ({"sample_rate": 10}, "sample_rate=10 is not allowed"),
        ({"sample_rate": 1000, "hop": 0}, "hop=0 is not allowed"),
        ({"sample_rate": 1000, "tensor": "hidde"}, r"'hidde' is not the end .* mean 'hidden'\?"),
        ({"sample_rate": 1000, "tensor": "zzzz"}, "it has 'audio', 'hidden', 'out' and 1 more"),
        ({"sample_rate": 1000, "name": "a/b"}, "name='a/b' cannot name a part of a store"),
    ],
)
def test_a_wrong_option_is_refused(toy, options, message):
    with pytest.raises(ParameterError, match=message):
        TFLiteModel(toy, **options)


def test_an_end_that_several_names_share_is_refused(toy):
    with pytest.raises(ParameterError, match=r"tensor='' is not the end"):
        TFLiteModel(toy, sample_rate=1000, tensor="")
    names = ["a/hidden", "b/hidden", "hidden2"]
    with pytest.raises(ParameterError, match=r"ends 2 names in toy.tflite: 'a/hidden', 'b/hidden'"):
        find_tensor("hidden", names, toy)
    assert find_tensor("b/hidden", names, toy) == 1
    assert find_tensor("hidden", ["a/hidden", "hidden"], toy) == 1


def test_a_weight_is_not_taken_for_a_vector(toy):
    with pytest.raises(DataError, match=r"'body/w' .* same for silence and for a tone"):
        TFLiteModel(toy, sample_rate=1000, tensor="body/w")


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (1, 10, 10)}, r"takes input of shape \(1, 10, 10\), not a waveform"),
        ({"shape": (2, W)}, r"takes input of shape \(2, 100\), not a waveform"),
        ({"shape": (W,), "signature": [-1]}, "has no fixed length"),
        ({"shape": (W,), "dtype": np.int8}, "cannot be opened as a TFLite model"),
    ],
)
def test_a_model_of_other_input_is_refused(tmp_path, weights, options, message):
    path = save_tflite(tmp_path / "toy.tflite", weights, **options)
    with pytest.raises(DataError, match=message):
        TFLiteModel(path, sample_rate=1000)


def test_a_file_that_is_no_model_is_refused(tmp_path, toy):
    with pytest.raises(DataError, match=r"absent.tflite is not a file; give the path"):
        TFLiteModel(tmp_path / "absent.tflite", sample_rate=1000)
    with pytest.raises(DataError, match="is not a file"):
        TFLiteModel(tmp_path, sample_rate=1000)
    text = tmp_path / "text.tflite"
    text.write_text("no model", encoding="utf-8")
    with pytest.raises(DataError, match="is not a TFLite file"):
        TFLiteModel(text, sample_rate=1000)
    content = toy.read_bytes()
    for size in range(8, len(content), max(1, len(content) // 20)):
        text.write_bytes(content[:size])
        with pytest.raises(DataError, match="cannot be opened as a TFLite model"):
            TFLiteModel(text, sample_rate=1000)


def test_a_missing_package_says_how_to_install_it(toy, monkeypatch):
    monkeypatch.setitem(sys.modules, "ai_edge_litert.interpreter", None)
    for make in (lambda: TFLiteModel(toy, sample_rate=1000), lambda: YAMNet(toy)):
        with pytest.raises(ParameterError, match=r'python -m pip install "biasaudio\[embed\]"'):
            make()


def test_nan_out_of_a_model_names_the_frame(tmp_path, weights):
    schema = pytest.importorskip("ai_edge_litert.schema_py_generated")
    log = schema.BuiltinOperator.LOG
    path = save_tflite(tmp_path / "log.tflite", np.abs(weights), (W,), last=log)
    model = TFLiteModel(path, sample_rate=1000)
    wave = np.ones(3 * W, np.float32)
    assert np.isfinite(model.embed(wave).vectors).all()
    wave[W : 2 * W] = -1
    with pytest.raises(DataError, match=r"NaN or Inf in 1 of 3 frames, first at 0.15 s"):
        model.embed(wave)


def test_bad_audio_is_refused(toy):
    model = TFLiteModel(toy, sample_rate=1000)
    with pytest.raises(DataError, match="give mono audio"):
        model.embed(np.zeros((2, W)))
    with pytest.raises(DataError, match="has NaN or Inf in 1 of 100 samples"):
        model.embed(np.r_[np.nan, np.zeros(W - 1)])


# The real model, real audio.


@pytest.fixture(scope="module")
def clips(shared):
    """Return (row of clips.csv, waveform at 16 kHz) of the real clips."""
    pytest.importorskip("ai_edge_litert")
    if not (shared / "models" / "yamnet.tflite").is_file():
        pytest.skip("the weights of YAMNet (../shared/models) are absent")
    found = []
    with open(shared / "audio" / "clips.csv", encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            audio, rate = soundfile.read(shared / "audio" / row["path"], always_2d=True)
            wave = librosa.resample(audio.mean(axis=1), orig_sr=rate, target_sr=16000)
            found.append((row, wave.astype(np.float32)))
    return found


@pytest.fixture(scope="module")
def yamnet(shared):
    return YAMNet(shared / "models" / "yamnet.tflite")


def plain_loop(path, waves):
    """Return the YAMNet vectors of clips, with nothing of the package."""
    litert = pytest.importorskip("ai_edge_litert.interpreter")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        run = litert.Interpreter(str(path), num_threads=1, experimental_preserve_all_tensors=True)
    run.allocate_tensors()
    (into,) = (each["index"] for each in run.get_input_details())
    (out,) = (
        each["index"]
        for each in run.get_tensor_details()
        if each["name"].endswith("global_average_pooling2d/Mean")
    )
    for wave in waves:
        wave = np.concatenate([wave, np.zeros(max(0, 15600 - len(wave)), np.float32)])
        vectors, at = [], 0
        while at + 15600 <= len(wave):
            run.set_tensor(into, wave[at : at + 15600])
            run.invoke()
            vectors.append(run.get_tensor(out)[0].copy())
            at += 7680
        yield np.array(vectors)


def test_yamnet_clip_means_match_a_plain_loop(shared, clips, yamnet):
    waves = [wave for _, wave in clips[::5]] + [clips[0][1][:9000]]
    path = shared / "models" / "yamnet.tflite"
    for wave, wanted in zip(waves, plain_loop(path, waves), strict=True):
        vectors = yamnet.embed(wave).vectors
        np.testing.assert_allclose(vectors.mean(axis=0), wanted.mean(axis=0), rtol=0, atol=1e-5)
        assert len(vectors) == len(wanted)
    assert (yamnet.name, yamnet.sample_rate, yamnet.dims, yamnet.hop) == (
        "yamnet",
        16000,
        1024,
        7680,
    )


def test_yamnet_repeats_vectors_made_elsewhere(shared, clips, yamnet):
    with np.load(shared / "data" / "yamnet_fsdkaggle18.npz", allow_pickle=False) as file:
        frames, owner, names = file["frames"], file["frame_clip"], list(file["clip"])
    n_whole, shifted = 0, []
    for row, wave in clips:
        if row["dataset"] != "fsdkaggle18":
            continue
        known = frames[owner == names.index(row["path"].split("/")[1].removesuffix(".flac"))]
        vectors = yamnet.embed(wave).vectors
        # The clips here were cut to 6 s, those behind the file to 10 s.
        if len(wave) < 96000:
            n_whole += 1
            assert len(vectors) == len(known)
        known = known[: len(vectors)]
        # 8-bit weights: kernels for another machine differ by up to 6 %.
        assert distance(vectors, known) < 0.1
        shifted += [distance(vectors[1:], known[:-1])] if len(known) > 1 else []
    assert n_whole > 20
    assert np.median(shifted) > 0.2


def distance(X, Y):
    return np.linalg.norm(X - Y) / np.linalg.norm(Y)


# The instrument itself among the five classes with the highest mean score; "Music",
# "Musical instrument" and families such as "Brass instrument" do not count.
NAMES = {
    "clarinet": {"Clarinet"},
    "flute": {"Flute"},
    "guitar": {"Guitar", "Acoustic guitar", "Electric guitar"},
    "piano": {"Piano", "Electric piano"},
    "saxophone": {"Saxophone"},
    "trumpet": {"Trumpet"},
    "violin": {"Violin, fiddle"},
    "voice": {"Singing", "Vocal music", "Choir", "Chant", "A capella"},
}


def test_yamnet_scores_name_the_instrument_of_most_clips(shared, clips):
    with open(shared / "models" / "yamnet_class_map.csv", encoding="utf-8", newline="") as file:
        classes = np.array([row["display_name"] for row in csv.DictReader(file)])
    model = TFLiteModel(shared / "models" / "yamnet.tflite", sample_rate=16000, hop=7680)
    assert model.dims == len(classes) == 521
    named = {instrument: [] for instrument in NAMES}
    others = []
    for row, wave in clips:
        scores = model.embed(wave).vectors.mean(axis=0)
        top = set(classes[np.argsort(scores)[-5:]])
        named[row["instrument"]].append(bool(top & NAMES[row["instrument"]]))
        others += [bool(top & names) for key, names in NAMES.items() if key != row["instrument"]]
    assert min(np.mean(each) for each in named.values()) > 0.5
    assert np.mean(np.concatenate(list(named.values()))) > 0.75
    # What a rule that lets anything pass would not show.
    assert np.mean(others) < 0.1


def test_another_model_is_not_taken_for_yamnet(toy):
    with pytest.raises(DataError, match=r"is not YAMNet: tensor='global_average_pooling2d/Mean'"):
        YAMNet(toy)
