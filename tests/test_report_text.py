"""Sentences are derived from the numbers, and claim no more than these say."""

import math
import re
from dataclasses import replace

import pandas as pd
import pytest
from report_fixtures import (
    FakeResult,
    drops_of,
    hostile_result,
    make_result,
    one_dataset,
    wide_result,
)
from report_helpers import answers, edited

from biasaudio.errors import DataError
from biasaudio.report import numbers as num
from biasaudio.report.findings import judge
from biasaudio.report.text import QUESTIONS, headline, planted, summary, verdict
from biasaudio.report.view import View


def test_every_question_is_answered_in_order():
    asked = [f.question for f in verdict(make_result())]
    assert list(dict.fromkeys(asked)) == list(QUESTIONS.values())


def test_dataset_is_readable_by_interval_and_permutation():
    (found,) = answers(make_result(), "domain")
    assert found.status == "readable"
    assert "philharmonia and fluidr3" in found.answer
    row = (
        make_result()
        .probes.query("design == 'cross-fit' and mix == 'equal' and probe == 'domain'")
        .iloc[0]
    )
    assert f"{row['auc']:.3f} [{row['low']:.3f}, {row['high']:.3f}]" in found.answer
    assert "1,322 clips in 412 groups" in found.answer


@pytest.mark.parametrize(
    ("values", "status"),
    [
        ({"auc": 0.51, "low": 0.46, "high": 0.56, "p_value": 0.4}, "not readable"),
        ({"auc": 0.56, "low": 0.51, "high": 0.61, "p_value": 0.2}, "not settled"),
        ({"auc": 0.30, "low": 0.25, "high": 0.35, "p_value": 1.0}, "not settled"),
        ({"p_value": math.nan}, "readable"),
        ({"low": math.nan, "high": math.nan}, "readable"),
        ({"low": math.nan, "high": math.nan, "p_value": math.nan}, "not settled"),
    ],
)
def test_dataset_status(values, status):
    where = {"probe": "domain", "design": "cross-fit", "mix": "equal"}
    (found,) = answers(edited(make_result(), "probes", where, **values), "domain")
    assert found.status == status


def test_drop_is_within_less_across_on_the_same_test_set():
    result = make_result()
    first = next(f for f in answers(result, "drop"))
    rows = result.transfer[result.transfer["method"] == "original"]
    means = rows.groupby(["train_set", "test_set"])["roc_auc"].mean()
    drop = means["fluidr3", "fluidr3"] - means["philharmonia", "fluidr3"]
    assert first.status == "drop"
    ends = f"[{100 * drop - 2:.1f}, {100 * drop + 2:.1f}]"
    assert f"costs {100 * drop:.1f} points {ends}" in first.answer
    assert "p = 0.002; lower in 8 of 8 classes" in first.answer


def test_an_interval_with_zero_does_not_settle_a_drop():
    found = answers(make_result(labels=("cello", "organ")), "drop")
    assert {f.status for f in found} == {"not settled"}


def test_a_gain_is_called_one_and_its_interval_turned():
    values = {"drop": -0.05, "low": -0.08, "high": -0.02, "p_value": 0.004}
    where = {"method": "original", "train_set": "philharmonia", "test_set": "fluidr3"}
    first = answers(edited(make_result(), "drops", where, **values), "drop")[0]
    assert first.status == "gain"
    assert "gains 5.0 points [2.0, 8.0]" in first.answer


def reading(**values):
    where = {"method": "nap", "train_set": "philharmonia", "test_set": "fluidr3"}
    table = num.changes(View.of(edited(make_result(), "comparisons", where, **values)))
    return table.set_index(["method", "train_set"])["reading"]["nap", "philharmonia"]


def test_a_change_is_better_only_if_interval_and_holm_agree():
    assert reading() == "better"
    assert reading(low=-0.01) == "no measurable change"
    assert reading(p_holm=0.051) == "no measurable change"
    assert reading(p_holm=math.nan) == "better"
    assert reading(low=math.nan) == "not known"
    assert reading(delta=-0.05, low=-0.06, high=-0.04) == "worse"


def test_the_recorded_verdict_cannot_overrule_the_interval():
    assert reading(low=-0.01, verdict="better") == "no measurable change"


def test_share_recovered_is_what_was_planted():
    table = judge(View.of(make_result())).set_index("method")
    assert table.loc["nap", "recovered"] == pytest.approx(0.75, abs=0.02)
    assert table.loc["wccn", "recovered"] == pytest.approx(0.65, abs=0.02)
    assert math.isnan(table.loc["leace", "recovered"])


def test_share_of_a_tiny_drop_is_not_given():
    result = make_result()
    frame = result.transfer.copy()
    own = frame["train_set"] == frame["test_set"]
    cross = frame.loc[~own & (frame["method"] == "original")]
    level = cross.groupby(["test_set", "instrument"])["roc_auc"].mean()
    keys = pd.MultiIndex.from_frame(frame.loc[own, ["test_set", "instrument"]])
    frame.loc[own, "roc_auc"] = level.reindex(keys).to_numpy() + 0.005
    table = num.changes(View.of(replace(result, transfer=frame, drops=drops_of(frame))))
    assert (table["drop"].abs() < 0.01).all()
    assert table["recovered"].isna().all()


def test_class_mix_is_named_only_when_intervals_are_apart():
    (found,) = answers(make_result(), "mix")
    assert "explains no measurable part" in found.answer
    where = {"probe": "domain", "design": "cross-fit", "mix": "equal", "method": "original"}
    apart = edited(make_result(), "probes", where, auc=0.73, low=0.71, high=0.75)
    (found,) = answers(apart, "mix")
    assert "%" not in found.answer
    assert "(1,840 clips)" in found.answer
    assert "(1,322 clips); the class mix may explain part of it" in found.answer
    assert "also saw fewer clips" in found.answer


