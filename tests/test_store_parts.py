"""Parts of a growing store: added, merged, forgotten and exported, and what a crash leaves."""

from dataclasses import replace

import h5py
import numpy as np
import pandas as pd
import pytest

from biasaudio.datasets import ClipTable
from biasaudio.errors import DataError, ParameterError, StoreError
from biasaudio.store import EmbeddingStore, change, import_arrays
from biasaudio.store.content import Content, Origin
from biasaudio.store.index import index_files
from biasaudio.store.lock import LOCK
from biasaudio.store.merge import compact_store, export_store
from biasaudio.store.parts import PartWriter
from biasaudio.store.relabel import relabel
from biasaudio.store.seal import read_seal
from biasaudio.store.sealing import is_intact
from biasaudio.store.staging import discard_useless, put_in_place, staging_folder

MODEL = {"kind": "toy", "hop": 3}
PAIR = ("d", "e")


@pytest.fixture
def store(tmp_path):
    """Give the path of a store that is not there yet."""
    return tmp_path / "store"


def frames(name):
    """Return the vectors of a clip, which its name decides."""
    rng = np.random.default_rng(sum(map(ord, name)))
    return rng.normal(size=(1 + len(name) % 3, 5)).astype(np.float32)


def content(ids, model=MODEL, label="cello"):
    vectors = [frames(name) for name in ids]
    owner = np.repeat(np.arange(len(ids)), [len(X) for X in vectors])
    sources = pd.DataFrame(
        {"clip_id": ids, "path": [f"{i}.wav" for i in ids], "sha256": [i * 2 for i in ids]},
        dtype=object,
    )
    clips = ClipTable.from_columns(np.array(ids, dtype=object), "d", label=[label] * len(ids))
    keys = np.char.encode(np.array(ids), "utf-8")[owner]
    rows = np.arange(len(owner))
    return Content(*PAIR, np.concatenate(vectors), rows, keys, clips, Origin(model, sources))


def grow(store, *groups):
    writer = PartWriter(store, "e", MODEL, ["d"])
    for ids in groups:
        assert writer.add(content(ids)) == []
    return writer


def held(store, pair=PAIR):
    found = {}
    for keys, X in EmbeddingStore(store, cache=False).blocks(*pair):
        for key, x in zip(keys, X):
            found.setdefault(key, []).append(x)
    return {key: np.array(rows) for key, rows in found.items()}


def assert_holds(store, ids):
    found = held(store)
    assert sorted(found) == sorted(ids)
    for name, X in found.items():
        assert np.array_equal(X, frames(name))
    opened = EmbeddingStore(store, cache=False)
    assert opened.shape(*PAIR) == (sum(map(len, found.values())), 5)
    assert sorted(opened.table("e").clips.clip_id) == sorted(ids)
    made = opened.origin(*PAIR)
    assert made.model == MODEL
    assert dict(zip(made.sources.clip_id, made.sources.sha256)) == {i: i * 2 for i in ids}


def files(store):
    return sorted(path.name for path in store.iterdir())


def test_each_addition_is_a_sealed_file_of_its_own(store):
    writer = grow(store, ["b", "aa"], ["ccc"])
    assert len(files(store)) == 2
    for path in store.iterdir():
        seal = read_seal(path)
        assert is_intact(path, seal)
        assert list(seal.vectors) == ["/d/e"]
    assert_holds(store, ["aa", "b", "ccc"])
    assert dict(writer.present("d")) == {"aa": "aaaa", "b": "bb", "ccc": "cccccc"}
    assert dict(writer.present("other")) == {}


def test_clips_that_are_there_are_left_as_they_are(store):
    first, second = grow(store, ["a"]), PartWriter(store, "e", MODEL, ["d"])
    assert first.add(content(["b"])) == []
    before = {name: (store / name).read_bytes() for name in files(store)}
    assert second.add(content(["b", "a"])) == ["b", "a"]
    assert {name: (store / name).read_bytes() for name in files(store)} == before
    assert second.add(content(["b", "c"])) == ["b"]
    assert_holds(store, ["a", "b", "c"])


def test_a_merge_by_another_process_is_noticed(store):
    writer = grow(store, ["a"], ["b"])
    other = grow(store, ["c"])
    compact_store(store)
    assert writer.add(content(["c", "a", "x"])) == ["c", "a"]
    assert other.add(content(["x"])) == ["x"]
    assert_holds(store, ["a", "b", "c", "x"])


