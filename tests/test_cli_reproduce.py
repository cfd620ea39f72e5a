"""``biasaudio reproduce`` on a tiny folder laid out like the published data."""

import re
import shutil

import h5py
import numpy as np
import pandas as pd
import pytest
from audit_fixtures import call, failure, strict, write_layout

import biasaudio

COLUMNS = (
    "instrument,train_set,test_set,precision,recall,f1-score,support,accuracy,roc_auc,ap,embedding"
)


@pytest.fixture(scope="module")
def layout(tmp_path_factory):
    """Give a folder with two instruments and two embeddings."""
    return write_layout(tmp_path_factory.mktemp("layout"), np.random.default_rng(0))


@pytest.fixture(scope="module")
def everything(layout):
    """Give the study of both instruments."""
    with pytest.warns(biasaudio.BiasAudioWarning, match="is left out: no"):
        return biasaudio.reproduce(layout, methods=["lda", "leace"], modes="global")


def test_tables_are_written_with_the_published_columns(capsys, layout, tmp_path):
    argv = ["reproduce", layout, "--methods", "lda", "--embedding", "toy", "--n-jobs", "1"]
    code, out, err = call(capsys, *argv, "--labels", "cello", "flute", "--out", tmp_path / "out")
    assert code == 0
    assert "toy" in err
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == [
        "finished.jsonl",
        "result_all_classwise.csv",
        "result_all_global.csv",
        "table_classwise.csv",
        "table_global.csv",
    ]
    text = (tmp_path / "out" / "result_all_global.csv").read_text()
    assert text.splitlines()[0] == COLUMNS
    rows = pd.read_csv(tmp_path / "out" / "result_all_global.csv")
    assert list(dict.fromkeys(rows["embedding"])) == ["toy", "toy-lda"]
    assert len(rows) == 2 * 4 * 2
    assert (rows["roc_auc"] > 0.7).all()
    assert "Mean ROC-AUC x 100, corrections global: ours (published)" in out
    assert "irmas->openmic" in out
    assert out.rstrip().endswith("result_all_classwise.csv, table_classwise.csv")


def test_published_embeddings_are_compared_over_both_modes(capsys, layout, tmp_path):
    folder = shutil.copytree(layout, tmp_path / "layout")
    with h5py.File(folder / "embeddings.h5", "a") as file:
        for dataset in ("irmas", "openmic"):
            file.move(f"{dataset}/toy", f"{dataset}/vggish")
    argv = ["reproduce", folder, "--embedding", "vggish", "--methods", "lda", "--n-jobs", "1"]
    code, out, err = call(capsys, *argv, "--labels", "cello", "--quiet", "--out", tmp_path / "out")
    assert (code, err) == (0, "")
    assert "Ours minus published, ROC-AUC x 100 over 16 means" in out
    assert "over 10 instruments, these over 1." in out


def test_tables_as_json(capsys, layout, tmp_path):
    argv = ["reproduce", layout, "--methods", "lda", "--embedding", "toy", "--modes", "global"]
    options = ["--labels", "cello", "--n-jobs", "1", "--quiet", "--json"]
    code, out, err = call(capsys, *argv, *options, "--out", tmp_path / "out")
    document = strict(out)
    assert (code, err) == (0, "")
    assert document["files"] == ["result_all_global.csv", "table_global.csv"]
    row = document["tables"]["global"][0]
    assert row["published"] is None
    assert row["n_instruments"] == 1


def test_an_instrument_alone_has_the_numbers_that_it_has_among_all(layout, everything):
    alone = biasaudio.reproduce(layout, methods=["lda", "leace"], modes="global", labels="flute")
    rows = everything.rows["global"]
    expected = rows[rows["instrument"] == "flute"].reset_index(drop=True)
    pd.testing.assert_frame_equal(alone.rows["global"], expected)


