"""ONNX models: windows, batches, whole clips, sample rates, files beside them, bad files."""

from __future__ import annotations

import pickle
import shutil
import sys

import numpy as np
import pytest
from embed_graphs import save_onnx

from biasaudio.embed.onnx import ONNXModel, external_files
from biasaudio.errors import DataError, ParameterError

pytest.importorskip("onnxruntime")
W = 100


@pytest.fixture
def weights(rng):
    return rng.normal(size=(3, W)).astype(np.float32)


@pytest.fixture
def toy(tmp_path, weights):
    save_onnx(tmp_path / "toy.onnx", weights, (1, W), metadata={"sample_rate": "1000"})
    return tmp_path / "toy.onnx"


@pytest.mark.parametrize("shape", [(W,), (1, W), ("batch", W)])
@pytest.mark.parametrize("n_windows", [1, 3, 70])
def test_a_toy_gives_the_product_that_it_is(tmp_path, weights, rng, shape, n_windows):
    path = tmp_path / "toy.onnx"
    save_onnx(path, weights, shape)
    model = ONNXModel(path, sample_rate=1000, hop=50)
    wave = rng.normal(size=W + 50 * (n_windows - 1) + 49)
    starts = 50 * np.arange(n_windows)
    wanted = np.abs(np.stack([wave[at : at + W] for at in starts]) @ weights.T)
    vectors, times = model.embed(wave)
    np.testing.assert_allclose(vectors, wanted, rtol=1e-4, atol=1e-5)
    assert vectors.dtype == np.float32
    np.testing.assert_allclose(times, starts + 50.0)
    assert (model.dims, model.hop, model.window, model.name) == (3, 50, W, "toy")


