"""Corrections on arrays of other libraries, as torch modules, and as ONNX files."""

import copy
import os
import pickle
import sys

import numpy as np
import pytest

from biasaudio.errors import DataError, ParameterError
from biasaudio.transforms import LEACE, METHODS, DomainCentering, DomainStandardizer
from biasaudio.transforms.export import to_onnx, to_torch
from biasaudio.transforms.methods import apply_correction

# Of float32 next to vectors of size one, and of means of 1000; of float64.
TOLERANCE = {np.dtype("f4"): 1e-6, np.dtype("f8"): 1e-13}
precisions = pytest.mark.parametrize("dtype", ["float32", "float64"])
means = pytest.mark.parametrize("mean", [0.0, 1000.0])
LINEAR = [name for name in METHODS if "Kernel" not in METHODS[name].estimator.__name__]


def clips(mean=0.0, dtype="float64", n=240, d=10):
    """Return vectors and columns: domain, class and genre all show in the vectors."""
    rng = np.random.default_rng(7)
    label, genre, domain = np.arange(n) % 3, np.arange(n) // 3 % 2, np.arange(n) // 6 % 2
    X = rng.normal(size=(n, d)) @ np.diag(np.linspace(1, 2, d))
    X += 2 * rng.normal(size=(3, d))[label] + rng.normal(size=(2, d))[domain] + mean
    columns = {
        "domain": np.array(["a", "b"])[domain],
        "genre": np.array(["jazz", "pop"])[genre],
        "label": np.array(["flute", "guitar", "voice"])[label],
        "groups": np.arange(n) // 2,
    }
    return X.astype(dtype), columns


def fitted(name, mean=0.0, dtype="float64"):
    """Return a fitted method, vectors of one domain (of all, if it is free), and its name."""
    X, columns = clips(mean, dtype)
    method, domain = METHODS[name], columns["domain"]
    if method.is_per_target:
        columns["label"] = np.where(domain == "b", "", columns["label"])
    correction = method.fit(X, **columns)
    return (correction, X[domain == "b"], "b") if correction.domain_aware else (correction, X, None)


def expected(correction, X, domain):
    return apply_correction(correction, X, np.full(len(X), domain or ""))


def close(found, wanted):
    """Compare, relative to how large the vectors are."""
    found = np.asarray(found)
    assert found.dtype == wanted.dtype
    error = np.abs(found - wanted).max() / max(1.0, np.abs(wanted).max())
    assert error < TOLERANCE[wanted.dtype], error


@precisions
@pytest.mark.parametrize("name", METHODS)
def test_torch_tensors_go_in_and_come_out(name, dtype):
    torch = pytest.importorskip("torch")
    correction, X, domain = fitted(name, dtype=dtype)
    columns = {"domain": np.full(len(X), domain)} if domain else {}
    T = correction.transform(torch.tensor(X), **columns)
    assert isinstance(T, torch.Tensor)
    assert T.dtype == getattr(torch, dtype)
    close(T.numpy(), expected(correction, X, domain))


@precisions
@pytest.mark.parametrize("name", METHODS)
def test_strict_arrays_of_the_standard_stay_on_their_device(name, dtype):
    xp = pytest.importorskip("array_api_strict")
    correction, X, domain = fitted(name, dtype=dtype)
    columns = {"domain": np.full(len(X), domain)} if domain else {}
    for device in (xp.Device("CPU_DEVICE"), xp.Device("device1")):
        S = correction.transform(xp.asarray(X, device=device), **columns)
        assert S.device == device
        assert S.dtype == getattr(xp, dtype)
        back = np.asarray(S.to_device(xp.Device("CPU_DEVICE")))
        close(back, expected(correction, X, domain))


