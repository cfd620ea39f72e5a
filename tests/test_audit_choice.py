"""Which clips, labels, genres and methods take part in an audit, and why not the others."""

import numpy as np
import pytest
from audit_fixtures import GENRES, GROUPS, LABELS, QUICK, N, arrays, joined, planted, stored

import biasaudio
from biasaudio.errors import DataError, ParameterError
from biasaudio.transforms.methods import DEFAULT

pytestmark = pytest.mark.slow


def why(result, what):
    """Return why something was left out."""
    found = [entry["why"] for entry in result.meta["excluded"] if entry["what"] == what]
    assert len(found) == 1, result.meta["excluded"]
    return found[0]


def labelled(*names):
    """Return N labels in turn."""
    return np.array(names)[np.arange(N) % len(names)]


def test_one_dataset_with_genres_gives_genre_probes_only():
    result = biasaudio.audit(joined(arrays("a")), **QUICK)
    assert set(result.probes["probe"]) == {"genre"}
    assert set(result.probes["design"]) == {"cross-fit"}
    assert set(result.probes["mix"]) == {"raw", "equal"}
    assert result.probes["auc"].min() > 0.7
    for name in ("transfer", "comparisons", "drops", "methods"):
        assert getattr(result, name).empty
    assert why(result, "transfer, dataset probe and corrections") == "there is one dataset only"


def test_one_dataset_without_genres_is_an_error():
    with pytest.raises(DataError, match="one dataset only, 'a', and it has no two genres"):
        biasaudio.audit(joined(arrays("a", genre=None)), **QUICK)


def test_one_dataset_takes_no_correction():
    with pytest.raises(DataError, match="'lda' cannot be used: there is one dataset only, 'a'"):
        biasaudio.audit(joined(arrays("a")), methods=["lda"], **QUICK)


def test_clips_of_one_dataset_without_genre_are_counted():
    genre = np.where(np.arange(N) < 24, "", GENRES)
    result = biasaudio.audit(joined(arrays("a", genre=genre)), **QUICK)
    assert why(result, "genre") == "24 clips have no known genre"
    assert set(result.probes["n"]) == {N - 24}


def test_three_datasets_are_probed_together_and_transfer_in_pairs():
    result = biasaudio.audit(planted(270, domains=("a", "b", "c")), methods=["leace"], **QUICK)
    domain = result.probes[result.probes["probe"] == "domain"]
    assert set(domain["datasets"]) == {"a + b + c"}
    assert set(domain["n_classes"]) == {3}
    assert np.allclose(domain["chance_accuracy"], 1 / 3)
    pairs = result.transfer[["train_set", "test_set"]].drop_duplicates()
    assert len(pairs) == 9
    assert len(result.drops[result.drops["method"] == "original"]) == 6


def test_three_embeddings_are_measured_on_the_same_clips(tmp_path):
    parts = arrays("a"), arrays("b", shift=2.0)
    for name, scale in (("first", 1.0), ("second", 3.0), ("third", 0.0)):
        moved = [part | {"X": part["X"] * [1, 1, scale, 1, 1]} for part in parts]
        path = stored(tmp_path / "s.h5", *moved, embedding=name)
    result = biasaudio.audit(path, methods=["lda"], **QUICK)
    assert result.meta["embeddings"] == ["first", "second", "third"]
    rows = result.probes.query("probe == 'domain' and design == 'cross-fit' and mix == 'equal'")
    auc = rows.set_index("embedding")["auc"]
    assert auc["first"] > 0.8
    assert auc["third"] < 0.7
    assert rows["n"].nunique() == 1
    for name in ("transfer", "comparisons", "drops", "probe_values"):
        assert set(getattr(result, name)["embedding"]) == {"first", "second", "third"}
    assert len(result.meta["files"]) == 1
    assert len(result.meta["files"][0]["sha256"]) == 64


def test_a_given_split_is_respected():
    table = planted()
    result = biasaudio.audit(table, methods=[], **QUICK)
    is_test = table.clips.split == "test"
    row = result.transfer[result.transfer["test_set"] == "a"].iloc[0]
    assert row["n_test"] == (is_test & (table.clips.dataset == "a")).sum()
    assert row["n_train"] == (~is_test & (table.clips.dataset == row["train_set"])).sum()
    assert result.meta["notes"] == ["The split into training and test clips is the datasets' own."]


