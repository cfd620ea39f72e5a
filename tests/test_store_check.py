"""A check finds any other byte, and names the clips that are hit and no other ones."""

import hashlib
import json
import os
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest

from biasaudio.datasets.table import ClipTable
from biasaudio.errors import BiasAudioError, StoreError
from biasaudio.store import EmbeddingStore, import_arrays
from biasaudio.store.change import write_file
from biasaudio.store.check import check_store
from biasaudio.store.content import Content, Origin
from biasaudio.store.inspection import inspect_file
from biasaudio.store.lock import lock_store
from biasaudio.store.repair import repair_store
from biasaudio.store.seal import MAGIC, mark_of, read_seal
from biasaudio.store.writer import write_vectors

FRAMES = [3, 1, 4, 2, 5, 3]
N = len(FRAMES)
PAIRS = [("alpha", "one"), ("alpha", "two"), ("beta", "one"), ("beta", "two")]


def ids_of(dataset):
    return [f"{dataset}-{i}" for i in range(N)]


def origin_of(ids):
    paths = [f"{name}.wav" for name in ids]
    return Origin(
        {"kind": "toy"}, pd.DataFrame({"clip_id": ids, "path": paths, "sha256": "ab" * 32})
    )


def write_store(path, rng):
    """Write two datasets with two embeddings, one of them with sources."""
    for dataset, embedding in PAIRS:
        ids = ids_of(dataset)
        X = rng.normal(size=(sum(FRAMES), 8)).astype("f4")
        known = {"genre": ["g", "h", "g"] * (N // 3)}
        if dataset == "alpha":
            known["label"] = ["x", "y"] * (N // 2)
        clips = ClipTable.from_columns(ids, dataset, **known)
        origins = {dataset: origin_of(ids)} if embedding == "one" else None
        owner = np.repeat(np.arange(N), FRAMES)
        options = {"embedding": embedding, "overwrite": False, "origins": origins}
        write_vectors(path, X, clips, owner, **options)
    return path


@pytest.fixture
def path(tmp_path, rng):
    """Give a store that is one file."""
    return write_store(tmp_path / "s.h5", rng)


def places_of_clips(path):
    """Return which bytes belong to one clip: its rows, its keys, and rows of tables."""
    seal, owner = read_seal(path), {}

    def note(extent, row_bytes, runs):
        at = next(extent.offsets())
        for clip, n in runs:
            owner.update(dict.fromkeys(range(at, at + n * row_bytes), clip))
            at += n * row_bytes

    for where, table in seal.vectors.items():
        pair = where[1:].split("/")
        runs = [((*pair, clip), n) for clip, n in zip(table.clips, table.rows)]
        note(seal.arrays[f"{where}/features"], 4 * 8, runs)
        keys = seal.arrays[f"{where}/keys"]
        note(keys, np.dtype(keys.dtype).itemsize, runs)
    for where, copy in seal.copies.items():
        _, dataset, *above, column = where.split("/")
        if column != "label_names" and copy.ndim == 1:
            embedding = above[0] if len(above) == 2 else ""
            runs = [((dataset, embedding, clip), 1) for clip in ids_of(dataset)]
            note(seal.arrays[where], copy.itemsize, runs)
    return owner


def flipped(data, at, mask):
    return data[:at] + bytes([data[at] ^ mask]) + data[at + 1 :]


def everything(path):
    store = EmbeddingStore(path, cache=False)
    found = []
    for dataset, embedding in PAIRS:
        table = store.table(embedding, datasets=[dataset])
        clips = table.clips
        found.append((table.X.tobytes(), clips.frame.to_csv(), clips.labels.to_csv()))
    return found


def test_a_store_as_it_was_written_has_no_faults(path):
    check = check_store(path)
    assert (check.faults, check.leftovers) == ([], [])
    assert (check.n_files, check.n_clips) == (1, 2 * N)


@pytest.mark.parametrize("n", [60, pytest.param(600, marks=pytest.mark.slow)])
def test_any_other_byte_is_a_fault_of_just_the_clip_that_it_belongs_to(path, rng, n):
    data = path.read_bytes()
    owner = places_of_clips(path)
    structural = [at for at in range(len(data)) if data[at] and at not in owner]
    places = [
        rng.choice(sorted(owner), n),
        rng.choice(structural, n),
        rng.choice(len(data), n // 6),
    ]
    for at in np.concatenate(places).tolist():
        path.write_bytes(flipped(data, at, int(rng.integers(1, 256))))
        faults = check_store(path).faults
        assert faults, f"byte {at} of {len(data)}"
        if at in owner:
            found = {(one.dataset, one.embedding, one.clip) for one in faults}
            assert found == {owner[at]}, f"byte {at}"


def test_reading_a_file_with_another_byte_is_an_error_or_right(path, rng):
    data, expected = path.read_bytes(), everything(path)
    structural = [at for at in range(len(data)) if data[at]]
    n_errors = 0
    for at in map(int, rng.choice(structural, 25, replace=False)):
        path.write_bytes(flipped(data, at, 0xFF))
        try:
            assert everything(path) == expected, f"byte {at}"
        except BiasAudioError:
            n_errors += 1
    assert n_errors > 5


def test_hdf5_alone_gives_other_numbers_behind_other_headers(path):
    # Of the width of the features: HDF5 reads the first half of each row, and says nothing.
    data, seal = path.read_bytes(), read_seal(path)
    shape = np.array([sum(FRAMES), 8], "<u8").tobytes()
    at = data.index(shape)
    changed = data[:at] + np.array([sum(FRAMES), 4], "<u8").tobytes() + data[at + 16 :]
    path.write_bytes(changed[: seal.size])
    assert EmbeddingStore(path).shape("alpha", "one")[1] == 4
    path.write_bytes(changed)
    with pytest.raises(StoreError, match="HDF5 headers are not those that were written; run"):
        EmbeddingStore(path)
    (fault,) = check_store(path).faults
    assert (fault.dataset, fault.clip) == ("", "")
    assert fault.what == (
        "the headers of HDF5 are not what was written: its 12 clips cannot be read before a repair"
    )


def test_a_file_that_was_cut_off_is_found_and_never_read_as_something_else(path, rng):
    data, expected = path.read_bytes(), everything(path)
    size = read_seal(path).size
    for n in [*rng.integers(0, len(data), 90), *rng.integers(size, len(data), 10)]:
        path.write_bytes(data[:n])
        assert check_store(path).faults, f"{n} of {len(data)} bytes"
        try:
            assert everything(path) == expected
            assert n >= size
        except BiasAudioError:
            assert n < size


def test_bytes_that_were_put_in_or_taken_out_are_found(path):
    data, size = path.read_bytes(), read_seal(path).size
    for changed in (data[:size] + b"x" + data[size:], data[:9000] + data[9010:]):
        path.write_bytes(changed)
        assert "bytes before its seal" in check_store(path).faults[0].what
        with pytest.raises(StoreError, match="headers are not those"):
            EmbeddingStore(path)


def test_neighbours_in_the_chunk_of_a_damaged_clip_are_not_named(tmp_path, rng):
    X = rng.normal(size=(50, 4)).astype("f4")
    ids = [str(i) for i in range(50)]
    path = import_arrays(tmp_path / "x.h5", X, ids, dataset="d")
    data = path.read_bytes()
    for row in (7, 30):
        data = flipped(data, data.index(X[row].tobytes()), 1)
    path.write_bytes(data)
    assert [fault.clip for fault in check_store(path).faults] == ["7", "30"]
    # Without the seal only the chunk is known, which has all of them.
    path.write_bytes(data[: read_seal(path).size])
    faults = check_store(path).faults
    assert "has no seal" in faults[0].what
    assert [fault.clip for fault in faults[1:]] == ids


def test_rows_of_a_clip_need_not_be_neighbours(tmp_path, rng):
    X = rng.normal(size=(6, 4)).astype("f4")
    owner = [0, 1, 0, 1, 1, 0]
    path = import_arrays(tmp_path / "x.h5", X, ["a", "b"], dataset="d", frame_clip=owner)
    assert check_store(path).faults == []
    data = path.read_bytes()
    path.write_bytes(flipped(data, data.index(X[2].tobytes()), 1))
    assert [fault.clip for fault in check_store(path).faults] == ["a"]


def test_files_of_format_1_are_checked_by_what_they_have(tmp_path, rng):
    path = tmp_path / "v1.h5"
    X = rng.normal(size=(40, 4)).astype("f4")
    X[3, 1] = np.nan
    keys = np.arange(20).repeat(2).astype("S")
    with h5py.File(path, "w") as handle:
        handle.create_dataset("d/e/features", data=X, chunks=(10, 4), fletcher32=True)
        handle["d/e/keys"] = keys
    assert [(one.clip, one.what) for one in check_store(path).faults] == [
        ("1", "its vectors have NaN or Inf")
    ]
    data = path.read_bytes()
    path.write_bytes(flipped(data, data.index(X[25].tobytes()), 1))
    found = {one.clip: one.what for one in check_store(path).faults}
    assert list(found) == ["1", "10", "11", "12", "13", "14"]
    assert found["12"] == "in a chunk whose checksum does not fit"


@pytest.mark.parametrize("options", [{}, {"chunks": (4, 3), "compression": "gzip"}])
def test_what_format_1_held_is_sealed_when_a_file_is_extended(tmp_path, rng, options):
    path = tmp_path / "v1.h5"
    X = rng.normal(size=(40, 4)).astype("f4")
    with h5py.File(path, "w") as handle:
        handle.create_dataset("d/e/features", data=X, **options)
        handle["d/e/keys"] = [str(i) for i in range(20) for _ in range(2)]
    import_arrays(path, np.eye(2), ["a", "b"], dataset="new")
    assert check_store(path).faults == []
    extent = read_seal(path).arrays["/d/e/features"]
    data = path.read_bytes()
    path.write_bytes(flipped(data, next(extent.offsets()) + 20, 1))
    found = {(one.dataset, one.clip) for one in check_store(path).faults}
    # Where HDF5 has to unpack the values, all clips of a chunk may be hit.
    assert ("d", "0") in found
    assert found <= {("d", clip) for clip in ("01" if options else "0")}
    assert repair_store(path).after.faults == []
    store = EmbeddingStore(path)
    keys, frames = next(store.blocks("d", "e"))
    assert np.array_equal(frames, X[2 * len(found) :])
    assert store.datasets() == ["d", "new"]


def test_a_clip_in_two_files_is_named_with_the_other_file(tmp_path, rng):
    X = rng.normal(size=(3, 4)).astype("f4")
    for name, rows, shift in (("a", [0, 1], 0), ("b", [1, 2], 0), ("c", [0], 1)):
        ids = [f"clip {row}" for row in rows]
        part = import_arrays(tmp_path / f"{name}.h5", X[rows] + shift, ids, dataset="d")
        assert check_store(part).faults == []
    found = [(one.file.name, one.clip, one.what) for one in check_store(tmp_path).faults]
    assert found == [
        ("b.h5", "clip 1", "it is in a.h5 too, with the same vectors"),
        ("c.h5", "clip 0", "it is in a.h5 too, with other vectors"),
    ]


def content(ids, clips=None, origin=None, embedding="e"):
    keys = np.array(ids, "S")
    clips = ClipTable.from_columns(ids if clips is None else clips, "d")
    return Content(
        "d", embedding, np.eye(len(ids), 4, dtype="f4"), np.arange(len(ids)), keys, clips, origin
    )


def test_vectors_and_clip_table_that_do_not_match(tmp_path):
    path = tmp_path / "x.h5"
    write_file(path, [content(["a", "b"], clips=["b", "c"])])
    found = [(one.embedding, one.clip, one.what) for one in check_store(path).faults]
    assert found == [
        ("e", "a", "the clip table does not name it"),
        ("", "c", "it is in the clip table, but has no vectors"),
    ]


def test_sources_that_do_not_match(tmp_path):
    path = tmp_path / "x.h5"
    write_file(path, [content(["a", "b"], origin=origin_of(["b", "c"]))])
    assert [(one.clip, one.what) for one in check_store(path).faults] == [
        ("c", "it is in the table of sources, but has no vectors"),
        ("a", "it is not in the table of sources"),
    ]


def test_clip_tables_that_contradict_each_other(tmp_path):
    for name in ("one", "two"):
        options = {"dataset": "d", "embedding": name, "genre": name}
        import_arrays(tmp_path / name, np.eye(2), ["a", "b"], **options)
        os.replace(tmp_path / name / f"d.{name}.h5", tmp_path / f"{name}.h5")
        shutil.rmtree(tmp_path / name)
    (fault,) = check_store(tmp_path).faults
    assert fault.file.name == "two.h5"
    assert "clip 'a' has genre 'two', but 'one' in one.h5" in fault.what


def test_files_that_hold_no_store_are_faults_of_their_own(tmp_path, path):
    (tmp_path / "junk.h5").write_bytes(b"junk")
    (tmp_path / "empty.h5").touch()
    check = check_store(tmp_path)
    assert [fault.file.name for fault in check.faults] == ["empty.h5", "junk.h5"]
    assert (check.n_files, check.n_clips) == (3, 2 * N)
    with pytest.raises(StoreError, match="is not there"):
        check_store(tmp_path / "no.h5")


def test_what_a_dead_process_has_left_is_no_fault(tmp_path):
    write_file(tmp_path / "old.h5", [content(["a"])])
    write_file(
        tmp_path / "new.h5",
        [content(["a", "b"])],
        superseded={"old.h5": mark_of(tmp_path / "old.h5")},
    )
    (tmp_path / "x.h5.partial").touch()
    (tmp_path / ".lock").touch()
    scratch = tmp_path / ".derive-x"
    scratch.mkdir()
    check = check_store(tmp_path)
    assert check.faults == []
    names = [left.path.name for left in check.leftovers]
    assert names == ["x.h5.partial", ".lock", "old.h5"]
    os.utime(scratch, (0, 0))
    assert ".derive-x" in [left.path.name for left in check_store(tmp_path).leftovers]
    # What a process holds that lives is not left over.
    with lock_store(tmp_path, is_file=False):
        assert [left.path.name for left in check_store(tmp_path).leftovers] == ["old.h5"]


@pytest.fixture
def growing(tmp_path, monkeypatch):
    """Give a store of two files, and how to let something happen while each is inspected."""
    folder, seen = tmp_path / "st", []
    folder.mkdir()
    for name in ("1", "2"):
        write_file(folder / f"{name}.h5", [content([f"clip {name}"])])

    def meanwhile(change):
        def inspect(file, advance):
            found = inspect_file(file, advance)
            seen.append(file.name)
            change(len(seen))
            return found

        monkeypatch.setattr("biasaudio.store.check.inspect_file", inspect)

    return folder, seen, meanwhile


def test_files_that_are_merged_during_a_check_are_no_fault(growing):
    folder, seen, meanwhile = growing

    def merge(n):
        if n == 3:
            write_file(folder / "new.h5", [content(["clip 1", "clip 2"])])
            os.replace(folder / "new.h5", folder / "1.h5")
            (folder / "2.h5").unlink()

    write_file(folder / "0.h5", [content(["clip 0"])])
    meanwhile(merge)
    check = check_store(folder)
    assert (check.faults, check.n_files, check.n_clips) == ([], 2, 3)
    # Only the file that is another one by then is read again.
    assert seen == ["0.h5", "1.h5", "2.h5", "1.h5"]


def test_a_store_that_changes_all_the_time_cannot_be_checked(growing):
    folder, seen, meanwhile = growing
    meanwhile(lambda n: os.utime(folder / "2.h5", (n, n)))
    with pytest.raises(StoreError, match=r"cannot be checked: another process .*; wait until"):
        check_store(folder)
    assert seen.count("1.h5") == 1


def test_a_link_that_leads_nowhere_is_a_fault(path):
    (path.parent / "0.h5").symlink_to("no.h5")
    assert [fault.what for fault in check_store(path.parent).faults] == ["it is not a file"]


def test_a_seal_may_be_as_long_as_what_it_seals_and_no_longer(tmp_path, monkeypatch):
    monkeypatch.setattr("biasaudio.store.seal._LONGEST", 1000)
    ids = [f"c{i}" for i in range(400)]
    path = import_arrays(tmp_path / "wide.h5", np.ones((400, 99)), ids, dataset="d")
    assert check_store(path).faults == []
    assert path.stat().st_size - read_seal(path).size > 1000
    words = r"the seal would have [\d,]+ bytes, but may have .*too many clips .*a folder"
    with pytest.raises(StoreError, match=words):
        import_arrays(tmp_path / "x" / "narrow.h5", np.ones((400, 1)), ids, dataset="d")
    assert not (tmp_path / "x").exists()


def forge(path, change):
    """Change what the seal of a file says, and give it the right checksums again."""
    data = path.read_bytes()
    footer = data[-181:].split()
    lengths = [int(footer[1]), int(footer[3])]
    middle = len(data) - 181 - lengths[1]
    head, rest = json.loads(data[middle - lengths[0] : middle]), json.loads(data[middle:-181])
    change(head, rest)
    parts = [json.dumps(each).encode() for each in (head, rest)]
    ends = [f"{hashlib.sha256(part).hexdigest()} {len(part):016d} ".encode() for part in parts]
    path.write_bytes(b"".join([data[: middle - lengths[0]], *parts, *ends, MAGIC]))


def be_long(head, rest):
    head["hdf5_bytes"] = 10**15


def be_packed(head, rest):
    for name, shape in (("features", [10**12, 8]), ("keys", [10**12])):
        array = {"dtype": "", "shape": shape, "chunks": [], "places": []}
        head["arrays"][f"/d/e/{name}"] = array
    rest["vectors"]["/d/e"]["rows"] = [10**12]


@pytest.mark.parametrize(
    ("change", "reason"), [(be_long, "the length before it"), (be_packed, "its number of rows")]
)
def test_a_seal_that_is_forged_asks_for_no_memory(tmp_path, change, reason):
    path = tmp_path / "s.h5"
    write_file(path, [content(["a"])])
    forge(path, change)
    with pytest.raises(StoreError, match=f"is damaged \\({reason}\\)"):
        read_seal(path)
    assert f"({reason})" in check_store(path).faults[0].what


def test_a_model_that_is_nonsense_in_a_seal_is_no_crash(tmp_path):
    path = tmp_path / "s.h5"
    write_file(path, [content(["a"])])
    forge(path, lambda head, rest: rest["models"].update({"/d/e": "[" * 10**5}))
    path.write_bytes(flipped(path.read_bytes(), 8, 1))
    assert check_store(path).faults
