"""Audio is found in folders, in the trees of IRMAS and OpenMIC, and by manifests."""

import json
import os
from pathlib import Path

import pandas as pd
import pytest

from biasaudio.datasets import find_audio
from biasaudio.datasets.audio import AUDIO_SUFFIXES
from biasaudio.errors import DataError, ParameterError

KEY = "[cla][cla]0189__2"


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


@pytest.fixture
def tree(tmp_path):
    return touch(
        tmp_path / "sets",
        *("b/x/2.wav", "b/x/10.FLAC", "b/1.mp3", "a/1.ogg", "a/notes.txt", "loose.aiff"),
        *(".hidden/1.wav", "a/._1.ogg"),
    )


@pytest.fixture
def manifest(tmp_path):
    """Write two datasets and a table of them; return the folder."""
    folder = touch(tmp_path / "data", "x/1.wav", "x/2.wav", "y/1.wav", "y/extra.wav")
    (folder / "clips.csv").write_text(
        "path,instrument,split,song,seconds,sample_rate\n"
        "x/1.wav,cello,train,s1,3.0,44100\n"
        "./x/2.wav,flute,valid,s1,3.0,44100\n"
        "y/1.wav,cello,test,,3.0,44100\n"
    )
    return folder


COLUMNS = {"label": "instrument", "group": "song"}


def test_a_folder_is_read_by_its_subfolders(tree):
    found = find_audio(tree)
    assert found.kind == "folder"
    assert [str(path.relative_to(tree)) for path in found.paths] == [
        *("a/1.ogg", "b/1.mp3", "b/x/10.FLAC", "b/x/2.wav", "loose.aiff"),
    ]
    assert found.clips.dataset.tolist() == ["a", "b", "b", "b", "sets"]
    assert found.clips.clip_id.tolist() == ["1.ogg", "1.mp3", "x/10.FLAC", "x/2.wav", "loose.aiff"]
    assert found.clips.label_names == []
    assert found.unlisted == ()
    assert find_audio(str(tree / "b")).clips.dataset.tolist() == ["b", "x", "x"]


def test_the_folder_one_is_in_has_a_name(tree, monkeypatch):
    monkeypatch.chdir(tree / "a")
    for here in (".", Path(), "../a"):
        found = find_audio(here)
        assert found.clips.datasets == ["a"]
        assert found.clips.clip_id.tolist() == ["1.ogg"]


def test_all_suffixes_count(tmp_path):
    touch(tmp_path / "d", *(f"{i}{suffix}" for i, suffix in enumerate(AUDIO_SUFFIXES)))
    assert len(find_audio(tmp_path).paths) == len(AUDIO_SUFFIXES)


def test_links_in_a_circle_end_and_links_elsewhere_are_followed(tree, tmp_path):
    touch(tmp_path / "disk", "far.wav")
    (tree / "a" / "up").symlink_to(tree, target_is_directory=True)
    (tree / "a" / "self").symlink_to("self")
    (tree / "c").symlink_to(tmp_path / "disk", target_is_directory=True)
    (tree / "c2").symlink_to(tmp_path / "disk", target_is_directory=True)
    (tree / "a" / "gone.wav").symlink_to("nowhere")
    found = find_audio(tree)
    far = [path for path in found.paths if path.name == "far.wav"]
    assert len(far) == 1
    # It is reported where it is decoded.
    assert tree / "a" / "gone.wav" in found.paths
    assert len(found.paths) == 7


def test_no_audio_says_what_there_is(tree, tmp_path):
    touch(tmp_path / "texts", "1.txt", "2.m4a")
    with pytest.raises(
        DataError, match=r"holds 2 file\(s\): '1\.txt', '2\.m4a'; files that end in \.aif .* count"
    ):
        find_audio(tmp_path / "texts")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match=r"which holds 0 file\(s\); files"):
        find_audio(tmp_path / "empty")
    for source in (tree / "none", tree / "loose.aiff"):
        with pytest.raises(DataError, match="is not a folder; give a folder of audio, or a mani"):
            find_audio(source)
    with pytest.raises(ParameterError, match="source is a int; give the path of a folder"):
        find_audio(3)
    with pytest.raises(ParameterError, match=r"columns=.* is given without a manifest"):
        find_audio(tree, columns=COLUMNS)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("__a/1.wav", "the folder name '__a' cannot be that of a dataset.*rename the folder"),
        ("a\\b/1.wav", "the folder name"),
        ("a\nb/1.wav", r"the folder name 'a\\nb' cannot"),
    ],
)
def test_names_that_cannot_be_kept_are_named(tree, name, message):
    touch(tree, name)
    with pytest.raises(DataError, match=message) as caught:
        find_audio(tree)
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("name", ["1\x1b[2J.wav", os.fsdecode(b"\xff.wav"), "x\ny/1.wav"])
def test_files_whose_names_cannot_be_kept_are_refused_alone(tree, name):
    touch(tree / "a", name)
    found = find_audio(tree)
    assert len(found.paths) == 5
    assert [path for path, _ in found.refused] == [tree / "a" / name]
    assert "has characters that cannot be printed; rename it" in found.refused[0][1]
    assert found.refused[0][1].isprintable()
    with pytest.raises(DataError, match=r"has no audio that can be kept: its name .* rename"):
        find_audio(touch(tree.parent / "other", f"a/{name}"))


