"""A saved correction comes back to the bit, works without us, and cannot be mistaken."""

import json
import os
import pickle
import re
import subprocess
import sys
import zipfile
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import pytest
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

import biasaudio.transforms as room
from biasaudio.errors import DataError, ParameterError
from biasaudio.transforms import (
    LEACE,
    METHODS,
    DomainCentering,
    DomainStandardizer,
    LDAProjection,
    MeanProjection,
    load,
    save,
)
from biasaudio.transforms.persist import digest
from biasaudio.transforms.persist import classes
from biasaudio.transforms.methods import apply_correction
from biasaudio.transforms.persist import read_header

# Printed in the README, and in the docstring of persist.
README = (Path(__file__).resolve().parents[1] / "README.md").read_text(encoding="utf-8")
# What the README prints is what is run.
TEN_LINES = re.search(r"<!-- ten lines.*?-->\n```python\n(.*?)```", README, re.DOTALL).group(1)


def clips(mean=0.0, dtype=np.float64, n=240, d=10, names=("a", "b")):
    """Return vectors and columns: domain, class and genre all show in the vectors."""
    rng = np.random.default_rng(7)
    label, genre, domain = np.arange(n) % 3, np.arange(n) // 3 % 2, np.arange(n) // 6 % 2
    X = rng.normal(size=(n, d)) @ np.diag(np.linspace(1, 2, d))
    X += 2 * rng.normal(size=(3, d))[label] + rng.normal(size=(2, d))[domain] + mean
    columns = {
        "domain": np.array(names)[domain],
        "genre": np.array(["jazz", "pop"])[genre],
        "label": np.array(["flute", "guitar", "voice"])[label],
        "groups": np.arange(n) // 2,
    }
    return X.astype(dtype), columns


def fitted(name, X, columns):
    """Return a fitted correction of a method."""
    method = METHODS[name]
    if method.is_per_target:
        unknown = columns["domain"] == "b"
        columns = columns | {"label": np.where(unknown, "", columns["label"])}
    return method.fit(X, **columns)


def leace(**options):
    X, columns = clips()
    return LEACE(**options).fit(X, domain=columns["domain"]), X


def same(a, b):
    """Say whether two values are the same, whatever they are made of."""
    if isinstance(a, np.ndarray):
        is_equal = np.array_equal(a, b) if a.dtype.kind in "OU" else a.tobytes() == b.tobytes()
        return isinstance(b, np.ndarray) and (a.dtype, a.shape) == (b.dtype, b.shape) and is_equal
    if isinstance(a, (list, tuple)):
        return type(a) is type(b) and len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    if hasattr(a, "__dict__"):
        return type(a) is type(b) and same(state(a), state(b))
    return type(a) is type(b) and (a == b or a != a)


def state(value):
    # In which order attributes were set is no matter.
    kept = (key for key in sorted(vars(value)) if key[0] != "_" and key != "moments_")
    return {key: vars(value)[key] for key in kept}


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("name", METHODS)
def test_every_method_comes_back_to_the_bit(tmp_path, name, dtype):
    X, columns = clips(dtype=dtype)
    before = fitted(name, X, columns)
    after = load(save(before, tmp_path / "c.npz"))
    assert type(after) is type(before)
    assert same(state(after), state(before))
    Z = apply_correction(before, X, columns["domain"])
    assert Z.tobytes() == apply_correction(after, X, columns["domain"]).tobytes()
    assert Z.tobytes() != X.tobytes() or METHODS[name].is_per_target


def test_every_class_can_be_saved():
    public = [getattr(room, name) for name in room.__all__]
    assert all(one in public for one in classes().values())
    assert {type(method.make()) for method in METHODS.values()} <= set(classes().values())


