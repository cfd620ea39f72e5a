"""Folders, lists and tables of strangers are read within limits."""

import json
import os

import pytest

from biasaudio.datasets import _files, load_irmas, load_manifest, load_openmic
from biasaudio.datasets._files import MAX_TEXT, read_csv, read_splits, read_text, walk_files
from biasaudio.errors import DataError


def test_a_text_file_is_read_up_to_a_limit(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("\ufeffa\n", encoding="utf-8")
    assert read_text(path) == "a\n"
    os.truncate(path, MAX_TEXT + 1)
    with pytest.raises(ValueError, match=f"it has {MAX_TEXT + 1} bytes, at most {MAX_TEXT} are"):
        read_text(path)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ValueError, match="it is no regular file"):
        read_text(tmp_path / "pipe")


@pytest.mark.parametrize("content", [b"\xff\xfea\0", None])
def test_a_split_that_is_no_text_is_named(tmp_path, content):
    path = tmp_path / "train.csv"
    if content is None:
        os.mkfifo(path)
    else:
        path.write_bytes(content)
    with pytest.raises(DataError, match=r"train\.csv' cannot be read \(.*\); give a file of one k"):
        read_splits({"train": path})


def test_the_walk_is_sorted_without_hidden_files_and_ends(tmp_path):
    for name in ("b/2", "b/1", ".h/1", "a/.1", "c"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    for name in ("b/up", "a/up"):
        (tmp_path / name).symlink_to(tmp_path, target_is_directory=True)
    (tmp_path / "loop").symlink_to("loop")
    assert [str(path.relative_to(tmp_path)) for path in walk_files(tmp_path)] == [
        *("b/1", "b/2", "c", "loop"),
    ]


def test_a_circle_of_links_in_irmas_ends(tmp_path):
    folder = tmp_path / "IRMAS-TrainingData" / "cel"
    folder.mkdir(parents=True)
    (folder / "[cel][cla]0001__1.wav").touch()
    (folder / "cel").symlink_to(tmp_path, target_is_directory=True)
    assert load_irmas(tmp_path).clip_id.tolist() == ["[cel][cla]0001__1"]


def test_the_labels_of_irmas_are_a_small_text_file(tmp_path, monkeypatch):
    folder = tmp_path / "IRMAS-TestingData-Part1"
    folder.mkdir()
    (folder / "a-1.wav").touch()
    (folder / "a-1.txt").write_text("gel\n" * 100)
    monkeypatch.setattr(_files, "MAX_TEXT", 100)
    with pytest.raises(DataError, match=r"a-1\.txt' cannot be read \(it has 400 bytes, at most 1"):
        load_irmas(tmp_path, part="testing")
    (folder / "a-1.txt").write_bytes(b"\xff")
    with pytest.raises(DataError, match=r"a-1\.txt' cannot be read \('utf-8' codec"):
        load_irmas(tmp_path, part="testing")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("a,b\n" + "1," * 10**6, "the rows have more fields than the header"),
        ("\na,b\n" + "1," * 10**6, "the rows have more fields than the header"),
        ('a,b\n"' + "x" * 200_000 + '",1\n', "field larger than field limit"),
        ("a" * 2**20 + ",b\n1,2\n", "field larger than field limit"),
        ("a,b\n1\0,2\n", "NUL"),
        (",".join(map(str, range(10**6))) + "\n", "1000000 columns"),
        ('a,b\n"1,2\n3,4\n', "is not a csv file that can be read"),
    ],
)
def test_a_table_that_would_take_for_ever_is_refused(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_text(content)
    with pytest.raises(DataError, match=message) as caught:
        read_csv(path)
    assert "\n" not in str(caught.value)


def test_blank_lines_before_the_first_row_are_no_row(tmp_path):
    path = tmp_path / "a.csv"
    path.write_text('a,b\n\n  \n"1\n2",3\n4\n')
    assert read_csv(path).to_numpy().tolist() == [["1\n2", "3"], ["4", ""]]


@pytest.fixture
def openmic(tmp_path):
    (tmp_path / "partitions").mkdir()
    (tmp_path / "partitions/split01_train.csv").write_text("1_0\n")
    (tmp_path / "partitions/split01_test.csv").write_text("2_0\n")
    (tmp_path / "openmic-2018-metadata.csv").write_text("sample_key,track_genres\n1_0,\n2_0,\n")
    (tmp_path / "openmic-2018-aggregated-labels.csv").write_text(
        "sample_key,instrument,relevance\n1_0,cello,0.9\n"
    )
    (tmp_path / "class-map.json").write_text(json.dumps({"cello": 0}))
    return tmp_path


def test_a_class_map_of_a_stranger(openmic, monkeypatch):
    path = openmic / "class-map.json"
    assert len(load_openmic(openmic)) == 2
    for content in ("[" * 10**6, '{"a":' * 10**5, '{"cello": ' + "1" * 5000 + "}", "\0", ""):
        path.write_text(content)
        with pytest.raises(DataError, match=r"class-map\.json is not JSON \(.*\); get the file"):
            load_openmic(openmic)
    path.write_text(json.dumps({"cello": 0} | {f"l{i}": i for i in range(1, 100)}))
    monkeypatch.setattr("biasaudio.datasets.openmic.MAX_CELLS", 199)
    with pytest.raises(DataError, match="say 2 clips times 100 labels; at most 199 answers are"):
        load_openmic(openmic)


@pytest.mark.parametrize(
    "genres",
    [
        "[" * 5000,
        "-" * 9000 + "1",
        "[" + "1," * 10**5 + "]",
        "[{'genre_title': " + "9" * 9000 + "}]",
        "__import__('os').getcwd()",
        "[{'genre_title': 1j}] * 10**9",
    ],
)
def test_genres_of_a_stranger(openmic, genres):
    (openmic / "openmic-2018-metadata.csv").write_text(
        f'sample_key,track_genres\n1_0,"{genres}"\n2_0,\n'
    )
    with pytest.raises(DataError, match=r"is not a list of genres|field larger than") as caught:
        load_openmic(openmic)
    assert len(str(caught.value)) < 500


def test_damaged_manifests_are_read_or_refused(tmp_path, rng):
    path = tmp_path / "clips.csv"
    whole = (
        b'\xef\xbb\xbfclip_id,dataset,label,split\n"a",x,cello,train\nb,x,"fl\nute",\nc,y,,test\n'
    )
    read = refused = 0
    for _ in range(400):
        content = bytearray(whole)
        for _ in range(rng.integers(1, 5)):
            at = rng.integers(len(content))
            content[at : at + rng.integers(3)] = rng.choice(
                [b",", b'"', b"\n", b"\r", b"\0", b"\xff", b"", b"label", b"1e999"]
            )
        path.write_bytes(content)
        try:
            assert 1 <= len(load_manifest(path)) <= 8
        except DataError as error:
            refused += "\n" not in str(error)
        else:
            read += 1
    assert read + refused == 400
    assert min(read, refused) > 10