def test_a_folder_that_cannot_be_read_is_named(tree, monkeypatch):
    scandir = os.scandir

    def refuse(path):
        if Path(path).name == "b":
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(DataError, match=r"sets/b' cannot be read \(Permission denied\); change"):
        find_audio(tree)


@pytest.fixture
def irmas(tmp_path):
    folder = touch(
        tmp_path / "irmas",
        f"IRMAS-TrainingData/cla/{KEY}.wav",
        "IRMAS-TrainingData/vio/[vio][pop_roc]1__1.wav",
        "IRMAS-TestingData-Part1/Part1/Song-1.wav",
        "other/1.flac",
    )
    (folder / "IRMAS-TestingData-Part1/Part1/Song-1.txt").write_text("gel\t\nvoi\n")
    return folder


def test_irmas_is_recognised(irmas):
    found = find_audio(irmas)
    assert found.kind == "irmas"
    assert found.clips.clip_id.tolist() == [KEY, "[vio][pop_roc]1__1", "Song-1"]
    assert [path.stem for path in found.paths] == found.clips.clip_id.tolist()
    assert all(path.is_file() for path in found.paths)
    assert found.clips.genre.tolist() == ["classical", "pop_rock", ""]
    labels = found.clips.labels
    assert labels.loc[KEY, "clarinet"]
    assert labels.loc["Song-1"][labels.loc["Song-1"]].index.tolist() == ["guitar", "voice"]
    assert [path.name for path in found.unlisted] == ["1.flac"]


@pytest.mark.parametrize(("part", "n"), [("IRMAS-TrainingData", 2), ("IRMAS-TestingData-Part1", 1)])
def test_a_part_of_irmas_is_recognised_by_its_name(irmas, part, n, monkeypatch):
    assert (find_audio(irmas / part).kind, len(find_audio(irmas / part).clips)) == ("irmas", n)
    monkeypatch.chdir(irmas / part)
    assert find_audio(".").kind == "irmas"


def test_irmas_in_another_format_needs_a_manifest(tmp_path):
    touch(tmp_path, f"IRMAS-TrainingData/cla/{KEY}.flac")
    with pytest.raises(DataError, match=r"looks like IRMAS and has no \.wav file; give the audio"):
        find_audio(tmp_path)


@pytest.fixture
def openmic(tmp_path):
    folder = touch(tmp_path / "openmic", "audio/000/000001_0.ogg", "audio/123/123456_7.ogg")
    (folder / "partitions").mkdir()
    (folder / "partitions/split01_train.csv").write_text("123456_7\n000009_0\n")
    (folder / "partitions/split01_test.csv").write_text("000001_0\n")
    (folder / "openmic-2018-metadata.csv").write_text(
        "sample_key,track_genres\n000001_0,\"[{'genre_title': 'Jazz'}]\"\n123456_7,\n"
    )
    (folder / "openmic-2018-aggregated-labels.csv").write_text(
        "sample_key,instrument,relevance\n000001_0,cello,0.9\n123456_7,flute,0.1\n"
    )
    (folder / "class-map.json").write_text(json.dumps({"cello": 0, "flute": 1}))
    return folder