def is_affine(name):
    return hasattr(METHODS[name].estimator, "to_affine") and "Kernel" not in str(
        METHODS[name].estimator
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("mean", [0.0, 1000.0])
def test_ten_lines_of_numpy_apply_every_affine_method_without_us(tmp_path, mean, dtype):
    X, columns = clips(mean, dtype)
    np.save(tmp_path / "X.npy", X)
    np.save(tmp_path / "domain.npy", columns["domain"])
    wanted = {}
    for name in filter(is_affine, METHODS):
        before = fitted(name, X, columns)
        if "alpha" in before.get_params():
            before.set_params(alpha=0.75)
        save(before, tmp_path / f"{name}.npz")
        wanted[name] = apply_correction(before, X, columns["domain"])
    code = f"""
import sys
sys.modules["biasaudio"] = sys.modules["sklearn"] = sys.modules["scipy"] = None
{TEN_LINES}
X, domain = np.load("X.npy"), np.load("domain.npy")
for name in sys.argv[1:]:
    with np.load(f"{{name}}.npz") as f:
        names = f["domains"].tolist()
    Z = np.empty(X.shape)
    for each in names:
        rows = np.full(len(X), True) if each == "" else domain == each
        Z[rows] = correct(X[rows], f"{{name}}.npz", each)
    np.save(f"{{name}}.out.npy", Z)
try:
    import biasaudio
except ImportError:
    print("alone")
"""
    run = subprocess.run(
        [sys.executable, "-I", "-c", code, *wanted], cwd=tmp_path, capture_output=True, text=True
    )
    assert (run.returncode, run.stdout, run.stderr) == (0, "alone\n", "")
    for name, Z in wanted.items():
        found = np.load(tmp_path / f"{name}.out.npy")
        np.testing.assert_allclose(found, Z, rtol=1e-6, atol=1e-6, err_msg=name)
        assert np.abs(found - X).max() > 1e-2 or METHODS[name].is_per_target


def test_the_lines_are_ten_and_those_of_the_docstring():
    shown = [line.strip() for line in TEN_LINES.splitlines() if line.strip()]
    assert len(shown) == 10
    import biasaudio.transforms.persist as module

    said = [line.strip() for line in module.__doc__.splitlines() if line.strip()]
    assert said[-len(shown) :] == shown


@pytest.mark.parametrize(
    "names", [("é ü", "日本"), ("a/b", "a.b\\c"), ("", " "), ('"', "'\n"), ("0", "1")]
)
def test_domains_may_be_called_anything(tmp_path, names):
    X, columns = clips(names=names)
    before = DomainCentering().fit(X, domain=columns["domain"])
    after = load(save(before, tmp_path / "c.npz"))
    Z = after.transform(X, domain=columns["domain"])
    assert Z.tobytes() == before.transform(X, domain=columns["domain"]).tobytes()
    assert sorted(read_header(tmp_path / "c.npz")["domains"]) == sorted(names)


def test_whole_numbers_as_domains(tmp_path):
    X, columns = clips(names=(3, 40))
    before = DomainStandardizer(unseen="global").fit(X, domain=columns["domain"])
    after = load(save(before, tmp_path / "c.npz"))
    assert after.domains_.dtype == before.domains_.dtype
    for domain in (columns["domain"], np.full(len(X), 5)):
        np.testing.assert_array_equal(
            after.transform(X, domain=domain), before.transform(X, domain=domain)
        )


def test_parameters_and_feature_names_come_back(tmp_path):
    X, columns = clips()
    frame = pd.DataFrame(X, columns=[f"mfcc {i}" for i in range(X.shape[1])])
    before = LEACE(shrinkage=0.25, alpha=0.5).fit(frame, domain=columns["domain"])
    after = load(save(before, tmp_path / "c.npz"))
    assert after.get_params() == {"shrinkage": 0.25, "alpha": 0.5}
    assert after.get_feature_names_out().tolist() == list(frame)
    assert read_header(tmp_path / "c.npz")["feature_names"] == list(frame)
    with pytest.raises(DataError, match="feature names"):
        after.transform(frame[list(frame)[::-1]])


def test_values_of_every_kind_come_back(tmp_path):
    before, _ = leace()
    before.odd_ = {
        "numbers": [1, -2.5, float("inf"), float("nan"), True, None],
        7: (np.float32(0.1), np.int64(3), np.str_("x")),
        "arrays": {"u": np.arange(3, dtype=np.uint8), "f": np.asfortranarray(np.eye(3))},
        "texts": np.array(["a", "bc"], dtype=object),
        "none of them": [np.zeros((0, 4)), (), {}, ""],
        "map": before.affine_,
        "other": MeanProjection(alpha=0.5),
    }
    after = load(save(before, tmp_path / "c.npz"))
    assert same(state(after), state(before))
    assert after.odd_["arrays"]["f"].flags.f_contiguous


@pytest.mark.parametrize(
    "value",
    [{1, 2}, object(), len, np.array([1 + 2j]), np.array([[1], "x"], dtype=object), {(1, 2): 3}],
)
def test_what_is_no_data_is_refused(tmp_path, value):
    before, _ = leace()
    before.odd_ = value
    with pytest.raises(ParameterError, match=r"odd_ (is a|has)"):
        save(before, tmp_path / "c.npz")
    assert not list(tmp_path.iterdir())


def test_a_streamed_fit_is_saved_without_its_moments(tmp_path):
    X, columns = clips(d=64)
    before = LEACE(shrinkage=0.1)
    for rows in (slice(0, 100), slice(100, None)):
        before.partial_fit(X[rows], domain=columns["domain"][rows])
    path = save(before, tmp_path / "c.npz")
    assert path.stat().st_size < 12_000
    after = load(path)
    assert after.transform(X).tobytes() == before.transform(X).tobytes()
    with pytest.raises(ParameterError, match="keeps no moments"):
        after.partial_fit(X, domain=columns["domain"])


def test_the_file_is_one_that_numpy_reads_without_pickle(tmp_path):
    before, _ = leace()
    path = save(before, tmp_path / "c.npz")
    with np.load(path, allow_pickle=False) as archive:
        arrays = {name: archive[name] for name in archive.files}
    assert {array.dtype.kind for array in arrays.values()} <= {"f", "i", "U"}
    header = json.loads(str(arrays["header"]))
    assert (header["format"], header["format_version"]) == ("biasaudio-correction", 2)
    assert header["class"] == "LEACE"
    assert header["sha256"] == digest(header, arrays)
    assert arrays["center_0"].dtype == np.float64
    assert path.stat().st_size < 8_000


def test_saving_replaces_in_one_step_and_leaves_nothing_behind(tmp_path):
    before, X = leace()
    path = save(before, tmp_path / "c.npz")
    save(before.set_params(alpha=0.5), path)
    assert load(path).alpha == 0.5
    assert os.listdir(tmp_path) == ["c.npz"]


def test_what_cannot_be_written(tmp_path, monkeypatch):
    before, _ = leace()
    with pytest.raises(ParameterError, match=r"ends in '.pkl'; give a name that ends in '.npz'"):
        save(before, tmp_path / "c.pkl")
    with pytest.raises(DataError, match="is not a folder; make it first"):
        save(before, tmp_path / "no" / "c.npz")
    (tmp_path / "d.npz").mkdir()
    with pytest.raises(DataError, match=r"d\.npz cannot be written"):
        save(before, tmp_path / "d.npz")
    path = save(before, tmp_path / "c.npz")
    old = path.read_bytes()

    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("numpy.savez", full)
    with pytest.raises(DataError, match=r"No space left on device.; nothing was changed"):
        save(before.set_params(alpha=0.5), path)
    assert path.read_bytes() == old
    assert sorted(os.listdir(tmp_path)) == ["c.npz", "d.npz"]


def test_what_is_not_a_fitted_correction(tmp_path):
    path = tmp_path / "c.npz"
    with pytest.raises(ParameterError, match="this LEACE is not fitted"):
        save(LEACE(), path)
    with pytest.raises(ParameterError, match="give a fitted correction"):
        save("leace", path)
    with pytest.raises(ParameterError, match="give a fitted correction"):
        save(LEACE, path)
    X, columns = clips()
    with pytest.raises(ParameterError, match="StandardScaler is not a correction of biasaudio"):
        save(StandardScaler().fit(X), path)
    pipeline = make_pipeline(StandardScaler(), LEACE()).fit(X, leace__domain=columns["domain"])
    with pytest.raises(ParameterError, match="of a pipeline, the step"):
        save(pipeline, path)
    save(pipeline[-1], path)
    one = LDAProjection(shrinkage=0.1).partial_fit(X[:5], domain=["a"] * 5)
    with pytest.raises(ParameterError, match="clips of one domain only"):
        save(one, path)

    class LEACELike(LEACE):
        pass

    with pytest.raises(ParameterError, match="LEACELike is not a correction of biasaudio"):
        save(LEACELike().fit(X, domain=columns["domain"]), path)


def bad_file(tmp_path, kind):
    """Write a file that is not a correction, and return its path."""
    path = tmp_path / "bad.npz"
    if kind == "folder":
        path.mkdir()
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "pickle":
        path.write_bytes(pickle.dumps({"center_0": [1.0]}))
    elif kind == "text":
        path.write_text("center_0 = 1\n")
    elif kind == "hdf5":
        h5py.File(path, "w").close()
    elif kind == "npy":
        path.write_bytes(b"\x93NUMPY" + bytes(200))
    elif kind == "foreign npz":
        np.savez(path, X=np.eye(3), clip=["a", "b", "c"])
    elif kind == "zip":
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("center_0.txt", "1")
    elif kind == "objects":
        np.savez(path, header=np.array([{}], dtype=object))
    elif kind == "compressed":
        np.savez_compressed(path, header=np.zeros(10**6))
    return path


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        ("missing", "is not a file that is there"),
        ("folder", "is not a file that is there"),
        ("empty", "is empty .0 bytes."),
        ("pickle", "but a pickle, which could run code and is never loaded"),
        ("text", "is not a correction saved by biasaudio, it starts with b'center_0'"),
        ("hdf5", r"is not a correction saved by biasaudio, it starts with b'\\x89HDF"),
        ("npy", r"is not a correction saved by biasaudio, it starts with b'\\x93NUMPY"),
        ("foreign npz", "is an npz file, but not a correction saved by biasaudio"),
        ("zip", "'center_0.txt' is not an array"),
        ("objects", "an array of object"),
        ("compressed", "is compressed"),
    ],
)
def test_other_files_are_refused(tmp_path, kind, message):
    with pytest.raises(DataError, match=message) as caught:
        load(bad_file(tmp_path, kind))
    assert "\n" not in str(caught.value)
    assert "bad.npz" in str(caught.value)


