"""Every bad input that a user may bring: one line, the right code, and nothing left behind.

Each line says the value seen, what is allowed and what to do next.
"""

import re

import h5py
import numpy as np
import pytest
from audit_fixtures import FEW, LABELS, N, arrays, call, failure, saved, stored

from biasaudio import audit
from biasaudio.errors import BiasAudioError


def listing(folder):
    """Return the bytes of all files of a folder."""
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def spoiled(values, rows, value):
    """Return a copy with another value in some rows."""
    values = values.copy()
    values[rows] = value
    return values


def write_files(folder):
    """Write what is no store; return the paths by name."""
    (folder / "empty.h5").touch()
    (folder / "text.h5").write_text("clip,x\na,1\n" * 50)
    (folder / "folder").mkdir()
    whole = stored(folder / "whole.h5", arrays("a"))
    (folder / "cut.h5").write_bytes((folder / "whole.h5").read_bytes()[:5000])
    with h5py.File(folder / "other.h5", "w") as file:
        file["table"] = np.ones(3)
    with h5py.File(folder / "lengths.h5", "w") as file:
        file["a/toy/features"] = np.ones((5, 3), "f4")
        file["a/toy/keys"] = np.array([b"1", b"2"])
    with h5py.File(folder / "nan.h5", "w") as file:
        for name, value in (("a", np.nan), ("b", np.inf)):
            file[f"{name}/toy/features"] = spoiled(np.ones((6, 3), "f4"), 2, value)
            file[f"{name}/toy/keys"] = np.array([f"{name}-{i}" for i in range(6)], "S")
    return whole


FILES = {
    "absent.h5": "absent.h5 is not there; check the path, or make a store with 'biasaudio store",
    "empty.h5": r"empty.h5 is empty \(0 bytes\); delete it and write it again",
    "text.h5": "text.h5 is not an HDF5 file; give a store, or turn npz, csv or parquet into one",
    "cut.h5": "cut.h5 .*again",
    "folder": "folder .*store import",
    "other.h5": "no /<dataset>/<embedding>/.*it holds '/table'; .* write one with ",
    "lengths.h5": "lengths.h5:/a/toy has 5 rows of features, but 2 keys; write it again with one",
    "nan.h5": "nan.h5:/a/toy has NaN or Inf in 1 of 6 clips: 'a-2'; leave these clips out or",
}


@pytest.fixture(scope="module")
def files(tmp_path_factory):
    """Give a folder of files that are no store."""
    folder = tmp_path_factory.mktemp("files")
    write_files(folder)
    return folder


@pytest.mark.parametrize("command", ["audit", "probe", "ls"])
@pytest.mark.parametrize("name", FILES)
def test_what_is_no_store(capsys, files, name, command):
    before = listing(files)
    path, out = files / name, files / "out"
    if command == "ls" and name == "nan.h5":
        assert call(capsys, "store", "ls", path)[0] == 0
        return
    argv = {"audit": ["audit", path, "--out", out, "--quiet"], "probe": ["probe", path, "--quiet"]}
    code, line = failure(capsys, *argv.get(command, ["store", "ls", path]))
    assert code == 1
    assert re.search(FILES[name], line), line
    assert listing(files) == before
    assert not out.exists()
    if command == "audit":
        with pytest.raises(BiasAudioError, match=FILES[name]):
            audit(path)


