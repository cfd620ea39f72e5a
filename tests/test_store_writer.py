"""Writing stores: round trips, and several imports into one store."""

import h5py
import numpy as np
import pandas as pd
import pytest

from biasaudio.errors import DataError, ParameterError
from biasaudio.store import EmbeddingStore, import_arrays
from biasaudio.store import output as output_module


@pytest.fixture(params=["store.h5", "store"])
def path(request, tmp_path):
    """Give the path of a store that is not there yet: a file, and a folder."""
    return tmp_path / "new" / request.param


def listing(folder):
    """Return what is in a folder and the bytes of each file."""
    return {str(p): p.read_bytes() if p.is_file() else None for p in sorted(folder.rglob("*"))}


def columns(n, **more):
    ids = [f"clip {i} é" for i in range(n)]
    return {"clip": ids, "dataset": "demo", "group": [f"song {i // 2}" for i in range(n)], **more}


def test_what_is_written_is_read_back(path, rng):
    X = rng.normal(size=(6, 3))
    labels = pd.DataFrame({"cello": [1, 0, 1, 0, 0, None], "flute": [0, 1, None, 0, 1, 1]})
    known = columns(6, labels=labels, split=["train"] * 4 + ["test"] * 2, genre=["rock", ""] * 3)
    assert import_arrays(path, X, **known) == path
    store = EmbeddingStore(path)
    table = store.table("embedding")
    np.testing.assert_array_equal(table.X, X.astype(np.float32))
    for name in ("clip", "group", "split", "genre"):
        got = table.clips.clip_id if name == "clip" else getattr(table.clips, name)
        assert list(got) == list(known[name])
    assert table.clips.label_names == ["cello", "flute"]
    np.testing.assert_array_equal(table.clips.mask, labels.notna())
    np.testing.assert_array_equal(table.clips.labels, labels.fillna(0) == 1)


def test_frames_are_kept_and_pooled(path, rng):
    X = rng.normal(1000, 1, size=(200, 4)).astype(np.float32)
    owner = np.r_[np.arange(6), rng.integers(0, 6, 194)]
    import_arrays(path, X, frame_clip=owner, **columns(6))
    store = EmbeddingStore(path)
    assert store.shape("demo", "embedding") == (200, 4)
    np.testing.assert_array_equal(
        np.concatenate([x for _, x in store.blocks("demo", "embedding")]), X
    )
    expected = np.stack([X[owner == i].astype("f8").std(axis=0) for i in range(6)])
    np.testing.assert_allclose(store.table("embedding", pool="std").X, expected, rtol=1e-6)


def test_several_datasets_in_one_call(path, rng, monkeypatch):
    monkeypatch.setattr(output_module, "CHUNK_VALUES", 8)
    monkeypatch.setattr(output_module, "BLOCK_VALUES", 16)
    X = rng.normal(size=(40, 2)).astype(np.float32)
    dataset = np.where(rng.random(40) < 0.5, "one", "two")
    import_arrays(path, X, [f"{i // 2}" for i in range(0, 80, 2)], dataset=dataset, label=dataset)
    store = EmbeddingStore(path)
    assert store.datasets() == ["one", "two"]
    assert len(store.files) == 1
    for name in ("one", "two"):
        np.testing.assert_array_equal(
            store.table("embedding", datasets=[name]).X, X[dataset == name]
        )
    # Labels of the other dataset are annotated as absent, because they came in one call.
    assert store.clips().label_names == ["one", "two"]


def test_imports_add_up_and_clip_tables_fill_each_other(path, rng):
    import_arrays(path, rng.normal(size=(4, 2)), embedding="a", **columns(4, label=list("xyxy")))
    import_arrays(path, rng.normal(size=(6, 3)), embedding="b", **columns(6, genre="rock"))
    store = EmbeddingStore(path)
    assert store.embeddings("demo") == ["a", "b"]
    clips = store.clips("demo")
    assert list(clips.clip_id) == columns(6)["clip"]
    assert list(clips.genre) == ["rock"] * 6
    assert clips.mask.to_numpy().sum(axis=1).tolist() == [2, 2, 2, 2, 0, 0]
    with pytest.raises(DataError, match=r"2 clip\(s\) have no vector: 'clip 4 é', 'clip 5 é'"):
        store.table("a")
    assert store.table("b").X.shape == (6, 3)