def test_merged_parts_are_one_file_however_they_came_in(store, tmp_path):
    grow(store, ["b", "aa"], ["ccc"], ["a"])
    assert compact_store(store) == [store / "d.e.h5"]
    assert files(store) == ["d.e.h5"]
    assert_holds(store, ["a", "aa", "b", "ccc"])
    assert list(held(store)) == ["a", "aa", "b", "ccc"]
    assert compact_store(store) == []
    grow(tmp_path / "other", ["ccc", "a", "b", "aa"])
    compact_store(tmp_path / "other")
    whole = [
        export_store(each, tmp_path / "x.h5", overwrite=True).read_bytes()
        for each in (store, tmp_path / "other")
    ]
    assert whole[0] == whole[1]


def test_a_part_alone_gets_the_name_of_a_whole(store):
    grow(store, ["a"])
    assert files(store) != ["d.e.h5"]
    assert compact_store(store) == [store / "d.e.h5"]
    assert files(store) == ["d.e.h5"]


def test_only_the_embedding_that_is_asked_for_is_merged(store):
    grow(store, ["a"], ["b"])
    PartWriter(store, "f", MODEL, ["d"])
    import_arrays(store, np.ones((1, 2)), ["a"], dataset="d", embedding="f")
    assert compact_store(store, embedding="f") == []
    assert compact_store(store, embedding="e") == [store / "d.e.h5"]
    assert files(store) == ["d.e.h5", "d.f.h5"]


def test_frames_that_were_written_are_told(store, tmp_path):
    grow(store, ["a"], ["bb"], ["ccc"])
    n = EmbeddingStore(store).shape(*PAIR)[0]
    told = []
    compact_store(store, advance=told.append)
    assert sum(told) == n
    told.clear()
    export_store(store, tmp_path / "x.h5", advance=told.append)
    assert sum(told) == n


def test_files_without_clip_tables_are_merged_too(store):
    store.mkdir()
    for name in "ab":
        with h5py.File(store / f"{name}.h5", "w") as handle:
            handle["d/e/features"] = np.full((2, 3), ord(name), np.float32)
            handle["d/e/keys"] = np.array([name.encode()] * 2)
    compact_store(store)
    assert files(store) == ["d.e.h5"]
    assert {key: X[0, 0] for key, X in held(store).items()} == {"a": 97.0, "b": 98.0}


def test_a_file_with_more_than_one_embedding_is_not_merged_away(store):
    grow(store, ["a"])
    import_arrays(store, np.ones((1, 2)), ["a"], dataset="d", embedding="f")
    export_store(store, store.with_name("both.h5"))
    for name in files(store):
        (store / name).unlink()
    store.with_name("both.h5").rename(store / "both.h5")
    grow(store, ["b"], ["cc"])
    compact_store(store)
    assert "both.h5" in files(store)
    assert len(files(store)) == 2
    assert sorted(held(store)) == ["a", "b", "cc"]
    assert (held(store, ("d", "f"))["a"] == 1).all()


@pytest.fixture
def crashed(store, monkeypatch):
    """Give a store whose merge died after the new file was there, before the parts were gone."""
    grow(store, ["a"], ["bb"])
    with monkeypatch.context() as patch:
        patch.setattr(change, "_remove_merged", lambda _: None)
        compact_store(store)
    assert len(files(store)) == 3
    return store


def test_merged_parts_that_are_still_there_are_passed_over(crashed):
    assert index_files(sorted(crashed.glob("*.h5"))) == {PAIR: (crashed / "d.e.h5",)}
    assert_holds(crashed, ["a", "bb"])


@pytest.mark.parametrize("what", ["add", "compact", "replace one", "replace all", "import"])
def test_merged_parts_that_are_still_there_never_come_back(crashed, what):
    ids = ["a", "bb"]
    if what == "add":
        grow(crashed, ["ccc"])
        ids.append("ccc")
    elif what == "compact":
        compact_store(crashed)
    elif what == "replace one":
        grow(staging_folder(crashed, "e"), ["a"])
        put_in_place(crashed, "e", MODEL)
    elif what == "replace all":
        replace_all(crashed, ["a"])
        assert list(held(crashed)) == ["a"]
        assert files(crashed) == ["d.e.h5"]
        return
    else:
        import_arrays(
            crashed,
            frames("x"),
            ["x"] if len(frames("x")) == 1 else ["x", "y"],
            dataset="d",
            embedding="e",
            overwrite=True,
        )
        assert sorted(held(crashed)) == ["x", "y"]
        assert files(crashed) == ["d.e.h5"]
        return
    assert_holds(crashed, ids)
    compact_store(crashed)
    assert files(crashed) == ["d.e.h5"]
    assert_holds(crashed, ids)