def test_a_short_clip_is_padded_with_zeros(toy, weights, rng):
    wave = rng.normal(size=60)
    vectors = ONNXModel(toy).embed(wave).vectors
    np.testing.assert_allclose(vectors, [np.abs(weights[:, :60] @ wave)], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("shape", [("n",), (1, "n"), ("batch", "n"), (1, None)])
def test_a_model_for_any_length_gets_the_whole_clip(tmp_path, weights, rng, shape):
    path = tmp_path / "any.onnx"
    save_onnx(path, weights, shape, to=(-1, W))
    model = ONNXModel(path, sample_rate=1000)
    wave = rng.normal(size=4 * W)
    vectors, times = model.embed(wave)
    wanted = np.abs(wave.reshape(4, W) @ weights.T)
    np.testing.assert_allclose(vectors, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(times, [50.0, 150.0, 250.0, 350.0])
    assert model.hop is model.window is None
    with pytest.raises(DataError, match=r"any.onnx fails for input of shape .*250"):
        model.embed(wave[:250])
    with pytest.raises(ParameterError, match="takes clips of any length whole; leave hop out"):
        ONNXModel(path, sample_rate=1000, hop=10)


def test_several_rows_of_a_window_share_it_evenly(tmp_path, weights, rng):
    path = tmp_path / "rows.onnx"
    save_onnx(path, weights[:, :25], (1, W), to=(1, 4, 25))
    model = ONNXModel(path, sample_rate=1000)
    wave = rng.normal(size=2 * W)
    vectors, times = model.embed(wave)
    wanted = np.abs(wave.reshape(8, 25) @ weights[:, :25].T)
    np.testing.assert_allclose(vectors, wanted, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(times, 12.5 + 25 * np.arange(8))
    assert (model.dims, model.hop) == (3, None)


def test_an_output_is_taken_by_the_end_of_its_name(toy, rng, weights):
    hidden, wave = ONNXModel(toy, tensor="hidden"), rng.normal(size=W)
    np.testing.assert_allclose(hidden.embed(wave).vectors, [weights @ wave], rtol=1e-4, atol=1e-5)
    assert hidden.identity["tensor"] == "body/hidden"
    assert hidden.identity != ONNXModel(toy).identity
    with pytest.raises(ParameterError, match=r"'hidde' is not the end .* mean 'hidden'\?"):
        ONNXModel(toy, tensor="hidde")


def test_the_sample_rate_is_what_the_file_says_or_the_caller(tmp_path, toy, weights):
    assert ONNXModel(toy).sample_rate == ONNXModel(toy, sample_rate=1000).sample_rate == 1000
    with pytest.raises(
        ParameterError, match=r"sample_rate=2000 is not the 1000 that toy.onnx says"
    ):
        ONNXModel(toy, sample_rate=2000)
    path = tmp_path / "silent.onnx"
    save_onnx(path, weights, (W,))
    with pytest.raises(ParameterError, match=r"silent.onnx does not say its sample rate; give it"):
        ONNXModel(path)
    with pytest.raises(ParameterError, match="sample_rate=1 is not allowed"):
        ONNXModel(path, sample_rate=1)
    for wrong in ("16 kHz", "", "-5", "1", "²"):
        save_onnx(path, weights, (W,), metadata={"sample_rate": wrong})
        with pytest.raises(DataError, match="in its metadata; export it with a whole number"):
            ONNXModel(path)


def test_a_pickled_model_is_small_and_gives_the_same(toy, rng):
    model, wave = ONNXModel(toy), rng.normal(size=4 * W)
    sent = pickle.dumps(model)
    assert len(sent) < 2000
    twin = pickle.loads(sent)
    np.testing.assert_array_equal(twin.embed(wave).vectors, model.embed(wave).vectors)
    assert (repr(twin), twin.identity) == (repr(model), model.identity)
    assert eval(repr(model)).identity == model.identity


def test_a_moved_file_is_the_same_model_and_a_changed_one_is_not(toy, tmp_path, weights):
    model = ONNXModel(toy)
    assert ONNXModel(shutil.copy(toy, tmp_path / "b.onnx")).identity == model.identity
    twin = pickle.loads(pickle.dumps(model))
    save_onnx(toy, 2 * weights, (1, W), metadata={"sample_rate": "1000"})
    with pytest.raises(DataError, match=r"toy.onnx has changed since the model was made"):
        twin.embed(np.zeros(W))


# Weights in other files.


@pytest.fixture
def folder(tmp_path, weights):
    """Return a folder beside weights, with weights of its own and a link out of it."""
    folder = tmp_path / "model"
    (folder / "sub").mkdir(parents=True)
    content = np.ascontiguousarray(weights.T).tobytes()
    for file in (tmp_path / "secret.bin", folder / "w.bin", folder / "sub" / "w.bin"):
        file.write_bytes(content)
    (folder / "link.bin").symlink_to(tmp_path / "secret.bin")
    (folder / "inner.bin").symlink_to(folder / "w.bin")
    return folder


@pytest.mark.parametrize("name", ["w.bin", "sub/w.bin", "./sub/../w.bin"])
def test_weights_beside_the_model_are_read_and_belong_to_it(folder, weights, rng, name):
    save_onnx(folder / "m.onnx", weights, (1, W), beside=name)
    model, wave = ONNXModel(folder / "m.onnx", sample_rate=1000), rng.normal(size=W)
    np.testing.assert_allclose(
        model.embed(wave).vectors, np.abs([weights @ wave]), rtol=1e-4, atol=1e-5
    )
    twin = pickle.loads(pickle.dumps(model))
    (folder / name).write_bytes(np.zeros((W, 3), np.float32).tobytes())
    assert ONNXModel(folder / "m.onnx", sample_rate=1000).identity != model.identity
    with pytest.raises(DataError, match=r"w.bin has changed since the model was made"):
        twin.embed(wave)


@pytest.mark.parametrize("name", ["../secret.bin", "sub/../../secret.bin", "link.bin", "ABSOLUTE"])
def test_weights_outside_the_folder_are_not_read(folder, weights, name, monkeypatch):
    # onnxruntime must not get as far as to decide about it.
    monkeypatch.setattr("onnxruntime.InferenceSession", None)
    name = str(folder / "w.bin") if name == "ABSOLUTE" else name
    save_onnx(folder / "m.onnx", weights, (1, W), beside=name)
    with pytest.raises(DataError, match="which is not in its folder; nothing outside is read"):
        ONNXModel(folder / "m.onnx", sample_rate=1000)


@pytest.mark.parametrize("name", ["absent.bin", "sub", "*/_ORT_MEM_ADDR_/*", "", "a\0b", "x" * 999])
def test_weights_that_are_not_there_are_named(folder, weights, name):
    save_onnx(folder / "m.onnx", weights, (1, W), beside=name)
    with pytest.raises(DataError, match="which is not beside it; copy it"):
        ONNXModel(folder / "m.onnx", sample_rate=1000)


def test_files_are_found_wherever_a_tensor_can_be(tmp_path):
    onnx = pytest.importorskip("onnx")
    made = []

    def tensor():
        name = f"w{len(made)}.bin"
        made.append(name)
        (tmp_path / name).write_bytes(b"0000")
        it = onnx.TensorProto(dims=[1], data_type=1, data_location=1)
        it.external_data.add(key="offset", value="0")
        it.external_data.add(key="location", value=name)
        return it

    def sparse():
        return onnx.SparseTensorProto(values=tensor(), indices=tensor(), dims=[1])

    def graph():
        inside = onnx.GraphProto(initializer=[tensor()], sparse_initializer=[sparse()])
        node = inside.node.add(op_type="Constant")
        node.attribute.add(t=tensor(), sparse_tensor=sparse())
        node.attribute.add(tensors=[tensor()], sparse_tensors=[sparse()])
        return inside

    def node():
        it = onnx.NodeProto(op_type="If")
        it.attribute.add(g=graph())
        it.attribute.add(graphs=[graph()])
        return it

    whole = graph()
    whole.node.append(node())
    model = onnx.ModelProto(graph=whole)
    model.functions.add(node=[node()], attribute_proto=[onnx.AttributeProto(t=tensor())])
    model.training_info.add(initialization=graph(), algorithm=graph())
    (tmp_path / "m.onnx").write_bytes(model.SerializeToString())
    assert set(external_files(tmp_path / "m.onnx")) == set(made)
    # Seven graphs of nine tensors, and the default of a function.
    assert len(made) == 7 * 9 + 1


def test_a_file_that_is_no_model_is_refused(tmp_path, toy, capfd):
    with pytest.raises(DataError, match=r"absent.onnx is not a file; give the path"):
        ONNXModel(tmp_path / "absent.onnx")
    other = tmp_path / "other.onnx"
    content = toy.read_bytes()
    wrong = [b"", b"no model", b"\xff" * 20, b"\x3a\xff\xff\xff\xff\x7f", b"\x0b", b"\x09\x00"]
    wrong += [content[:size] for size in range(1, len(content), 40)]
    for text in (b"head/out", b"sample_rate", b"Abs"):
        wrong.append(content.replace(text, b"\xff" + text[1:]))
    for each in wrong:
        other.write_bytes(each)
        with pytest.raises(
            DataError, match=r"is not an ONNX file|cannot be opened as|are not text"
        ):
            ONNXModel(other, sample_rate=1000)
    other.write_bytes(content.replace(b"Abs", b"A\x1bs"))
    with pytest.raises(DataError, match=r"A\?s") as caught:
        ONNXModel(other)
    assert str(caught.value).isprintable()
    # onnxruntime would say it once more on its own.
    assert capfd.readouterr() == ("", "")


def test_a_deep_nest_of_graphs_is_read_without_recursion(tmp_path):
    data = b""
    for _ in range(3000):
        for tag in (0x32, 0x2A, 0x0A):  # attribute.g, node.attribute, graph.node
            size, prefix = len(data), bytearray([tag])
            while size > 127:
                prefix.append(size & 127 | 128)
                size >>= 7
            data = bytes(prefix) + bytes([size]) + data
    size, prefix = len(data), bytearray([0x3A])
    while size > 127:
        prefix.append(size & 127 | 128)
        size >>= 7
    path = tmp_path / "deep.onnx"
    path.write_bytes(bytes(prefix) + bytes([size]) + data)
    assert external_files(path) == {}
    with pytest.raises(DataError, match="cannot be opened as an ONNX model"):
        ONNXModel(path, sample_rate=1000)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"shape": (1, 10, 10), "to": (1, W)}, r"input of shape \(1, 10, 10\), not a waveform"),
        ({"shape": (2, W)}, r"takes input of shape \(2, 100\), not a waveform"),
        ({"shape": (1, W), "kind": "DOUBLE"}, r"has 1 inputs \(tensor\(double\)\) and 2 outputs"),
        ({"shape": (1, 601_000), "to": (-1, W)}, r"of at most 600 s"),
        ({"shape": (1, W), "to": (1, 1, 1, W)}, r"gives float32 of shape \(1, 1, 1, 3\)"),
        ({"shape": ("batch", W), "to": (-1, 50)}, "fails for input|cannot be opened"),
    ],
)
def test_a_model_of_other_input_or_output_is_refused(tmp_path, weights, options, message):
    save_onnx(tmp_path / "m.onnx", weights, **options)
    with pytest.raises(DataError, match=message):
        ONNXModel(tmp_path / "m.onnx", sample_rate=1000)


def test_nan_out_of_a_model_names_the_frame(tmp_path, weights):
    save_onnx(tmp_path / "log.onnx", np.abs(weights), ("batch", W), last="Log")
    model = ONNXModel(tmp_path / "log.onnx", sample_rate=1000)
    wave = np.ones(3 * W)
    assert np.isfinite(model.embed(wave).vectors).all()
    wave[W : 2 * W] = -1
    with pytest.raises(DataError, match=r"NaN or Inf in 1 of 3 frames, first at 0.15 s"):
        model.embed(wave)


def test_a_missing_package_says_how_to_install_it(toy, monkeypatch):
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ParameterError, match="python -m pip install onnxruntime"):
        ONNXModel(toy)
