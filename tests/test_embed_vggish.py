"""VGGish: the front-end against its definition, and the three kinds of weights."""

from __future__ import annotations

import pickle
import sys

import numpy as np
import pytest
from embed_graphs import save_onnx, save_tflite

from biasaudio.embed.vggish import VGGish, log_mel_examples
from biasaudio.errors import DataError, ParameterError

SIZE, STEP = 15600, 15360


@pytest.fixture
def wave(rng):
    """Return three examples and a rest, loud and quiet."""
    n = SIZE + 2 * STEP + 5000
    return (rng.normal(size=n) * np.linspace(0, 0.3, n)).astype(np.float32)


@pytest.fixture
def weights(rng):
    return rng.normal(size=(128, 96 * 64)).astype(np.float32) / 80


def mel(hertz):
    return 1127 * np.log(1 + hertz / 700)


def naive_log_mel(wave):
    """Return the log-mel spectrum [shape=(n_pieces, 64)] by the definition, sum by sum."""
    n = np.arange(400)
    hann = np.sin(np.pi * n / 400) ** 2
    tones = np.exp(-2j * np.pi * np.outer(np.arange(257), n) / 512)
    edges = [mel(125) + k * (mel(7500) - mel(125)) / 65 for k in range(66)]
    pieces = []
    for at in range(0, len(wave) - 399, 160):
        spectrum = np.abs(tones @ (wave[at : at + 400] * hann))
        bands = []
        for low, middle, high in zip(edges, edges[1:], edges[2:]):
            total = 0.0
            for k in range(1, 257):
                m = mel(k * 16000 / 512)
                if low < m < high:
                    up = (m - low) / (middle - low)
                    total += spectrum[k] * min(up, (high - m) / (high - middle))
            bands.append(np.log(total + 0.01))
        pieces.append(bands)
    return np.array(pieces)


def test_the_front_end_is_its_definition(wave):
    found = log_mel_examples(wave[None, -SIZE:])
    assert found.shape == (1, 96, 64)
    assert found.dtype == np.float32
    wanted = naive_log_mel(wave[-(400 + 9 * 160) :])
    np.testing.assert_allclose(found[0, -10:], wanted, rtol=0, atol=1e-5)
    quiet = 1e-4 * wave[-SIZE:]
    wanted = naive_log_mel(quiet[: 400 + 9 * 160])
    np.testing.assert_allclose(log_mel_examples(quiet[None])[0, :10], wanted, rtol=0, atol=1e-5)


def test_windows_of_another_length_are_refused(wave):
    with pytest.raises(DataError, match=r"have shape \(1, 15599\); give \(n, 15600\) samples"):
        log_mel_examples(wave[None, : SIZE - 1])


@pytest.mark.parametrize("hertz", [250.0, 1000.0, 4000.0])
def test_a_tone_is_loudest_in_the_band_around_it(hertz):
    tone = 0.5 * np.cos(2 * np.pi * hertz * np.arange(SIZE) / 16000)
    (found,) = log_mel_examples(tone[None])
    centres = np.linspace(mel(125), mel(7500), 66)[1:-1]
    nearest = np.argmin(np.abs(centres - mel(hertz)))
    assert np.all(found.argmax(axis=1) == nearest)
    # Twice the tone adds log 2 where the tone is.
    (louder,) = log_mel_examples(2 * tone[None])
    np.testing.assert_allclose((louder - found)[:, nearest], np.log(2), atol=1e-3)


def test_examples_of_a_clip_are_stretches_of_its_spectrum(tmp_path, wave):
    pytest.importorskip("onnxruntime", reason="needs the extra embed")
    # The first 128 numbers of an example: its first two pieces.
    path = tmp_path / "cut.onnx"
    save_onnx(path, np.eye(128, 96 * 64), ("n", 96, 64), last="Identity", to=(-1, 96 * 64))
    vectors, times = VGGish(path).embed(wave)
    np.testing.assert_allclose(times, [487.5, 1447.5, 2407.5])
    for k, vector in enumerate(vectors):
        wanted = naive_log_mel(wave[k * STEP : k * STEP + 560])
        np.testing.assert_allclose(vector.reshape(2, 64), wanted, rtol=0, atol=1e-5)


def exports(folder, weights):
    """Write the same network as every export that is taken."""
    pytest.importorskip("onnxruntime")
    flat = 96 * 64
    for k, shape in enumerate([("n", 96, 64), ("n", 1, 96, 64), ("n", 96, 64, 1), (1, 96, 64)]):
        save_onnx(folder / f"{k}.onnx", weights, shape, to=(-1, flat))
        yield folder / f"{k}.onnx"
    for k, shape in enumerate([(1, 96, 64), (1, 1, 96, 64), (1, 96, 64, 1)]):
        yield save_tflite(folder / f"{k}.tflite", weights, shape)


def test_every_export_of_a_network_gives_its_vectors(tmp_path, wave, weights):
    windows = np.stack([wave[at : at + SIZE] for at in (0, STEP, 2 * STEP)])
    wanted = np.abs(log_mel_examples(windows).reshape(3, -1) @ weights.T)
    seen = set()
    for path in exports(tmp_path, weights):
        model = VGGish(path)
        vectors, times = model.embed(wave)
        np.testing.assert_allclose(vectors, wanted, rtol=1e-4, atol=1e-4)
        assert len(times) == len(vectors)
        assert (model.name, model.sample_rate, model.dims, model.hop) == (
            "vggish",
            16000,
            128,
            STEP,
        )
        seen.add(model.identity["sha256"])
        twin = pickle.loads(pickle.dumps(model))
        np.testing.assert_array_equal(twin.embed(wave).vectors, vectors)
        assert eval(repr(model)).identity == twin.identity == model.identity
    assert len(seen) == 7


