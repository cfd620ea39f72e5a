"""A repair takes out the clips that are damaged, and loses nothing."""

import os
import threading
import time

import h5py
import numpy as np
import pandas as pd
import pytest

from biasaudio.datasets.table import ClipTable
from biasaudio.errors import StoreError
from biasaudio.store import EmbeddingStore, import_arrays
from biasaudio.store.change import write_file
from biasaudio.store.check import check_store
from biasaudio.store.content import Content, Origin, read_origin
from biasaudio.store.lock import lock_store
from biasaudio.store.repair import TAKEN, repair_store
from biasaudio.store.seal import mark_of, read_seal

IDS = ["a", "b", "=c"]
X = np.random.default_rng(0).normal(size=(7, 4)).astype("f4")
OWNER = np.array([0, 0, 1, 1, 1, 2, 2])


def content(rows=range(7), embedding="e", clips=None, origin=True):
    """Return some rows of X as what goes into a file."""
    rows = np.array(rows)
    ids = [IDS[i] for i in dict.fromkeys(OWNER[rows])]
    clips = ids if clips is None else clips
    table = ClipTable.from_columns(clips, "d", genre=[f"genre of {clip}" for clip in clips])
    columns = {"clip_id": ids, "path": [f"{name}.wav" for name in ids], "sha256": "ab" * 32}
    sources = Origin({"kind": "toy"}, pd.DataFrame(columns)) if origin else None
    keys = np.array(IDS, "S")[OWNER[rows]]
    return Content("d", embedding, X, rows, keys, table, sources)


@pytest.fixture
def path(tmp_path):
    """Give a store that is one file, with two embeddings of three clips."""
    path = tmp_path / "s.h5"
    write_file(path, [content(), content(embedding="other", origin=False)])
    return path


def flip(path, at, mask=1):
    data = bytearray(path.read_bytes())
    data[at] ^= mask
    path.write_bytes(data)


def names(folder):
    return sorted(each.name for each in folder.iterdir())


def taken(repair):
    return pd.read_csv(repair.quarantine / TAKEN, keep_default_na=False)


def clips_of(path, embedding="e"):
    blocks = EmbeddingStore(path, cache=False).blocks("d", embedding)
    return list(dict.fromkeys(np.concatenate([keys for keys, _ in blocks])))


def test_a_store_without_faults_is_left_alone(path):
    data = path.read_bytes()
    repair = repair_store(path)
    assert (repair.quarantine, repair.rewritten, repair.removed) == (None, [], [])
    assert path.read_bytes() == data
    assert [each.name for each in path.parent.iterdir()] == ["s.h5"]


def test_a_damaged_clip_goes_and_all_others_stay(path):
    at = path.read_bytes().index(X[2].tobytes())
    flip(path, at)
    before = path.read_bytes()
    repair = repair_store(path)
    assert repair.quarantine == path.parent / "s.h5.quarantine" / "1"
    assert (repair.quarantine / "s.h5").read_bytes() == before
    assert taken(repair).to_numpy().tolist() == [
        ["s.h5", "d", "e", "b", "its vectors are not what was written"]
    ]
    assert repair.after is not None
    assert repair.after.faults == check_store(path).faults == []
    store = EmbeddingStore(path, cache=False)
    keys, frames = next(store.blocks("d", "e"))
    assert keys.tolist() == ["a", "a", "=c", "=c"]
    assert np.array_equal(frames, X[OWNER != 1])
    assert np.array_equal(next(store.blocks("d", "other"))[1], X)
    # What is known of the clip stays, as the other embedding has it.
    assert list(store.clips("d").genre) == ["genre of a", "genre of b", "genre of =c"]
    origin = read_origin(path, "d", "e")
    assert origin.model == {"kind": "toy"}
    assert origin.sources["clip_id"].tolist() == ["a", "=c"]
    assert repair_store(path).quarantine is None


@pytest.mark.parametrize("part", ["headers", "keys", "genre", "sha256", "seal"])
def test_of_other_damage_nothing_is_lost(path, part):
    seal = read_seal(path)
    expected = read_origin(path, "d", "e").sources.to_csv(), EmbeddingStore(path).clips().frame
    where = {"keys": "/d/e/keys", "genre": "/d/__clips__/genre", "sha256": "/d/e/__source__/sha256"}
    at = {"headers": 30, "seal": seal.size + 50}.get(part)
    flip(path, next(seal.arrays[where[part]].offsets()) if at is None else at, 0xFF)
    assert len(check_store(path).faults) == 1
    repair = repair_store(path)
    assert repair.after.faults == []
    for embedding in ("e", "other"):
        keys, frames = next(EmbeddingStore(path).blocks("d", embedding))
        assert keys.tolist() == [IDS[i] for i in OWNER]
        assert np.array_equal(frames, X)
    assert read_origin(path, "d", "e").sources.to_csv() == expected[0]
    assert EmbeddingStore(path).clips().frame.equals(expected[1])


