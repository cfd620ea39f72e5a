"""The reader of OpenMIC-2018, on a planted folder and on the real tree."""

import json

import numpy as np
import pandas as pd
import pytest

from biasaudio.datasets import PUBLISHED, load_openmic
from biasaudio.datasets.vocabulary import OPENMIC_INSTRUMENTS
from biasaudio.errors import DataError, ParameterError

KEYS = ["000001_0", "000001_3840", "000002_0", "000003_0", "000004_0"]
CLASSES = ("cello", "flute", "harp")


def titles(*names):
    return str([{"genre_id": "1", "genre_title": name, "genre_url": "u"} for name in names])


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "partitions").mkdir()
    (tmp_path / "partitions/split01_train.csv").write_text("\n".join(KEYS[:3]) + "\n")
    (tmp_path / "partitions/split01_test.csv").write_text("\n".join(KEYS[3:]) + "\n")
    (tmp_path / "class-map.json").write_text(json.dumps({"flute": 1, "cello": 0, "harp": 2}))
    write_metadata(tmp_path)
    # NaN stands for .5 in entries that nobody answered.
    relevance = np.full((5, 3), np.nan)
    relevance[0, :2] = 0.5, 0.49
    relevance[1, 2] = 1
    relevance[4] = 0, 0.9, 0.2
    write_npz(tmp_path, relevance)
    row, column = np.nonzero(~np.isnan(relevance))
    pd.DataFrame(
        {
            "sample_key": np.array(KEYS)[row],
            "instrument": np.array(CLASSES)[column],
            "relevance": relevance[row, column],
            "num_responses": 3,
        }
    ).to_csv(tmp_path / "openmic-2018-aggregated-labels.csv", index=False)
    return tmp_path


def write_npz(folder, relevance, keys=KEYS, **arrays):
    objects = np.empty(len(keys), dtype=object)
    objects[:] = keys
    mask = ~np.isnan(relevance)
    content = {"sample_key": objects, "Y_true": relevance, "Y_mask": mask} | arrays
    np.savez(folder / "openmic-2018.npz", **content)


def write_metadata(folder, **columns):
    table = {
        "track_genres": [titles("Blues", "Free-Jazz"), titles("Electronic"), None, "[]"],
        "artist_id": ["7", "", "9", "7"],
        "track_title": ["a,\nb", 'c "d"', "", "e"],
        "sample_key": [KEYS[4], KEYS[0], KEYS[2], KEYS[1]],
    } | columns
    pd.DataFrame(table).to_csv(folder / "openmic-2018-metadata.csv", index=False)


def test_labels_masks_splits_genres_and_groups(folder):
    clips = load_openmic(folder)
    assert clips.clip_id.tolist() == KEYS
    assert clips.datasets == ["openmic"]
    assert clips.label_names == list(CLASSES)
    assert clips.labels.to_numpy().astype(int).tolist() == [
        [1, 0, 0],
        [0, 0, 1],
        [0, 0, 0],
        [0, 0, 0],
        [0, 1, 0],
    ]
    assert clips.mask.to_numpy().astype(int).tolist() == [
        [1, 1, 0],
        [0, 0, 1],
        [0, 0, 0],
        [0, 0, 0],
        [1, 1, 1],
    ]
    assert clips.split.tolist() == ["train", "train", "train", "test", "test"]
    assert clips.genre.tolist() == ["", "", "", "", "jazz_blue"]
    assert clips.group.tolist() == ["000001", "000001", "000002", "000003", "000004"]
    assert len(clips.dropped) == 0


def test_the_artist_as_group_falls_back_to_the_track(folder):
    assert load_openmic(folder, group="artist").group.tolist() == [
        "000001",
        "7",
        "9",
        "000003",
        "7",
    ]
    with pytest.raises(ParameterError, match="group='album' is not known"):
        load_openmic(folder, group="album")


def test_the_aggregated_labels_give_the_same(folder):
    with_npz = load_openmic(folder)
    (folder / "openmic-2018.npz").unlink()
    without = load_openmic(folder)
    for part in ("frame", "labels", "mask", "dropped"):
        pd.testing.assert_frame_equal(getattr(with_npz, part), getattr(without, part))


def test_the_class_map_is_optional(folder):
    (folder / "class-map.json").unlink()
    write_npz(folder, np.ones((5, 20)))
    assert load_openmic(folder).label_names == list(OPENMIC_INSTRUMENTS)


def test_keys_of_a_split_without_clip_are_recorded(folder):
    write_npz(folder, np.ones((4, 3)), keys=KEYS[:4])
    clips = load_openmic(folder)
    assert clips.dropped["clip_id"].tolist() == [KEYS[4]]
    (folder / "partitions/split01_train.csv").write_text("")
    assert load_openmic(folder).split.tolist() == ["", "", "", "test"]


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("partitions/split01_test.csv", "has no 'partitions/split01_test.csv'; get the whole"),
        ("openmic-2018-metadata.csv", "has no 'openmic-2018-metadata.csv'; get the whole"),
    ],
)
def test_absent_files_are_named(folder, name, message):
    (folder / name).unlink()
    with pytest.raises(DataError, match=message):
        load_openmic(folder)


