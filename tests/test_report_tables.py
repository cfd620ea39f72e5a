"""Printed tables say what the tidy ones say, and mark what is weak."""

from itertools import pairwise

import pandas as pd
import pytest
from report_fixtures import (
    FakeResult,
    hostile_result,
    make_result,
    one_dataset,
    wide_result,
)

from biasaudio.report import tables

MINUS, DASH = "\N{MINUS SIGN}", "\N{EN DASH}"


def all_tables(result):
    return [
        *tables.overview(result),
        *tables.per_class(result),
        tables.costs(result),
        tables.distribution(result),
        tables.dropped(result),
        tables.probes(result),
        tables.values(result),
    ]


def test_overview_has_leakage_and_transfer_in_one_row():
    (table,) = tables.overview(make_result())
    row = table.frame.xs("leace", level="row").iloc[0]
    result = make_result()
    probe = result.probes.query(
        "method == 'leace' and design == 'three-way' and mix == 'equal' and probe == 'domain'"
    ).iloc[0]
    change = result.comparisons.query("method == 'leace' and train_set == 'fluidr3'").iloc[0]
    assert row["Dataset ROC-AUC", "equal class mix"] == (
        f"{probe['auc']:.3f} [{probe['low']:.3f}, {probe['high']:.3f}]"
    )
    top = "fluidr3 → philharmonia"
    assert row[top, "ROC-AUC"] == f"{change['after']:.3f}"
    assert row[top, "change, points"].startswith(f"+{100 * change['delta']:.1f} [{MINUS}")
    assert row[top, "Holm p"] == "1.00 (not measurable)"
    assert row[top, "drop recovered"] == DASH
    before = table.frame.xs("original", level="row").iloc[0][top, "ROC-AUC"]
    assert before == f"{change['before']:.3f}"


def test_overview_keeps_methods_with_target_labels_apart():
    (table,) = tables.overview(make_result())
    groups = dict(table.frame.groupby(level="group", sort=False).size())
    assert list(groups) == [
        "Saw no target labels",
        "Saw target labels: not to be compared with the rows above",
    ]
    assert list(groups.values()) == [6, 2]


def test_tones_repeat_what_the_text_says():
    (table,) = tables.overview(make_result())
    for column in table.frame.columns:
        if column[1] == "Holm p":
            text, tone = table.frame[column], table.tones[column]
            assert (text.str.contains("better") == (tone == "good")).all()
            assert (text.str.contains("worse") == (tone == "bad")).all()


def test_overview_has_a_table_for_each_pair_of_datasets():
    found = tables.overview(wide_result())
    assert len(found) == 3
    tops = [set(table.frame.columns.get_level_values(0)) for table in found]
    assert all(len([top for top in names if "→" in top]) == 2 for names in tops)
    assert "lda (classwise)" in found[0].frame.index.get_level_values("row")


def test_costs_are_the_drops():
    frame = tables.costs(make_result()).frame
    row = frame.loc[("yamnet", "philharmonia → fluidr3")]
    assert row["Drop", "points"] == "8.9 [6.9, 10.9]"
    assert row["Drop", "classes that lose"] == "8 of 8"
    assert row["Largest loss", "class"] == "organ"


def test_per_class_has_every_pair_and_marks_constant_classifiers():
    (table,) = tables.per_class(make_result())
    assert table.frame.index.get_level_values("group").nunique() == 4
    groups = [group for group, _ in table.frame.index]
    assert sum(a != b for a, b in pairwise(groups)) == 3
    flute = table.frame.xs("flute", level="row")
    assert flute["saw no target labels", "mlda"].str.contains("constant").all()
    assert not flute["saw no target labels", "lda"].str.contains("constant").any()
    assert ("saw target labels", "nap") in table.frame.columns


def test_distribution_marks_empty_and_near_empty_cells():
    table = tables.distribution(make_result())
    text = pd.Series(table.frame.to_numpy().ravel()).astype(str)
    assert text.str.contains("empty").sum() == 6
    assert text.str.contains("few").sum() == 5
    assert table.tones.eq("bad").to_numpy().sum() == 6
    assert table.frame.loc[("philharmonia", "pop_rock"), ("class", "bass_drum")] == "0 (empty)"


def test_rows_of_one_group_stand_together():
    for table in all_tables(wide_result()):
        groups = list(table.frame.index.get_level_values(0)) if len(table) else []
        changes = sum(a != b for a, b in pairwise(groups))
        assert changes == max(len(set(groups)) - 1, 0)


@pytest.mark.parametrize("make", [make_result, one_dataset, hostile_result, FakeResult])
def test_no_cell_is_a_bare_nan(make):
    for table in all_tables(make()):
        assert table.frame.shape == table.tones.shape
        assert not table.frame.map(lambda cell: "nan" in cell).to_numpy().any()