def test_any_damage_is_repaired_at_the_cost_of_one_clip_at_most(path, rng):
    data = path.read_bytes()
    seen = [at for at in range(len(data)) if data[at]]
    for at in map(int, rng.choice(seen, 20, replace=False)):
        path.write_bytes(data)
        flip(path, at, 0xFF)
        repair = repair_store(path)
        assert repair.after.faults == [], f"byte {at}"
        left = [clips_of(path, embedding) for embedding in ("e", "other")]
        assert len(left[0]) + len(left[1]) >= 5, f"byte {at}"


def test_a_file_without_its_seal_is_sealed_anew(path):
    data, seal = path.read_bytes(), read_seal(path)
    path.write_bytes(data[: seal.size])
    repair = repair_store(path)
    assert ["has no seal" in fault.what for fault in repair.before.faults] == [True]
    assert read_seal(path).vectors == seal.vectors
    assert clips_of(path) == IDS
    # And so is one that another program has changed.
    with h5py.File(path, "r+") as handle:
        handle["d/e/features"][0, 0] = np.inf
    repair = repair_store(path)
    assert repair.quarantine.name == "2"
    assert clips_of(path) == IDS[1:]


def test_a_file_that_cannot_be_read_goes_whole(tmp_path, path):
    (tmp_path / "junk.h5").write_bytes(b"junk")
    repair = repair_store(tmp_path)
    assert repair.removed == [tmp_path / "junk.h5"]
    assert repair.quarantine == tmp_path / "quarantine" / "1"
    assert (repair.quarantine / "junk.h5").read_bytes() == b"junk"
    assert clips_of(tmp_path) == IDS
    path.write_bytes(path.read_bytes()[:2000])
    repair = repair_store(tmp_path)
    assert (repair.after, repair.quarantine.name) == (None, "2")
    with pytest.raises(StoreError, match="is a folder without"):
        EmbeddingStore(tmp_path)


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="there are no pipes")
def test_what_is_no_file_goes_too(tmp_path, path):
    (tmp_path / "folder.h5").mkdir()
    os.mkfifo(tmp_path / "pipe.h5")
    assert [fault.what for fault in check_store(tmp_path).faults] == ["it is not a file"] * 2
    repair = repair_store(tmp_path)
    assert repair.after.faults == []
    assert {each.name for each in repair.quarantine.iterdir()} == {"folder.h5", "pipe.h5", TAKEN}


def test_of_a_clip_in_two_files_that_in_the_first_stays(tmp_path):
    write_file(tmp_path / "1.h5", [content([0, 1, 2, 3, 4])])
    write_file(tmp_path / "2.h5", [content([2, 3, 4, 5, 6])])
    write_file(tmp_path / "3.h5", [content([0, 1])])
    with pytest.raises(StoreError, match="run 'biasaudio store verify --repair'"):
        EmbeddingStore(tmp_path).table("e")
    repair = repair_store(tmp_path)
    assert repair.rewritten == [tmp_path / "2.h5"]
    assert repair.removed == [tmp_path / "3.h5"]
    assert sorted(clips_of(tmp_path)) == sorted(IDS)
    assert sorted(taken(repair)["clip"]) == ["a", "b"]


def test_the_good_copy_of_a_clip_in_two_files_stays(tmp_path):
    write_file(tmp_path / "1.h5", [content([0, 1, 2, 3, 4])])
    write_file(tmp_path / "2.h5", [content([2, 3, 4, 5, 6])])
    flip(tmp_path / "1.h5", (tmp_path / "1.h5").read_bytes().index(X[2].tobytes()))
    repair = repair_store(tmp_path)
    assert repair.rewritten == [tmp_path / "1.h5"]
    table = EmbeddingStore(tmp_path, cache=False).table("e")
    b = list(table.clips.clip_id).index("b")
    assert np.allclose(table.X[b], X[2:5].mean(axis=0))


def test_clips_and_vectors_match_after_a_repair(tmp_path):
    path = tmp_path / "s.h5"
    write_file(path, [content(clips=["b", "x"])])
    assert repair_store(path).after.faults == []
    clips = EmbeddingStore(path).clips()
    assert dict(zip(clips.clip_id, clips.genre)) == {"b": "genre of b", "=c": "", "a": ""}


def test_the_first_of_contradicting_clip_tables_is_right(tmp_path):
    for name, genre in (("1", "rock"), ("2", "jazz")):
        folder = tmp_path / name
        import_arrays(folder, np.eye(2), ["a", "b"], dataset="d", embedding=name, genre=genre)
        os.replace(folder / f"d.{name}.h5", tmp_path / f"{name}.h5")
        folder.rmdir()
    assert repair_store(tmp_path).after.faults == []
    assert set(EmbeddingStore(tmp_path).clips().genre) == {"rock"}