def test_all_test_clips_are_scored(everything, layout):
    rows = everything.rows["global"]
    n_test = len(pd.read_csv(layout / "irmas" / "split_test.csv", header=None))
    assert set(rows.query("test_set == 'irmas'")["support"]) == {n_test / 2}


def test_means_are_beside_the_published_ones(everything):
    table = everything.tables["global"]
    assert set(table["method"]) == {"original", "lda", "leace"}
    assert set(table["embedding"]) == {"toy", "tiny"}
    assert set(table["n_instruments"]) == {2}
    means = everything.rows["global"].groupby("embedding")["roc_auc"].mean()
    ours = table.groupby(["embedding", "method"])["roc_auc"].mean()
    assert ours["toy", "lda"] == pytest.approx(means["toy-lda"])


@pytest.mark.parametrize(
    ("argv", "code", "message"),
    [
        (["--methods", "ldaa"], 2, "method 'ldaa' is not known; .*did you mean 'lda'"),
        (["--embedding", "toi"], 2, "--embedding toi is not known; .*did you mean 'toy'"),
        (["--modes", "classwize"], 2, "modes='classwize' .*did you mean 'classwise'"),
        (["--labels", "celo"], 2, "label 'celo' is not known; .*did you mean 'cello'"),
        (["--labels", "organ"], 1, "label 'organ' has no .*; leave it out of (--)?labels"),
        (["--n-jobs", "0"], 2, "--n-jobs=0 is not allowed"),
    ],
)
def test_what_is_not_allowed(capsys, layout, tmp_path, argv, code, message):
    found, line = failure(capsys, "reproduce", layout, *argv, "--quiet", "--out", tmp_path / "out")
    assert found == code
    assert re.search(message, line), line
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("lost", "message"),
    [
        ("openmic-2018", "has no folder 'openmic-2018', only 'embeddings.h5', 'irmas'; lay the"),
        ("irmas", "has no folder 'irmas', only 'embeddings.h5', 'openmic-2018'"),
        ("irmas/split_test.csv", "split_test.csv"),
        ("embeddings.h5", "embeddings.h5 is not there; check the path"),
        ("openmic-2018/openmic-2018-metadata.csv", "has no 'openmic-2018-metadata.csv'"),
    ],
)
def test_a_part_of_the_folder_is_missing(capsys, layout, tmp_path, lost, message):
    shutil.copytree(layout, tmp_path / "copy", ignore=shutil.ignore_patterns("*.pooled"))
    path = tmp_path / "copy" / lost
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    code, line = failure(capsys, "reproduce", tmp_path / "copy", "--out", tmp_path / "out")
    assert code == 1
    assert message in line
    assert not (tmp_path / "out").exists()


def test_a_folder_that_is_not_there(capsys, tmp_path):
    code, line = failure(capsys, "reproduce", tmp_path / "x", "--out", tmp_path / "out")
    assert code == 1
    assert line.endswith("x is not a folder; give one with embeddings.h5, openmic-2018/ and irmas/")


def test_clips_without_vectors_need_a_word(capsys, layout, tmp_path):
    shutil.copytree(layout, tmp_path / "copy")
    with h5py.File(tmp_path / "copy" / "embeddings.h5", "a") as file:
        for name in ("keys", "features"):
            values = file["irmas/toy"][name][2:]
            del file["irmas/toy"][name]
            file["irmas/toy"][name] = values
    argv = ["reproduce", tmp_path / "copy", "--methods", "lda", "--embedding", "toy"]
    argv += ["--modes", "global", "--labels", "cello", "--n-jobs", "1", "--out", tmp_path / "out"]
    code, line = failure(capsys, *argv, "--quiet")
    assert code == 1
    assert line.startswith("1 clip(s) have no vector: '000__[cel][nod][pop_roc]0000__1'; ")
    assert line.endswith("or say --allow-partial")
    code, _, err = call(capsys, *argv, "--allow-partial")
    assert code == 0
    assert "warning: 1 clip(s) have no vector" in err