@pytest.mark.parametrize("odd", ["", "train", "valid"])
def test_an_incomplete_split_is_drawn_again_and_noted(odd):
    split = np.where(np.arange(N) // 8 % 3 == 0, odd, "train")
    table = joined(arrays("a", split=split), arrays("b"))
    result = biasaudio.audit(table, methods=[], random_state=5, **QUICK)
    (note,) = result.meta["notes"]
    assert note.startswith("a and b came without a complete train/test split")
    assert "seed 5" in note
    sizes = result.transfer.groupby("test_set")["n_test"].first()
    assert sizes.between(N / 3 - 8, N / 3 + 8).all()


def test_a_drawn_seed_is_kept_and_repeats_the_audit():
    table = joined(arrays("a"), arrays("b"))
    drawn = biasaudio.audit(table, methods=[], random_state=np.random.default_rng(1), **QUICK)
    again = biasaudio.audit(table, methods=[], random_state=drawn.meta["seed"], **QUICK)
    assert isinstance(drawn.meta["seed"], int)
    assert drawn.probes.equals(again.probes)
    assert drawn.transfer.equals(again.transfer)


def test_labels_that_cannot_be_compared_are_left_out_with_reasons():
    a = arrays("a", label=labelled("cello", "flute", "banjo"))
    rare = np.where(np.arange(N) < 4, "oboe", labelled("cello", "flute"))
    result = biasaudio.audit(joined(a, arrays("b", label=rare)), methods=[], **QUICK)
    assert result.meta["labels"] == ["cello", "flute"]
    assert why(result, "label banjo") == "no annotated clips in 'b'"
    assert why(result, "label oboe") == "no annotated clips in 'a'"


def test_a_label_with_few_groups_is_left_out_with_its_numbers():
    label = np.where(np.arange(N) < 4, "oboe", labelled("cello", "flute"))
    table = joined(arrays("a", label=label), arrays("b", label=labelled("cello", "flute", "oboe")))
    result = biasaudio.audit(table, methods=[], **QUICK)
    assert result.meta["labels"] == ["cello", "flute"]
    reason = why(result, "label oboe")
    assert reason.endswith("positive group(s) among the training clips of 'a', fewer than 3")


@pytest.mark.parametrize("as_manifest", [False, True])
def test_clips_of_other_classes_do_not_take_part(as_manifest):
    # The same whether the label of the other dataset is unknown here or known to be absent.
    a = arrays("a", label=labelled("cello", "flute", "banjo"))
    b = arrays("b", label=labelled("cello", "flute", "harp", "oboe"))
    table = joined(a, b)
    if as_manifest:
        label = np.concatenate([a["label"], b["label"]])
        clips = biasaudio.ClipTable.from_columns(
            table.clips.clip_id, table.clips.dataset, label=label, group=table.clips.group
        )
        table = biasaudio.EmbeddingTable(table.X, clips, "toy")
    result = biasaudio.audit(table, methods=[], **QUICK)
    assert result.meta["labels"] == ["cello", "flute"]
    assert why(result, "40 clips of a") == "they are of no class that is compared, or not annotated"
    assert why(result, "60 clips of b") == "they are of no class that is compared, or not annotated"
    raw = result.probes.query("probe == 'domain' and mix == 'raw' and design == 'cross-fit'")
    assert raw["n"].tolist() == [80 + 60]
    assert (result.transfer["prevalence"] > 0.3).all()


def test_clips_of_other_classes_stay_where_there_is_nothing_else_to_be_told_from():
    table = joined(
        arrays("a", label=labelled("cello", "flute")), arrays("b", label=labelled("cello", "harp"))
    )
    result = biasaudio.audit(table, methods=[], **QUICK)
    assert result.meta["labels"] == ["cello"]
    assert set(result.transfer["n_test"]) == {40}


def test_asked_labels_are_told_from_the_other_shared_ones():
    parts = (arrays(name, label=labelled("cello", "flute", "organ")) for name in "ab")
    table = joined(*parts)
    everything = biasaudio.audit(table, methods=[], **QUICK)
    one = biasaudio.audit(table, methods=[], labels="cello", **QUICK)
    assert one.meta["labels"] == ["cello"]
    rows = everything.transfer.query("instrument == 'cello'").reset_index(drop=True)
    assert one.transfer.equals(rows)


@pytest.mark.parametrize(
    ("labels", "error", "message"),
    [
        (["celo"], ParameterError, "label 'celo' is not known; .*did you mean 'cello'"),
        (["flute", "oboe"], DataError, "label 'oboe' has no annotated clips in 'b'; leave it out"),
    ],
)
def test_asked_labels_that_cannot_be_had_are_errors(labels, error, message):
    table = joined(arrays("a", label=labelled("cello", "flute", "oboe")), arrays("b"))
    with pytest.raises(error, match=message):
        biasaudio.audit(table, labels=labels, **QUICK)


def test_a_label_without_positives_in_one_dataset_is_an_error_when_asked():
    b = arrays("b", label=np.full(N, "cello"))
    clips = biasaudio.ClipTable.from_columns(
        np.concatenate([arrays("a")["clip"], b["clip"]]),
        np.repeat(["a", "b"], N),
        label=np.concatenate([arrays("a")["label"], b["label"]]),
    )
    table = biasaudio.EmbeddingTable(np.concatenate([arrays("a")["X"], b["X"]]), clips)
    with pytest.raises(DataError, match="label 'flute' has no positives in 'b'; leave it out"):
        biasaudio.audit(table, labels=["flute"], **QUICK)
    with pytest.raises(DataError, match="'a', 'b' cannot be compared by any label: 'cello' has no"):
        biasaudio.audit(table, **QUICK)


def test_too_few_clips_for_any_label_is_an_error():
    few = [arrays(name, n=8, group=np.array([f"{i}" for i in range(8)])) for name in "ab"]
    with pytest.raises(DataError, match=r"too few clips for any label: 'cello' has \d positive"):
        biasaudio.audit(joined(*few), **QUICK)


def test_equal_mix_uses_the_classes_and_raw_mix_all_clips():
    a, b = np.array(["cello"] * 90 + ["flute"] * 30), np.array(["cello"] * 30 + ["flute"] * 90)
    table = joined(arrays("a", label=a), arrays("b", label=b))
    result = biasaudio.audit(table, methods=[], **QUICK)
    n = result.probes.query("probe == 'domain' and design == 'cross-fit'").set_index("mix")["n"]
    assert n["raw"] == 2 * N
    # Of the many cello clips of a, as many are drawn as b has; redrawn three times.
    assert 120 <= n["equal"] < 2 * N


def test_without_labels_there_are_raw_probes_and_no_transfer():
    table = joined(arrays("a", label=None, genre=None), arrays("b", label=None, genre=None))
    result = biasaudio.audit(table, methods=["lda"], **QUICK)
    assert set(result.probes["mix"]) == {"raw"}
    assert result.transfer.empty
    assert why(result, "transfer") == "there is no label to compare the datasets by"


def test_methods_that_need_genres_are_dropped_with_a_reason():
    table = joined(arrays("a"), arrays("b", genre=np.full(N, "pop")))
    result = biasaudio.audit(table, **QUICK)
    assert list(result.methods["method"]) == [n for n in DEFAULT if n != "mlda"]
    assert "mlda" not in set(result.transfer["method"])
    assert why(result, "method mlda") == "dataset 'b' has a single genre, 'pop', and it needs two"


@pytest.mark.parametrize(
    ("genre", "message"),
    [
        (np.full(N, "pop"), "'mlda' cannot be used: dataset 'b' has a single genre, 'pop'"),
        (None, "'mlda' cannot be used: dataset 'b' has no known genre"),
    ],
)
def test_a_method_that_was_asked_for_and_cannot_be_used_is_an_error(genre, message):
    table = joined(arrays("a"), arrays("b", genre=genre))
    with pytest.raises(DataError, match=message):
        biasaudio.audit(table, methods=["lda", "mlda"], **QUICK)


def test_mlda_is_left_out_where_the_datasets_share_no_two_genres():
    other = np.where(np.arange(N) % 2, "folk", "classical")
    result = biasaudio.audit(joined(arrays("a"), arrays("b", genre=other)), **QUICK)
    assert "mlda" not in set(result.transfer["method"])
    reason = "it needs two genres with 3 training clips in every dataset, and there is none"
    assert why(result, "method mlda") == reason


def test_a_few_unknown_genres_do_not_cost_mlda():
    genre = np.where(np.arange(N) < 10, "", GENRES)
    result = biasaudio.audit(joined(arrays("a"), arrays("b", genre=genre)), **QUICK)
    assert "mlda" in set(result.transfer["method"])
    assert "mlda" in set(result.probes["method"])


def test_mlda_in_mode_classwise_needs_the_genres_of_every_label():
    genre = np.where((LABELS == LABELS[0]), "pop", GENRES)
    table = joined(arrays("a"), arrays("b", genre=genre))
    assert "mlda" in set(biasaudio.audit(table, **QUICK).transfer["method"])
    result = biasaudio.audit(table, modes=["classwise"], **QUICK)
    assert f"for label '{LABELS[0]}'" in why(result, "method mlda")


def test_genres_of_one_dataset_alone_are_not_said_to_be_of_both():
    table = joined(arrays("a"), arrays("b", genre=None))
    result = biasaudio.audit(table, methods=["lda"], **QUICK)
    genre = result.probes[result.probes["probe"] == "genre"]
    assert set(genre["datasets"]) == {"a"}
    assert why(result, "genre") == f"{N} clips have no known genre"


def test_genres_with_few_groups_are_left_out_with_a_reason():
    genre = np.where(np.arange(N) < 10, "folk", GENRES)
    result = biasaudio.audit(joined(arrays("a", genre=genre)), **QUICK)
    assert why(result, "1 genre(s) of a") == "fewer than 10 groups with 'folk'"
    assert set(result.probe_values["value"]) == {"pop", "jazz"}


def test_an_exclusion_is_said_once_for_all_embeddings(tmp_path):
    genre = np.where(np.arange(N) < 10, "folk", GENRES)
    for name in ("first", "second"):
        path = stored(tmp_path / "s.h5", arrays("a", genre=genre), embedding=name)
    result = biasaudio.audit(path, **QUICK)
    assert why(result, "1 genre(s) of a")


def test_unicode_names_go_through():
    label = np.array(["Bratsche ♭", "flûte"])[np.arange(N) % 2]
    parts = (arrays(name, label=label) for name in ("Süd", "北"))
    result = biasaudio.audit(joined(*parts, embedding="mél"), methods=["lda"], **QUICK)
    assert result.meta["datasets"] == ["Süd", "北"]
    assert set(result.transfer["instrument"]) == {"Bratsche ♭", "flûte"}


def test_half_a_split_is_an_error_and_case_does_not_matter():
    split = np.where(GROUPS == GROUPS[0], "valid", np.where(np.arange(N) % 2, "train", "test"))
    with pytest.raises(DataError, match=r"'a' has train and test clips and others \('valid': "):
        biasaudio.audit(joined(arrays("a", split=split), arrays("b")), **QUICK)
    both = joined(arrays("a", split=split), arrays("b"))
    drawn = biasaudio.audit(both, methods=[], split="drawn", **QUICK)
    assert drawn.meta["config"]["split"] == "drawn"
    assert any("a and b came without" in note for note in drawn.meta["notes"])
    with pytest.raises(
        ParameterError, match=r"split='mine' is not known; choose one of 'given', 'drawn'"
    ):
        biasaudio.audit(both, split="mine", **QUICK)
    names, code = np.unique(GROUPS, return_inverse=True)
    given = np.where(code % 3 == 0, "Test", "TRAIN")
    result = biasaudio.audit(
        joined(arrays("a", split=given), arrays("b", split=given)), methods=[], **QUICK
    )
    assert result.meta["notes"] == ["The split into training and test clips is the datasets' own."]
