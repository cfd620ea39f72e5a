"""``biasaudio probe``: one number, and an exit code for it."""

import re

import numpy as np
import pytest
from audit_fixtures import GENRES, QUICK, N, arrays, call, failure, stored, strict

import biasaudio

QUICKLY = ["--permutations", "9", "--quiet"]


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Give a store of two datasets that can be told apart."""
    path = tmp_path_factory.mktemp("store") / "s.h5"
    return stored(path, arrays("a"), arrays("b", shift=2.0))


@pytest.fixture(scope="module")
def rows(store):
    """Give the probes of an audit of the same store."""
    result = biasaudio.audit(store, methods=["leace", "mlda"], **(QUICK | {"n_resamples": 1000}))
    return result.probes


@pytest.mark.parametrize(
    ("argv", "query"),
    [
        ([], "probe == 'domain' and design == 'cross-fit' and mix == 'equal'"),
        (["--mix", "raw"], "probe == 'domain' and design == 'cross-fit' and mix == 'raw'"),
        (
            ["--method", "leace", "--kind", "scaled"],
            "probe == 'domain' and method == 'leace' and mix == 'equal' and kind == 'scaled'",
        ),
        (
            ["--method", "mlda", "--mix", "raw"],
            "probe == 'domain' and method == 'mlda' and mix == 'raw' and kind == 'linear'",
        ),
        (
            ["--genre", "--datasets", "a"],
            "probe == 'genre' and datasets == 'a' and mix == 'equal'",
        ),
        (
            ["--genre", "--method", "mlda", "--mix", "raw"],
            "probe == 'genre' and datasets == 'a + b' and method == 'mlda'",
        ),
    ],
)
def test_a_probe_gives_the_number_of_the_audit(capsys, store, rows, argv, query):
    (row,) = rows.query(query).to_dict("records")
    code, out, err = call(capsys, "probe", store, *argv, *QUICKLY, "--json")
    found = strict(out)
    assert (code, err) == (0, "")
    for name in ("auc", "low", "high", "p_value", "balanced_accuracy"):
        assert found[name] == pytest.approx(row[name], abs=1e-12), name
    for name in ("probe", "n", "n_groups", "design", "mix", "kind", "method"):
        known = {"domain": "dataset"}.get(row[name], row[name])
        assert found[name] == known, name
    assert found["exceeded"] is False
    assert len(found["by_value"]) == row["n_classes"]


def test_the_finding_is_one_line_and_one_for_each_value(capsys, store):
    code, out, err = call(capsys, "probe", store, *QUICKLY, "--method", "leace")
    first, *values = out.splitlines()
    assert (code, err) == (0, "")
    assert first.startswith("toy after leace, dataset probe: ROC-AUC 0.")
    assert "three-way, equal class mix, linear probe" in first
    assert [line.split(":")[0].strip() for line in values] == ["a", "b"]


def test_fail_above_gives_code_3_where_the_interval_lies_above(capsys, store):
    code, out, err = call(capsys, "probe", store, *QUICKLY, "--fail-above", "0.6")
    assert (code, err) == (3, "")
    assert out.splitlines()[-1] == "The interval lies above 0.6: exit code 3."
    code, out, _ = call(capsys, "probe", store, *QUICKLY, "--fail-above", "0.6", "--json")
    assert code == 3
    assert strict(out)["exceeded"] is True


def test_fail_above_gives_code_0_where_it_does_not(capsys, store):
    argv = ["probe", store, *QUICKLY, "--fail-above", "0.9", "--method", "leace"]
    code, out, _ = call(capsys, *argv, "--json")
    assert code == 0
    assert strict(out)["exceeded"] is False


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--fail-above", "90"], 2, "--fail-above=90.0 is not a ROC-AUC; give 0 to 1"),
        (["--kind", "forest"], 2, "kind='forest' is not known; choose one of 'linear', 'scaled'"),
        (["--method", "ldaa"], 2, "method 'ldaa' is not known; choose among lda, "),
        (["--embedding", "toi"], 1, "embedding 'toi' is not in "),
        (["--datasets", "a"], 1, "there is one dataset only, 'a', and none to tell it from"),
        (["--datasets", "a", "--genre", "--method", "lda"], 1, "'lda' cannot be used: there is"),
        (["--labels", "celo"], 2, "label 'celo' is not known; choose among 'cello', 'flute'"),
    ],
)
def test_what_is_not_allowed(capsys, store, argv, code, message):
    found, line = failure(capsys, "probe", store, *argv, "--quiet")
    assert found == code
    assert message in line


def test_several_embeddings_need_a_choice(capsys, tmp_path):
    for name in ("one", "two"):
        path = stored(tmp_path / "s.h5", arrays("a"), arrays("b"), embedding=name)
    code, line = failure(capsys, "probe", path, "--quiet")
    assert (code, line) == (2, "--embedding is needed: the datasets share one, two")
    assert call(capsys, "probe", path, "--embedding", "two", *QUICKLY)[0] == 0


def test_datasets_without_a_common_label_are_probed_raw_and_that_is_said(capsys, tmp_path):
    label = np.array(["oboe", "harp"])[np.arange(N) % 2]
    path = stored(tmp_path / "s.h5", arrays("a"), arrays("b", shift=2.0, label=label))
    code, line = failure(capsys, "probe", path, "--mix", "equal", "--quiet")
    assert code == 1
    assert line == (
        "the class mix cannot be made equal: no class has clips enough of each of 'a', 'b'; rename "
        "labels that mean the same, or give --mix raw"
    )
    for option in ([], ["--mix", "raw"]):
        code, out, err = call(capsys, "probe", path, "--permutations", "9", "--json", *option)
        assert code == 0
        assert (strict(out)["n"], strict(out)["mix"]) == (2 * N, "raw")
        assert ("note: at raw class mix, as no class has clips enough" in err) is not bool(option)


def test_genres_that_share_no_class_are_probed_raw(capsys, tmp_path):
    label = np.array(["cello", "flute"])[(np.arange(N) // 4) % 2]
    path = stored(tmp_path / "s.h5", arrays("a", label=label))
    code, out, err = call(capsys, "probe", path, "--genre", "--permutations", "9", "--json")
    assert (code, strict(out)["mix"]) == (0, "raw")
    assert "no class has clips enough of each of 'jazz', 'pop'" in err
    (entry,) = biasaudio.audit(path, **QUICK).meta["excluded"][1:]
    assert entry["what"] == "genre probe of a (original, cross-fit, equal class mix, linear)"
    assert "share no class" in entry["why"]


def test_genres_with_few_groups_are_left_out_aloud(capsys, tmp_path):
    genre = np.where(np.arange(N) < 10, "folk", GENRES)
    path = stored(tmp_path / "s.h5", arrays("a", genre=genre))
    code, out, err = call(capsys, "probe", path, "--genre", "--permutations", "9")
    assert code == 0
    assert err.endswith("note: 'folk' left out, with fewer than 10 groups of clips each\n")
    assert [line.split(":")[0].strip() for line in out.splitlines()[1:]] == ["jazz", "pop"]


def test_without_two_genres_there_is_no_genre_probe(capsys, tmp_path):
    genre = np.full(N, "pop")
    path = stored(tmp_path / "s.h5", arrays("a", genre=genre), arrays("b", genre=genre))
    code, line = failure(capsys, "probe", path, "--genre", "--quiet")
    assert code == 1
    assert "it takes two with 10 groups of clips at least, and the genres are 'pop'" in line


def test_fewer_groups_than_splits_says_which_option_helps(capsys, tmp_path):
    group = np.array([f"{i % 4}" for i in range(N)])
    parts = [arrays(name, group=group, label=None) for name in "ab"]
    path = stored(tmp_path / "s.h5", *parts)
    code, line = failure(capsys, "probe", path, "--quiet")
    assert code == 1
    assert "4 group(s)" in line
    assert "fewer than the 5 parts" in line
    assert re.search("ask for fewer (--)?splits$", line)
    assert call(capsys, "probe", path, "--splits", "2", *QUICKLY)[0] == 0