def test_names_in_the_table_are_no_formulas(path):
    flip(path, path.read_bytes().index(X[5].tobytes()))
    assert list(taken(repair_store(path))["clip"]) == ["'=c"]


def test_what_dead_processes_left_is_removed(tmp_path):
    write_file(tmp_path / "old.h5", [content([0, 1])])
    write_file(
        tmp_path / "new.h5", [content()], superseded={"old.h5": mark_of(tmp_path / "old.h5")}
    )
    old = (tmp_path / "old.h5").read_bytes()
    (tmp_path / "x.h5.partial").touch()
    (tmp_path / ".derive-x").mkdir()
    os.utime(tmp_path / ".derive-x", (0, 0))
    repair = repair_store(tmp_path)
    assert repair.removed == [tmp_path / n for n in ("x.h5.partial", ".derive-x", "old.h5")]
    # What holds vectors is kept all the same.
    assert (repair.quarantine / "old.h5").read_bytes() == old
    assert (len(taken(repair)), repair.after.leftovers) == (0, [])
    assert names(tmp_path) == ["new.h5", "quarantine"]
    assert clips_of(tmp_path) == IDS


def test_what_a_damaged_file_has_replaced_is_kept(tmp_path):
    write_file(tmp_path / "old.h5", [content([0, 1])])
    write_file(
        tmp_path / "new.h5", [content()], superseded={"old.h5": mark_of(tmp_path / "old.h5")}
    )
    flip(tmp_path / "new.h5", (tmp_path / "new.h5").read_bytes().index(X[0].tobytes()))
    repair = repair_store(tmp_path)
    assert sorted(each.name for each in repair.quarantine.iterdir()) == ["new.h5", "old.h5", TAKEN]
    assert [each.name for each in tmp_path.glob("*.h5")] == ["new.h5"]


def test_a_failure_in_the_middle_leaves_the_store_as_it_was(path, monkeypatch):
    flip(path, path.read_bytes().index(X[2].tobytes()))
    before = path.read_bytes()

    def fail(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("biasaudio.store.repair.write_file", fail)
        with pytest.raises(StoreError, match=r"No space left on device.*nothing was changed"):
            repair_store(path)
    assert path.read_bytes() == before
    assert repair_store(path).after.faults == []


def test_what_cannot_be_removed_is_named(tmp_path, monkeypatch):
    write_file(tmp_path / "new.h5", [content()])
    (tmp_path / "x.h5.partial").touch()

    def refuse(*_, **__):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr("biasaudio.store.repair.remove_files", refuse)
        with pytest.raises(StoreError, match=r"x\.h5\.partial cannot be removed \(Permission"):
            repair_store(tmp_path)
    assert repair_store(tmp_path).removed == [tmp_path / "x.h5.partial"]


def test_the_lock_that_a_repair_holds_is_not_taken_for_a_left_one(tmp_path, monkeypatch):
    """A lock of a dead process, which the repair takes over, keeps all others out."""
    write_file(tmp_path / "s.h5", [content()])
    (tmp_path / ".lock").write_text("{}")
    inside, most, threads = [1], [], []

    def write():
        with lock_store(tmp_path, is_file=False, wait=30):
            inside.append(1)
            most.append(len(inside))
            time.sleep(0.1)
            inside.pop()

    def check(path, **options):
        threads.append(threading.Thread(target=write))
        threads[-1].start()
        found = check_store(path, **options)
        time.sleep(0.1)
        return found

    monkeypatch.setattr("biasaudio.store.repair.check_store", check)
    assert repair_store(tmp_path).removed == []
    inside.pop()
    for thread in threads:
        thread.join()
    assert most == [1, 1]
    assert names(tmp_path) == ["s.h5"]


def test_what_another_process_is_writing_is_no_leftover(tmp_path):
    """A file of a folder may be written under a lock of its own."""
    write_file(tmp_path / "s.h5", [content()])
    (tmp_path / "x.h5.partial").touch()
    with lock_store(tmp_path / "x.h5", is_file=True):
        assert check_store(tmp_path).leftovers == []
        assert repair_store(tmp_path).removed == []
    assert repair_store(tmp_path).removed == [tmp_path / "x.h5.partial"]


def test_a_store_that_is_written_to_is_not_repaired(path, monkeypatch):
    monkeypatch.setattr("biasaudio.store.repair.PATIENCE", 0.0)
    with (
        lock_store(path, is_file=True),
        pytest.raises(StoreError, match="is being written by process"),
    ):
        repair_store(path)
    with pytest.raises(StoreError, match=r"no\.h5 is not there"):
        repair_store(path.with_name("no.h5"))