def test_what_cannot_be_removed_never_comes_back_either(crashed, monkeypatch):
    def stuck(_):
        raise PermissionError(13, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(change, "remove_files", stuck)
        grow(crashed, ["ccc"])
        compact_store(crashed)
        assert len(files(crashed)) == 4
        assert_holds(crashed, ["a", "bb", "ccc"])
        grow(staging_folder(crashed, "e"), ["bb"], ["dd"])
        put_in_place(crashed, "e", MODEL)
        assert_holds(crashed, ["a", "bb", "ccc", "dd"])
    compact_store(crashed)
    assert files(crashed) == ["d.e.h5"]
    assert_holds(crashed, ["a", "bb", "ccc", "dd"])


def test_a_replaced_embedding_never_hides_what_it_is_merged_into(store, monkeypatch):
    """A part that took the place of the whole would do so again after the merge."""
    grow(store, ["a"])
    compact_store(store)
    grow(store, ["bb"])
    import_arrays(store, np.ones((1, 5)), ["x"], dataset="d", embedding="e", overwrite=True)
    monkeypatch.setattr(change, "_remove_merged", lambda _: None)
    compact_store(store)
    assert list(held(store)) == ["x"]


def test_files_of_the_owner_are_not_removed(crashed):
    """A name without the mark of the file that was merged says nothing."""
    path = crashed / "mine.h5"
    (crashed / "d.e.h5").rename(path)
    with h5py.File(path, "r+") as handle:
        del handle["__supersedes__"]
        handle["__supersedes__"] = np.array([b"later.h5"])
    for part in crashed.glob("d.e.*.h5"):
        part.unlink()
    import_arrays(crashed / "later.h5", np.ones((1, 5)), ["z"], dataset="d", embedding="e")
    assert "z" in EmbeddingStore(crashed).table("e", cache=False).clips.clip_id
    compact_store(crashed)
    assert "z" in EmbeddingStore(crashed).table("e", cache=False).clips.clip_id


def test_what_a_dead_process_was_writing_is_removed_by_the_next_writer(store):
    grow(store, ["a"])
    (store / "d.e.0123456789ab.h5.partial").write_bytes(b"half")
    (store / "notes.partial").write_text("mine")
    assert_holds(store, ["a"])
    grow(store, ["bb"])
    assert len([name for name in files(store) if name.endswith(".h5.partial")]) == 0
    assert (store / "notes.partial").read_text() == "mine"
    assert LOCK not in files(store)


OTHER = MODEL | {"hop": 4}


def replace_all(store, ids, model=OTHER):
    writer = PartWriter(staging_folder(store, "e"), "e", model, ["d"])
    for name in ids:
        writer.add(content([name], model))
    put_in_place(store, "e", model)


@pytest.mark.parametrize("merged", [False, True])
def test_replaced_clips_are_new_and_the_others_are_not(store, merged):
    grow(store, ["a", "bb"], ["ccc"], ["dd", "e"])
    if merged:
        compact_store(store)
    new = content(["bb", "ccc", "f"])
    sources = new.origin.sources.assign(sha256="new")
    new = replace(new, vectors=new.vectors + 1, origin=Origin(MODEL, sources))
    PartWriter(staging_folder(store, "e"), "e", MODEL, ["d"]).add(new)
    assert_holds(store, ["a", "bb", "ccc", "dd", "e"])
    put_in_place(store, "e", MODEL)
    assert files(store) == ["d.e.h5"]
    assert is_intact(store / "d.e.h5", read_seal(store / "d.e.h5"))
    found = held(store)
    assert sorted(found) == ["a", "bb", "ccc", "dd", "e", "f"]
    for name, X in found.items():
        assert np.array_equal(X, frames(name) + (name in ("bb", "ccc", "f"))), name
    assert dict(PartWriter(store, "e", MODEL, ["d"]).present("d")) == {
        **{"a": "aa", "bb": "new", "ccc": "new", "dd": "dddd", "e": "ee", "f": "new"},
    }
    assert EmbeddingStore(store).clips("d").clip_id.tolist() == sorted(found)


def test_another_model_replaces_the_whole_and_labels_stay(store):
    grow(store, ["a", "bb"], ["ccc"])
    import_arrays(store, np.ones((1, 2)), ["a"], dataset="d", embedding="f", label=["cello"])
    writer = PartWriter(staging_folder(store, "e"), "e", OTHER, ["d"])
    new = content(["a", "ccc"], OTHER)
    blank = ClipTable.from_columns(new.clips.clip_id, "d", split="train")
    writer.add(replace(new, vectors=new.vectors[:, :3], clips=blank))
    put_in_place(store, "e", OTHER)
    assert files(store) == ["d.e.h5", "d.f.h5"]
    assert {name: X.shape[1] for name, X in held(store).items()} == {"a": 3, "ccc": 3}
    clips = EmbeddingStore(store).clips("d")
    assert clips.clip_id.tolist() == ["a", "ccc"]
    assert clips.labels["cello"].tolist() == [True, True]
    assert clips.split.tolist() == ["train", "train"]
    assert EmbeddingStore(store).origin("d", "e").model == OTHER


def test_one_embedding_is_replaced_in_a_file_of_several(store):
    path = store / "d.e.h5"
    for name in "ef":
        import_arrays(
            path, np.ones((2, 5)), ["a", "b"], dataset="d", embedding=name, label=["cello", "oboe"]
        )
    replace_all(store, ["a"])
    assert files(store) == ["d.e.h5"]
    assert list(held(store)) == ["a"]
    assert list(held(store, ("d", "f"))) == ["a", "b"]
    assert EmbeddingStore(store).clips("d").clip_id.tolist() == ["a", "b"]
    assert is_intact(path, read_seal(path))


def test_only_what_our_model_made_goes_on_waiting(store):
    grow(store, ["a"])
    staging = staging_folder(store, "e")
    PartWriter(staging, "e", OTHER, ["d"]).add(content(["a"], OTHER))
    discard_useless(store, "e", OTHER)
    assert len(files(staging)) == 1
    assert EmbeddingStore(store).files == [store / name for name in files(store) if name[0] != "."]
    discard_useless(store, "e", MODEL)
    assert not staging.exists()
    put_in_place(store, "e", MODEL)
    assert_holds(store, ["a"])


def test_new_labels_fill_what_was_open_and_win_only_when_asked(store):
    grow(store, ["a"], ["bb"])
    import_arrays(store, np.ones((1, 2)), ["bb"], dataset="d", embedding="plain")
    before = {name: (store / name).read_bytes() for name in files(store)}
    ids = np.array(["bb", "x"], dtype=object)
    assert relabel(store, ClipTable.from_columns(ids, "d"), replace=False) == []
    assert relabel(store, ClipTable.from_columns(ids, "q", genre="pop"), replace=True) == []
    new = ClipTable.from_columns(ids, "d", genre="pop", label=["oboe", "cello"])
    with pytest.raises(DataError, match="clip 'bb' has label 'cello' absent, but present"):
        relabel(store, new, replace=False)
    assert {name: (store / name).read_bytes() for name in files(store)} == before
    changed = relabel(store, new, replace=True)
    assert len(changed) == 2
    assert {path.name for path in changed} == {
        name for name in before if before[name] != (store / name).read_bytes()
    }
    clips = EmbeddingStore(store).clips("d")
    assert clips.frame["genre"].to_dict() == {"a": "", "bb": "pop"}
    assert clips.labels.idxmax(axis=1).to_dict() == {"a": "cello", "bb": "oboe"}
    assert all(is_intact(path, read_seal(path)) for path in store.iterdir())
    assert relabel(store, new, replace=True) == []
    assert_holds(store, ["a", "bb"])


def test_export_refuses_what_is_there_and_names_that_are_not(store, tmp_path):
    grow(store, ["a"])
    out = tmp_path / "x.h5"
    export_store(store, out)
    before = out.read_bytes()
    with pytest.raises(ParameterError, match="already there"):
        export_store(store, out)
    for options, word in (({"datasets": ["q"]}, "dataset 'q'"), ({"embeddings": ["q"]}, "'q'")):
        with pytest.raises(ParameterError, match=f"{word} is not in"):
            export_store(store, out, overwrite=True, **options)
    with pytest.raises(ParameterError, match=r"give one that ends in \.h5"):
        export_store(store, tmp_path / "folder")
    with pytest.raises(StoreError, match="is not there"):
        export_store(tmp_path / "none", tmp_path / "y.h5")
    assert out.read_bytes() == before
    assert sorted(path.name for path in tmp_path.iterdir()) == ["store", "x.h5"]
    assert_holds(out, ["a"])


def test_a_damaged_part_stops_a_merge_and_nothing_is_lost(store):
    grow(store, ["a"], ["bb"])
    path = sorted(store.iterdir())[0]
    data = bytearray(path.read_bytes())
    at = data.find(frames("a")[0].tobytes())
    at = data.find(frames("bb")[0].tobytes()) if at < 0 else at
    data[at] ^= 1
    path.write_bytes(data)
    before = {name: (store / name).read_bytes() for name in files(store)}
    with pytest.raises(StoreError, match=path.name):
        compact_store(store)
    assert {name: (store / name).read_bytes() for name in files(store)} == before