def test_openmic_is_recognised_and_clips_without_audio_are_recorded(openmic):
    found = find_audio(openmic)
    assert found.kind == "openmic"
    assert found.clips.clip_id.tolist() == ["000001_0", "123456_7"]
    assert [path.stem for path in found.paths] == found.clips.clip_id.tolist()
    assert found.clips.split.tolist() == ["test", "train"]
    assert found.clips.genre.tolist() == ["jazz_blue", ""]
    assert found.clips.dropped[["clip_id", "reason"]].to_numpy().tolist() == [
        ["000009_0", "no audio file"],
    ]
    touch(openmic, "audio/999/999999_9.ogg")
    assert [path.name for path in find_audio(openmic).unlisted] == ["999999_9.ogg"]
    with pytest.raises(DataError, match=r"openmic' is an OpenMIC tree inside of the folder; give"):
        find_audio(openmic.parent)
    for path in find_audio(openmic).paths:
        path.unlink()
    with pytest.raises(DataError, match=r"none of the 3 clips has its file below .*000001_0\.ogg"):
        find_audio(openmic)


@pytest.mark.parametrize("form", ["beside", "source", "parquet", "frame"])
def test_a_manifest_names_the_files(manifest, form):
    source, clips = manifest, manifest / "clips.csv"
    if form == "source":
        source, clips = clips, None
    elif form == "parquet":
        pytest.importorskip("pyarrow", exc_type=ImportError)
        pd.read_csv(clips).to_parquet(manifest / "clips.parquet")
        clips = manifest / "clips.parquet"
    elif form == "frame":
        clips = pd.read_csv(clips)
    found = find_audio(source, clips, columns=COLUMNS)
    assert found.kind == "manifest"
    assert found.paths == tuple(manifest / name for name in ("x/1.wav", "x/2.wav", "y/1.wav"))
    assert found.clips.clip_id.tolist() == ["1.wav", "2.wav", "1.wav"]
    assert found.clips.dataset.tolist() == ["x", "x", "y"]
    assert found.root == manifest
    assert found.clips.split.tolist() == ["train", "valid", "test"]
    assert found.clips.group.tolist() == ["s1", "s1", "1.wav"]
    assert found.clips.labels["cello"].tolist() == [True, False, True]
    assert [path.name for path in found.unlisted] == ["extra.wav"]


def test_ids_datasets_and_0_1_columns_of_a_manifest(manifest, monkeypatch):
    rows = pd.DataFrame(
        {
            "file": ["x/1.wav", str(manifest / "y" / "1.wav"), "y/gone.wav"],
            "clip_id": ["p", "q", "r"],
            "dataset": "d",
            "cello": [1, 0, None],
        }
    )
    found = find_audio(manifest, rows, columns={"path": "file"})
    assert found.paths == tuple(manifest / name for name in ("x/1.wav", "y/1.wav", "y/gone.wav"))
    assert found.clips.clip_id.tolist() == ["p", "q", "r"]
    assert found.clips.datasets == ["d"]
    assert found.clips.mask["cello"].tolist() == [True, True, False]
    found = find_audio(
        manifest, rows.drop(columns=["clip_id", "dataset"]), columns={"path": "file"}
    )
    assert found.clips.clip_id.tolist() == ["1.wav", "1.wav", "gone.wav"]
    assert found.clips.dataset.tolist() == ["x", "y", "y"]
    # The folder by another name: through a link, or from inside.
    (manifest.parent / "link").symlink_to(manifest, target_is_directory=True)
    for source in (manifest.parent / "link", "."):
        monkeypatch.chdir(manifest)
        assert find_audio(source, rows, columns={"path": "file"}).clips.clip_id.tolist()[1] == "q"


