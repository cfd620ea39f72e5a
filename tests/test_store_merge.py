"""Merging and exporting: no row is lost, mixed up, or sealed though it is damaged."""

import subprocess
import sys

import h5py
import numpy as np
import pytest

from biasaudio.errors import ParameterError, StoreError
from biasaudio.store import EmbeddingStore, import_arrays
from biasaudio.store.check import check_store
from biasaudio.store.merge import compact_store, export_store
from biasaudio.store.seal import mark_of


def put(path, values, names, dataset="a", embedding="e", **more):
    X = [[float(value)] * 4 for value in values]
    return import_arrays(path, X, names, dataset=dataset, embedding=embedding, **more)


def held(path, embedding="e"):
    """Return the first value of each clip."""
    table = EmbeddingStore(path, cache=False).table(embedding)
    pairs = zip(table.clips.dataset, table.clips.clip_id, table.X[:, 0])
    return {f"{dataset}/{name}": float(value) for dataset, name, value in pairs}


@pytest.fixture
def store(tmp_path):
    folder = tmp_path / "store"
    folder.mkdir()
    return folder


def test_a_file_that_is_written_for_one_dataset_loses_the_old_rows_of_another(store):
    put(store / "F.h5", [1, 2, 3], ["a1", "a2", "b1"], dataset=["a", "a", "b"])
    put(store / "b.e.h5", [4], ["b2"], dataset="b")
    new = ([10, 20, 30, 40], ["a1", "a2", "b1", "b2"])
    put(store, *new, dataset=["a", "a", "b", "b"], overwrite=True)
    assert held(store) == {"a/a1": 10, "a/a2": 20, "b/b1": 30, "b/b2": 40}
    assert not check_store(store).faults


def test_a_file_that_gets_the_name_of_a_merged_one_is_another_file(store):
    put(store / "mine1.h5", [1], ["a1"])
    put(store / "mine2.h5", [2], ["a2"])
    assert compact_store(store) == [store / "a.e.h5"]
    assert [file.name for file in store.iterdir()] == ["a.e.h5"]
    put(store / "mine1.h5", [7], ["z1"], dataset="z")
    assert held(store) == {"a/a1": 1, "a/a2": 2, "z/z1": 7}
    put(store, [8], ["y1"], dataset="y")
    assert held(store)["z/z1"] == 7


def test_a_stranger_cannot_name_a_file_away(store, tmp_path):
    put(store / "mine.h5", [1], ["a1"])
    put(store / "evil.h5", [2], ["b1"], dataset="b")

    with h5py.File(store / "evil.h5", "r+") as handle:
        line = f"{mark_of(store / 'mine.h5')} mine.h5"
        handle["__supersedes__"] = np.array([line.encode()])
    assert held(store) == {"a/a1": 1, "b/b1": 2}
    put(store, [3], ["c1"], dataset="c")
    assert (store / "mine.h5").exists()


def test_damaged_rows_are_not_sealed_again(store, tmp_path):
    put(store / "m1.h5", [1], ["a1"])
    put(store / "m2.h5", [2], ["a2"])
    raw = bytearray((store / "m1.h5").read_bytes())
    at = raw.find(np.ones(4, "<f4").tobytes())
    # What the checksum of HDF5 does not see: to it 0x0000 and 0xffff are the same.
    raw[at : at + 2] = b"\xff\xff"
    (store / "m1.h5").write_bytes(raw)
    assert [fault.clip for fault in check_store(store).faults] == ["a1"]
    for write in (compact_store, lambda path: export_store(path, tmp_path / "x.h5")):
        with pytest.raises(StoreError, match="clip 'a1' of /a/e are not what was written; run"):
            write(store)
    assert sorted(file.name for file in store.iterdir()) == ["m1.h5", "m2.h5"]
    assert not (tmp_path / "x.h5").exists()


def test_two_pairs_of_one_file_name_are_both_merged_once(store):
    for k, (dataset, embedding) in enumerate([("a.b", "c"), ("a", "b.c")]):
        for i in range(2):
            name = f"{k}{i}.h5"
            put(store / name, [k + i], [f"x{i}"], dataset=dataset, embedding=embedding)
    written = compact_store(store)
    assert sorted(file.name for file in written) == ["a.b.c.2.h5", "a.b.c.h5"]
    assert compact_store(store) == []
    for k, (dataset, embedding) in enumerate([("a.b", "c"), ("a", "b.c")]):
        table = EmbeddingStore(store).table(embedding, datasets=[dataset])
        assert table.X[:, 0].tolist() == [k, k + 1]


def test_an_export_is_not_written_over_the_store(store):
    put(store, [1, 2], ["a1", "a2"])
    for out in (store / "all.h5", store / "a.e.h5"):
        with pytest.raises(ParameterError, match="part of the store itself; give a name outside"):
            export_store(store, out, overwrite=True)
    file = export_store(store, store.with_name("x.h5"))
    with pytest.raises(ParameterError, match="part of the store itself"):
        export_store(file, file, datasets=["a"], overwrite=True)
    assert held(file) == held(store) == {"a/a1": 1, "a/a2": 2}


def test_an_export_knows_just_the_clips_that_it_has(store, tmp_path):
    put(store, [1, 2], ["a1", "a2"], label=["x", "y"])
    put(store, [1, 2, 3], ["a1", "a2", "a3"], embedding="g", label=["x", "y", "x"])
    out = export_store(store, tmp_path / "e.h5", embeddings=["e"])
    assert EmbeddingStore(out).clips().clip_id.tolist() == ["a1", "a2"]
    assert not check_store(out).faults
    both = export_store(store, tmp_path / "both.h5")
    assert EmbeddingStore(both).clips().clip_id.tolist() == ["a1", "a2", "a3"]
    bare = tmp_path / "bare.h5"
    with h5py.File(bare, "w") as handle:
        for embedding, keys in (("e1", [b"a", b"b"]), ("e2", [b"b", b"c"])):
            handle[f"d/{embedding}/features"] = np.ones((2, 2), "f4")
            handle[f"d/{embedding}/keys"] = np.array(keys)
    out = export_store(bare, tmp_path / "o.h5")
    assert sorted(EmbeddingStore(out).clips().clip_id) == ["a", "b", "c"]
    # That a clip has no vectors here is for the one who asks to say.
    assert len(EmbeddingStore(out).clips()) == 3
    with pytest.raises(ParameterError, match=r"embedding 'typo' is not in .*choose from 'e', 'g'"):
        export_store(store, tmp_path / "t.h5", embeddings=["typo"])


MANY = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (80, int(sys.argv[2])))
from biasaudio.errors import StoreError
from biasaudio.store import EmbeddingStore
try:
    print(len(EmbeddingStore(sys.argv[1], cache=False).table("e")))
except StoreError as error:
    print(error)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no such limits")
def test_more_parts_than_a_process_may_open(store):
    for i in range(90):
        put(store / f"{i:02d}.h5", [i], [f"c{i:02d}"])

    def run(hard):
        argv = [sys.executable, "-c", MANY, str(store), str(hard)]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

    assert run(4096) == "90"
    assert "may open no more files; raise 'ulimit -n', or merge" in run(80)
    compact_store(store)
    assert run(80) == "90"
