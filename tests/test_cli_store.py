"""``biasaudio store``: listing, importing, checking, merging, and clearing the cache."""

import re
from contextlib import contextmanager

import h5py
import numpy as np
import pandas as pd
import pytest
from audit_fixtures import N, arrays, call, failure, saved, strict

from biasaudio.store import EmbeddingStore, import_arrays


@pytest.fixture
def store(tmp_path):
    """Give the path of a store that is not there yet."""
    return str(tmp_path / "s.h5")


def test_import_prints_what_is_in_the_store(capsys, tmp_path, store):
    files = [saved(tmp_path / f"{name}.npz", arrays(name)) for name in "ab"]
    code, out, err = call(capsys, "store", "import", store, *files, "--embedding", "yamnet")
    assert (code, err) == (0, "")
    header, first, second = out.splitlines()
    assert header.split() == ["dataset", "embedding", "frames", "dims", "clips", "labels"]
    assert first.split() == ["a", "yamnet", str(N), "5", str(N), "2"]
    assert second.split()[0] == "b"
    assert call(capsys, "store", "ls", store) == (0, out, "")


def test_listing_as_json(capsys, tmp_path, store):
    call(capsys, "store", "import", store, saved(tmp_path / "a.npz", arrays("a")))
    code, out, err = call(capsys, "store", "ls", store, "--json")
    assert (code, err) == (0, "")
    row = {"dataset": "a", "embedding": "embedding", "frames": N, "dims": 5}
    row |= {"clips": N, "labels": 2, "files": 1}
    assert strict(out) == {"store": store, "embeddings": [row]}


def test_a_folder_is_a_store_too(capsys, tmp_path):
    folder = tmp_path / "folder"
    for name in "ab":
        file = saved(tmp_path / f"{name}.npz", arrays(name))
        assert call(capsys, "store", "import", folder, file, "--quiet")[0] == 0
    assert EmbeddingStore(folder).datasets() == ["a", "b"]


def test_columns_of_other_names(capsys, tmp_path, store):
    part = arrays("a")
    part |= {"song_id": part.pop("group"), "style": part.pop("genre")}
    file = saved(tmp_path / "a.npz", part)
    columns = ["--column", "group=song_id", "--column", "genre=style"]
    assert call(capsys, "store", "import", store, file, *columns)[0] == 0
    clips = EmbeddingStore(store).clips("a")
    assert clips.group[:3].tolist() == ["song 0", "song 0", "song 1"]
    assert set(clips.genre) == {"pop", "jazz"}


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_tables_are_imported(capsys, tmp_path, store, suffix):
    part = arrays("a")
    frame = pd.DataFrame({f"f{i}": column for i, column in enumerate(part.pop("X").T)} | part)
    path = tmp_path / f"mine{suffix}"
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        pytest.importorskip("pyarrow")
        frame.to_parquet(path)
    assert call(capsys, "store", "import", store, path)[0] == 0
    assert np.allclose(EmbeddingStore(store).table("embedding").X, arrays("a")["X"], atol=1e-6)


def test_dataset_and_embedding_can_be_named(capsys, tmp_path, store):
    part = arrays("a")
    del part["dataset"]
    file = saved(tmp_path / "some file.npz", part)
    call(capsys, "store", "import", store, file)
    call(capsys, "store", "import", store, file, "--dataset", "mine", "--embedding", "e")
    assert EmbeddingStore(store).datasets() == ["mine", "some file"]
    assert EmbeddingStore(store).embeddings("mine") == ["e"]


def test_what_is_there_is_replaced_only_with_overwrite(capsys, tmp_path, store):
    file = saved(tmp_path / "a.npz", arrays("a"))
    assert call(capsys, "store", "import", store, file)[0] == 0
    code, line = failure(capsys, "store", "import", store, file)
    assert code == 2
    assert "embedding 'embedding' of dataset 'a' is already in" in line
    assert line.endswith("pass --overwrite to replace it")
    assert call(capsys, "store", "import", store, file, "--overwrite")[0] == 0


@pytest.mark.parametrize("pair", ["group", "=song", "group="])
def test_a_column_without_both_names_is_wrong_usage(capsys, tmp_path, store, pair):
    file = saved(tmp_path / "a.npz", arrays("a"))
    code, line = failure(capsys, "store", "import", store, file, "--column", pair)
    assert code == 2
    assert line == f"--column {pair!r} is not NAME=COLUMN, as in group=song_id"


