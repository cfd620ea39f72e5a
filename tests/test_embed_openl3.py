"""OpenL3 through the interfaces of openl3 and torchopenl3, and through the real one if present."""

import contextlib
import json
import pickle
import sys
import types
import warnings

import numpy as np
import pytest

from biasaudio.embed import AudioModel
from biasaudio.embed.openl3 import OpenL3
from biasaudio.errors import DataError, ParameterError

SR = 48000

# The interface of openl3 0.4.2, whose network picks samples out of its windows.
KERAS = """
from pathlib import Path
import numpy as np

class Network:
    def __init__(self, scale, size):
        self.scale, self.size = scale, size
    def predict(self, x, batch_size=None, verbose="auto"):
        assert x.shape[1:] == (1, 48000) and x.shape[0] <= 32 and verbose == 0
        return self.scale * x[:, 0, np.linspace(0, 47999, self.size).astype(int)]

def load_audio_embedding_model_from_path(model_path, input_repr, embedding_size, frontend="kapre"):
    assert frontend == "kapre"
    scale = float(Path(model_path).read_text())
    return Network(scale, 7 if scale == 99 else embedding_size)
"""


@pytest.fixture
def keras(tmp_path, monkeypatch):
    """Install a package openl3; give the path of weights of it."""
    package = tmp_path / "site" / "openl3"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("from .models import *")
    (package / "models.py").write_text(KERAS)
    (package / "openl3_audio_mel256_env.h5").write_text("3")
    monkeypatch.syspath_prepend(package.parent)
    weights = tmp_path / "mine.h5"
    weights.write_text("2")
    yield weights
    for name in ("openl3", "openl3.models"):
        sys.modules.pop(name, None)


class Tensor:
    """As much of a tensor as the network below needs."""

    def __init__(self, values):
        self.values = np.array(values)

    def numpy(self):
        return self.values


class PytorchOpenl3:
    """The class of torchopenl3 1.0.1, whose network picks samples out of its windows."""

    def __init__(self, content_type, input_repr, embedding_size):
        self.size = embedding_size
        self.scale, self.is_ready = None, False

    def load_state_dict(self, state):
        self.scale = state["scale"]

    def eval(self):
        self.is_ready = True

    def __call__(self, x):
        assert self.is_ready
        assert x.values.shape[1:] == (1, 48000)
        assert len(x.values) <= 32
        size = 7 if self.scale == 99 else self.size
        return Tensor(self.scale * x.values[:, 0, np.linspace(0, 47999, size).astype(int)])


def load(path, map_location=None, weights_only=False):
    assert weights_only is True
    text = path.read_text()
    if text.startswith("("):
        raise pickle.UnpicklingError("Re-running torch.load with weights_only=False")
    return {"scale": float(text)}


@pytest.fixture
def torch(tmp_path, monkeypatch):
    """Install packages torch and torchopenl3; give the path of weights."""
    fakes = {name: types.ModuleType(name) for name in ("torch", "torchopenl3")}
    fakes["torchopenl3.models"] = models = types.ModuleType("torchopenl3.models")
    models.PytorchOpenl3 = PytorchOpenl3
    fakes["torch"].__dict__.update(
        tensor=Tensor,
        load=load,
        inference_mode=contextlib.nullcontext,
        get_num_threads=lambda: 4,
        set_num_threads=lambda n: None,
        random=types.SimpleNamespace(fork_rng=lambda devices: contextlib.nullcontext()),
    )
    for name, module in fakes.items():
        monkeypatch.setitem(sys.modules, name, module)
    weights = tmp_path / "mine.pth.tar"
    weights.write_text("2")
    return weights


@pytest.fixture(params=["keras", "torch"])
def weights(request):
    """Give weights of one package, then of the other."""
    return request.getfixturevalue(request.param)


