"""Modules that follow the HEAR API, of numpy and of PyTorch, and those that do not."""

import contextlib
import json
import pickle
import sys
import types

import numpy as np
import pytest

from biasaudio.embed import AudioModel
from biasaudio.embed.hear import HearModel
from biasaudio.errors import DataError, ParameterError

SR = 8000

NUMPY = """
from pathlib import Path
import numpy as np

class Model:
    sample_rate = 8000
    timestamp_embedding_size = 3
    scene_embedding_size = 2
    def __init__(self, scale):
        self.scale = scale

def load_model(path=""):
    return Model(float(Path(path).read_text()) if path else 1.0)

def get_timestamp_embeddings(audio, model):
    assert audio.ndim == 2 and audio.dtype == np.float32 and isinstance(model, Model)
    frames = audio[:, : audio.shape[1] // 400 * 400].reshape(len(audio), -1, 400)
    parts = [frames.mean(axis=2), frames.max(axis=2), frames.min(axis=2)]
    times = np.arange(frames.shape[1])[None] * 50.0 + 25.0
    return model.scale * np.stack(parts, axis=2), times

def get_scene_embeddings(audio, model):
    return model.scale * np.stack([audio.mean(axis=1), audio.max(axis=1)], axis=1)
"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    """Give a function that writes a module that can be imported."""
    monkeypatch.syspath_prepend(tmp_path)
    names = []

    def write(source=NUMPY, name="hear_of_test"):
        names.append(name)
        (tmp_path / f"{name}.py").write_text(source)
        # A file of the same second and length would be read from the bytecode of the last.
        sys.modules.pop(name, None)
        sys.dont_write_bytecode = True
        return name

    before = sys.dont_write_bytecode
    yield write
    sys.dont_write_bytecode = before
    for name in names:
        sys.modules.pop(name, None)


@pytest.fixture
def wave(rng):
    return rng.uniform(-1, 1, 2000).astype(np.float32)


def test_timestamp_embeddings_are_the_frames(module, wave):
    model = HearModel(module())
    assert isinstance(model, AudioModel)
    assert (model.name, model.sample_rate, model.dims) == ("hear_of_test", SR, 3)
    assert model.hop is None
    vectors, times = model.embed(wave)
    frames = wave.reshape(5, 400)
    wanted = np.stack([frames.mean(1), frames.max(1), frames.min(1)], axis=1)
    np.testing.assert_allclose(vectors, wanted, rtol=1e-6)
    assert vectors.dtype == np.float32
    assert times.dtype == np.float64
    np.testing.assert_array_equal(times, [25, 75, 125, 175, 225])


def test_a_scene_is_one_frame_in_the_middle(module, wave):
    model = HearModel(module(), frames="scene", name="mine")
    assert (model.name, model.dims) == ("mine", 2)
    vectors, times = model.embed(wave)
    np.testing.assert_allclose(vectors, [[wave.mean(), wave.max()]], rtol=1e-6)
    np.testing.assert_array_equal(times, [125.0])


def test_a_module_of_a_package_is_called_by_its_last_part(module, tmp_path):
    (tmp_path / "hear_package").mkdir()
    module(name="hear_package/base")
    try:
        assert HearModel("hear_package.base").name == "base"
    finally:
        for name in ("hear_package", "hear_package.base"):
            sys.modules.pop(name, None)


def test_a_module_with_scenes_only_gives_scenes(module, wave):
    name = module(NUMPY.replace("get_timestamp_embeddings", "other"))
    assert HearModel(name).embed(wave).vectors.shape == (1, 2)
    with pytest.raises(
        ParameterError, match=r"no function get_timestamp_embeddings.*; frames='scene' would do"
    ):
        HearModel(name, frames="timestamp")


@pytest.mark.parametrize(
    ("lacks", "message"),
    [
        (["load_model"], "module 'hear_of_test' has no function load_model, which the HEAR API"),
        (["get_scene", "get_timestamp"], "has no function get_timestamp_embeddings"),
    ],
)
def test_what_a_module_lacks_is_named(module, lacks, message):
    source = NUMPY
    for each in lacks:
        source = source.replace(f"def {each}", f"def not_{each}")
    with pytest.raises(ParameterError, match=message):
        HearModel(module(source))


def test_weights_are_given_to_the_module_and_are_part_of_the_identity(module, tmp_path, wave):
    name = module()
    weights = tmp_path / "weights.txt"
    weights.write_text("2")
    twice, once = HearModel(name, weights), HearModel(name)
    np.testing.assert_array_equal(twice.embed(wave).vectors, 2 * once.embed(wave).vectors)
    assert twice.identity["sha256"] != once.identity["sha256"] is None
    assert json.loads(json.dumps(twice.identity)) == twice.identity
    assert str(tmp_path) not in json.dumps(twice.identity)
    assert eval(repr(twice), {"HearModel": HearModel}).identity == twice.identity
    assert HearModel(name, frames="scene").identity != once.identity
    with pytest.raises(DataError, match=r"absent\.pt is not a file; give the path of the model's"):
        HearModel(name, tmp_path / "absent.pt")


def test_a_module_that_was_edited_is_another_model(module):
    first = HearModel(module()).identity
    assert HearModel(module()).identity == first
    assert HearModel(module(NUMPY.replace("50.0", "51.0"))).identity != first


def test_weights_may_be_a_folder_of_which_all_files_count(module, tmp_path):
    name = module(NUMPY.replace("Path(path)", "(Path(path) / 'a/scale')"))
    (tmp_path / "saved" / "a").mkdir(parents=True)
    (tmp_path / "saved" / "a" / "scale").write_text("2")
    (tmp_path / "saved" / "b").write_text("x")
    first = HearModel(name, tmp_path / "saved").identity["sha256"]
    (tmp_path / "saved" / "b").rename(tmp_path / "saved" / "c")
    assert HearModel(name, tmp_path / "saved").identity["sha256"] != first


def test_a_copy_in_another_process_loads_the_module_again(module, tmp_path, wave):
    weights = tmp_path / "weights.txt"
    weights.write_text("3")
    model = HearModel(module(), weights)
    packed = pickle.dumps(model)
    assert len(packed) < 1000
    copy = pickle.loads(packed)
    assert (copy.sample_rate, copy.dims, copy.identity) == (SR, 3, model.identity)
    np.testing.assert_array_equal(copy.embed(wave).vectors, model.embed(wave).vectors)
    weights.write_text("4")
    with pytest.raises(DataError, match=r"weights\.txt has changed since the model was made"):
        pickle.loads(packed).embed(wave)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hear_nowhere", "no module 'hear_nowhere' to import; .* PYTHONPATH=FOLDER biasaudio"),
        ("hear_nowhere.base", "there is no module 'hear_nowhere' to import"),
        ("my/model.py", "module='my/model.py' is not the name of a Python module"),
        ("", "module='' is not the name of a Python module"),
        (".relative", "module='.relative' is not the name"),
    ],
)
def test_a_module_that_cannot_be_found_is_named(name, message):
    with pytest.raises(ParameterError, match=message):
        HearModel(name)


@pytest.mark.parametrize(
    ("source", "message"),
    [
        ("import hear_nowhere", r"cannot be imported \(No module named 'hear_nowhere'\); install"),
        ("from json import nothing", "cannot be imported .*nothing.*; install what it needs"),
        ("1 / 0", r"fails when it is imported \(division by zero\); mend it"),
        ("def", "fails when it is imported"),
    ],
)
def test_a_module_that_fails_is_named(module, source, message):
    with pytest.raises(ParameterError, match=message):
        HearModel(module(source))


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("sample_rate = 8000", "pass", "has sample_rate=None; the HEAR API wants a whole number"),
        ("sample_rate = 8000", "sample_rate = 8e3", r"has sample_rate=8000\.0; the HEAR API"),
        ("timestamp_embedding_size = 3", "pass", "has timestamp_embedding_size=None"),
        ("return Model(", "raise ValueError('no\\nweights') or (", r"ValueError \(no weights\); g"),
        ("return Model(", "import hear_nowhere; (", r"ImportError|ModuleNotFoundError \(No module"),
    ],
)
def test_a_model_without_what_the_api_asks_is_refused_when_it_is_made(module, old, new, message):
    with pytest.raises(DataError, match=message):
        HearModel(module(NUMPY.replace(old, new)))


STACK = "model.scale * np.stack(parts, axis=2)"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (STACK, f"{STACK}[0]", r"gives float32 of shape \(5, 3\), not floats of shape \(1, n, 3\)"),
        (STACK, f"{STACK}[:, :, :2]", r"of shape \(1, 5, 2\), not floats of shape \(1, n, 3\)"),
        (STACK, f"{STACK}[:, :0]", r"of shape \(1, 0, 3\), not floats"),
        (STACK, f"({STACK}).astype(int)", "gives int64 of shape"),
        (
            STACK,
            f"np.log(-1 + 0 * {STACK})",
            "gives NaN or Inf in 15 of 15 numbers; leave the clip",
        ),
        (f"return {STACK}, times", f"return {STACK}", "gives ndarray, not two arrays: embeddings"),
        (", times\n", ", times[:, :4]\n", r"timestamps of shape \(1, 4\) for 5 frames"),
        (", times\n", ", times * np.nan\n", r"timestamps of shape \(1, 5\) for 5 frames, or NaN"),
        ("audio.ndim == 2", "False", r"with AssertionError \(.*\) for 2000 samples; leave"),
        (
            "frames =",
            "raise RuntimeError('too short'); frames =",
            r"RuntimeError \(too short\) for",
        ),
    ],
)
@pytest.mark.filterwarnings("ignore:invalid value:RuntimeWarning")
def test_what_a_module_gives_in_the_place_of_frames_is_named(module, wave, old, new, message):
    assert NUMPY.count(old) == 1
    model = HearModel(module(NUMPY.replace(old, new)))
    with pytest.raises(DataError, match=f"get_timestamp_embeddings of 'hear_of_test' .*{message}"):
        model.embed(wave)


def test_bad_options_and_bad_audio_are_named(module):
    name = module()
    with pytest.raises(ParameterError, match="frames='clip' is not known; choose one of 'timest"):
        HearModel(name, frames="clip")
    with pytest.raises(ParameterError, match="a/b"):
        HearModel(name, name="a/b")
    with pytest.raises(DataError, match="has NaN or Inf in 1 of 3 samples"):
        HearModel(name).embed(np.array([0, 1, np.nan]))


# What PyTorch is to this: tensors that numpy does not take, a mode, no gradients.
TORCH = """
import torch

