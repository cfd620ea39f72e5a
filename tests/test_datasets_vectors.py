"""Vectors and clips are joined by key, never by position."""

import warnings

import numpy as np
import pandas as pd
import pytest

from biasaudio.datasets import ClipTable, EmbeddingTable
from biasaudio.errors import BiasAudioWarning, DataError, ParameterError


@pytest.fixture
def clips():
    return ClipTable.from_columns(["a", "b", "c", "d"], ["x", "x", "y", "y"])


@pytest.fixture
def one(clips):
    return clips.select(clips.dataset == "x")


def test_join_is_by_key(one, rng):
    X = rng.normal(size=(2, 3))
    table = EmbeddingTable.join(X[::-1], [b"b", b"a"], one, embedding="e")
    np.testing.assert_array_equal(table.X, X.astype(np.float32))
    assert table.X.dtype == np.float32
    assert table.report.n_matched == 2
    assert repr(table).startswith("EmbeddingTable(e, 2 x 3, ClipTable(2 clips")
    assert len(table) == 2


def test_join_of_many_clips_is_by_key(rng):
    ids = np.array([f"{i:06d}_{i % 7}" for i in range(5000)])
    clips = ClipTable.from_columns(ids, "x")
    X = np.arange(5000.0)[:, None]
    order = rng.permutation(5000)
    table = EmbeddingTable.join(X[order], ids[order].astype("S"), clips)
    np.testing.assert_array_equal(table.X, X)


def test_vectors_are_write_protected_and_the_input_is_not(one):
    X = np.zeros((2, 2), dtype=np.float32)
    table = EmbeddingTable(X, one)
    with pytest.raises(ValueError, match="read-only"):
        table.X[0, 0] = 1
    X[0, 0] = 1


def test_missing_and_unknown_keys_are_named_or_dropped(one):
    X = np.arange(6.0).reshape(3, 2)
    with pytest.raises(DataError, match=r"1 clip\(s\) have no vector: 'a'.*missing=\"drop\""):
        EmbeddingTable.join(X[:1], ["b"], one)
    with pytest.raises(DataError, match=r"1 vector\(s\) belong to no known clip: 'z'.*unknown="):
        EmbeddingTable.join(X, ["a", "b", "z"], one)
    with pytest.warns(BiasAudioWarning, match="left out") as caught:
        table = EmbeddingTable.join(X, ["y", "b", "z"], one, missing="drop", unknown="drop")
    assert len(caught) == 2
    assert caught[0].filename == __file__
    assert table.clips.clip_id.tolist() == ["b"]
    assert table.X.tolist() == [[2.0, 3.0]]
    assert table.report.missing == ("a",)
    assert table.report.unknown == ("y", "z")


def test_clips_left_out_on_purpose_are_not_unknown(one):
    dropped = pd.DataFrame({"clip_id": ["z", "z"], "dataset": ["x", "w"], "reason": "test"})
    clips = ClipTable(one.frame, one.labels, one.mask, dropped)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        table = EmbeddingTable.join(np.eye(3), ["z", "a", "b"], clips)
    assert table.report.dropped == 1
    assert table.report.unknown == ()


def test_repeated_keys_are_refused_where_they_matter(one):
    with pytest.raises(DataError, match=r"1 key\(s\) have more than one vector: 'a'; pool"):
        EmbeddingTable.join(np.eye(3), ["a", "b", "a"], one)
    with pytest.warns(BiasAudioWarning, match="no known clip: 'z'"):
        table = EmbeddingTable.join(np.eye(4), ["a", "z", "b", "z"], one, unknown="drop")
    assert table.report.duplicates == ("z",)


def test_keys_that_match_nothing_are_shown_beside_the_clip_ids(one):
    with pytest.raises(DataError, match="the keys are 'p', the clip ids are 'a', 'b'"):
        EmbeddingTable.join([[1.0]], ["p"], one, missing="drop", unknown="drop")


def test_join_needs_to_know_the_dataset_of_several(clips):
    with pytest.raises(ParameterError, match="the clips are of 2 datasets"):
        EmbeddingTable.join(np.eye(2), ["a", "b"], clips)
    with pytest.raises(ParameterError, match="dataset 'w' is not there; choose from 'x', 'y'"):
        EmbeddingTable.join(np.eye(2), ["a", "b"], clips, dataset="w")
    table = EmbeddingTable.join(np.eye(2), ["d", "c"], clips, dataset="y")
    assert table.clips.clip_id.tolist() == ["c", "d"]
    assert table.X.tolist() == [[0.0, 1.0], [1.0, 0.0]]


@pytest.mark.parametrize("bad", [np.nan, np.inf, 1e300])
def test_bad_values_are_named_by_clip(one, bad):
    X = np.array([[1.0, 2.0], [3.0, bad]])
    with pytest.raises(DataError, match="NaN or Inf in 1 of 2 clips: 'b'"):
        EmbeddingTable.join(X, ["a", "b"], one)


def test_bad_shapes_are_named(one):
    with pytest.raises(DataError, match=r"X has shape \(3, 3\), but there are 2 keys"):
        EmbeddingTable.join(np.eye(3), ["a", "b"], one)
    with pytest.raises(DataError, match="X has 3 rows, but there are 2 clips"):
        EmbeddingTable(np.eye(3), one)
    with pytest.raises(ParameterError, match="missing='no' is not known"):
        EmbeddingTable.join(np.eye(2), ["a", "b"], one, missing="no")


def test_select_and_concat_of_vectors(clips):
    tables = [
        EmbeddingTable.join(np.eye(2), keys, clips, dataset=name, embedding="e")
        for name, keys in (("x", ["a", "b"]), ("y", ["c", "d"]))
    ]
    both = EmbeddingTable.concat(tables)
    assert both.X.shape == (4, 2)
    assert both.clips.clip_id.tolist() == ["a", "b", "c", "d"]
    assert both.report.n_matched == 4
    assert both.embedding == "e"
    assert both.select([2]).X.tolist() == [[1.0, 0.0]]
    with pytest.raises(DataError, match="the tables have 2 and 1 features"):
        EmbeddingTable.concat([tables[0], EmbeddingTable(np.ones((4, 1)), clips, "e")])
    with pytest.raises(ParameterError, match="several embeddings, 'e', 'f'"):
        EmbeddingTable.concat([tables[0], EmbeddingTable(np.ones((4, 2)), clips, "f")])
    with pytest.raises(ParameterError, match="tables is empty"):
        EmbeddingTable.concat([])
