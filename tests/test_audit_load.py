"""What an audit is given: stores, tables, clips and options; refusals come before any work."""

import warnings
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from audit_fixtures import GROUPS, LABELS, QUICK, N, arrays, joined, stored

import biasaudio
from biasaudio.datasets import ClipTable, load_manifest
from biasaudio.errors import BiasAudioWarning, DataError, ParameterError, StoreError


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Give a store of two datasets with labels, groups and genres."""
    folder = tmp_path_factory.mktemp("store")
    return stored(folder / "s.h5", arrays("a"), arrays("b", shift=1.0))


@pytest.fixture(scope="module")
def table():
    """Give a table of the same clips."""
    return joined(arrays("a"), arrays("b", shift=1.0))


def clip_table(names="ab", n=N):
    """Return clips without genres."""
    ids = [f"{name}-{i}" for name in names for i in range(n)]
    label = np.resize(LABELS, len(ids))
    group = np.resize(GROUPS, len(ids))
    return ClipTable.from_columns(ids, np.repeat(list(names), n), label=label, group=group)


def test_a_path_a_store_and_a_table_give_the_same_numbers(store, table):
    options = {"methods": ["lda"], **QUICK}
    by_path = biasaudio.audit(store, **options)
    by_store = biasaudio.audit(biasaudio.EmbeddingStore(store), **options)
    by_table = biasaudio.audit(table, **options)
    for name in ("probes", "transfer", "comparisons", "drops"):
        assert getattr(by_path, name).equals(getattr(by_store, name))
        assert getattr(by_path, name).equals(getattr(by_table, name))
    assert by_path.meta["files"][0]["path"].endswith("s.h5")


def test_given_clips_take_the_place_of_those_in_the_store(store):
    result = biasaudio.audit(store, clips=clip_table(), methods=[], **QUICK)
    assert set(result.probes["probe"]) == {"domain"}


def test_datasets_can_be_chosen_from_a_store_and_from_a_table(store, table):
    for source in (store, table):
        result = biasaudio.audit(source, datasets="a", **QUICK)
        assert result.meta["datasets"] == ["a"]


def test_one_name_alone_does_for_a_list(store):
    result = biasaudio.audit(store, embeddings="toy", labels="cello", methods="lda", **QUICK)
    assert result.meta["embeddings"] == ["toy"]
    assert list(result.methods["method"]) == ["lda"]


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"protocol": "published"}, ParameterError, "protocol='published' is not known; choose"),
        ({"modes": "globl"}, ParameterError, "modes='globl' .*did you mean 'global'"),
        ({"modes": ()}, ParameterError, "modes is empty; give one or both of global, classwise"),
        ({"methods": ["ldaa"]}, ParameterError, "method 'ldaa' .*did you mean 'lda'"),
        ({"pool": "median"}, ParameterError, "pool='median' is not known; choose one of 'mean'"),
        ({"missing": "skip"}, ParameterError, "missing='skip' is not known"),
        ({"n_jobs": 0}, ParameterError, "n_jobs=0 is not allowed; give 1 or more"),
        ({"n_permutations": -1}, ParameterError, "n_permutations=-1 .*whole number from 0"),
        ({"n_resamples": 0}, ParameterError, "n_resamples=0 .*whole number from 1"),
        ({"n_resamples": 2.5}, ParameterError, "n_resamples=2.5 is not allowed"),
        ({"random_state": -1}, ParameterError, "random_state=-1 .*whole number from 0"),
        ({"random_state": True}, ParameterError, "random_state=True is not allowed"),
        ({"datasets": []}, ParameterError, "datasets is empty; choose from 'a', 'b'"),
        ({"embeddings": []}, ParameterError, "embeddings is empty; choose from 'toy'"),
        ({"datasets": ["a", "bb"]}, StoreError, "dataset 'bb' .*choose from 'a', 'b'; did you"),
        ({"embeddings": ["toi"]}, StoreError, "embedding 'toi' .*did you mean 'toy'"),
        ({"labels": ["cell"]}, ParameterError, "label 'cell' .*did you mean 'cello'"),
        ({"meta": {"x": object()}}, ParameterError, "meta cannot be written as JSON"),
        ({"meta": {"x": float("nan")}}, ParameterError, "meta cannot be written as JSON"),
    ],
)
def test_options_that_are_not_allowed(store, options, error, message):
    with pytest.raises(error, match=message):
        biasaudio.audit(store, **(QUICK | options))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"clips": clip_table()}, "clips and embeddings were given with an EmbeddingTable"),
        ({"embeddings": ["toy"]}, "clips and embeddings were given with an EmbeddingTable"),
        ({"datasets": ["a", "c"]}, "dataset 'c' is not in the table; choose from 'a', 'b'"),
    ],
)
def test_options_that_do_not_go_with_a_table(table, options, message):
    with pytest.raises(ParameterError, match=message):
        biasaudio.audit(table, **options)


@pytest.mark.parametrize("source", [None, np.ones((4, 2)), pd.DataFrame({"f0": [1.0]})])
def test_a_source_of_another_type_is_refused(source):
    message = f"source is a {type(source).__name__}; give the path of a store, an EmbeddingStore or"
    with pytest.raises(ParameterError, match=message):
        biasaudio.audit(source, **QUICK)


def test_a_frame_of_clips_is_told_where_to_go(store, table):
    message = "clips is a DataFrame; give a ClipTable, such as datasets.load_manifest"
    for source in (store, table):
        with pytest.raises(ParameterError, match=message):
            biasaudio.audit(source, clips=pd.DataFrame({"clip_id": ["a-0"]}), **QUICK)


def test_a_manifest_of_another_type_is_refused():
    with pytest.raises(ParameterError, match="source is a list; give the path of a csv or parquet"):
        load_manifest([1])


def test_clips_without_vectors_are_an_error_or_left_out(store):
    clips = clip_table(n=N + 2)
    with pytest.raises(DataError, match=r"2 clip.s. have no vector: 'a-120', 'a-121'; .*missing="):
        biasaudio.audit(store, clips=clips, **QUICK)
    result = biasaudio.audit(store, clips=clips, missing="drop", methods=[], **QUICK)
    assert any("have no vector" in text for text in result.meta["warnings"])


def test_vectors_without_clips_are_an_error_or_left_out(store):
    clips = clip_table(n=N - 2)
    with pytest.raises(DataError, match=r"2 vector.s. belong to no known clip: 'a-118', 'a-119'"):
        biasaudio.audit(store, clips=clips, **QUICK)
    result = biasaudio.audit(store, clips=clips, unknown="drop", methods=[], **QUICK)
    assert result.distribution["n_annotated"].max() == N - 2


def test_clips_of_a_dataset_that_the_store_lacks_are_left_out_aloud(store):
    result = biasaudio.audit(store, clips=clip_table("abc"), methods=[], **QUICK)
    assert result.meta["datasets"] == ["a", "b"]
    (text,) = result.meta["warnings"]
    assert text.endswith("has no vectors of 'c'; the clips are left out")


def test_clips_of_other_datasets_only_are_an_error(store):
    with pytest.raises(DataError, match=r"clips are of 'x', 'y', and .* has 'a', 'b'; give clips"):
        biasaudio.audit(store, clips=clip_table("xy"), **QUICK)


def test_datasets_without_a_common_embedding_are_an_error(tmp_path):
    stored(tmp_path / "s.h5", arrays("a"), embedding="one")
    path = stored(tmp_path / "s.h5", arrays("b"), embedding="two")
    with pytest.raises(DataError, match="'a', 'b' have no embedding in common; choose datasets"):
        biasaudio.audit(path, **QUICK)


def test_embeddings_of_different_clips_are_an_error(tmp_path):
    a = arrays("a")
    stored(tmp_path / "s.h5", a, arrays("b"), embedding="one")
    path = stored(
        tmp_path / "s.h5",
        {name: values[:-2] for name, values in a.items()},
        arrays("b"),
        embedding="two",
    )
    clips = clip_table()
    with pytest.raises(DataError, match=r"'two' has no vector for 2 clips .* 'a-118', 'a-119'"):
        biasaudio.audit(path, clips=clips, missing="drop", **QUICK)


def test_all_constant_features_are_an_error(table):
    with pytest.raises(DataError, match="'toy' has the same vector for all 240 clips, so there"):
        biasaudio.audit(replace(table, X=np.ones_like(table.X)), **QUICK)


def test_a_constant_feature_among_others_is_no_obstacle(table):
    X = table.X.copy()
    X[:, 4] = 7.0
    result = biasaudio.audit(replace(table, X=X), **QUICK)
    assert np.isfinite(result.probes["auc"]).all()


def test_a_group_on_both_sides_of_the_split_is_an_error():
    split = np.array(["train", "test"])[np.arange(N) % 2]
    table = joined(arrays("a"), arrays("b", split=split))
    message = r"60 group\(s\) are on both sides of the split of 'b' \(test and train\): 'song 0'"
    with pytest.raises(DataError, match=message):
        biasaudio.audit(table, **QUICK)


def test_fewer_groups_than_a_split_needs_is_an_error():
    table = joined(arrays("a", group=np.array(["x", "y"])[np.arange(N) % 2]), arrays("b"))
    with pytest.raises(DataError, match=r"'a' has 2 group\(s\) of clips, fewer than the 3 that"):
        biasaudio.audit(table, **QUICK)


def test_fewer_groups_than_folds_leaves_out_that_probe_and_says_why():
    group = np.array([f"{i % 4}" for i in range(N)])
    parts = [arrays(name, label=None, genre=None, group=group) for name in "ab"]
    result = biasaudio.audit(joined(*parts), methods=[], **QUICK)
    assert set(result.probes["design"]) == {"three-way"}
    (entry,) = (e for e in result.meta["excluded"] if "cross-fit" in e["what"])
    assert "fewer than the 5 parts" in entry["why"]


def test_the_published_protocol_needs_its_genres(table):
    with pytest.raises(DataError, match=r"genres 'pop_rock', 'jazz_blue', .*map them"):
        biasaudio.audit(table, protocol="wang2023", **QUICK)


def test_the_published_protocol_needs_two_datasets():
    genre = np.array(["pop_rock", "classical"])[np.arange(N) % 2]
    table = joined(arrays("a", genre=genre), arrays("b", genre=None))
    with pytest.raises(DataError, match=r"wang2023 needs clips of two datasets .*'a' has such"):
        biasaudio.audit(table, protocol="wang2023", **QUICK)


def test_our_warnings_go_into_the_result_and_others_to_the_caller(store, monkeypatch):
    real = biasaudio.EmbeddingStore.table

    def noisy(self, *args, **kwargs):
        warnings.warn("from below", RuntimeWarning, stacklevel=2)
        warnings.warn("ours", BiasAudioWarning, stacklevel=2)
        return real(self, *args, **kwargs)

    monkeypatch.setattr(biasaudio.EmbeddingStore, "table", noisy)
    with pytest.warns(RuntimeWarning, match="from below"):
        result = biasaudio.audit(store, methods=[], **QUICK)
    assert result.meta["warnings"] == ["ours"]


def test_meta_of_the_caller_is_kept(table):
    result = biasaudio.audit(table, methods=[], meta={"title": "Mine", "tags": ("x", 1)}, **QUICK)
    assert result.meta["title"] == "Mine"
    assert result.meta["tags"] == ["x", 1]
