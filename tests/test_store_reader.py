"""Reading stores: the published layout, our own files, and what is wrong with others."""

import hashlib

import h5py
import numpy as np
import pytest

from biasaudio.datasets import ClipTable
from biasaudio.errors import BiasAudioWarning, DataError, ParameterError, StoreError
from biasaudio.store import EmbeddingStore
from biasaudio.store import file as file_module


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
def published(tmp_path, rng):
    """Give a store of the published layout and its frames by dataset."""
    data = {}
    for dataset, n_clips, n_frames in (("irmas", 6, 25), ("openmic", 10, 95)):
        keys = np.array([f"{dataset}_{i:03d}" for i in range(n_clips)], dtype="S").repeat(n_frames)
        data[dataset] = (rng.normal(1000, 1, (len(keys), 8)).astype("f4"), keys)
    parts = {(dataset, "openl3"): value for dataset, value in data.items()}
    return EmbeddingStore(write_layout(tmp_path / "embeddings.h5", parts)), data


def test_published_layout_opens_as_it_is(published):
    store, data = published
    assert store.datasets() == ["irmas", "openmic"]
    assert store.embeddings() == store.embeddings("irmas") == ["openl3"]
    assert store.shape("openmic", "openl3") == (950, 8)
    assert store.clips() is None
    table = store.table("openl3")
    X, keys = data["openmic"]
    got = table.select(table.clips.dataset == "openmic")
    assert list(got.clips.clip_id) == [f"openmic_{i:03d}" for i in range(10)]
    expected = np.stack([X[keys == k].mean(0, dtype="f8") for k in np.unique(keys)])
    np.testing.assert_allclose(got.X, expected, rtol=1e-7)
    assert table.embedding == "openl3"
    assert table.report.n_matched == 16


@pytest.mark.parametrize("pool", ["mean", "max", "std", "mean+std"])
def test_small_blocks_and_mixed_keys_give_the_same_table(
    published, tmp_path, rng, monkeypatch, pool
):
    store, data = published
    expected = store.table("openl3", pool=pool)
    order = {name: rng.permutation(len(keys)) for name, (_, keys) in data.items()}
    parts = {(d, "openl3"): (X[order[d]], k[order[d]]) for d, (X, k) in data.items()}
    mixed = EmbeddingStore(write_layout(tmp_path / "mixed.h5", parts, chunks=(13, 8)))
    monkeypatch.setattr(file_module, "BLOCK_VALUES", 100)
    got = mixed.table("openl3", expected.clips, pool=pool)
    assert list(got.clips.clip_id) == list(expected.clips.clip_id)
    np.testing.assert_allclose(got.X, expected.X, rtol=2e-6)
    first_seen = dict.fromkeys(parts["irmas", "openl3"][1].astype(str))
    assert list(mixed.table("openl3", datasets="irmas").clips.clip_id) == list(first_seen)


def test_rows_follow_the_clips_also_of_mixed_datasets(published):
    store, _ = published
    whole = store.table("openl3")
    order = np.array([15, 0, 7, 3, 12, 1])
    some = whole.clips.select(order)
    with pytest.warns(BiasAudioWarning, match=r"vector\(s\) belong to no known clip"):
        got = store.table("openl3", some, unknown="drop")
    assert list(got.clips.clip_id) == list(some.clip_id)
    np.testing.assert_array_equal(got.X, whole.X[order])
    assert len(got.report.unknown) == 10


def test_missing_clips_raise_or_are_dropped(published):
    store, _ = published
    whole = store.table("openl3", datasets=["irmas"])
    more = ClipTable.concat([ClipTable.from_columns(["nobody"], "irmas"), whole.clips])
    with pytest.raises(DataError, match=r"1 clip\(s\) have no vector: 'nobody'"):
        store.table("openl3", more)
    with pytest.raises(DataError, match=r"3 vector\(s\) belong to no known clip: 'irmas_003'"):
        store.table("openl3", whole.clips.select([0, 1, 2]))
    with pytest.warns(BiasAudioWarning, match="nobody"):
        got = store.table("openl3", more, missing="drop")
    np.testing.assert_array_equal(got.X, whole.X)
    assert got.report.missing == ("nobody",)


def test_keys_may_be_bytes_or_str_and_features_other_numbers(tmp_path):
    X = np.arange(8.0).reshape(4, 2)
    keys = ["é", "b", "é", "b"]
    for i, (kind, stored) in enumerate(
        [(h5py.string_dtype(), np.float64), (h5py.string_dtype("utf-8", 2), np.int32)]
    ):
        path = tmp_path / f"{i}.h5"
        stored_keys = np.array([k.encode() for k in keys], dtype=object).astype(kind)
        write_layout(path, {("demo", "e"): (X.astype(stored), stored_keys)})
        table = EmbeddingStore(path).table("e")
        assert list(table.clips.clip_id) == ["é", "b"]
        assert table.X.tolist() == [[2.0, 3.0], [4.0, 5.0]]


def test_blocks_are_own_arrays_in_file_order(published):
    store, data = published
    blocks = list(store.blocks("openmic", "openl3", rows=200))
    assert [len(X) for _, X in blocks] == [200, 200, 200, 200, 150]
    np.testing.assert_array_equal(np.concatenate([X for _, X in blocks]), data["openmic"][0])
    assert np.concatenate([keys for keys, _ in blocks]).tolist() == [
        key.decode() for key in data["openmic"][1]
    ]