def test_domains_in_any_order_stay_in_their_rows():
    torch = pytest.importorskip("torch")
    X, columns = clips()
    order = np.random.default_rng(0).permutation(len(X))
    X, domain = X[order], columns["domain"][order]
    correction = DomainStandardizer(unseen="global").fit(X, domain=domain)
    domain[::7] = "new"
    wanted = correction.transform(X, domain=domain)
    close(correction.transform(torch.tensor(X), domain=domain).numpy(), wanted)


def test_foreign_arrays_are_checked_too():
    torch = pytest.importorskip("torch")
    leace, X, _ = fitted("leace")
    with pytest.raises(DataError, match="10 features were seen in fit"):
        leace.transform(torch.tensor(X[:, :9]))
    with pytest.raises(DataError, match="NaN or Inf"):
        leace.transform(torch.full((2, 10), torch.nan))
    with pytest.raises(DataError, match="give float32 or float64"):
        leace.transform(torch.zeros((2, 10), dtype=torch.int64))
    with pytest.raises(ParameterError, match="out= works for numpy arrays only"):
        leace.transform(torch.tensor(X), out=np.empty_like(X))


@precisions
@means
@pytest.mark.parametrize("name", LINEAR)
def test_the_torch_module_is_the_correction(name, mean, dtype):
    torch = pytest.importorskip("torch")
    correction, X, domain = fitted(name, mean, dtype)
    if "alpha" in correction.get_params():
        correction.set_params(alpha=0.75)
    module = to_torch(correction, domain)
    assert isinstance(module, torch.nn.Module)
    with torch.no_grad():
        found = module(torch.tensor(X))
    assert found.dtype == getattr(torch, dtype)
    close(found.numpy(), expected(correction, X, domain))


def test_the_module_behaves_like_one():
    torch = pytest.importorskip("torch")
    leace, X, _ = fitted("leace", dtype="float32")
    module, T = to_torch(leace), torch.tensor(X)
    Z = module(T)
    assert not list(module.parameters())
    assert sorted(module.state_dict()) == ["center", "down", "offset", "up"]
    for again in (
        copy.deepcopy(module),
        pickle.loads(pickle.dumps(module)),
        torch.nn.Sequential(module),
    ):
        assert torch.equal(again(T), Z)
    other = to_torch(LEACE(shrinkage=1.0).fit(X, domain=clips()[1]["domain"]))
    assert not torch.equal(other(T), Z)
    other.load_state_dict(module.state_dict())
    assert torch.equal(other(T), Z)
    assert torch.equal(module(T.reshape(4, -1, 10)), Z.reshape(4, -1, 10))
    T.requires_grad_()
    module(T).sum().backward()
    assert T.grad.abs().sum() > 0
    assert {buffer.device.type for buffer in module.to("meta").buffers()} == {"meta"}
    assert "n_features=10, rank=1" in repr(to_torch(leace))


def test_the_module_in_other_precisions():
    torch = pytest.importorskip("torch")
    leace, X, _ = fitted("leace", mean=100.0, dtype="float32")
    module = to_torch(leace)
    half = module(torch.tensor(X).to(torch.float16))
    assert half.dtype == torch.float16
    wanted = leace.transform(torch.tensor(X).to(torch.float16).numpy().astype("f4"))
    assert np.abs(half.float().numpy() - wanted).max() < 0.1
    single = module.float()
    assert {buffer.dtype for buffer in single.buffers()} == {torch.float32}
    close(single(torch.tensor(X)).numpy(), leace.transform(X))


@pytest.mark.parametrize("name", ["leace", "center", "standardize"])
def test_the_module_can_be_exported_by_torch(name):
    torch = pytest.importorskip("torch")
    correction, X, domain = fitted(name, dtype="float32")
    module, T = to_torch(correction, domain), torch.tensor(X)
    again = torch.export.export(module, (T,)).module()
    assert torch.allclose(again(T), module(T))