def test_worst_class_is_named_with_the_drop_without_it():
    (found,) = answers(make_result(), "classes")
    assert "organ" in found.answer
    table = num.class_drops(View.of(make_result())).query("method == 'original'")
    part = table[(table["train_set"] == "philharmonia") & (table["instrument"] != "organ")]
    assert f"mean drop is {100 * part['drop'].mean():.1f} instead" in found.answer


def test_each_of_two_pairs_names_its_largest_loss():
    where = {
        "instrument": "cello",
        "train_set": "fluidr3",
        "test_set": "philharmonia",
        "method": "original",
    }
    (found,) = answers(edited(make_result(), "transfer", where, roc_auc=0.4), "classes")
    assert "from philharmonia to fluidr3 the largest loss is that of organ" in found.answer
    assert "from fluidr3 to philharmonia the largest loss is that of cello" in found.answer


def test_weak_cells_and_constant_classifiers_are_counted():
    said = {f.status: f.answer for f in answers(make_result(), "certainty")}
    assert "6 hold no positive clip and 5 fewer than 10" in said["weak cells"]
    assert said["constant"].startswith("4 of 256 classifier scores")


def test_headline_for_one_and_for_many():
    assert headline(make_result())[0].startswith("Dataset identity is readable from yamnet (ROC")
    many = " ".join(headline(wide_result()))
    assert "vggish, openl3 and yamnet" in many
    assert "saw no target labels" in many
    assert headline(FakeResult()) == []


def test_a_gain_is_not_called_a_cost():
    result = make_result()
    frame = result.transfer.copy()
    frame.loc[frame["train_set"] != frame["test_set"], "roc_auc"] = 0.99
    gained = replace(result, transfer=frame, drops=drops_of(frame))
    assert {f.status for f in answers(gained, "drop")} == {"gain"}
    assert "does not lower mean ROC-AUC (higher by" in " ".join(headline(gained))
    assert answers(gained, "classes") == []


def test_pooled_genre_probe_stands_for_the_embedding():
    result = make_result()
    alone = result.probes[result.probes["probe"] == "genre"].assign(datasets="fluidr3", auc=0.6)
    found = answers(replace(result, probes=pd.concat([result.probes, alone])), "genre")
    assert len(found) == 1
    assert "philharmonia and fluidr3" in found[0].answer


def test_equal_genre_mix_is_called_equal():
    result = make_result()
    same = replace(result, distribution=result.distribution.assign(n_positive=20))
    assert "is the same in every dataset" in answers(same, "genre mix")[0].answer


def test_one_dataset_has_a_genre_probe_only():
    found = verdict(one_dataset())
    assert [f.status for f in found if f.topic == "domain"] == ["not known"]
    assert [f.status for f in found if f.topic == "genre"] == ["readable"]
    assert [f.status for f in found if f.topic == "choice"] == ["none recommended"]


def test_no_genre():
    assert answers(make_result(genres=()), "genre") == []


def test_planted_facts_stand_beside_what_was_found():
    rows = planted(make_result(synthetic=True))
    assert [list(facts) for facts, _ in rows] == [["domain"], ["genre"]]
    assert rows[0][1].startswith("The dataset")
    assert "Genre can be read" in rows[1][1]
    assert "planted  domain: a recording chain" in summary(make_result(synthetic=True))


def test_planted_facts_with_one_answer_stand_together():
    facts = {
        "recording of a": "near",
        "recording of b": "far",
        "instruments": "two organs",
        "class mix": "more organ",
        "transfer": "costs",
        "colour": "red",
    }
    rows = planted(make_result(planted=facts))
    assert next(list(names) for names, _ in rows) == ["recording of a", "recording of b"]
    said = {name: text for names, text in rows for name in names}
    assert "the largest loss is that of organ" in said["instruments"]
    assert "told apart" in said["class mix"]
    assert "costs" in said["transfer"]
    assert said["colour"] == "Not measured by this audit."


@pytest.mark.parametrize(
    "make", [make_result, wide_result, one_dataset, hostile_result, FakeResult]
)
def test_summary_fits_a_terminal(make):
    text = summary(make())
    assert max(map(len, text.splitlines())) <= 79
    assert re.search(r"\bnan\b", text) is None
    assert all(c.isprintable() or c == "\n" for c in text)


def test_summary_is_ascii_and_marks_what_saw_target_labels():
    text = summary(make_result(synthetic=True))
    assert text.isascii()
    assert "synthetic" in text
    assert "nap*" in text
    assert "leace " in text


def test_summary_wraps_names_without_spaces():
    text = summary(make_result(embeddings=("e" * 120,), datasets=("a" * 90, "b" * 90)))
    assert max(map(len, text.splitlines())) <= 79


def test_result_is_not_changed():
    result = make_result()
    before = {name: getattr(result, name).copy() for name in ("probes", "comparisons")}
    verdict(result)
    for name, frame in before.items():
        pd.testing.assert_frame_equal(getattr(result, name), frame)


def test_missing_column_is_named():
    result = make_result()
    result = replace(result, probes=result.probes.drop(columns="low"))
    with pytest.raises(DataError, match=r"result\.probes lacks the column\(s\) 'low'"):
        verdict(result)


def test_missing_table_is_named():
    with pytest.raises(DataError, match="needs a DataFrame"):
        verdict(replace(make_result(), comparisons=None))


@pytest.mark.parametrize(
    ("value", "text"),
    [(0.0124, "+1.2"), (-0.0001, "-0.01"), (0.00001, "0.0"), (-0.02, "-2.0"), (0.0, "0.0")],
)
def test_points_never_print_a_change_as_none(value, text):
    assert num.points(value) == text
