"""The published tables say what the paper says."""

from importlib.resources import files

import numpy as np
import pandas as pd
import pytest

from biasaudio.errors import DataError, ParameterError
from biasaudio.transfer import published
from biasaudio.transfer.published import CITATION, MODES, load_published_table

METHODS = ["original", "lda", "mlda", "k", "klda", "mklda"]
KEY = ["embedding", "method", "train_set", "test_set"]


@pytest.mark.parametrize("mode", MODES)
def test_every_cell_is_there_once(mode):
    table = load_published_table(mode)
    assert list(table.columns) == [*KEY, "roc_auc", "delta"]
    assert len(table) == 3 * 6 * 4
    assert not table.duplicated(KEY).any()
    assert set(table["embedding"]) == {"vggish", "openl3", "yamnet"}
    assert list(table["method"].unique()) == METHODS
    assert table["roc_auc"].between(0.75, 0.95).all()


def test_numbers_of_the_paper():
    table = load_published_table("global").set_index(KEY)
    assert table.loc[("yamnet", "original", "irmas", "irmas"), "roc_auc"] == 0.9465
    assert table.loc[("vggish", "original", "openmic", "irmas"), "delta"] == -0.0878
    assert table.loc[("vggish", "mlda", "irmas", "openmic"), "delta"] == -0.0051
    classwise = load_published_table("classwise").set_index(KEY)
    cell = classwise.loc[("openl3", "klda", "irmas", "openmic")]
    assert (cell["roc_auc"], cell["delta"]) == (0.8179, 0.0166)


@pytest.mark.parametrize("mode", MODES)
def test_delta_is_the_documented_difference(mode):
    table = load_published_table(mode).set_index(KEY)
    auc = table["roc_auc"]
    for (embedding, method, train, test), row in table.iterrows():
        if train == test:
            assert np.isnan(row["delta"])
            continue
        origin = (embedding, "original", test if method == "original" else train, test)
        expected = row["roc_auc"] - auc[origin]
        assert row["delta"] == pytest.approx(expected, abs=0.00011)


def test_no_correction_moved_a_mean_by_more_than_the_paper_says():
    tables = pd.concat([load_published_table(mode) for mode in MODES])
    corrected = tables[tables["method"] != "original"]
    assert corrected["delta"].abs().max() == 0.0166


@pytest.mark.parametrize("mode", MODES)
def test_table_is_the_mean_of_the_published_rows(mode, shared):
    rows = pd.read_csv(shared / "published" / f"result_all_{mode}.csv")
    means = rows.groupby(["embedding", "train_set", "test_set"])["roc_auc"].mean()
    for line in load_published_table(mode).itertuples():
        label = line.embedding + ("" if line.method == "original" else f"-{line.method}")
        assert line.roc_auc == pytest.approx(
            means[label, line.train_set, line.test_set], abs=0.000051
        )


@pytest.mark.parametrize("mode", MODES)
def test_shipped_file_equals_the_published_one(mode, shared):
    name = f"table_{mode}.csv"
    shipped = files("biasaudio.transfer.published") / name
    assert shipped.read_bytes() == (shared / "published" / name).read_bytes()


def test_unknown_mode_is_named():
    with pytest.raises(ParameterError, match=r"mode='class-wise' .*did you mean 'classwise'"):
        load_published_table("class-wise")


def test_damaged_file_is_named(monkeypatch, tmp_path):
    lines = ["embedding,irmas-irmas,openmic-irmas", "vggish,91.6,82.82 (-8.7"]
    (tmp_path / "table_global.csv").write_text("\n".join(lines))
    monkeypatch.setattr(published, "files", lambda _: tmp_path)
    with pytest.raises(DataError, match=r"holds '82.82 \(-8.7', not a cell .* install biasaudio"):
        load_published_table("global")


def test_citation_names_the_paper():
    assert "2307.10834" in CITATION
    assert "McFee" in CITATION