@precisions
@means
@pytest.mark.parametrize("name", LINEAR)
def test_the_onnx_file_is_the_correction(tmp_path, name, mean, dtype):
    onnx = pytest.importorskip("onnx")
    correction, X, domain = fitted(name, mean, dtype)
    if "alpha" in correction.get_params():
        correction.set_params(alpha=0.75)
    path = to_onnx(correction, tmp_path / "c.onnx", domain, dtype=dtype)
    model = onnx.load(path)
    onnx.checker.check_model(model, full_check=True)
    from onnx.reference import ReferenceEvaluator

    (found,) = ReferenceEvaluator(model).run(["corrected"], {"X": X})
    close(found, expected(correction, X, domain))
    assert os.listdir(tmp_path) == ["c.onnx"]


@precisions
def test_the_onnx_file_runs_with_any_number_of_clips(tmp_path, dtype):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    for name in ("leace", "coral", "standardize"):
        correction, X, domain = fitted(name, 100.0, dtype)
        path = to_onnx(correction, tmp_path / "c.onnx", domain, dtype=dtype)
        session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
        for n in (1, 7, len(X)):
            (found,) = session.run(None, {"X": X[:n]})
            close(found, expected(correction, X, domain)[:n])


def test_low_rank_stays_low_rank(tmp_path):
    onnx = pytest.importorskip("onnx")
    rng = np.random.default_rng(0)
    X = rng.normal(size=(60, 500)).astype("f4")
    leace = LEACE().fit(X, domain=np.repeat(["a", "b"], 30))
    path = to_onnx(leace, tmp_path / "c.onnx")
    assert path.stat().st_size < 4 * 4 * 500 + 1000
    assert [node.op_type for node in onnx.load(path).graph.node].count("MatMul") == 2


@pytest.mark.parametrize(("package", "function"), [("torch", to_torch), ("onnx", to_onnx)])
def test_a_package_that_is_not_there_is_named(monkeypatch, tmp_path, package, function):
    monkeypatch.setitem(sys.modules, package, None)
    leace, _, _ = fitted("leace")
    path = () if package == "torch" else (tmp_path / "c.onnx",)
    with pytest.raises(ParameterError, match=f"run: python -m pip install {package}"):
        function(leace, *path)
    assert not list(tmp_path.iterdir())


def test_what_cannot_be_exported():
    X, columns = clips()
    with pytest.raises(ParameterError, match="this LEACE is not fitted"):
        to_torch(LEACE())
    with pytest.raises(ParameterError, match="str is not a fitted linear correction"):
        to_torch("leace")
    leace = LEACE().fit(X, domain=columns["domain"])
    with pytest.raises(ParameterError, match="treats all domains alike; leave it out"):
        to_torch(leace, "a")
    with pytest.raises(ParameterError, match=r"say which one with domain=.*\['a', 'b'\]"):
        to_torch(DomainCentering().fit(X, domain=columns["domain"]))
    with pytest.raises(DataError, match="domain 'c' was not seen in fit"):
        to_torch(DomainCentering().fit(X, domain=columns["domain"]), "c")
    with pytest.raises(ParameterError, match="dtype='float16' is not known"):
        to_onnx(leace, "c.onnx", dtype="float16")


def test_a_new_domain_follows_the_rule_of_the_correction():
    torch = pytest.importorskip("torch")
    X, columns = clips()
    for rule in ("identity", "global"):
        center = DomainStandardizer(unseen=rule).fit(X, domain=columns["domain"])
        found = to_torch(center, "new")(torch.tensor(X)).numpy()
        close(found, center.transform(X, domain=np.full(len(X), "new")))
    with pytest.raises(DataError, match="X has 9 features, but 10"):
        to_torch(center, "new")(torch.zeros(1, 9))


def test_an_onnx_file_that_cannot_be_written(tmp_path):
    pytest.importorskip("onnx")
    leace, _, _ = fitted("leace")
    with pytest.raises(DataError, match=r"cannot be written .No such file"):
        to_onnx(leace, tmp_path / "no" / "c.onnx")
