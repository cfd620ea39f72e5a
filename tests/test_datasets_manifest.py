"""Clips of anybody's own dataset, from csv, parquet or a DataFrame."""

import sys

import numpy as np
import pandas as pd
import pytest

from biasaudio.datasets import load_manifest
from biasaudio.errors import DataError, ParameterError

CSV = "clip_id,dataset,split,group,genre,cello,flute\n01,x,train,s1,rock,1,\n02,y,,,,0,True\n"


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "clips.csv"
    path.write_text(CSV)
    return path


def test_a_csv_with_one_column_a_label(path):
    clips = load_manifest(path)
    assert clips.frame.reset_index().to_numpy().tolist() == [
        ["01", "x", "train", "rock", "s1"],
        ["02", "y", "", "", "02"],
    ]
    assert clips.labels.to_numpy().tolist() == [[True, False], [False, True]]
    assert clips.mask.to_numpy().tolist() == [[True, False], [True, True]]


def test_parquet_and_frame_give_the_same_as_csv(path, tmp_path):
    pytest.importorskip("pyarrow", exc_type=ImportError)
    frame = pd.read_csv(path, dtype={"clip_id": str})
    frame["flute"] = frame["flute"].astype("boolean")
    # Some parquet files keep the clip ids as the index.
    frame.set_index("clip_id").to_parquet(tmp_path / "clips.parquet")
    before = frame.copy()
    tables = [load_manifest(each) for each in (path, tmp_path / "clips.parquet", frame)]
    pd.testing.assert_frame_equal(frame, before)
    for table in tables[1:]:
        for part in ("frame", "labels", "mask"):
            pd.testing.assert_frame_equal(getattr(tables[0], part), getattr(table, part))


def test_one_label_column_by_either_name():
    frame = pd.DataFrame({"clip_id": [1, 2, 3], "label": ["cello", "flute", None]})
    clips = load_manifest(frame, dataset="mine")
    assert clips.label_names == ["cello", "flute"]
    assert clips.mask["cello"].tolist() == [True, True, False]
    assert clips.clip_id.tolist() == ["1", "2", "3"]
    named = load_manifest(frame.rename(columns={"label": "what"}), dataset="mine", label="what")
    pd.testing.assert_frame_equal(clips.labels, named.labels)


def test_no_labels_at_all():
    clips = load_manifest(pd.DataFrame({"clip_id": ["a"], "dataset": ["x"]}))
    assert clips.label_names == []


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clip,dataset\na,x\n", r"clips\.csv has no column 'clip_id'; it has 'clip', 'dataset'"),
        ("clip_id\na\n", "has no column 'dataset'; add it, or say dataset="),
        ("clip_id,dataset\n", "has no rows; give at least one clip"),
        ("clip_id,dataset\na,x\na,x\n", "more than once in one dataset: 'a'"),
        ("clip_id,dataset\na,\n", "dataset is missing for 1 of 1 clips"),
        ("clip_id,dataset\n,x\n", "clip_id is missing for 1 of 1 clips"),
        ("clip_id,dataset,cello\na,x,2\n", "column 'cello' of clips.csv holds '2', so it is nei"),
        ("clip_id,dataset,gener\na,x,rock\n", "'gener' .* holds 'rock'.*did you mean 'genre'"),
        ("clip_id,dataset,label,cello\na,x,p,1\n", r"label column 'label' and 0/1 .*\('cello'\)"),
        (",clip_id,dataset\n0,a,x\n", "has a column without a name; name or remove it"),
        ("", "is not a csv file that can be read"),
    ],
)
def test_bad_csv_files_are_named(path, text, message):
    path.write_text(text)
    with pytest.raises(DataError, match=message):
        load_manifest(path)


def test_bad_arguments_are_named(path):
    with pytest.raises(ParameterError, match=r"dataset='z' is given, but clips\.csv has a column"):
        load_manifest(path, dataset="z")
    with pytest.raises(ParameterError, match=r"label='celo' is no column of .*mean 'cello'"):
        load_manifest(path, label="celo")
    with pytest.raises(ParameterError, match="label='genre' is a column of its own"):
        load_manifest(path, label="genre")


def test_a_second_label_column_is_not_ignored():
    frame = pd.DataFrame({"clip_id": ["a"], "label": ["p"], "what": ["q"]})
    with pytest.raises(DataError, match="column 'label' of the table holds 'p'"):
        load_manifest(frame, dataset="x", label="what")


def test_bad_sources_are_named(path, tmp_path):
    with pytest.raises(DataError, match="is not a file; give a csv or parquet file"):
        load_manifest(tmp_path / "none.csv")
    sheet = path.rename(tmp_path / "clips.xlsx")
    with pytest.raises(DataError, match=r"ends in '\.xlsx'; give a \.csv or \.parquet file"):
        load_manifest(sheet)
    pytest.importorskip("pyarrow", exc_type=ImportError)
    broken = sheet.rename(tmp_path / "clips.parquet")
    with pytest.raises(DataError, match="is not a parquet file that can be read"):
        load_manifest(broken)
    twice = pd.DataFrame([["a", 1, 0]], columns=["clip_id", "p", "p"])
    with pytest.raises(DataError, match="the table has the column 'p' more than once"):
        load_manifest(twice, dataset="x")


def test_parquet_without_pyarrow_says_what_to_install(path, tmp_path, monkeypatch):
    parquet = path.rename(tmp_path / "clips.parquet")
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(
        ParameterError, match="needs pyarrow, which cannot be imported here; run: python"
    ):
        load_manifest(parquet)


def test_many_rows_are_fast_and_right(rng):
    n = 20_000
    answers = rng.integers(0, 3, (n, 20))
    frame = pd.DataFrame(np.where(answers == 2, np.nan, answers))
    frame.insert(0, "clip_id", [f"c{i}" for i in range(n)])
    clips = load_manifest(frame, dataset="x")
    np.testing.assert_array_equal(clips.labels.to_numpy(), answers == 1)
    np.testing.assert_array_equal(clips.mask.to_numpy(), answers != 2)
