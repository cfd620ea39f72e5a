"""The reader of IRMAS, on planted folders and on the real keys."""

import time

import numpy as np
import pytest

from biasaudio.datasets import PUBLISHED, load_irmas
from biasaudio.errors import DataError, ParameterError

KEYS = ("[cel][cla]0001__1", "[gac][pop_roc]0002__1", "008__[gel][dru][lat_sou]0003__2")


@pytest.fixture
def folder(tmp_path):
    for key, code in zip(KEYS, ("cel", "gac", "gel"), strict=True):
        path = tmp_path / "sets" / "IRMAS-TrainingData" / code / f"{key}.wav"
        path.parent.mkdir(parents=True)
        path.touch()
        (path.parent / f"._{key}.wav").touch()
    part = tmp_path / "sets" / "IRMAS-TestingData-Part2" / "IRTestingData-Part2"
    part.mkdir(parents=True)
    for name, codes in (("No. 5 - One-1", "gel\t\nvoi\t\n"), ("Two-12", "cla\n"), ("Two-3", "")):
        (part / f"{name}.wav").touch()
        (part / f"{name}.txt").write_text(codes)
    (part / "notes.txt").write_text("no clip")
    return tmp_path


def test_tags_are_translated_at_the_door():
    clips = load_irmas(["[cla][cla]0189__2", np.str_("003__[voi][---][cou_fol]2411__3")])
    assert clips.labels.idxmax(axis=1).tolist() == ["clarinet", "voice"]
    assert clips.labels.to_numpy().sum() == 2
    assert clips.mask.to_numpy().all()
    assert clips.genre.tolist() == ["classical", "country_folk"]
    assert clips.group.tolist() == ["0189", "2411"]
    assert clips.datasets == ["irmas"]


def test_a_folder_of_wavs(folder):
    clips = load_irmas(folder)
    assert sorted(clips.clip_id) == sorted(KEYS)
    assert clips.labels["guitar"].sum() == 2
    assert set(clips.split) == {""}
    inner = load_irmas(folder / "sets" / "IRMAS-TrainingData" / "gel")
    assert inner.clip_id.tolist() == [KEYS[2]]


def test_the_testing_part(folder):
    clips = load_irmas(str(folder), part="testing")
    assert clips.clip_id.tolist() == ["No. 5 - One-1", "Two-12", "Two-3"]
    assert clips.labels.loc["No. 5 - One-1"][lambda row: row].index.tolist() == ["guitar", "voice"]
    assert clips.labels.loc["Two-12", "clarinet"]
    assert clips.group.tolist() == ["No. 5 - One", "Two", "Two"]
    assert set(clips.split) == {"test"}
    assert set(clips.genre) == {""}
    assert clips.mask.all(axis=1).tolist() == [True, True, False]


def test_the_testing_part_without_audio(folder):
    for path in folder.rglob("*.wav"):
        path.unlink()
    (folder / "sets/IRMAS-TestingData-Part2/IRTestingData-Part2/notes.txt").unlink()
    assert len(load_irmas(folder, part="testing")) == 3


def test_both_parts(folder):
    clips = load_irmas(folder, part="all")
    assert len(clips) == 6
    assert clips.label_names == load_irmas(KEYS).label_names


def test_split_files_alone_and_beside_wavs(folder, tmp_path_factory):
    alone = tmp_path_factory.mktemp("irmas")
    (alone / "split_train.csv").write_text("\n".join(KEYS[:2]) + "\n")
    (alone / "split_test.csv").write_text(KEYS[2] + "\n\n")
    clips = load_irmas(alone)
    assert clips.clip_id.tolist() == list(KEYS)
    assert clips.split.tolist() == ["train", "train", "test"]

    (folder / "split_train.csv").write_text(f"{KEYS[1]}\n[pia][cla]0009__1\n")
    clips = load_irmas(folder)
    assert clips.frame.loc[list(KEYS), "split"].tolist() == ["", "train", ""]
    assert clips.dropped.to_numpy().tolist() == [
        ["[pia][cla]0009__1", "irmas", "listed in a split, but without wav"]
    ]
    mapped = load_irmas(folder, splits={KEYS[0]: "test"})
    assert mapped.frame.loc[KEYS[0], "split"] == "test"
    assert len(mapped.dropped) == 0


@pytest.mark.parametrize(
    ("key", "shown"),
    [
        ("[cel][xxx]0001__1", r"\[cel\]\[xxx\]"),
        ("[dru][cla]0001__1", r"\[dru\]\[cla\]"),
        ("[cel]0001__1", r"\[cel\]0001"),
        ("cel/[cel][cla]0001__1.wav", "cel/"),
        ("clip 7", "clip 7"),
    ],
)
def test_malformed_keys_are_named(key, shown):
    with pytest.raises(DataError, match=rf"1 key\(s\) are not as IRMAS writes them: '.*{shown}"):
        load_irmas([KEYS[0], key])


