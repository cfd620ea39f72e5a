"""Clip tables: one form for everything that is known about clips."""

import numpy as np
import pandas as pd
import pytest

from biasaudio.datasets import ClipTable
from biasaudio.errors import DataError, ParameterError


@pytest.fixture
def clips():
    return ClipTable.from_columns(
        ["a", "b", "c", "d"],
        ["x", "x", "y", "y"],
        split=["train", "test", "train", "train"],
        genre=["rock", "", "rock", "jazz"],
        group=["s1", "", "s1", "s1"],
        label=["cello", "flute", "cello", ""],
    )


def test_columns_are_python_strings_and_empty_groups_become_clip_ids(clips):
    assert clips.frame.index.name == "clip_id"
    assert [dtype.kind for dtype in clips.frame.dtypes] == ["O"] * 4
    assert all(type(value) is str for value in clips.frame.to_numpy().ravel())
    assert clips.group.tolist() == ["s1", "b", "s1", "s1"]
    assert clips.datasets == ["x", "y"]
    assert len(clips) == 4


def test_group_id_tells_same_names_in_two_datasets_apart(clips):
    g = clips.group_id
    assert g[2] == g[3]
    assert len(set(g)) == 3


def test_one_label_a_clip_is_one_hot_and_blank_is_not_annotated(clips):
    assert clips.label_names == ["cello", "flute"]
    assert clips.labels.to_numpy().tolist() == [[1, 0], [0, 1], [1, 0], [0, 0]]
    assert clips.mask.to_numpy().tolist() == [[1, 1], [1, 1], [1, 1], [0, 0]]


def test_blank_labels_and_masked_labels_are_not_annotated():
    table = ClipTable.from_columns(["a", "b"], "x", labels={"p": [1, np.nan], "q": [None, 0]})
    assert table.mask.to_numpy().tolist() == [[True, False], [False, True]]
    masked = ClipTable.from_columns(
        ["a", "b"], "x", labels={"p": [True, True]}, mask={"p": [True, False]}
    )
    assert masked.labels["p"].tolist() == [True, False]


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (np.array([b"\xc3\xa9", b"f"]), ["é", "f"]),
        (["é", None], ["é", ""]),
        ([7, 8], ["7", "8"]),
        (pd.Series([7, np.nan]), ["7", ""]),
        (pd.Series(["u", pd.NA], dtype="string"), ["u", ""]),
        (pd.Categorical(["u", "v"]), ["u", "v"]),
    ],
)
def test_text_columns_take_bytes_ints_and_missing_values(values, expected):
    assert ClipTable.from_columns(["a", "b"], "x", genre=values).genre.tolist() == expected


def test_frames_are_copied(clips):
    frame, labels = clips.frame.copy(), clips.labels.copy()
    table = ClipTable(frame, labels, clips.mask)
    frame.iloc[0, 0] = "changed"
    labels.iloc[0, 0] = False
    assert table.dataset[0] == "x"
    assert table.labels.iloc[0, 0]
    assert len(table.dropped) == 0
    assert list(table.dropped.columns) == ["clip_id", "dataset", "reason"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"clip_id": ["a", "a"]}, r"1 clip id\(s\) are there more than once .*'a'"),
        ({"clip_id": ["a", ""]}, "clip_id is missing for 1 of 2 clips, first at row 1"),
        ({"clip_id": [["a"], ["b"]]}, r"clip_id has shape \(2, 1\)"),
        ({"dataset": ["x", None]}, "dataset is missing for 1 of 2 clips, first at row 1"),
        ({"genre": ["r", "r", "r"]}, r"genre has shape \(3,\), but there are 2 clip ids"),
        ({"group": [0.5, 1.0]}, "group holds the number 0.5"),
        ({"split": np.array([b"\xff", b"a"])}, "which are not UTF-8"),
        ({"labels": {"p": [1, 2]}}, "labels column 'p' holds 2; give 0, 1 or blank"),
        ({"labels": {"p": [1]}}, r"columns of another length than the 2 clip ids: 'p \(1,\)'"),
        ({"labels": pd.DataFrame({"p": [1]})}, "labels has 1 rows, but there are 2 clip ids"),
        (
            {"labels": pd.DataFrame({"p": [1, 0]}, index=["b", "a"])},
            "index of labels is not the clip ids in their order",
        ),
        (
            {"labels": pd.DataFrame([[1, 0], [0, 1]], columns=["p", "p"])},
            "labels has the column 'p' more than once",
        ),
        (
            {"labels": {"p": [1, 0]}, "mask": {"q": [1, 0]}},
            "columns of labels and mask differ in 'p', 'q'",
        ),
        ({"dropped": pd.DataFrame({"clip_id": ["z"]})}, r"dropped has the columns \['clip_id'\]"),
    ],
)
def test_bad_columns_are_named(arguments, message):
    columns = {"clip_id": ["a", "b"], "dataset": "x"} | arguments
    with pytest.raises(DataError, match=message):
        ClipTable.from_columns(**columns)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"label": ["p"], "labels": {"p": [1]}}, "label and labels are both given"),
        ({"mask": {"p": [1]}}, "mask is given without labels"),
        ({"labels": [[1]]}, "labels is a list; give a DataFrame or a dict"),
    ],
)
def test_bad_arguments_are_named(arguments, message):
    with pytest.raises(ParameterError, match=message):
        ClipTable.from_columns(["a"], "x", **arguments)