def test_contradicting_clips_are_refused(path):
    X = np.ones((4, 2))
    import_arrays(path, X, embedding="a", **columns(4, genre="rock", label=list("xyxy")))
    before = listing(path.parent)
    with pytest.raises(
        DataError, match=r"clip 'clip 0 é' has genre 'jazz', but 'rock' in .*; correct one"
    ):
        import_arrays(path, X, embedding="b", **columns(4, genre="jazz"))
    with pytest.raises(DataError, match=r"clip 'clip 0 é' has label 'x' absent, but present in"):
        import_arrays(path, X, embedding="b", **columns(4, label=list("yyxy")))
    assert listing(path.parent) == before


def test_overwrite_replaces_vectors_and_clips(path, rng):
    import_arrays(path, np.ones((4, 2)), **columns(4, genre="rock", label=list("xyxy")))
    import_arrays(path, np.ones((1, 2)), ["other"], dataset="other")
    with pytest.raises(
        ParameterError, match=r"'embedding' of dataset 'demo' is already in .*overwrite"
    ):
        import_arrays(path, np.ones((2, 2)), **columns(2))
    import_arrays(
        path, np.zeros((2, 5)), overwrite=True, **columns(2, genre="jazz", label=list("zx"))
    )
    store = EmbeddingStore(path)
    table = store.table("embedding", datasets=["demo"])
    assert table.X.shape == (2, 5)
    assert list(table.clips.genre) == ["jazz"] * 2
    assert table.clips.label_names == ["x", "z"]
    assert store.datasets() == ["demo", "other"]


def test_overwrite_of_one_of_two_embeddings_lets_new_labels_win(tmp_path):
    path = tmp_path / "x.h5"
    for embedding in "ab":
        import_arrays(path, np.ones((2, 2)), embedding=embedding, **columns(2, label=list("xy")))
    new = columns(2, label=["z", "x"])
    import_arrays(path, np.zeros((2, 2)), embedding="a", overwrite=True, **new)
    clips = EmbeddingStore(path).clips()
    assert clips.label_names == ["x", "y", "z"]
    assert clips.labels.to_numpy().tolist() == [[False, False, True], [True, False, False]]
    assert clips.mask["y"].tolist() == [False, False]


def test_adding_to_a_published_file_keeps_its_clips(tmp_path):
    path = tmp_path / "embeddings.h5"
    with h5py.File(path, "w") as handle:
        handle["demo/vggish/features"] = np.ones((3, 2), "f4")
        handle["demo/vggish/keys"] = np.array([b"a", b"b", b"c"])
    import_arrays(path, np.ones((2, 2)), ["b", "d"], dataset="demo", genre="rock")
    store = EmbeddingStore(path)
    assert list(store.clips().clip_id) == ["a", "b", "c", "d"]
    assert list(store.clips().genre) == ["", "rock", "", "rock"]
    assert list(store.table("vggish", store.clips().select([0, 1, 2])).clips.clip_id) == list("abc")


def test_names_with_dots_do_not_lose_each_other(tmp_path):
    import_arrays(tmp_path / "s", [[1.0]], ["x"], dataset="a.b", embedding="c")
    import_arrays(tmp_path / "s", [[2.0]], ["x"], dataset="a", embedding="b.c")
    store = EmbeddingStore(tmp_path / "s")
    assert store.shape("a.b", "c") == store.shape("a", "b.c") == (1, 1)
    assert len(store.files) == 2


def test_file_keeps_the_promises_of_the_format(path):
    import_arrays(path, np.ones((3, 2), dtype=np.int64), **columns(3, label=list("xyz")))
    with h5py.File(EmbeddingStore(path).files[0]) as handle:
        assert handle.attrs["format"] == b"biasaudio-store"
        assert handle.attrs["format_version"] == 3
        arrays = []
        handle.visititems(lambda _, item: arrays.append(item) if hasattr(item, "dtype") else None)
        assert len(arrays) == 11
        for array in arrays:
            assert array.fletcher32
            assert array.compression is None
            assert array.dtype.kind in "fuS"
        assert handle["demo/embedding/features"].dtype == np.float32


def test_folder_with_other_files_becomes_a_store(tmp_path):
    (tmp_path / "README.txt").write_text("notes")
    import_arrays(tmp_path, np.ones((4, 2)), **columns(4))
    [file] = EmbeddingStore(tmp_path).files
    assert file.name.startswith("part-")
    assert sorted(each.name for each in tmp_path.iterdir()) == ["README.txt", file.name, "parts.txt"]