def test_bad_folders_are_named(folder, tmp_path):
    for name in ("openmic-2018.npz", "openmic-2018-aggregated-labels.csv"):
        (folder / name).unlink()
    with pytest.raises(DataError, match=r"has neither openmic-2018\.npz nor openmic-2018-aggreg"):
        load_openmic(folder)
    with pytest.raises(DataError, match="is not a folder; give the folder openmic-2018"):
        load_openmic(tmp_path / "none")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"Y_true": np.ones((5, 2))}, r"Y_true in .* has shape \(5, 2\)"),
        ({"Y_mask": np.ones((4, 3), bool)}, r"Y_mask in .* has shape \(4, 3\)"),
        ({"Y_true": np.full((5, 3), "a")}, "Y_true in .* dtype <U1"),
        ({"Y_true": np.full((5, 3), np.nan)}, r"NaN where Y_mask is true for 5 clip\(s\): '000001"),
        ({"sample_key": np.array(["a", "b", "c", "d", "d"])}, "none of the 5 clips such as 'a'"),
        ({"sample_key": np.array([1, 2], dtype=object)}, "something other than plain text"),
    ],
)
def test_bad_arrays_are_named(folder, arrays, message):
    write_npz(folder, np.ones((5, 3)), **arrays)
    with pytest.raises(DataError, match=message):
        load_openmic(folder)


def test_a_repeated_key_is_named(folder):
    write_npz(folder, np.ones((5, 3)), keys=[*KEYS[:4], KEYS[0]])
    with pytest.raises(DataError, match="more than once in one dataset: '000001_0'"):
        load_openmic(folder)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{", "class-map.json is not JSON"),
        ("[1]", "does not give each label its column"),
        ('{"a": 1}', "does not give each label its column"),
        ('{"a": 0}', r"has shape \(5, 3\)"),
    ],
)
def test_bad_class_maps_are_named(folder, text, message):
    (folder / "class-map.json").write_text(text)
    with pytest.raises(DataError, match=message):
        load_openmic(folder)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("__import__('os').system('x')", "__import__"),
        ("[{'genre_id': '1'}]", "genre_id"),
        ("[{", r"\[\{"),
        ("12", "12"),
    ],
)
def test_bad_genres_are_named_and_never_run(folder, text, shown):
    write_metadata(folder, track_genres=[None, None, text, None])
    with pytest.raises(DataError, match=f"track_genres of '000002_0' in .* genres: .*{shown}"):
        load_openmic(folder)


def test_bad_metadata_is_named(folder):
    write_metadata(folder, sample_key=[KEYS[0]] * 4)
    with pytest.raises(DataError, match=r"has 3 clip\(s\) more than once: '000001_0'"):
        load_openmic(folder)
    write_metadata(folder, sample_key=["a", "b", "c", "d"])
    with pytest.raises(DataError, match="has none of the 5 clips such as '000001_0'"):
        load_openmic(folder)
    (folder / "openmic-2018-metadata.csv").write_text("sample_key\n")
    with pytest.raises(DataError, match="has no column 'track_genres'; it has 'sample_key'"):
        load_openmic(folder)


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("000002_0,celo,1,3", "instrument 'celo', which is not in .* did you mean 'cello'"),
        ("000002_0,cello,high,3", "has the relevance 'high'; a number 0 to 1"),
        ("000001_0,cello,1,3", r"more than once for 1 row\(s\) of '000001_0'"),
    ],
)
def test_bad_aggregated_labels_are_named(folder, line, message):
    (folder / "openmic-2018.npz").unlink()
    with (folder / "openmic-2018-aggregated-labels.csv").open("a") as file:
        file.write(line + "\n")
    with pytest.raises(DataError, match=message):
        load_openmic(folder)


def test_the_real_tree(shared):
    clips = load_openmic(shared / "layouts" / "openmic2018", group="artist")
    known = clips.mask.loc["000046_3840"]
    assert known[known].index.tolist() == ["clarinet", "flute", "trumpet"]
    assert not clips.labels.to_numpy().any()
    assert clips.frame.loc["000046_3840"].tolist() == ["openmic", "train", "pop_rock", "4"]
    assert clips.frame.loc["000135_483840", "genre"] == "pop_rock"
    assert clips.frame.loc["000178_3840", "split"] == "test"
    kept = PUBLISHED.apply(clips)
    assert len(kept) + len(kept.dropped) == len(clips)
    assert set(kept.dropped["reason"]) == {"genre is not known"}


@pytest.mark.parametrize("value", ["1e300", "1e999", "-0.1", "nan", "often"])
def test_a_relevance_beyond_0_to_1_is_one_line(folder, value):
    (folder / "openmic-2018.npz").unlink()
    path = folder / "openmic-2018-aggregated-labels.csv"
    lines = path.read_text().splitlines()
    key, instrument, _, n = lines[1].split(",")
    path.write_text("\n".join([lines[0], f"{key},{instrument},{value},{n}", *lines[2:]]))
    message = f"has the relevance '{value}'; a number 0 to 1 is allowed"
    with pytest.raises(DataError, match=message):
        load_openmic(folder)


@pytest.mark.parametrize("value", [1e300, np.inf, -0.1])
def test_a_relevance_of_the_npz_file_beyond_0_to_1_is_one_line(folder, value):
    relevance = np.full((5, 3), np.nan)
    relevance[2, 1] = value
    write_npz(folder, relevance)
    with pytest.raises(DataError, match=r"not from 0 to 1 for 1 clip\(s\): '000002_0'; get the"):
        load_openmic(folder)


def test_half_a_pair_of_surrogates_in_the_class_map_is_one_line(folder):
    (folder / "class-map.json").write_text('{"flute": 1, "\\ud800": 0, "harp": 2}')
    with pytest.raises(DataError, match=r"columns of labels holds '\\ud800'"):
        load_openmic(folder)
