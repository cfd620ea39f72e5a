"""Files that are no store, are cut off, or hold arrays that do not fit."""

import h5py
import numpy as np
import pytest

from biasaudio.errors import StoreError
from biasaudio.store import EmbeddingStore, import_arrays


def write_layout(path, parts, **options):
    """Write {(dataset, embedding): (features, keys)} as the published file has it."""
    with h5py.File(path, "a") as handle:
        for (dataset, embedding), (features, keys) in parts.items():
            group = handle.require_group(f"{dataset}/{embedding}")
            if features is not None:
                group.create_dataset("features", data=features, **options)
            if keys is not None:
                group.create_dataset("keys", data=keys)
    return path


@pytest.fixture
def store(tmp_path, rng):
    """Give a store of the published layout."""
    keys = np.arange(200).repeat(3).astype("S")
    features = rng.normal(size=(600, 8)).astype("f4")
    path = write_layout(tmp_path / "embeddings.h5", {("irmas", "openl3"): (features, keys)})
    return EmbeddingStore(path)


def test_missing_empty_and_foreign_files(tmp_path):
    with pytest.raises(StoreError, match=r"no\.h5 is not there; check the path, or make a store"):
        EmbeddingStore(tmp_path / "no.h5")
    with pytest.raises(
        StoreError, match=r"is a folder without \.h5 or \.hdf5 files; it holds nothing"
    ):
        EmbeddingStore(tmp_path)
    empty = tmp_path / "empty.h5"
    empty.touch()
    with pytest.raises(StoreError, match=r"empty\.h5 is empty \(0 bytes\)"):
        EmbeddingStore(empty)
    empty.write_text("clip,f0\n")
    with pytest.raises(StoreError, match=r"is not an HDF5 file; give a store, or turn npz"):
        EmbeddingStore(empty)
    foreign = tmp_path / "foreign.h5"
    with h5py.File(foreign, "w") as handle:
        handle["table/block"] = np.ones(3)
    with pytest.raises(StoreError, match=r"has no /<dataset>/<embedding>/.*; it holds '/table'"):
        EmbeddingStore(foreign)


def test_cut_off_file(store):
    data = store.path.read_bytes()
    store.path.write_bytes(data[: len(data) // 2])
    with pytest.raises(StoreError, match=r"cannot be opened .*copy or write it again"):
        store.datasets()


def test_damaged_block_is_found_by_its_checksum(tmp_path, rng):
    X = rng.normal(size=(50, 4)).astype("f4")
    path = import_arrays(tmp_path / "x.h5", X, [str(i) for i in range(50)], dataset="demo")
    data = path.read_bytes()
    at = data.index(X[20:24].tobytes())
    path.write_bytes(data[:at] + b"\xff" + data[at + 1 :])
    with pytest.raises(StoreError, match=r"/demo/embedding/features, rows 0 to 50 cannot be read"):
        EmbeddingStore(path).table("embedding")


def test_newer_format_version_is_refused(store):
    with h5py.File(store.path, "a") as handle:
        handle.attrs["format_version"] = 99
    with pytest.raises(StoreError, match=r"format version .*99.*at most 3 can be read; upgrade"):
        EmbeddingStore(store.path)


@pytest.mark.parametrize(
    ("features", "keys", "message"),
    [
        (np.ones((3, 2)), [b"a", b"b"], "has 3 rows of features, but 2 keys"),
        (np.ones((3, 2)), None, r"has no array 'keys', only 'features'"),
        (None, [b"a"], r"has no array 'features', only 'keys'"),
        (
            np.ones((2, 2, 2)),
            [b"a", b"b"],
            r"features has shape \(2, 2, 2\) and dtype float64; write",
        ),
        (np.ones((2, 2), complex), [b"a", b"b"], "has dtype complex128; stores hold real numbers"),
        (np.ones((2, 2)), [1, 2], r"keys has shape \(2,\) and dtype int64; write a 1-d array"),
        (np.ones((0, 2)), np.empty(0, "S1"), r"features is empty, shape \(0, 2\)"),
        (np.ones((2, 0)), [b"a", b"b"], r"features is empty, shape \(2, 0\)"),
        (np.ones((2, 2)), [b"a", b""], "has frames with an empty key"),
        (np.ones((2, 2)), [b"a", "b\u202e".encode()], r"has the text 'b\\u202e' with control char"),
        (np.ones((2, 2)), [b"a", b"\xff"], r"keys has the text b'\\xff', which is not UTF-8"),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, features, keys, message):
    store = EmbeddingStore(write_layout(tmp_path / "x.h5", {("demo", "e"): (features, keys)}))
    with pytest.raises(StoreError, match=rf"x\.h5:/demo/e.*{message}"):
        store.table("e")


def test_damaged_clip_table_says_so(tmp_path):
    path = import_arrays(
        tmp_path / "x.h5", np.ones((2, 2)), ["a", "b"], dataset="d", label=["x", "y"]
    )
    with h5py.File(path, "a") as handle:
        del handle["d/__clips__/mask"]
        handle["d/__clips__/mask"] = np.ones((1, 2), "u1")
    with pytest.raises(
        StoreError, match=r"clip table of dataset 'd' is damaged \(.*import the dataset"
    ):
        EmbeddingStore(path).clips()
    with h5py.File(path, "a") as handle:
        del handle["d/__clips__/group"]
    with pytest.raises(StoreError, match=r"the clip table of dataset 'd' has no 'group'"):
        EmbeddingStore(path).clips()