def test_a_file_has_the_same_id_with_and_without_a_manifest(tree):
    plain = find_audio(tree)
    paths = [str(path.relative_to(tree)) for path in plain.paths]
    for columns in ({}, {"dataset": plain.clips.dataset}):
        found = find_audio(tree, pd.DataFrame({"path": paths, **columns}))
        assert found.clips.clip_id.tolist() == plain.clips.clip_id.tolist()
        assert found.clips.dataset.tolist() == plain.clips.dataset.tolist()
    found = find_audio(tree, pd.DataFrame({"path": paths, "dataset": "b"}))
    assert found.clips.clip_id.tolist() == [
        *("a/1.ogg", "1.mp3", "x/10.FLAC", "x/2.wav", "loose.aiff"),
    ]


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({"file": ["x/1.wav"]}, r"the table has no column 'path'; .* columns=\{'path': \.\.\.\}"),
        ({"path": ["../x/1.wav"]}, r"names '\.\./x/1\.wav', which is not inside of .*give paths b"),
        ({"path": ["x/../../data/x/1.wav"]}, "which is not inside of"),
        ({"path": ["/etc/passwd"]}, "names '/etc/passwd', which is not inside of"),
        ({"path": ["x/1.wav", "./x/1.wav"]}, r"lists 1 file\(s\) more than once: '\./x/1\.wav'"),
        ({"path": ["x/1.wav", "x/1.wav"], "clip_id": ["a", "b"]}, "lists 1 file.* one row"),
        ({"path": ["x/1.wav", None]}, "path is missing for 1 of 2 clips"),
        ({"path": ["x/1\x1b[0m.wav"]}, r"the path in the table 'x/1\\x1b\[0m\.wav' has char"),
        ({"path": ["x/" + "a" * 2000]}, "path has a text of 2002 characters; at most"),
        ({"path": ["x/" + "a" * 300]}, "none of the 1 files of the table is in"),
        ({"path": ["x/1.wav"], "clip_id": ["a\nb"]}, r"the clip_id in the table 'a\\nb' has cha"),
        ({"path": ["x/1.wav"], "genre": ["a\x07"]}, r"the genre in the table 'a\\x07'"),
        ({"path": ["x/1.wav"], "label": ["a\x07"]}, r"the label in the table 'a\\x07'"),
        ({"path": ["x/1.wav"], "group": ["a" * 9999]}, "group has a text of 9999 characters"),
        ({"path": ["x/1.wav"], "dataset": ["../a"]}, "the folder name .* cannot be that of a dat"),
        ({"path": ["x/1.wav"], "dataset": [None]}, "dataset is missing for 1 of 1 clips"),
        ({"path": ["z/1.wav"]}, r"none of the 1 files of the table is in .* such as 'z/1\.wav'"),
        ({"path": ["x/1.wav"], "gener": ["rock"]}, "'gener' .* holds 'rock'.*did you mean 'genre'"),
        ({"path": []}, "has no rows; give at least one clip"),
        ({"path": ["x/1.wav"], "label": ["a"], "cello": [1]}, "label column 'label' and 0/1 col"),
    ],
)
def test_bad_manifests_are_named(manifest, rows, message):
    with pytest.raises(DataError, match=message) as caught:
        find_audio(manifest, pd.DataFrame(rows))
    assert str(caught.value).isprintable()


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"label": "instrumnt"}, "'label' is 'instrumnt', which is no column .*mean 'instrument'"),
        ({"labels": "instrument"}, "columns='labels' is not known; .*did you mean 'label'"),
        ({"label": "song", "group": "song"}, "gives one column of clips.csv two names or two"),
        ({"split": "song"}, "gives one column of clips.csv two names or two columns one"),
    ],
)
def test_bad_columns_are_named(manifest, columns, message):
    with pytest.raises(ParameterError, match=message):
        find_audio(manifest, manifest / "clips.csv", columns=columns)


def test_a_name_for_every_clip_is_no_label(manifest, monkeypatch):
    monkeypatch.setattr("biasaudio.datasets.manifest.MAX_ANSWERS", 8)
    rows = pd.DataFrame({"path": ["x/1.wav", "x/2.wav", "y/1.wav"], "label": ["a", "b", "c"]})
    with pytest.raises(DataError, match="has 3 different labels for 3 clips, at most 8 answers"):
        find_audio(manifest, rows)


def test_the_real_trees(shared):
    found = find_audio(shared / "layouts/irmas")
    assert found.kind == "irmas"
    assert found.clips.label_names[found.clips.labels.loc[KEY].argmax()] == "clarinet"
    assert found.clips.frame.loc[KEY, "genre"] == "classical"
    song = "02 - And The Body Will Die-8"
    assert found.clips.labels.loc[song][lambda row: row].index.tolist() == ["guitar", "voice"]
    assert all(path.is_file() for path in found.paths)
    found = find_audio(shared / "layouts/openmic2018")
    assert (found.kind, found.clips.clip_id.tolist()) == ("openmic", ["000046_3840"])
    assert found.clips.mask.loc["000046_3840", "clarinet"]
    assert found.paths[0].is_file()


def test_the_real_audio(shared):
    found = find_audio(
        shared / "audio", shared / "audio/clips.csv", columns={"label": "instrument"}
    )
    assert len(found.clips) == 157
    assert found.clips.datasets == ["fsdkaggle18", "medley_solos"]
    assert set(found.clips.split) == {"train", "valid", "test"}
    assert all(path.is_file() for path in found.paths)
    assert found.unlisted == ()
