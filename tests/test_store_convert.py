"""Import of npz, csv and parquet files."""

import sys
import zipfile

import numpy as np
import pandas as pd
import pytest

from biasaudio.errors import DataError, ParameterError
from biasaudio.store import EmbeddingStore, import_file

ARRAYS = {
    "X": np.arange(8, dtype=np.float32).reshape(4, 2),
    "clip": np.array(["a", "b", "c", "d"]),
    "label": np.array(["cello", "flute", "cello", ""]),
    "group": np.array(["1", "1", "2", "3"]),
    "genre": np.array(["rock", "jazz", "", "rock"]),
    "split": np.array(["train", "train", "test", "test"]),
    "names": np.array(["first", "second"]),
}


@pytest.fixture
def store(tmp_path):
    """Give the path of a store that is not there yet."""
    return tmp_path / "store.h5"


def npz(tmp_path, **change):
    arrays = {name: value for name, value in (ARRAYS | change).items() if value is not None}
    np.savez(tmp_path / "source.npz", **arrays)
    return tmp_path / "source.npz"


def table_frame():
    frame = pd.DataFrame(
        {name: ARRAYS[name] for name in ("clip", "label", "group", "genre", "split")}
    )
    return frame.assign(f1=ARRAYS["X"][:, 1], f0=ARRAYS["X"][:, 0], n_frames=7, title="text")


def check(store, dataset):
    table = EmbeddingStore(store).table("embedding")
    assert table.clips.datasets == [dataset]
    np.testing.assert_array_equal(table.X, ARRAYS["X"])
    for name in ("group", "genre", "split"):
        assert list(getattr(table.clips, name)) == ARRAYS[name].tolist()
    assert list(table.clips.clip_id) == ARRAYS["clip"].tolist()
    assert table.clips.labels["cello"].tolist() == [True, False, True, False]
    assert table.clips.mask["cello"].tolist() == [True, True, True, False]


def test_npz(store, tmp_path):
    import_file(store, npz(tmp_path))
    check(store, "source")


def test_csv_takes_numbered_columns_in_their_order(store, tmp_path):
    table_frame().to_csv(tmp_path / "source.csv", index=False)
    import_file(store, tmp_path / "source.csv", dataset="given")
    check(store, "given")


def test_parquet(store, tmp_path):
    pytest.importorskip("pyarrow")
    table_frame().assign(dataset="column").to_parquet(tmp_path / "source.parquet")
    import_file(store, tmp_path / "source.parquet")
    check(store, "column")


def test_parquet_without_pyarrow_says_what_to_install(store, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    (tmp_path / "source.parquet").write_bytes(b"PAR1")
    with pytest.raises(DataError, match="needs pyarrow; run 'python -m pip install pyarrow'"):
        import_file(store, tmp_path / "source.parquet")


def test_csv_without_numbered_columns_takes_all_numeric_ones(store, tmp_path):
    # Ids stay text, the index that pandas writes is no feature, nor is a column of text.
    frame = pd.DataFrame(
        {"clip_id": ["007", "NA"], "rms": [1.5, 2], "zcr": [3, 4], "note": ["x", "y"]}
    )
    frame.to_csv(tmp_path / "source.csv")
    import_file(store, tmp_path / "source.csv", embedding="mine")
    table = EmbeddingStore(store).table("mine")
    assert list(table.clips.clip_id) == ["007", "NA"]
    assert table.X.tolist() == [[1.5, 3.0], [2.0, 4.0]]


def test_frames_take_the_place_of_X(store, tmp_path):
    frames = np.arange(12, dtype=np.float32).reshape(6, 2)
    source = npz(tmp_path, frames=frames, frame_clip=np.array([0, 1, 2, 3, 0, 1]))
    import_file(store, source)
    assert EmbeddingStore(store).shape("source", "embedding") == (6, 2)
    got = EmbeddingStore(store).table("embedding", pool="max").X
    np.testing.assert_array_equal(got, frames[[4, 5, 2, 3]])
    with pytest.raises(DataError, match="has only one of 'frames' and 'frame_clip'"):
        import_file(store, npz(tmp_path, frames=frames), overwrite=True)


def test_dataset_column_is_used_and_the_argument_goes_first(store, tmp_path):
    source = npz(tmp_path, dataset=np.array(["one", "two", "one", "two"]))
    import_file(store, source)
    assert EmbeddingStore(store).datasets() == ["one", "two"]
    import_file(store, source, dataset="all")
    assert EmbeddingStore(store).datasets() == ["all", "one", "two"]


def test_columns_may_have_other_names(store, tmp_path):
    source = npz(tmp_path, song_id=ARRAYS["group"], group=np.array(list("wxyz")))
    import_file(store, source, columns={"group": "song_id"})
    check(store, "source")
    with pytest.raises(
        ParameterError, match=r"no column 'songid', which is to be 'group'.*did you mean 'song_id'"
    ):
        import_file(store, source, columns={"group": "songid"})
    with pytest.raises(ParameterError, match=r"columns='song' is not known; choose one of 'clip'"):
        import_file(store, source, columns={"song": "song_id"})


def test_object_arrays_are_refused_without_being_loaded(store, tmp_path):
    ran = []

    class Attack:
        def __reduce__(self):
            return (ran.append, (1,))

    source = npz(tmp_path, clip=np.array([Attack()] * 4, dtype=object))
    ran.clear()
    with pytest.raises(DataError, match=r"'clip' is an object array, which needs pickled code"):
        import_file(store, source)
    assert ran == []
    assert not store.exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"X": None}, "has no 'X', only 'clip', 'label'"),
        ({"clip": None}, "has no 'clip' or 'clip_id', only 'X', 'label'.*columns="),
        ({"label": np.array(["a"])}, r"label has shape \(1,\), but there are 4 clip ids"),
        ({"X": np.ones((3, 2))}, "X has 3 rows, but there are 4 clip ids"),
        (
            {"X": np.full((4, 2), np.nan)},
            "X has NaN or Inf in 4 of 4 clips: 'a', 'b', 'c' and 1 more",
        ),
        ({"clip": np.array(list("abca"))}, "more than once in one dataset: 'a'"),
    ],
)
def test_bad_arrays(store, tmp_path, change, message):
    with pytest.raises(DataError, match=message):
        import_file(store, npz(tmp_path, **change))
    assert not store.exists()


