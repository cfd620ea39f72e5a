"""Corrections fitted classwise saw labels and were not probed; sizes, genres, own pairs."""

from dataclasses import replace

import pandas as pd
import pytest
from report_fixtures import make_result
from report_helpers import answers, edited

from biasaudio.report import tables
from biasaudio.report.figures import FIGURES
from biasaudio.report.findings import judge
from biasaudio.report.html import render_html
from biasaudio.report.text import headline, summary
from biasaudio.report.view import Sight, View

DASH = "\N{EN DASH}"
BOTH = ("global", "classwise")


def test_classwise_counts_as_having_seen_target_labels():
    view = View.of(make_result(modes=BOTH))
    assert view.sight("lda") == view.sight("lda", "global") == Sight.FREE
    assert view.sight("lda", "classwise") == Sight.LABELS
    (table,) = tables.overview(view)
    groups = table.frame.index.to_frame(index=False).groupby("group", sort=False)["row"].agg(list)
    assert "lda (global)" in groups["Saw no target labels"]
    assert all("classwise" not in row for row in groups["Saw no target labels"])
    assert "lda (classwise)" in groups.iloc[1]
    by_class = tables.per_class(view)
    assert ("saw no target labels", "lda") in by_class[0].frame.columns
    assert ("saw target labels", "lda") in by_class[1].frame.columns


def test_classwise_has_no_leakage_and_is_not_recommended():
    result = make_result(modes=BOTH)
    (table,) = tables.overview(result)
    line = table.frame.xs("center (classwise)", level="row").iloc[0]
    for top in ("Dataset ROC-AUC", "Genre ROC-AUC, philharmonia, fluidr3"):
        cells = [line[c] for c in table.frame.columns if c[0].startswith(top.split(",")[0])]
        assert cells
        assert set(cells) == {DASH}
    lines = judge(View.of(result))
    assert not lines.loc[lines["mode"] == "classwise", "qualifies"].any()
    picks = [f for f in answers(result, "choice") if f.status == "recommended"]
    assert [(f.method, f.mode) for f in picks] == [("center", "global"), ("nap", "global")]
    said = [f.answer for f in answers(result, "method") if f.mode == "classwise"]
    assert all("(saw target labels) was not probed for the dataset" in text for text in said)


def test_an_audit_of_classwise_corrections_alone_recommends_none():
    result = make_result(modes=("classwise",), methods=("original", "lda", "center"))
    assert {f.status for f in answers(result, "choice")} == {"none recommended"}
    assert "No correction is recommended." in headline(result)
    assert "lda (classwise)*" in summary(result)
    assert not FIGURES["tradeoff"](result).axes
    (table,) = tables.overview(result)
    assert {"lda", "lda (classwise)"} <= set(table.frame.index.get_level_values("row"))


def test_the_page_has_a_card_for_each_sight():
    page = render_html(make_result(modes=BOTH))
    assert "<code>lda (global)</code>" in page
    assert "<code>lda (classwise)</code>" in page
    assert "<code>nap (global) / nap (classwise)</code>" in page


def test_a_correction_that_harms_within_a_dataset_is_not_recommended():
    where = {"method": "center", "train_set": "fluidr3", "test_set": "fluidr3"}
    values = {"delta": -0.05, "low": -0.06, "high": -0.04, "p_holm": 0.001}
    result = edited(make_result(), "comparisons", where, **values)
    assert "center" not in [f.method for f in answers(result, "choice")]
    (said,) = [f for f in answers(result, "method") if f.method == "center"]
    assert said.answer.endswith("trained and tested within fluidr3, it is measurably worse.")
    assert "within a dataset with 1" in answers(result, "summary")[0].answer
    assert "1 worse within" in " ".join(summary(result).split())


@pytest.mark.parametrize(
    ("n_other", "said"),
    [
        (400, "8 of 8 classes)."),
        (100, "so part of it may be the number of clips."),
        (1000, "though the number of clips works against it and may hide part of it."),
    ],
)
def test_a_drop_names_the_sizes_of_both_training_sets(n_other, said):
    where = {"method": "original", "train_set": "philharmonia"}
    result = edited(make_result(), "transfer", where, n_train=n_other)
    first = answers(result, "drop")[0].answer
    assert f"of fluidr3 ({n_other:,} against 400 training clips) costs" in first.replace(
        "philharmonia instead ", ""
    )
    assert first.endswith(said)
    row = tables.costs(result).frame.loc[("yamnet", "philharmonia → fluidr3")]
    assert row["Training clips", "own dataset"] == "400"
    assert row["Training clips", "the other"] == f"{n_other:,}"


def unknown_genres(every):
    """Return a result where fluidr3 knows no genre, or not that of some clips."""
    result = make_result()
    frame = result.distribution
    mine = frame["dataset"] == "fluidr3"
    lost = frame[mine].assign(genre="")
    if every:
        frame = frame.assign(**{c: frame[c].mask(mine, 0) for c in ("n_annotated", "n_positive")})
    else:
        lost = lost[:8]
    none = frame[~mine].drop_duplicates("label").assign(genre="", n_annotated=0, n_positive=0)
    return replace(result, distribution=pd.concat([frame, lost, none], ignore_index=True))


def test_unknown_genre_is_no_genre():
    mix, share = answers(unknown_genres(every=False), "genre mix")
    assert "the widest gap is ," not in mix.answer
    assert mix.answer == answers(make_result(), "genre mix")[0].answer
    assert "of fluidr3 have no known genre" in share.answer


def test_a_dataset_without_genres_has_no_cells_of_them():
    result = unknown_genres(every=True)
    (share,) = answers(result, "genre mix")
    assert "100% of fluidr3 have no known genre" in share.answer
    rows = list(tables.distribution(result).frame.index)
    assert [row for row in rows if row[0] == "fluidr3"] == [("fluidr3", "not known")]
    assert ("philharmonia", "not known") not in rows
    said = {f.status: f.answer for f in answers(result, "certainty")}
    assert said["weak cells"].startswith("Of 40 cells")
    assert FIGURES["distribution"](result).axes