def test_a_file_that_may_not_be_read(tmp_path):
    path = save(leace()[0], tmp_path / "c.npz")
    path.chmod(0)
    if os.access(path, os.R_OK):
        pytest.skip("this user may read everything")
    with pytest.raises(DataError, match="cannot be read"):
        load(path)


def rewritten(path, change=None, *, keep_sum=False, **arrays):
    """Write a correction again with a changed header or arrays, and a right checksum."""
    with np.load(path) as archive:
        held = {name: archive[name] for name in archive.files} | arrays
    header = json.loads(str(held.pop("header")))
    (change or (lambda header: None))(header)
    if not keep_sum:
        header["sha256"] = digest(header, held)
    np.savez(path, header=np.array(json.dumps(header)), **held)
    return path


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"format_version": 3, "biasaudio": "7.0"},
            "version 3, .* biasaudio 7.0; .* up.* biasaudio",
        ),
        ({"format_version": "1"}, "has format version '1'"),
        ({"format_version": 0}, "has format version 0"),
        ({"format": "other"}, "is a 'other' file; give a correction"),
        ({"class": "LEACY"}, "is a 'LEACY' .*update biasaudio; did you mean 'LEACE'"),
        ({"class": "Affine"}, "is a 'Affine' .*update biasaudio"),
        ({"class": "os.system"}, "is a 'os.system' .*update biasaudio"),
        ({"parameters": {"new": 1}}, "has the parameter 'new' .*update biasaudio"),
        ({"attributes": {"__class__": 1}}, "does not hold what a correction needs"),
        ({"attributes": {"transform": 1}}, "does not hold what a correction needs"),
        ({"attributes": {"affine_": {"array": "no"}}}, "does not hold what a correction needs"),
        ({"attributes": {"affine_": {"call": "no"}}}, "does not hold what a correction needs"),
        ({"attributes": 3}, "does not hold what a correction needs"),
    ],
)
def test_a_header_that_says_something_else(tmp_path, change, message):
    path = rewritten(save(leace()[0], tmp_path / "c.npz"), lambda header: header.update(change))
    with pytest.raises(DataError, match=message) as caught:
        load(path)
    assert "\n" not in str(caught.value)