@pytest.mark.parametrize(
    ("column", "message"),
    [
        ("grupe=song", "--column grupe is not known; .*did you mean 'group'"),
        ("group=grop", "has no column 'grop', which is to be 'group'; .*did you mean 'group'"),
    ],
)
def test_a_column_that_is_not_there(capsys, tmp_path, store, column, message):
    file = saved(tmp_path / "a.npz", arrays("a"))
    code, line = failure(capsys, "store", "import", store, file, "--column", column)
    assert code == 2
    assert re.search(message, line), line


def test_a_failure_among_several_files_names_it_and_nothing_goes_in(capsys, tmp_path, store):
    good = saved(tmp_path / "a.npz", arrays("a"))
    part = arrays("b")
    part["X"][3, 2] = np.nan
    bad = saved(tmp_path / "b.npz", part)
    for target in (store, f"{tmp_path}/folder"):
        code, out, err = call(capsys, "store", "import", target, good, bad)
        assert (code, out) == (1, "")
        assert err.startswith(f"biasaudio: {bad}: X has NaN or Inf in 1 of {N} clips: 'b-3'; ")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["a.npz", "b.npz"]


def test_pooled_vectors_are_kept_unless_no_cache_is_said_and_can_be_cleared(capsys, tmp_path):
    X = np.random.default_rng(0).normal(size=(2 * N, 4)).astype("f4")
    for name in "ab":
        part = {k: v for k, v in arrays(name).items() if k not in ("X", "clip")}
        clip = arrays(name)["clip"]
        owner = np.repeat(np.arange(N), 2)
        path = import_arrays(tmp_path / "s.h5", X, clip, embedding="toy", frame_clip=owner, **part)
    probe = ["probe", path, "--permutations", "0", "--quiet"]
    assert call(capsys, *probe, "--no-cache")[0] == 0
    assert [file.name for file in tmp_path.iterdir()] == ["s.h5"]
    _, expected, _ = call(capsys, *probe)
    assert call(capsys, *probe) == (0, expected, "")
    files = [tmp_path / "s.h5.pooled" / f"{name}.toy.mean.h5" for name in "ab"]
    sizes = [file.stat().st_size for file in files]
    code, out, err = call(capsys, "store", "clear-cache", path)
    assert (code, err) == (0, "")
    assert out.splitlines() == [
        *(f"{file}  {size:,} bytes" for file, size in zip(files, sizes, strict=True)),
        f"removed: 2 files, {sum(sizes):,} bytes",
    ]
    assert [file.name for file in tmp_path.iterdir()] == ["s.h5"]
    code, out, err = call(capsys, "store", "clear-cache", path, "--json")
    assert strict(out) == {"store": str(path), "removed": [], "bytes": 0}


def test_the_cache_of_a_store_that_is_not_there(capsys, tmp_path):
    code, line = failure(capsys, "store", "clear-cache", tmp_path / "no.h5")
    assert code == 1
    assert "no.h5 is not there" in line


def flip(path, row):
    """Change one byte of a row of vectors."""
    data = bytearray(path.read_bytes())
    data[data.index(row.astype("f4").tobytes())] ^= 1
    path.write_bytes(data)


@pytest.fixture
def folder(tmp_path):
    """Give a folder in which one embedding of a dataset lies in two files."""
    part = arrays("a")
    X, half = part["X"], N // 2
    for k, rows in enumerate((slice(half, None), slice(half))):
        known = {name: values[rows] for name, values in part.items() if name not in ("X", "clip")}
        target = tmp_path / "st" / f"a.toy.{k:012x}.h5"
        import_arrays(target, X[rows], part["clip"][rows], embedding="toy", **known)
    return tmp_path / "st"


def test_listing_says_in_how_many_files_an_embedding_lies(capsys, folder):
    code, out, err = call(capsys, "store", "ls", folder)
    assert (code, err) == (0, "")
    header, row = out.splitlines()
    assert header.split()[-1] == "files"
    assert row.split()[-3:] == [str(N), "2", "2"]


def test_the_bar_counts_what_is_merged(capsys, folder, monkeypatch):
    totals = []

    @contextmanager
    def progress(_args, _what, _unit, total):
        totals.append(total)
        yield lambda _: None

    import_arrays(folder, np.ones((7, 2)), list("abcdefg"), dataset="whole")
    monkeypatch.setattr("biasaudio.cli.store.progress", progress)
    out = folder.parent / "out.h5"
    assert call(capsys, "store", "export", folder, out, "--embedding", "toy")[0] == 0
    assert call(capsys, "store", "export", folder, out, "--overwrite")[0] == 0
    assert call(capsys, "store", "compact", folder, "--embedding", "toy")[0] == 0
    assert call(capsys, "store", "compact", folder)[0] == 0
    assert totals == [N, N + 7, N, 0]


