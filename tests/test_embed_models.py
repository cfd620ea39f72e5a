"""Models by name: what is asked for is what is made, and nothing else is loaded."""

import inspect
import pickle
import subprocess
import sys

import numpy as np
import pytest

from biasaudio.embed import MODELS, AudioModel, LibrosaFeatures, load_model
from biasaudio.embed.hear import HearModel
from biasaudio.embed.openl3 import OpenL3
from biasaudio.errors import DataError, ParameterError


def test_melstats_is_there_without_anything_else():
    model = load_model("melstats")
    assert isinstance(model, AudioModel)
    assert isinstance(model, LibrosaFeatures)
    assert str(model.dims) in MODELS["melstats"].what


def test_options_reach_the_class():
    model = load_model("melstats", sample_rate=16000, frame_seconds=1.0)
    assert (model.sample_rate, model.hop) == (16000, 31 * 512)


@pytest.mark.parametrize(
    ("spec", "options", "name", "made"),
    [
        ("yamnet:a/b.tflite", {}, "tflite.YAMNet", ("a/b.tflite",)),
        ("yamnet:C:\\models\\y.tflite", {}, "tflite.YAMNet", ("C:\\models\\y.tflite",)),
        ("tflite:x", {"sample_rate": 8000, "hop": 9}, "tflite.TFLiteModel", ("x",)),
        ("onnx:m.onnx", {"tensor": "t"}, "onnx.ONNXModel", ("m.onnx",)),
        ("vggish:v.pth", {"name": "v"}, "vggish.VGGish", ("v.pth",)),
        ("openl3", {"center": False}, "openl3.OpenL3", ()),
        ("openl3:C:\\w.h5", {"hop_size": 1}, "openl3.OpenL3", ("C:\\w.h5",)),
        ("hear:a.b", {"frames": "scene"}, "hear.HearModel", ("a.b",)),
        ("hear:a.b:/w.pt", {}, "hear.HearModel", ("a.b", "/w.pt")),
        ("hear:a.b:C:\\w.pt", {}, "hear.HearModel", ("a.b", "C:\\w.pt")),
    ],
)
def test_the_spec_is_cut_where_it_should_be(monkeypatch, spec, options, name, made):
    module, _, name = name.partition(".")
    module = pytest.importorskip(f"biasaudio.embed.{module}")
    signature = inspect.signature(getattr(module, name))

    def record(*args, **kwargs):
        signature.bind(*args, **kwargs)
        return args, kwargs

    record.__signature__ = signature
    monkeypatch.setattr(module, name, record)
    assert load_model(spec, **options) == (made, options)


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("melstat", "model='melstat' is not known; choose one of .*did you mean 'melstats'"),
        ("", "model='' is not known; choose one of 'melstats', 'yamnet'"),
        ("a/yamnet.tflite", "model='a/yamnet.tflite' is not known"),
        ("melstats:x", "model='melstats:x' does not say what it must; write melstats$"),
        ("yamnet", r"model='yamnet' does not say what it must; write yamnet:FILE\.tflite$"),
        ("yamnet:", r"model='yamnet:' does not say what it must; write yamnet:FILE\.tflite$"),
        ("openl3:", r"model='openl3:' does not say what it must; write openl3\[:FILE\]$"),
        ("hear", r"write hear:MODULE\[:FILE\]$"),
        ("hear::w", r"model='hear::w' does not say .* hear:MODULE\[:FILE\]$"),
    ],
)
def test_a_spec_that_is_not_one_is_named(spec, message):
    with pytest.raises(ParameterError, match=message):
        load_model(spec)


def test_an_option_that_the_class_does_not_have_is_named():
    with pytest.raises(ParameterError, match=r"melstats has no option 'sample_rte'; it takes samp"):
        load_model("melstats", sample_rte=1)
    with pytest.raises(ParameterError, match=r"did you mean 'sample_rate'\?$"):
        load_model("melstats", sample_rte=1)
    with pytest.raises(ParameterError, match=r"yamnet has no option 'hop'; it takes none$"):
        load_model("yamnet:x", hop=3)
    # The weights are no option: there is one way to give them.
    with pytest.raises(ParameterError, match="openl3 has no option 'weights'; it takes input_repr"):
        load_model("openl3", weights="w.h5")


@pytest.mark.parametrize("kind", ["openl3", "vggish", "onnx"])
def test_weights_that_are_not_there_are_named(tmp_path, kind):
    with pytest.raises(DataError, match=r"absent\.onnx"):
        load_model(f"{kind}:{tmp_path}/absent.onnx")


def test_the_table_says_how_each_is_asked_for_and_what_it_needs():
    assert list(MODELS) == [kind.spec.partition(":")[0].rstrip("[") for kind in MODELS.values()]
    for kind in MODELS.values():
        assert kind.what
        assert "python -m pip install" in kind.needs or not kind.needs.startswith("python")


def test_the_real_yamnet_is_made_by_its_name(shared):
    pytest.importorskip("ai_edge_litert")
    model = load_model(f"yamnet:{shared}/models/yamnet.tflite")
    assert isinstance(model, AudioModel)
    assert model.embed(np.zeros(16000)).vectors.shape == (1, 1024)


@pytest.mark.parametrize("cls", [LibrosaFeatures, HearModel, OpenL3])
def test_every_option_has_a_default_and_stands_in_the_docstring(cls):
    for each in inspect.signature(cls).parameters.values():
        assert f"    {each.name} : " in cls.__doc__
        if each.kind is each.KEYWORD_ONLY:
            assert each.default is not each.empty


def test_making_a_model_loads_no_other():
    code = (
        "import sys, biasaudio.embed as e; e.load_model('melstats'); "
        "print([m for m in sys.modules if m in ('torch', 'onnxruntime', 'ai_edge_litert', "
        "'tensorflow') or m.startswith('biasaudio.embed.')])"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(eval(run.stdout))
    assert "biasaudio.embed.melstats" in loaded
    heavy = {"torch", "onnxruntime", "ai_edge_litert", "tensorflow"}
    adapters = {
        f"biasaudio.embed.{name}" for name in ("tflite", "onnx", "vggish", "openl3", "hear")
    }
    assert not loaded & (heavy | adapters)


def test_melstats_survives_the_way_to_another_process():
    model = load_model("melstats", sample_rate=8000)
    assert pickle.loads(pickle.dumps(model)).identity == model.identity