def test_the_constructor_checks_its_frames(clips):
    with pytest.raises(DataError, match="give exactly"):
        ClipTable(clips.frame.drop(columns="genre"), clips.labels, clips.mask)
    with pytest.raises(DataError, match="do not have the same index"):
        ClipTable(clips.frame, clips.labels.iloc[::-1], clips.mask)


def test_select_by_mask_and_by_number(clips):
    assert clips.select(clips.split == "train").clip_id.tolist() == ["a", "c", "d"]
    back = clips.select([3, -4])
    assert back.clip_id.tolist() == ["d", "a"]
    assert back.labels["cello"].tolist() == [False, True]
    assert len(clips.select([])) == 0


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([True], r"mask of shape \(1,\), but there are 4 clips"),
        ([9], "row 9 is not there; there are 4 clips, so 0 to 3"),
        ([0.5], "rows has dtype float64"),
    ],
)
def test_bad_rows_are_named(clips, rows, message):
    with pytest.raises(ParameterError, match=message):
        clips.select(rows)


def test_with_labels_and_with_columns(clips):
    assert clips.with_labels("flute").labels["flute"].tolist() == [False, True, False, False]
    assert clips.with_columns(split="all").split.tolist() == ["all"] * 4
    assert clips.split[0] == "train"
    with pytest.raises(ParameterError, match=r"'cell' is not there; .* did you mean 'cello'"):
        clips.with_labels(["cell"])
    with pytest.raises(ParameterError, match=r"'spilt' is not there; .* did you mean 'split'"):
        clips.with_columns(spilt="all")


def test_concat_masks_labels_that_a_table_does_not_have(clips):
    other = ClipTable.from_columns(["a"], "z", label=["harp"])
    both = ClipTable.concat([clips, other])
    assert both.label_names == ["cello", "flute", "harp"]
    assert both.mask["harp"].tolist() == [False] * 4 + [True]
    assert both.mask["cello"].tolist() == [True, True, True, False, False]
    with pytest.raises(DataError, match="more than once"):
        ClipTable.concat([clips, clips])
    with pytest.raises(ParameterError, match="tables is empty"):
        ClipTable.concat([])


def test_distribution_names_empty_and_thin_cells():
    n = 30
    table = ClipTable.from_columns(
        [f"c{i}" for i in range(n)],
        ["x"] * 20 + ["y"] * 10,
        genre=["rock"] * 20 + ["jazz"] * 9 + [""],
        labels={"cello": [1] * 12 + [0] * 7 + [None] + [1] * 3 + [0] * 7},
    )
    cells = table.distribution(by=("dataset", "genre")).set_index(["dataset", "genre"])
    assert cells.index.tolist() == [
        ("x", "jazz"),
        ("x", "rock"),
        ("y", ""),
        ("y", "jazz"),
        ("y", "rock"),
    ]
    assert cells["n_annotated"].tolist() == [0, 19, 1, 9, 0]
    assert cells["n_positive"].tolist() == [0, 12, 0, 3, 0]
    assert cells["note"].tolist() == ["empty", "", "empty", "near-empty", "empty"]
    assert "split" in table.distribution()
    with pytest.raises(ParameterError, match=r"by 'gener' is not there; .* did you mean 'genre'"):
        table.distribution(by=("gener",))


def test_distribution_without_labels_is_an_empty_table():
    cells = ClipTable.from_columns(["a"], "x").distribution()
    assert list(cells.columns)[-4:] == ["label", "n_annotated", "n_positive", "note"]
    assert len(cells) == 0


def test_repr_counts(clips):
    assert repr(clips) == "ClipTable(4 clips of x, y; 2 labels, 2 genres, 3 groups, 0 dropped)"


@pytest.mark.parametrize("column", ["clip_id", "dataset", "split", "genre", "group", "label"])
def test_half_a_pair_of_surrogates_is_one_line(column):
    values = {"clip_id": ["a", "b"], "dataset": "demo", column: ["good", "bad\udcff"]}
    with pytest.raises(DataError, match=r"holds 'bad\\udcff', which is no valid Unicode") as caught:
        ClipTable.from_columns(values.pop("clip_id"), values.pop("dataset"), **values)
    assert str(caught.value).isprintable()


def test_names_of_labels_can_be_written_to_a_file():
    with pytest.raises(DataError, match=r"columns of labels holds '\\ud800'"):
        ClipTable.from_columns(["a"], "demo", labels={"\ud800": [1]})


@pytest.mark.parametrize(
    "value", [1e300, float("inf"), 2.0**60, pytest.param(10**5000, id="5001 digits")]
)
def test_numbers_that_name_no_clip_are_one_line(value):
    with pytest.raises(DataError, match=r"clip_id holds .*give strings") as caught:
        ClipTable.from_columns(np.array([1, value], dtype=object), "demo")
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 200
