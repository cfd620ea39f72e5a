"""The repeated study equals a naive, loop-by-loop second opinion, row by row."""

import subprocess
import sys
import warnings

import numpy as np
import pandas as pd
import pytest
from naive_wang2023 import naive_rows
from tiny_layout import EMBEDDING, INSTRUMENTS, write_layout

from biasaudio import reproduce
from biasaudio.errors import BiasAudioWarning

pytestmark = pytest.mark.slow

KEYS = ["instrument", "train_set", "test_set", "embedding"]
COLUMNS = [
    *("instrument", "train_set", "test_set", "precision", "recall", "f1-score"),
    *("support", "accuracy", "roc_auc", "ap", "embedding"),
]
MODES = ("global", "classwise")
METHODS = ("lda", "mlda")


def quietly(folder, **options):
    """Return the repeated study and the texts of its warnings."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        result = reproduce(folder, **options)
    assert {w.category for w in caught} <= {BiasAudioWarning}
    return result, [str(w.message) for w in caught]


def assert_same_rows(result, naive):
    for mode in MODES:
        ours, theirs = result.rows[mode], naive[naive["mode"] == mode]
        both = ours.merge(theirs, on=KEYS, suffixes=("", "_naive"), validate="one_to_one")
        assert len(both) == len(ours) == len(theirs) == 24
        for name, tolerance in (("roc_auc", 1e-3), ("ap", 2e-3), ("support", 0)):
            gap = (both[name] - both[f"{name}_naive"]).abs()
            assert gap.max() <= tolerance, both[[*KEYS, name, f"{name}_naive"]][gap > tolerance]
        for name in ("precision", "recall", "f1-score", "accuracy"):
            assert (both[name] - both[f"{name}_naive"]).abs().max() < 0.02


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write_layout(tmp_path_factory.mktemp("layout"), np.random.default_rng(0))


@pytest.fixture(scope="module")
def study(folder):
    return quietly(folder, labels=list(INSTRUMENTS), methods=METHODS)


@pytest.fixture(scope="module")
def naive(folder):
    return naive_rows(folder, EMBEDDING, list(INSTRUMENTS))


def test_every_row_equals_the_naive_one(study, naive):
    assert_same_rows(study[0], naive)


def test_the_published_solver_gives_the_published_rows(folder, naive):
    result = quietly(folder, labels=list(INSTRUMENTS), methods=METHODS, solver="liblinear")[0]
    assert_same_rows(result, naive)
    both = result.rows["global"].merge(naive[naive["mode"] == "global"], on=KEYS)
    for name in ("roc_auc", "ap", "precision", "recall"):
        assert both[f"{name}_x"].to_numpy() == pytest.approx(both[f"{name}_y"], abs=1e-9)


def test_the_comparison_can_fail(study, naive):
    # A positive control: corrections and training sets do change the numbers.
    naive = naive.assign(method=[e.rsplit("-", 1)[-1] for e in naive["embedding"]])
    auc = naive.set_index([*KEYS[:3], "mode", "method"])["roc_auc"].unstack()
    assert (auc["lda"] - auc[EMBEDDING]).abs().max() > 0.005
    assert (auc["mlda"] - auc["lda"]).abs().max() > 0.005
    assert naive["roc_auc"].between(0.5, 0.999).all()
    with pytest.raises(AssertionError):
        assert_same_rows(study[0], naive.assign(roc_auc=naive["roc_auc"] + 0.002))


def test_the_one_class_directions_occur_and_are_warned_about(study, naive):
    odd = {(genre, what) for _, _, genre, what in naive.attrs["odd"]}
    assert odd == {("jazz_blue", "one class"), ("country_folk", "one class")}
    one_class = [text for text in study[1] if "one-class direction" in text]
    assert any("'jazz_blue'" in text and "openmic: 0" in text for text in one_class)
    assert any("'country_folk'" in text and "irmas: 0" in text for text in one_class)


def test_rows_have_the_published_columns_and_labels(study, tmp_path):
    folder = study[0].save(tmp_path / "out")
    for mode in MODES:
        rows = pd.read_csv(folder / f"result_all_{mode}.csv")
        assert list(rows.columns) == COLUMNS
        assert list(rows["embedding"].unique()) == [
            EMBEDDING,
            f"{EMBEDDING}-lda",
            f"{EMBEDDING}-mlda",
        ]
        assert rows["instrument"].tolist() == [*INSTRUMENTS] * 12
        assert not rows.duplicated(KEYS).any()
        written = rows[COLUMNS[3:-1]].to_numpy()
        assert written == pytest.approx(study[0].rows[mode][COLUMNS[3:-1]].to_numpy(), abs=1e-12)


def test_tables_are_means_over_instruments_beside_the_published_ones(study, tmp_path):
    folder = study[0].save(tmp_path / "out")
    for mode in MODES:
        table = pd.read_csv(folder / f"table_{mode}.csv")
        assert {"embedding", "method", "train_set", "test_set", "roc_auc"} < set(table.columns)
        assert {"published", "difference", "n_instruments"} < set(table.columns)
        assert len(table) == 12
        assert (table["n_instruments"] == 2).all()
        rows = study[0].rows[mode]
        lda = rows[(rows["embedding"] == f"{EMBEDDING}-lda") & (rows["train_set"] == "irmas")]
        found = table[(table["method"] == "lda") & (table["train_set"] == "irmas")]
        assert sorted(found["roc_auc"]) == pytest.approx(
            sorted(lda.groupby("test_set")["roc_auc"].mean())
        )


def test_uncorrected_rows_do_not_depend_on_the_mode(study):
    rows = [r[r["embedding"] == EMBEDDING].reset_index(drop=True) for r in study[0].rows.values()]
    pd.testing.assert_frame_equal(*rows)


def test_numbers_do_not_depend_on_the_number_of_jobs(folder, study):
    again, _ = quietly(folder, labels=list(INSTRUMENTS), n_jobs=2, methods=["lda"])
    for mode in MODES:
        one = study[0].rows[mode]
        kept = one[~one["embedding"].str.endswith("-mlda")].reset_index(drop=True)
        pd.testing.assert_frame_equal(again.rows[mode], kept)


@pytest.mark.slow
def test_every_row_of_the_full_layout_equals_the_naive_one(shared, tmp_path):
    tool = shared / "tools" / "make_published_layout.py"
    size = ["--clips", "0.3", "--frames", "0.1", "--embeddings", "vggish"]
    subprocess.run([sys.executable, tool, tmp_path, *size], check=True, capture_output=True)
    instruments = ["cello", "organ"]
    result, _ = quietly(tmp_path, labels=instruments, methods=METHODS, n_jobs=2)
    assert_same_rows(result, naive_rows(tmp_path, "vggish", instruments))
    published = pd.read_csv(shared / "published" / "result_all_global.csv")
    wanted = published[
        published["embedding"].isin(["vggish", "vggish-lda", "vggish-mlda"])
        & published["instrument"].isin(instruments)
    ]
    assert list(published.columns) == COLUMNS
    ours = {tuple(row) for row in result.rows["global"][KEYS].to_numpy()}
    assert ours == {tuple(row) for row in wanted[KEYS].to_numpy()}
