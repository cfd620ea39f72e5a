"""Pooled tables that are kept beside the store: the same numbers, or none at all."""

import os
import shutil
from concurrent.futures import ThreadPoolExecutor

import h5py
import numpy as np
import pytest

from biasaudio.datasets import ClipTable
from biasaudio.errors import BiasAudioWarning, DataError
from biasaudio.store import EmbeddingStore, import_arrays
from biasaudio.store import cache as cache_module
from biasaudio.store import frames as frames_module

N_CLIPS, N_FRAMES, D = 12, 30, 8
NAMES = [f"clip {i}" for i in range(N_CLIPS)]
OWNER = np.repeat(np.arange(N_CLIPS), N_FRAMES)
FEATURES, KEYS = "demo/e/features", "demo/e/keys"


@pytest.fixture
def X(rng):
    """Give the frames of all clips."""
    return rng.normal(3, 1, (len(OWNER), D)).astype("f4")


def plain(path, X, keys=None, **options):
    """Write frames as the published file has them: no checksums."""
    with h5py.File(path, "w") as handle:
        handle.create_dataset(FEATURES, data=X, **options)
        handle.create_dataset(KEYS, data=np.array(NAMES, "S")[OWNER] if keys is None else keys)
    return EmbeddingStore(path)


def summed(path, X):
    """Write frames as we do: a checksum for each chunk; a seal would change the size."""
    import_arrays(path, X, NAMES, dataset="demo", embedding="e", frame_clip=OWNER)
    with h5py.File(path, "r+"):
        pass
    return EmbeddingStore(path)


@pytest.fixture(params=[plain, summed], ids=["plain", "summed"])
def store(request, tmp_path, X):
    """Give a store of each kind, with its mean kept."""
    store = request.param(tmp_path / "s.h5", X)
    store.table("e")
    assert kept(store)
    return store


def kept(store):
    """Return the files beside the store."""
    return sorted(store.path.with_name(store.path.name + ".pooled").glob("*"))


def means(X):
    return np.stack([X[i == OWNER].mean(axis=0, dtype="f8") for i in range(N_CLIPS)])


@pytest.fixture
def reads(monkeypatch):
    """Count the blocks of frames that are read."""
    found = []
    read = frames_module.Frames.read
    monkeypatch.setattr(
        frames_module.Frames, "read", lambda self, *args: found.append(args) or read(self, *args)
    )
    return found


@pytest.mark.parametrize("pool", ["mean", "max", "std", "mean+std"])
def test_a_hit_gives_the_bytes_of_a_miss_without_reading_a_frame(store, reads, pool):
    without = store.table("e", pool=pool, cache=False)
    first = store.table("e", pool=pool)
    assert reads
    reads.clear()
    second = store.table("e", pool=pool)
    assert not reads
    for table in (first, second):
        assert table.X.tobytes() == without.X.tobytes()
        assert table.clips.frame.equals(without.clips.frame)
        assert table.report == without.report
    assert not second.X.flags.writeable


def test_a_hit_gives_any_clips_in_any_order(store, reads):
    whole = store.table("e", cache=False)
    order = np.array([7, 0, 11])
    some = whole.clips.select(order)
    reads.clear()
    with pytest.warns(BiasAudioWarning, match=r"9 vector\(s\) belong to no known clip"):
        hit = store.table("e", some, unknown="drop")
    assert not reads
    with pytest.warns(BiasAudioWarning, match=r"9 vector\(s\) belong to no known clip"):
        miss = store.table("e", some, unknown="drop", cache=False)
    assert reads
    assert hit.X.tobytes() == miss.X.tobytes() == whole.X[order].tobytes()
    assert hit.report == miss.report


def test_what_does_not_match_is_said_as_without_a_cache(store):
    whole = store.table("e").clips
    more = ClipTable.concat([ClipTable.from_columns(["nobody"], "demo"), whole])
    for clips in (more, whole.select([0, 1])):
        texts = set()
        for cache in (True, False):
            with pytest.raises(DataError, match=r"nobody|no known clip") as caught:
                store.table("e", clips, cache=cache)
            texts.add(str(caught.value))
        assert len(texts) == 1