def plain_loop(wave, hop, center, size):
    """Cut the windows one by one, as the documentation of openl3 describes them."""
    wave = np.concatenate([np.zeros(SR // 2 if center else 0), wave])
    vectors, start = [], 0
    while True:
        window = np.zeros(SR)
        part = wave[start : start + SR]
        window[: len(part)] = part
        vectors.append(2 * window[np.linspace(0, SR - 1, size).astype(int)])
        if start + SR >= len(wave):
            return np.array(vectors, dtype=np.float32)
        start += hop


@pytest.mark.parametrize("seconds", [0.1, 0.5, 1.0, 1.5, 1.51, 4.2])
@pytest.mark.parametrize("center", [True, False])
def test_vectors_and_times_are_those_of_a_plain_loop(weights, rng, seconds, center):
    wave = rng.uniform(-1, 1, round(seconds * SR)).astype(np.float32)
    model = OpenL3(weights, embedding_size=512, hop_size=0.1, center=center)
    assert isinstance(model, AudioModel)
    assert (model.name, model.sample_rate, model.dims, model.hop) == ("openl3", SR, 512, 4800)
    vectors, times = model.embed(wave)
    np.testing.assert_array_equal(vectors, plain_loop(wave, 4800, center, 512))
    assert vectors.dtype == np.float32
    first = 0.0 if center else 500.0
    np.testing.assert_allclose(times, first + 100.0 * np.arange(len(vectors)))


def test_the_identity_is_json_and_moves_with_what_decides_the_numbers(weights):
    model = OpenL3(weights)
    assert json.loads(json.dumps(model.identity)) == model.identity
    assert str(weights) not in json.dumps(model.identity)
    again = eval(repr(model), {"OpenL3": OpenL3})
    assert again.identity == model.identity
    assert repr(again) == repr(model)
    options = ({"hop_size": 0.5}, {"center": False}, {"embedding_size": 512})
    others = [OpenL3(weights, **each).identity for each in (*options, {"input_repr": "linear"})]
    weights.write_text("2.5")
    others.append(OpenL3(weights).identity)
    seen = {json.dumps(identity) for identity in (model.identity, *others)}
    assert len(seen) == 6


def test_a_copy_in_another_process_opens_the_weights_again(weights, rng):
    wave = rng.uniform(-1, 1, SR).astype(np.float32)
    model = OpenL3(weights, embedding_size=512)
    packed = pickle.dumps(model)
    assert len(packed) < 2000
    np.testing.assert_array_equal(pickle.loads(packed).embed(wave)[0], model.embed(wave)[0])
    weights.write_text("4")
    with pytest.raises(DataError, match=r"mine\.\w+(\.tar)? has changed since the model was made"):
        pickle.loads(packed).embed(wave)


def test_without_weights_those_of_the_package_are_taken(keras):
    model = OpenL3(content_type="env", embedding_size=512)
    assert model.identity["package"] == "openl3"
    assert model.embed(np.ones(2 * SR))[0].max() == 3
    with pytest.raises(DataError, match=r"openl3_audio_mel256_music\.h5 is not a file"):
        OpenL3()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("nonsense", r"does not hold weights of OpenL3 for input_repr='mel256' \(could not conv"),
        ("99", "gives 7 dimensions with embedding_size=6144, or NaN; give the weights of OpenL3"),
        ("nan", "gives 6144 dimensions with embedding_size=6144, or NaN; give the weights"),
    ],
)
def test_a_file_of_something_else_is_refused_when_the_model_is_made(weights, text, message):
    weights.write_text(text)
    with pytest.raises(DataError, match=message):
        OpenL3(weights)


def test_code_in_weights_of_pytorch_is_not_run_nor_advised(torch):
    torch.write_text("(code")
    with pytest.raises(DataError, match="it holds more or less than tensors") as caught:
        OpenL3(torch)
    assert "weights_only" not in str(caught.value)


def test_overflow_in_the_network_is_named(weights):
    model = OpenL3(weights, embedding_size=512)
    wave = np.append(np.zeros(SR), np.full(SR // 2, 3e38))
    message = r"NaN or Inf in 5 of 11 frames, first at 0\.60 s"
    with np.errstate(over="ignore"), pytest.raises(DataError, match=message):
        model.embed(wave)


def test_missing_packages_come_with_the_line_that_installs_them(tmp_path, monkeypatch):
    weights = tmp_path / "w.pth"
    weights.write_text("2")
    monkeypatch.setitem(sys.modules, "torch", None)
    with pytest.raises(
        ParameterError, match=r"needs the package 'torch'.* -m pip install torchopenl3$"
    ):
        OpenL3(weights)
    monkeypatch.setitem(sys.modules, "torch", types.ModuleType("torch"))
    monkeypatch.setitem(sys.modules, "torchopenl3.models", None)
    with pytest.raises(ParameterError, match=r"python -m pip install torchopenl3$"):
        OpenL3(weights)
    weights = weights.rename(tmp_path / "w.h5")
    monkeypatch.setitem(sys.modules, "openl3.models", None)
    with pytest.raises(ParameterError, match=r'python -m pip install "openl3>=0\.4\.2"$'):
        OpenL3(weights)


def test_without_weights_and_without_the_package_both_ways_are_named(monkeypatch):
    monkeypatch.setattr("biasaudio.embed.openl3.find_spec", lambda name: None)
    with pytest.raises(ParameterError, match=r"pip install openl3 .* torchopenl3_linear_music_<si"):
        OpenL3(input_repr="linear")


def test_an_old_openl3_is_named(keras):
    (keras.parent / "site" / "openl3" / "models.py").write_text("")
    with pytest.raises(ParameterError, match=r'cannot load weights by .* -U "openl3>=0\.4\.2"'):
        OpenL3(keras)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"input_repr": "mel512"}, "input_repr='mel512' is not known; choose one of 'linear', 'm"),
        ({"content_type": "musik"}, "content_type='musik' is not known.* did you mean 'music'"),
        ({"embedding_size": 1024}, "embedding_size=1024 is not allowed; give 512 or 6144"),
        ({"hop_size": 0}, r"hop_size=0 is not allowed; give a number from 0\.001"),
        ({"center": "no"}, "center='no' is not allowed; give True or False"),
        ({"name": "a/b"}, "a/b"),
    ],
)
def test_bad_options_are_named(weights, options, message):
    with pytest.raises(ParameterError, match=message):
        OpenL3(weights, **options)


def test_bad_audio_is_named(weights):
    model = OpenL3(weights, embedding_size=512)
    with pytest.raises(DataError, match="the waveform has no samples"):
        model.embed(np.zeros(0))


def test_the_real_torchopenl3_gives_the_same_numbers_itself(tmp_path, rng):
    torch = pytest.importorskip("torch")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torchopenl3 = pytest.importorskip("torchopenl3")
        network = torchopenl3.models.PytorchOpenl3("music", "mel128", 512).eval()
    torch.save(network.state_dict(), tmp_path / "random.pth.tar")
    model = OpenL3(
        tmp_path / "random.pth.tar", input_repr="mel128", embedding_size=512, hop_size=0.5
    )
    for seconds in (0.3, 2.2):
        wave = rng.uniform(-1, 1, round(seconds * SR)).astype(np.float32)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wanted, times = torchopenl3.get_audio_embedding(
                wave, SR, model=network, hop_size=0.5, center=True
            )
        vectors, centres = model.embed(wave)
        np.testing.assert_allclose(vectors, wanted.numpy()[0], atol=1e-5)
        np.testing.assert_allclose(centres, 1000 * times.numpy()[0])