@pytest.mark.parametrize(
    ("frame", "message"),
    [
        (
            {"clip": ["a"], "note": ["x"]},
            "has no vectors: it has only 'clip', 'note'; give one numeric",
        ),
        ({"clip": ["a"], "f0": [1], "f1": ["x"]}, "has no vectors: it has text in 'f1'"),
        ({"name": ["a"], "f0": [1]}, "has no 'clip' or 'clip_id', only 'name', 'f0'"),
        ({"clip": ["a", "b"], "f0": [1, None]}, "X has NaN or Inf in 1 of 2 clips: 'b'"),
        ({"clip": [], "f0": []}, "has no rows; give at least one clip"),
    ],
)
def test_bad_tables(store, tmp_path, frame, message):
    pd.DataFrame(frame).to_csv(tmp_path / "source.csv", index=False)
    with pytest.raises(DataError, match=message):
        import_file(store, tmp_path / "source.csv")
    assert not store.exists()


def test_bad_files(store, tmp_path):
    with pytest.raises(DataError, match=r"no\.npz is not a file that is there"):
        import_file(store, tmp_path / "no.npz")
    with pytest.raises(
        ParameterError, match=r"ends in '\.wav'; give a file that ends in \.npz, \.csv"
    ):
        import_file(store, tmp_path / "x.wav")
    for name in ("x.npz", "x.csv", "x.parquet"):
        path = tmp_path / name
        path.touch()
        with pytest.raises(DataError, match=r"is empty \(0 bytes\)"):
            import_file(store, path)
        path.write_bytes(b'"\xff\x00')
        with pytest.raises(DataError, match=r"is not an npz file|cannot be read|needs pyarrow"):
            import_file(store, path)
    assert not store.exists()


def test_damaged_members(store, tmp_path):
    source = npz(tmp_path)
    data = bytearray(source.read_bytes())
    at = data.index(ARRAYS["X"].tobytes())
    data[at] ^= 0xFF
    source.write_bytes(data)
    with pytest.raises(DataError, match=r"'X' is damaged \(.*CRC.*\); save it again"):
        import_file(store, source)
    with zipfile.ZipFile(source, "w") as archive:
        archive.writestr("X.npy", b"\x93NUMPY\x01\x00")
        archive.writestr("clip.npy", b"\x93NUMPY\x01\x00")
    with pytest.raises(DataError, match="'clip' is damaged"):
        import_file(store, source)
    source.write_bytes(source.read_bytes()[:-30])
    with pytest.raises(DataError, match="is not an npz file, or is cut off"):
        import_file(store, source)


def test_columns_of_zeros_and_ones_are_not_taken_for_features(tmp_path):
    path = tmp_path / "clips.csv"
    path.write_text("clip_id,dataset,cello,flute,dim0\na,x,1,0,0.3\nb,x,0,1,0.4\nc,x,,1,0.5\n")
    with pytest.raises(DataError, match="nothing but 0, 1 and blank in 'cello', 'flute'"):
        import_file(tmp_path / "s.h5", path)
    assert not (tmp_path / "s.h5").exists()
    path.write_text("clip_id,dataset,f0,f1\na,x,1,0\nb,x,0,1\n")
    import_file(tmp_path / "s.h5", path)