def test_verify_names_each_damaged_clip_and_repair_takes_it_out(capsys, folder):
    n_clips = f"2 files, {N} clips"
    assert call(capsys, "store", "verify", folder) == (0, f"{folder}: {n_clips}, no faults\n", "")
    X = arrays("a")["X"]
    file = folder / "a.toy.000000000001.h5"
    for row in (3, 5):
        flip(file, X[row])
    (folder / "part-0123456789ab.h5.partial").touch()
    code, out, err = call(capsys, "store", "verify", folder)
    assert (code, err) == (1, "")
    lines = out.splitlines()
    assert re.split("  +", lines[0]) == ["file", "dataset", "embedding", "clip", "what"]
    what = "its vectors are not what was written"
    assert [re.split("  +", line) for line in lines[1:3]] == [
        [file.name, "a", "toy", clip, what] for clip in ("a-3", "a-5")
    ]
    left = "a write that was not finished; harmless, and --repair takes it away"
    assert lines[3:] == [
        "",
        f"part-0123456789ab.h5.partial: {left}",
        f"{folder}: {n_clips}, 2 faults in 1 file",
        f"take them out with: biasaudio store verify {folder} --repair",
    ]
    code, out, err = call(capsys, "store", "verify", folder, "--json")
    found = strict(out)
    assert (code, found["files"], found["clips"]) == (1, 2, N)
    assert found["faults"][0] == {
        "file": str(file),
        "dataset": "a",
        "embedding": "toy",
        "clip": "a-3",
        "what": what,
    }
    code, out, err = call(capsys, "store", "verify", folder, "--repair")
    assert (code, err) == (0, "")
    assert out.splitlines()[-4:] == [
        f"rewritten: {file.name}, with the clips that are right",
        "removed: part-0123456789ab.h5.partial",
        f"the files as they were, and taken_out.csv: {folder / 'quarantine' / '1'}",
        f"now: 2 files, {N - 2} clips, no faults",
    ]
    code, out, err = call(capsys, "store", "verify", folder, "--repair", "--json")
    assert code == 0
    nothing = {"quarantine": None, "rewritten": [], "removed": [], "clips": N - 2, "faults": []}
    assert strict(out)["repair"] == nothing


def test_verify_shows_a_few_faults_and_says_how_many_more(capsys, tmp_path):
    ids = [f"clip {i}" for i in range(30)]
    path = import_arrays(tmp_path / "s.h5", np.eye(30), ids, dataset="d")
    with h5py.File(path, "r+") as handle:
        handle["d/embedding/features"][...] = np.nan
    code, out, _ = call(capsys, "store", "verify", path)
    assert code == 1
    assert out.splitlines()[21] == "and 10 more; --json has all"
    code, out, _ = call(capsys, "store", "verify", path, "--json")
    assert len(strict(out)["faults"]) == 30
    code, out, _ = call(capsys, "store", "verify", path, "--repair")
    assert code == 1
    assert out.splitlines()[-1] == "nothing is left of the store"


def test_compact_merges_the_files_of_an_embedding(capsys, folder):
    expected = EmbeddingStore(folder).table("toy")
    code, out, err = call(capsys, "store", "compact", folder)
    assert (code, err) == (0, "")
    [path] = EmbeddingStore(folder).files
    assert out == f"{path}  {path.stat().st_size:,} bytes\n"
    table = EmbeddingStore(folder).table("toy", clips=expected.clips)
    assert np.array_equal(table.X, expected.X)
    code, out, err = call(capsys, "store", "compact", folder)
    assert (code, out) == (0, "")
    assert "each embedding is in one file already; nothing to merge" in err


def test_export_writes_one_file_in_the_published_layout(capsys, tmp_path, folder):
    out_path = tmp_path / "out.h5"
    code, out, err = call(capsys, "store", "export", folder, out_path, "--embedding", "toy")
    assert (code, err) == (0, "")
    assert out == f"{out_path}  {out_path.stat().st_size:,} bytes\n"
    with h5py.File(out_path) as handle:
        assert handle["a/toy/features"].shape == (N, 5)
    code, line = failure(capsys, "store", "export", folder, out_path)
    assert code == 2
    assert line.endswith("pass --overwrite to replace it")
    assert call(capsys, "store", "export", folder, out_path, "--overwrite", "--json")[0] == 0


def test_a_store_that_is_not_there_cannot_be_checked(capsys, tmp_path):
    for options in ((), ("--repair",)):
        code, line = failure(capsys, "store", "verify", tmp_path / "no.h5", *options)
        assert code == 1
        assert "no.h5 is not there" in line
    assert list(tmp_path.iterdir()) == []