def test_a_short_clip_is_padded_and_a_rest_is_left_out(tmp_path, wave, weights):
    pytest.importorskip("onnxruntime", reason="needs the extra embed")
    path = tmp_path / "m.onnx"
    save_onnx(path, weights, ("n", 96, 64), to=(-1, 96 * 64))
    model = VGGish(path)
    short = np.zeros(SIZE, np.float32)
    short[:9000] = wave[-9000:]
    np.testing.assert_array_equal(model.embed(wave[-9000:]).vectors, model.embed(short).vectors)
    whole = model.embed(wave[: SIZE + STEP]).vectors
    assert len(whole) == 2
    np.testing.assert_array_equal(model.embed(wave[: SIZE + 2 * STEP - 1]).vectors, whole)
    np.testing.assert_allclose(VGGish(path, hop=8000).embed(wave).timestamps[:2], [487.5, 987.5])


def test_a_long_clip_is_the_same_as_its_parts(tmp_path, rng, weights):
    pytest.importorskip("onnxruntime", reason="needs the extra embed")
    path = tmp_path / "m.onnx"
    save_onnx(path, weights, ("n", 96, 64), to=(-1, 96 * 64))
    model = VGGish(path)
    wave = rng.normal(size=70 * STEP + SIZE).astype(np.float32)
    whole = model.embed(wave).vectors
    parts = [model.embed(wave[k * STEP :][:SIZE]).vectors for k in range(71)]
    np.testing.assert_allclose(whole, np.concatenate(parts), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("shape", "rows", "message"),
    [
        ((1, SIZE), 128, r"input of shape \(1, 15600\), not log-mel examples"),
        (("n", 64, 96), 128, r"input of shape \(None, 64, 96\), not log-mel examples"),
        ((2, 96, 64), 128, r"input of shape \(2, 96, 64\), not log-mel examples"),
        (("n", 96, 64), 100, "gives 1 vectors of 100 dimensions an example"),
    ],
)
def test_another_network_is_refused(tmp_path, rng, shape, rows, message):
    pytest.importorskip("onnxruntime")
    size = int(np.prod(shape[1:]))
    save_onnx(tmp_path / "m.onnx", rng.normal(size=(rows, size)), shape, to=(-1, size))
    with pytest.raises(DataError, match=message):
        VGGish(tmp_path / "m.onnx")


def test_a_file_of_another_kind_is_refused(tmp_path, monkeypatch):
    with pytest.raises(ParameterError, match=r"'.ckpt'; give VGGish as one of .onnx, .tflite, .p"):
        VGGish(tmp_path / "vggish.ckpt")
    with pytest.raises(DataError, match=r"vggish.pth is not a file"):
        VGGish(tmp_path / "vggish.pth")
    (tmp_path / "vggish.pth").write_bytes(b"weights")
    with pytest.raises(ParameterError, match="tensor='x' names a part of an export"):
        VGGish(tmp_path / "vggish.pth", tensor="x")
    monkeypatch.setitem(sys.modules, "torchvggish", None)
    with pytest.raises(ParameterError, match="python -m pip install torchvggish"):
        VGGish(tmp_path / "vggish.pth")


# The network of torchvggish itself, where that package is installed.


@pytest.fixture(scope="module")
def network():
    """Return torchvggish's network with random weights; its own are not at hand."""
    torch = pytest.importorskip("torch")
    package = pytest.importorskip("torchvggish")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        return package.VGG(package.make_layers(), False).eval()


def test_the_front_end_is_that_of_torchvggish(wave, network):
    import torchvggish

    wanted = torchvggish.waveform_to_examples(wave, 16000, return_tensor=False)
    windows = np.stack([wave[at : at + SIZE] for at in (0, STEP, 2 * STEP)])
    np.testing.assert_allclose(log_mel_examples(windows), wanted, rtol=0, atol=1e-6)


@pytest.mark.slow
def test_a_state_dict_gives_the_vectors_of_torchvggish(tmp_path, wave, network):
    import torch
    import torchvggish

    torch.save(network.state_dict(), tmp_path / "vggish.pth")
    model = VGGish(tmp_path / "vggish.pth")
    state = torch.random.get_rng_state()
    vectors = pickle.loads(pickle.dumps(model)).embed(wave).vectors
    with torch.inference_mode():
        wanted = network(torchvggish.waveform_to_examples(wave, 16000)).numpy()
    np.testing.assert_allclose(vectors, wanted, rtol=1e-4, atol=1e-6)
    assert np.ptp(wanted, axis=0).max() > 0
    assert torch.equal(torch.random.get_rng_state(), state)
    assert len(pickle.dumps(model)) < 1000


class Bomb:
    """Unpickled, it makes a file."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return (open, (str(self.path), "w"))


def test_weights_that_are_none_are_refused_and_never_run(tmp_path, network):
    import torch

    path, mark = tmp_path / "w.pth", tmp_path / "mark"
    torch.save({"a": Bomb(mark)}, path)
    with pytest.raises(DataError, match="holds no weights of torchvggish"):
        VGGish(path)
    path.write_bytes(pickle.dumps(Bomb(mark)))
    with pytest.raises(DataError, match="holds no weights of torchvggish"):
        VGGish(path)
    mark.unlink(missing_ok=True)
    for wrong in ({"features.0.weight": torch.zeros(3)}, [1, 2], torch.zeros(3)):
        torch.save(wrong, path)
        with pytest.raises(DataError, match="holds no weights of torchvggish"):
            VGGish(path)
    content = path.read_bytes()
    for size in (0, 1, 10, len(content) // 2, len(content) - 1):
        path.write_bytes(content[:size])
        with pytest.raises(DataError, match="holds no weights of torchvggish"):
            VGGish(path)
    assert not mark.exists()