IMPORTS = {
    "absent.npz": (None, "absent.npz is not a file that is there; check the path"),
    "empty.npz": (b"", r"empty.npz is empty \(0 bytes\); write it again"),
    "text.npz": (b"PK not really", "text.npz is not an npz file, or is cut off; save it with"),
    "keys.npz": (
        {"clip": np.array(["x"] * 3)},
        "keys.npz: .*120.*3 clip ids; give one",
    ),
    "nan.npz": (
        {"X": spoiled(arrays("a")["X"], [3, 7], np.nan)},
        "nan.npz: X has NaN or Inf in 2 of 120 clips: 'a-3', 'a-7'; remove these clips or",
    ),
    "inf.npz": (
        {"X": spoiled(arrays("a")["X"], 5, np.inf)},
        "inf.npz: X has NaN or Inf in 1 of 120 clips: 'a-5'; remove these clips or compute",
    ),
    "twice.npz": (
        {"clip": np.array([f"c{i // 2}" for i in range(N)])},
        r"twice.npz: 60 clip id\(s\) are there more than once .*'c0', 'c1', 'c2' and 57 more; give",
    ),
    "objects.npz": (
        {"clip": np.array([f"c{i}" for i in range(N)], dtype=object)},
        "objects.npz: 'clip' is an object array, .*; save clip.astype.str",
    ),
    "noclip.npz": ({"clip": None}, "noclip.npz has no 'clip' .*--column clip=NAME"),
    "novectors.npz": ({"X": None}, "novectors.npz has no 'X', only .*; add the vectors as 'X'"),
    "flat.npz": ({"X": np.ones(N)}, "flat.npz: X has shape .120,.; give a 2-d array"),
}


@pytest.mark.parametrize("name", IMPORTS)
def test_what_cannot_be_imported(capsys, tmp_path, name):
    content, message = IMPORTS[name]
    if isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    elif content is not None:
        saved(tmp_path / name, {k: v for k, v in (arrays("a") | content).items() if v is not None})
    store = stored(tmp_path / "s.h5", arrays("b"))
    before = listing(tmp_path)
    for target in (store, tmp_path / "new.h5", tmp_path / "newfolder"):
        code, line = failure(capsys, "store", "import", target, tmp_path / name)
        assert code == 1
        assert re.search(message, line), line
    assert listing(tmp_path) == before
    assert not (tmp_path / "newfolder").exists()


def test_a_file_of_another_kind_cannot_be_imported(capsys, tmp_path):
    (tmp_path / "x.txt").write_text("clip")
    code, line = failure(capsys, "store", "import", tmp_path / "s.h5", tmp_path / "x.txt")
    assert code == 2
    assert line.endswith("x.txt ends in '.txt'; give a file that ends in .npz, .csv, .parquet")
    assert [path.name for path in tmp_path.iterdir()] == ["x.txt"]


ONE = np.full(N, "one")
DATA = {
    "one dataset only": (
        [arrays("a", genre=None)],
        [],
        "there is one dataset only, 'a', and it has no two genres to tell apart; give clips of two",
    ),
    "one dataset and a correction": (
        [arrays("a")],
        ["--methods", "lda"],
        "'lda' cannot be used: there is one dataset only, 'a', and it needs two; leave it out",
    ),
    "no positives in one dataset": (
        [arrays("a"), arrays("b", label=np.full(N, "cello"))],
        ["--labels", "flute"],
        "label 'flute' has no .* in 'b'; leave it out of (--)?labels, or add such clips",
    ),
    "no label in common": (
        [arrays("a"), arrays("b", label=np.array(["oboe", "harp"])[np.arange(N) % 2])],
        [],
        "'a', 'b' cannot be compared by any label: 'cello' has no annotated clips in 'b', .*rename",
    ),
    "a group on both sides": (
        [arrays("a"), arrays("b", split=np.array(["train", "test"])[np.arange(N) % 2])],
        [],
        r"60 group\(s\) are on both sides of the split of 'b' .*'song 0', .*; clips of one song",
    ),
    "a single genre": (
        [arrays("a"), arrays("b", genre=ONE)],
        ["--methods", "mlda"],
        "'mlda' cannot be used: dataset 'b' has a single genre, 'one', and it needs two; leave it",
    ),
    "no genres": (
        [arrays("a", genre=None), arrays("b", genre=None)],
        ["--methods", "mlda"],
        "'mlda' cannot be used: dataset 'a' has no known genre, and it needs two;",
    ),
    "all-constant features": (
        [arrays(name) | {"X": np.ones((N, 5), "f4")} for name in "ab"],
        [],
        "'toy' has the same vector for all 240 clips, so there is nothing to measure; check how",
    ),
    "fewer clips than folds": (
        [arrays(name, n=2, group=np.array(["x", "y"])) for name in "ab"],
        [],
        r"dataset 'a' has 2 group\(s\) of clips, fewer than the 3 that .*; add clips, or give them",
    ),
    "few clips of each label": (
        [arrays(name, n=8, group=np.arange(8).astype(str)) for name in "ab"],
        [],
        r"too few clips for any label: 'cello' has \d positive group.*, fewer than 3.*; add clips",
    ),
    "an unknown method": (
        [arrays("a"), arrays("b")],
        ["--methods", "leice"],
        "method 'leice' is not known; choose among lda, .*; did you mean 'leace'",
    ),
    "an unknown label": (
        [arrays("a"), arrays("b")],
        ["--labels", "Cello"],
        "label 'Cello' is not known; choose among 'cello', 'flute'; did you mean 'cello'",
    ),
}
USAGE = ("an unknown method", "an unknown label")