class Net(torch.nn.Module):
    sample_rate = 8000
    timestamp_embedding_size = 2
    scene_embedding_size = 2
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.tensor([1.0, 2.0]))

def load_model(path=None):
    return Net()

def get_timestamp_embeddings(audio, model):
    assert isinstance(audio, torch.Tensor) and audio.shape == (1, 2000)
    assert not model.training and not torch.is_grad_enabled()
    mean = audio.reshape(1, 5, 400).mean(2)[:, :, None]
    return (mean * model.weight).requires_grad_(), torch.arange(5)[None] * 50.0
"""


def wanted_of_torch(wave):
    return wave.reshape(5, 400).mean(axis=1)[:, None] * np.array([1.0, 2.0])


def test_a_module_of_pytorch_gets_tensors(module, wave):
    pytest.importorskip("torch")
    vectors, times = HearModel(module(TORCH)).embed(wave)
    np.testing.assert_allclose(vectors, wanted_of_torch(wave), atol=1e-6)
    np.testing.assert_array_equal(times, [0, 50, 100, 150, 200])


class Tensor:
    """As much of a tensor as the module above needs."""

    def __init__(self, values, device="cpu", is_attached=False):
        self.values, self.device, self.is_attached = np.asarray(values), device, is_attached
        self.shape = self.values.shape

    def __mul__(self, other):
        return Tensor(self.values * getattr(other, "values", other))

    def __getitem__(self, key):
        return Tensor(self.values[key])

    def __array__(self, dtype=None, copy=None):
        raise TypeError("a tensor is no array")

    def reshape(self, *shape):
        return Tensor(self.values.reshape(shape))

    def mean(self, axis):
        return Tensor(self.values.mean(axis))

    def requires_grad_(self):
        return Tensor(self.values, is_attached=True)

    def detach(self):
        return Tensor(self.values)

    def cpu(self):
        return self

    def numpy(self):
        if self.is_attached:
            raise RuntimeError("call detach() first")
        return self.values


class Module:
    training = True

    def eval(self):
        self.training = False

    def parameters(self):
        return iter([self.weight])


@pytest.fixture
def fake_torch(monkeypatch):
    torch = types.ModuleType("torch")
    torch.Tensor, torch.tensor = Tensor, Tensor
    torch.nn = types.SimpleNamespace(Module=Module, Parameter=lambda tensor: tensor)
    torch.arange = lambda n: Tensor(np.arange(n))
    has_grad = [True]

    @contextlib.contextmanager
    def no_grad():
        has_grad[0] = False
        yield
        has_grad[0] = True

    torch.no_grad, torch.is_grad_enabled = no_grad, lambda: has_grad[0]
    monkeypatch.setitem(sys.modules, "torch", torch)


def test_tensors_go_in_and_come_back_without_gradients(module, wave, fake_torch):
    vectors, times = HearModel(module(TORCH)).embed(wave)
    np.testing.assert_allclose(vectors, wanted_of_torch(wave), atol=1e-6)
    np.testing.assert_array_equal(times, [0, 50, 100, 150, 200])


def test_a_module_of_numpy_gets_arrays_where_pytorch_is_loaded_too(module, wave, fake_torch):
    assert HearModel(module()).embed(wave).vectors.shape == (5, 3)