def in_place(store, name, at, value):
    """Change one value, and set the time of modification back."""
    before = store.path.stat()
    with h5py.File(store.path, "r+") as handle:
        handle[name][at] = value
    os.utime(store.path, ns=(before.st_atime_ns, before.st_mtime_ns))
    after = store.path.stat()
    assert (after.st_size, after.st_mtime_ns) == (before.st_size, before.st_mtime_ns)


def test_a_changed_value_is_seen_at_the_same_size_and_time(store, X):
    X[100, 3] = 77
    in_place(store, FEATURES, (100, 3), 77)
    np.testing.assert_allclose(store.table("e").X, means(X), rtol=1e-6)


def test_a_changed_key_is_seen_at_the_same_size_and_time(store):
    with h5py.File(store.path) as handle:
        keys = handle[KEYS][()]
    keys[keys == b"clip 3"] = b"clip x"
    in_place(store, KEYS, slice(None), keys)
    clips = ClipTable.from_columns([name.replace("clip 3", "clip x") for name in NAMES], "demo")
    assert store.table("e", clips).report.n_matched == N_CLIPS


@pytest.mark.parametrize("at", [0, 3001, 5999])
def test_a_changed_value_in_a_large_plain_array_is_seen(tmp_path, rng, at):
    # Larger than what is read whole, and the row is none of those that are sampled.
    X = rng.normal(size=(6000, 64)).astype("f4")
    store = plain(tmp_path / "s.h5", X, keys=np.repeat(np.arange(600), 10).astype("S"))
    before = store.table("e").X
    in_place(store, FEATURES, (at, 3), 77)
    assert (store.table("e").X[at // 10] != before[at // 10]).any()


def test_appended_and_replaced_data_are_seen(store, tmp_path, X):
    longer = plain(
        tmp_path / "longer.h5", np.r_[X, X[:5]], np.array(NAMES, "S")[np.r_[OWNER, OWNER[:5]]]
    )
    os.replace(longer.path, store.path)
    assert store.table("e").X[0].tobytes() != means(X)[0].astype("f4").tobytes()
    other = summed(tmp_path / "other.h5", X + 1)
    os.replace(other.path, store.path)
    np.testing.assert_allclose(store.table("e").X, means(X + 1), rtol=1e-6)


def test_a_changed_key_of_variable_length_is_seen(tmp_path, X):
    keys = np.array(NAMES, dtype=object)[OWNER]
    with h5py.File(tmp_path / "s.h5", "w") as handle:
        handle.create_dataset(FEATURES, data=X, fletcher32=True)
        handle.create_dataset(KEYS, data=keys, dtype=h5py.string_dtype())
    store = EmbeddingStore(tmp_path / "s.h5")
    store.table("e")
    data = store.path.read_bytes()
    store.path.write_bytes(data.replace(b"clip 3", b"clip x"))
    assert "clip x" in store.table("e").clips.clip_id


def test_checksummed_data_stay_known_when_others_are_added_or_all_is_copied(tmp_path, X, reads):
    store = summed(tmp_path / "one" / "s.h5", X)
    store.table("e")
    import_arrays(store.path, X, NAMES, dataset="demo", embedding="f", frame_clip=OWNER)
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    reads.clear()
    for folder in ("one", "two"):
        EmbeddingStore(tmp_path / folder / "s.h5").table("e")
    assert not reads


def test_a_damaged_file_is_never_used_and_is_written_again(store, X, reads):
    (file,) = kept(store)
    good, expected = file.read_bytes(), store.table("e").X.tobytes()
    flipped = range(0, len(good), 29)
    damaged = [good[:i] + bytes([good[i] ^ 1]) + good[i + 1 :] for i in flipped]
    for data in [b"", good[:20], good[:40], good[:-1], good + b"\0", *damaged]:
        file.write_bytes(data)
        reads.clear()
        assert store.table("e").X.tobytes() == expected
        assert reads
        assert file.read_bytes() == good


def test_a_file_of_another_version_or_of_other_vectors_is_not_used(
    tmp_path, store, X, reads, monkeypatch
):
    import_arrays(store.path, X + 5, NAMES, dataset="demo", embedding="f", frame_clip=OWNER)
    store.table("e")
    (file,) = kept(store)
    file.rename(file.with_name(file.name.replace(".e.", ".f.")))
    np.testing.assert_allclose(store.table("f").X, means(X + 5), rtol=1e-6)
    store.table("e")
    monkeypatch.setattr(cache_module, "VERSION", b"another one")
    reads.clear()
    store.table("e")
    assert reads


def test_where_nothing_can_be_written_there_is_no_cache_and_no_error(tmp_path, X):
    store = plain(tmp_path / "s.h5", X)
    (tmp_path / "s.h5.pooled").write_text("in the way")
    for _ in range(2):
        np.testing.assert_allclose(store.table("e").X, means(X), rtol=1e-6)
    assert store.clear_cache() == []
    assert sorted(path.name for path in tmp_path.iterdir()) == ["s.h5", "s.h5.pooled"]


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root may write anywhere")
def test_a_folder_without_permission_to_write(tmp_path, X):
    store = plain(tmp_path / "s.h5", X)
    tmp_path.chmod(0o555)
    try:
        np.testing.assert_allclose(store.table("e").X, means(X), rtol=1e-6)
        assert not kept(store)
    finally:
        tmp_path.chmod(0o755)


def test_off_by_request_it_is_neither_written_nor_read(tmp_path, X, reads):
    store = plain(tmp_path / "s.h5", X)
    off = EmbeddingStore(store.path, cache=False)
    assert repr(off) == f"EmbeddingStore({str(store.path)!r}, cache=False)"
    off.table("e")
    store.table("e", cache=False)
    assert not kept(store)
    store.table("e")
    reads.clear()
    off.table("e")
    store.table("e", cache=False)
    assert len(reads) == 2
    off.table("e", cache=True)
    assert len(reads) == 2


def test_nothing_is_kept_where_that_would_be_wasteful(tmp_path, X):
    store = plain(tmp_path / "s.h5", X)
    few = ClipTable.from_columns(NAMES[:2], "demo")
    with pytest.warns(BiasAudioWarning, match="no known clip"):
        store.table("e", few, unknown="drop")
    assert not kept(store)
    # The share of OpenMIC that has one of the four published genres.
    study = ClipTable.from_columns(NAMES[:5], "demo")
    with pytest.warns(BiasAudioWarning, match="no known clip"):
        store.table("e", study, unknown="drop")
    assert kept(store)
    path = import_arrays(tmp_path / "clips.h5", X[:N_CLIPS], NAMES, dataset="demo")
    store = EmbeddingStore(path)
    store.table("embedding")
    assert not kept(store)


def test_nothing_is_kept_while_the_file_is_open_for_writing(tmp_path, X):
    store = plain(tmp_path / "s.h5", X)
    with h5py.File(store.path, "r+") as handle:
        store.table("e")
        assert not kept(store)
        handle[FEATURES][:30] = 1
        assert (store.table("e").X[0] == 1).all()


def test_clips_with_nan_are_named_as_without_a_cache(tmp_path, X):
    X[[35, 200, 201], 2] = [np.nan, np.inf, -np.inf]
    store = plain(tmp_path / "s.h5", X)
    texts = set()
    for cache in (False, True, True):
        with pytest.raises(DataError, match=r"in 2 of 12 clips: 'clip 1', 'clip 6'") as caught:
            store.table("e", cache=cache)
        texts.add(str(caught.value))
    assert len(texts) == 1
    assert kept(store)
    some = ClipTable.from_columns([NAMES[6], NAMES[2]], "demo")
    for cache in (False, True):
        with (
            pytest.warns(BiasAudioWarning, match="no known clip"),
            pytest.raises(DataError, match=r"in 1 of 2 clips: 'clip 6'; leave"),
        ):
            store.table("e", some, unknown="drop", cache=cache)
    with pytest.warns(BiasAudioWarning, match="no known clip"):
        good = store.table("e", some.select([1]), unknown="drop")
    np.testing.assert_allclose(good.X[0], X[OWNER == 2].mean(axis=0), rtol=1e-6)


def test_clearing_removes_our_files_only_and_says_which(store):
    store.table("e", pool="max")
    folder = kept(store)[0].parent
    (folder / "left.partial").touch()
    (folder / "mine.txt").write_text("mine")
    sizes = {str(file): file.stat().st_size for file in kept(store) if file.suffix != ".txt"}
    assert len(sizes) == 3
    assert {each["path"]: each["bytes"] for each in store.clear_cache()} == sizes
    assert [file.name for file in kept(store)] == ["mine.txt"]
    (folder / "mine.txt").unlink()
    store.table("e")
    assert len(store.clear_cache()) == 1
    assert not folder.exists()
    assert store.clear_cache() == []


def test_a_folder_has_a_cache_for_each_file_that_is_no_file_of_the_store(tmp_path, X, reads):
    for name in ("a", "b"):
        import_arrays(tmp_path, X, NAMES, dataset=name, embedding="e", frame_clip=OWNER)
    store = EmbeddingStore(tmp_path)
    first = store.table("e")
    assert [file.name for file in store.files] == ["a.e.h5", "b.e.h5"]
    assert store.datasets() == ["a", "b"]
    reads.clear()
    assert store.table("e").X.tobytes() == first.X.tobytes()
    assert not reads
    (tmp_path / "a.e.h5").unlink()
    removed = [os.path.relpath(each["path"], tmp_path) for each in store.clear_cache()]
    assert removed == ["a.e.h5.pooled/a.e.mean.table", "b.e.h5.pooled/b.e.mean.table"]
    assert [path.name for path in tmp_path.iterdir()] == ["b.e.h5"]


def test_many_at_once_write_one_good_file(tmp_path, X):
    store = plain(tmp_path / "s.h5", X)
    with ThreadPoolExecutor(8) as pool:
        tables = list(pool.map(lambda _: store.table("e").X.tobytes(), range(24)))
    assert len(set(tables)) == 1
    assert [file.name for file in kept(store)] == ["demo.e.mean.table"]


def test_the_same_block_in_another_place_is_other_data(tmp_path, X):
    """Of two stores with one block written each, at another place, the sums are the same."""
    half = len(X) // 2
    prints = []
    for place in (0, half):
        path = tmp_path / f"{place}.h5"
        with h5py.File(path, "w") as handle:
            options = {"chunks": (half, D), "fletcher32": True}
            features = handle.create_dataset(FEATURES, (2 * half, D), "f4", **options)
            features[place : place + half] = X[:half]
            keys = np.array(NAMES, "S")[OWNER[: 2 * half]]
            handle.create_dataset(KEYS, data=keys, chunks=(half,), fletcher32=True)
        with frames_module.open_frames(path, "demo", "e") as frames:
            prints.append(cache_module.data_fingerprint(frames))
    assert prints[0] != prints[1]


def test_integers_are_not_told_by_checksums_that_take_0_for_minus_1(tmp_path, X):
    path = tmp_path / "s.h5"
    whole = np.round(X).astype("i4")
    whole[7] = 0
    store = plain(path, whole, fletcher32=True, chunks=(10, D))
    before = store.table("e").X
    with h5py.File(path, "a") as handle:
        handle[FEATURES][7] = -1
    after = store.table("e").X
    assert np.abs(after - before).max() > 0.01


def test_the_cache_of_a_file_with_capitals_is_removed_too(tmp_path, X):
    folder = tmp_path / "store"
    folder.mkdir()
    plain(folder / "A.H5", X)
    store = EmbeddingStore(folder)
    store.table("e")
    assert len(store.clear_cache()) == 1
    assert [path.name for path in folder.iterdir()] == ["A.H5"]