@pytest.mark.parametrize("name", DATA)
def test_what_cannot_be_audited(capsys, tmp_path, name):
    parts, argv, message = DATA[name]
    path = stored(tmp_path / "s.h5", *parts)
    before = listing(tmp_path)
    out = tmp_path / "out"
    code, line = failure(capsys, "audit", path, *argv, *FEW, "--quiet", "--out", out)
    assert code == (2 if name in USAGE else 1)
    assert re.search(message, line), line
    assert listing(tmp_path) == before
    assert not out.exists()


MANIFESTS = {
    "clips without vectors": (
        [f"a-{i},a,cello,s{i}" for i in range(N + 5)],
        r"5 clip\(s\) have no vector: 'a-120', 'a-121', 'a-122' and 2 more; .*--allow-partial",
    ),
    "vectors without clips": (
        [f"{d}-{i},{d},{LABELS[i]},s{i}" for d in "ab" for i in range(N - 5)],
        r"5 vector\(s\) belong to no known clip: 'a-115', .*; .*--allow-partial",
    ),
    "clips of other datasets": (
        ["x-1,x,cello,s1"],
        "the clips are of 'x', and .*s.h5 has 'a', 'b'; give clips of the datasets in the store",
    ),
    "a clip twice": (
        ["a-1,a,cello,s1", "a-1,a,flute,s1"],
        r"1 clip id\(s\) are there more than once in one dataset: 'a-1'; give each clip one row",
    ),
    "no rows": ([], "clips.csv has no rows; give at least one clip"),
}


@pytest.mark.parametrize("command", ["audit", "probe"])
@pytest.mark.parametrize("name", MANIFESTS)
def test_a_manifest_that_does_not_fit(capsys, tmp_path, name, command):
    rows, message = MANIFESTS[name]
    path = stored(tmp_path / "s.h5", arrays("a"), arrays("b"))
    clips, out = tmp_path / "clips.csv", tmp_path / "out"
    clips.write_text("\n".join(["clip_id,dataset,label,group", *rows]) + "\n", encoding="utf-8")
    where = ["--out", out] if command == "audit" else []
    code, line = failure(capsys, command, path, "--clips", clips, "--quiet", *where)
    assert code == 1
    assert re.search(message, line), line
    assert not out.exists()


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("absent.csv", None, "absent.csv' is not a file; give a csv or parquet file of clips"),
        ("clips.txt", "clip_id", "ends in '.txt'; give a .csv or .parquet file"),
        ("clips.csv", "clip_id,dataset,grp\na-1,a,x\n", "column 'grp' .*neither a known column"),
        ("clips.csv", "id,dataset\na-1,a\n", "has no column 'clip_id'; it has 'id', 'dataset'"),
    ],
)
def test_a_manifest_that_is_none(capsys, tmp_path, name, text, message):
    path = stored(tmp_path / "s.h5", arrays("a"), arrays("b"))
    if text is not None:
        (tmp_path / name).write_text(text, encoding="utf-8")
    code, line = failure(capsys, "probe", path, "--clips", tmp_path / name)
    assert code == 1
    assert re.search(message, line), line


@pytest.mark.parametrize("option", ["--irmas", "--openmic"])
def test_a_dataset_folder_that_is_not_there(capsys, tmp_path, option):
    path = stored(tmp_path / "s.h5", arrays("a"), arrays("b"))
    code, line = failure(capsys, "probe", path, option, tmp_path / "nowhere")
    assert code == 1
    assert "nowhere' is not " in line