@pytest.mark.parametrize("rows", [0, -1, 2.5, True])
def test_blocks_need_a_positive_whole_number(published, rows):
    with pytest.raises(ParameterError, match=f"rows={rows} is not allowed"):
        published[0].blocks("irmas", "openl3", rows=rows)


def test_fingerprint_is_the_sha256_of_each_file(published):
    store, _ = published
    data = store.path.read_bytes()
    expected = {"path": str(store.path), "bytes": len(data)}
    assert store.fingerprint() == [expected | {"sha256": hashlib.sha256(data).hexdigest()}]


def test_progress_bar_goes_to_stderr(published, capsys):
    pytest.importorskip("tqdm")
    published[0].table("openl3", progress=True)
    captured = capsys.readouterr()
    assert captured.out == ""
    assert "pooling" in captured.err


def test_nan_is_named_by_clip_with_dataset_and_embedding(tmp_path, rng):
    X = rng.normal(size=(6, 2)).astype("f4")
    X[[1, 2, 5], 0] = [np.nan, -np.inf, np.inf]
    keys = np.array(list("aabbcd"), dtype="S")
    store = EmbeddingStore(write_layout(tmp_path / "x.h5", {("demo", "e"): (X, keys)}))
    for pool in ("mean", "max", "std"):
        with pytest.raises(
            DataError, match=r"/demo/e has NaN or Inf in 3 of 4 clips: 'a', 'b', 'd'"
        ):
            store.table("e", pool=pool)
    with pytest.raises(
        DataError, match=r"/demo/e has NaN or Inf in 3 of the frames from 0, of 'a'"
    ):
        list(store.blocks("demo", "e"))
    with pytest.warns(BiasAudioWarning, match="no known clip"):
        good = store.table("e", ClipTable.from_columns(["c"], "demo"), unknown="drop")
    np.testing.assert_array_equal(good.X, X[4:5])


def test_unknown_names_say_what_there_is(published):
    store, _ = published
    with pytest.raises(
        StoreError, match=r"dataset 'irma' .*choose from 'irmas', 'openmic'; did you"
    ):
        store.embeddings("irma")
    with pytest.raises(StoreError, match=r"'openl' is not in .*'irmas'; choose from 'openl3'; did"):
        store.table("openl")
    with pytest.raises(StoreError, match=r"dataset 'x' is not in .*choose from 'irmas', 'openmic'"):
        store.table("openl3", datasets=["irmas", "x"])
    with pytest.raises(StoreError, match="dataset 'x' is not in"):
        store.table("openl3", ClipTable.from_columns(["a"], "x"))
    with pytest.raises(StoreError, match="dataset 'x' is not in"):
        store.clips("x")
    with pytest.raises(ParameterError, match="datasets is empty; choose from 'irmas', 'openmic'"):
        store.table("openl3", datasets=[])
    with pytest.raises(ParameterError, match=r"pool='avg' is not known; choose one of 'mean'"):
        store.table("openl3", pool="avg")
    with pytest.raises(ParameterError, match="clips is a DataFrame; give a ClipTable"):
        store.table("openl3", store.table("openl3").clips.frame)


def test_embedding_that_only_some_datasets_have(published, rng):
    store, _ = published
    write_layout(store.path, {("irmas", "vggish"): (np.ones((1, 3)), np.array([b"irmas_000"]))})
    assert store.embeddings("irmas") == ["openl3", "vggish"]
    assert store.embeddings() == ["openl3"]
    with pytest.raises(
        StoreError, match=r"'vggish' is not there for dataset 'openmic'; leave it out"
    ):
        store.table("vggish")
    assert store.table("vggish", datasets=["irmas"]).X.shape == (1, 3)


def test_datasets_of_different_width(tmp_path):
    keys = np.array([b"a"])
    parts = {("one", "e"): (np.ones((1, 3)), keys), ("two", "e"): (np.ones((1, 4)), keys)}
    store = EmbeddingStore(write_layout(tmp_path / "x.h5", parts))
    with pytest.raises(StoreError, match=r"different widths: 3 in .*/one/e and 4 in .*/two/e"):
        store.table("e")


def test_folder_is_read_as_one_and_refuses_the_same_embedding_twice(tmp_path):
    keys = np.array([b"a"])
    write_layout(tmp_path / "1.h5", {("one", "e"): (np.ones((1, 2)), keys)})
    write_layout(tmp_path / "2.hdf5", {("two", "e"): (np.zeros((1, 2)), keys)})
    (tmp_path / "3.h5.partial").touch()
    store = EmbeddingStore(tmp_path)
    assert [file.name for file in store.files] == ["1.h5", "2.hdf5"]
    assert store.datasets() == ["one", "two"]
    assert store.table("e").X.tolist() == [[1, 1], [0, 0]]
    write_layout(tmp_path / "4.h5", {("one", "e"): (np.ones((1, 2)), keys)})
    with pytest.raises(StoreError, match=r"of /one/e are in both .*1\.h5 and .*4\.h5: 'a'; run"):
        store.table("e")