def test_splits_that_do_not_fit_are_named(folder):
    with pytest.raises(DataError, match=r"splits has 1 key\(s\) that are no clip: 'zzz'"):
        load_irmas(KEYS, splits={"zzz": "train"})
    with pytest.raises(DataError, match=r"splits has shape \(1,\), but there are 3"):
        load_irmas(KEYS, splits=["train"])
    with pytest.raises(ParameterError, match="order of a folder's clips is not known"):
        load_irmas(folder, splits=["train"])
    (folder / "split_train.csv").write_text("[pia][cla]0009__1\n")
    with pytest.raises(DataError, match=r"no key of split_train\.csv and split_test\.csv is a wav"):
        load_irmas(folder)
    (folder / "split_test.csv").write_text("[pia][cla]0009__1\n")
    with pytest.raises(DataError, match=r"1 key\(s\) of split_test.csv are listed more than once"):
        load_irmas(folder)
    (folder / "split_test.csv").write_bytes(b"\xff\xfe")
    with pytest.raises(DataError, match=r"cannot be read .*; give a file of one key per line"):
        load_irmas(folder)


def test_bad_folders_are_named(folder, tmp_path_factory):
    empty = tmp_path_factory.mktemp("empty")
    with pytest.raises(DataError, match="no training clip is under"):
        load_irmas(empty)
    with pytest.raises(DataError, match="no testing clip is under"):
        load_irmas(empty, part="testing")
    with pytest.raises(DataError, match="is not a folder; give the folder that holds"):
        load_irmas(empty / "none")
    with pytest.raises(ParameterError, match=r"part='train' is not known.*did you mean 'training'"):
        load_irmas(folder, part="train")
    with pytest.raises(ParameterError, match="part='testing' does not go with a list of keys"):
        load_irmas(KEYS, part="testing")
    with pytest.raises(DataError, match="more than once in one dataset"):
        load_irmas([KEYS[0], KEYS[0]])


def test_a_file_in_the_wrong_folder_is_named(folder):
    # [cla] is in this key, but as the genre.
    (folder / "sets/IRMAS-TrainingData/cla").mkdir()
    (folder / "sets/IRMAS-TrainingData/cla" / "[cel][cla]0044__1.wav").touch()
    with pytest.raises(DataError, match=r"1 file\(s\) are in the folder of another .*0044__1"):
        load_irmas(folder)


def test_bad_testing_labels_are_named(folder):
    part = folder / "sets/IRMAS-TestingData-Part2/IRTestingData-Part2"
    (part / "Two-3.txt").write_text("drums\n")
    with pytest.raises(DataError, match=r"'Two-3.txt' holds 'drums'; one of cel "):
        load_irmas(folder, part="testing")
    (part / "Two-3.txt").unlink()
    with pytest.raises(DataError, match=r"1 testing clip\(s\) have no .txt file .*'Two-3'"):
        load_irmas(folder, part="testing")


def test_the_real_tree(shared):
    clips = load_irmas(shared / "layouts" / "irmas", part="all")
    assert clips.clip_id.tolist() == ["[cla][cla]0189__2", "02 - And The Body Will Die-8"]
    assert clips.labels.loc["02 - And The Body Will Die-8", ["guitar", "voice"]].all()


def test_the_published_counts(shared):
    parts = {
        name: (shared / "published" / f"irmas_split_{name}.csv").read_text().split()
        for name in ("train", "test")
    }
    splits = {key: name for name, keys in parts.items() for key in keys}
    start = time.perf_counter()
    clips = load_irmas(list(splits), splits=splits)
    assert time.perf_counter() - start < 1
    assert len(clips) == 6705
    clips = PUBLISHED.apply(clips)
    train = clips.select(clips.split == "train")
    assert (len(train), len(clips) - len(train)) == (4997, 1666)
    assert train.labels.sum().to_dict() == {
        "cello": 294,
        "clarinet": 378,
        "flute": 330,
        "guitar": 1051,
        "organ": 508,
        "piano": 551,
        "saxophone": 476,
        "trumpet": 427,
        "violin": 437,
        "voice": 545,
    }
    assert clips.dropped["reason"].value_counts().to_dict() == {
        "genre 'latin_soul' is not in the vocabulary": 42
    }
    assert not set(train.group) & set(clips.group[clips.split == "test"])


def test_labels_genres_and_songs_agree_with_another_table(shared):
    with np.load(shared / "data" / "librosa25_irmas_train.npz") as other:
        columns = {name: other[name] for name in ("clip", "label", "song_id")}
    clips = load_irmas(columns["clip"])
    assert clips.labels.idxmax(axis=1).tolist() == columns["label"].tolist()
    assert clips.group.tolist() == columns["song_id"].tolist()