def test_maps_that_do_not_fit_are_refused(tmp_path):
    before, _ = leace()
    for name, array in (
        ("down_0", np.ones((3, 1))),
        ("center_0", np.full(10, np.nan)),
        ("up_0", np.ones((2, 10))),
    ):
        path = rewritten(save(before, tmp_path / "c.npz"), **{name: array})
        with pytest.raises(DataError, match=rf"(of shape|{name} of shape .* has NaN or Inf)"):
            load(path)


def test_a_changed_array_or_header_does_not_have_its_checksum(tmp_path):
    before, _ = leace()
    path = save(before, tmp_path / "c.npz")
    rewritten(path, keep_sum=True)
    load(path)
    rewritten(path, keep_sum=True, alpha=np.array(0.5))
    with pytest.raises(DataError, match="contents that its checksum says"):
        load(path)
    path = save(before, tmp_path / "c.npz")
    rewritten(path, lambda header: header["parameters"].update(alpha=0.5), keep_sum=True)
    with pytest.raises(DataError, match="contents that its checksum says"):
        load(path)


def test_flipped_bytes_give_an_error_or_the_same_correction(tmp_path):
    before, X = leace()
    data, Z = save(before, tmp_path / "c.npz").read_bytes(), before.transform(X[:3])
    path, outcomes = tmp_path / "flipped.npz", {"same": 0, "refused": 0}
    for place in range(0, len(data), 11):
        flipped = bytearray(data)
        flipped[place] ^= (0x01, 0x80, 0xFF)[place % 3]
        path.write_bytes(flipped)
        message = ""
        try:
            assert load(path).transform(X[:3]).tobytes() == Z.tobytes()
        except DataError as error:
            message = str(error)
        outcomes["refused" if message else "same"] += 1
        assert not message or (str(path) in message and "\n" not in message)
    # Most bytes are arrays and header; names and dates inside the zip do not matter.
    assert outcomes["refused"] > 3 * outcomes["same"] > 0


def test_a_file_that_is_cut_off_is_refused(tmp_path):
    data = save(leace()[0], tmp_path / "c.npz").read_bytes()
    for size in (1, 3, 4, 30, *range(100, len(data), 211), len(data) - 1):
        path = tmp_path / "cut.npz"
        path.write_bytes(data[:size])
        with pytest.raises(DataError, match="is not a correction saved by biasaudio"):
            load(path)


def test_a_loaded_correction_refuses_what_the_first_one_refused(tmp_path):
    before, X = leace()
    after = load(save(before, tmp_path / "c.npz"))
    with pytest.raises(DataError, match="X has 9 features, but LEACE"):
        after.transform(X[:, :9])
    domain = clips()[1]["domain"]
    aware = load(save(DomainCentering().fit(X, domain=domain), tmp_path / "c.npz"))
    with pytest.raises(ParameterError, match="was called without domain"):
        aware.transform(X)
    with pytest.raises(DataError, match="domain 'new' was not seen in fit"):
        aware.transform(X, domain=np.full(len(X), "new"))
