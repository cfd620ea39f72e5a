"""What is recommended follows the printed rule, and compares like with like."""

import re
from dataclasses import replace

from report_fixtures import make_result
from report_helpers import answers, edited

from biasaudio.report.findings import judge
from biasaudio.report.text import RULE
from biasaudio.report.view import View


def test_methods_that_saw_target_labels_are_judged_apart():
    picks = [f for f in answers(make_result(), "choice") if f.status == "recommended"]
    assert [f.method for f in picks] == ["center", "nap"]
    assert "saw no target labels" in picks[0].answer
    assert "saw target labels" in picks[1].answer
    assert "needs the dataset of every clip" in picks[0].answer
    said = answers(make_result(), "method")
    assert all("saw target labels" in f.answer for f in said if f.method in ("nap", "wccn"))


def test_undeclared_methods_are_their_own_class():
    result = make_result()
    result = replace(result, methods=result.methods[result.methods["method"] != "center"])
    picks = {f.method: f for f in answers(result, "choice")}
    assert "did not declare what it saw" in picks["center"].answer
    assert picks["leace"].status == "recommended"
    assert "expect less leakage and not better transfer" in picks["leace"].answer


def test_a_method_that_does_harm_is_not_recommended():
    result = edited(make_result(), "comparisons", {"method": "center"}, delta=-0.05, low=-0.06)
    result = edited(result, "comparisons", {"method": "center"}, high=-0.04)
    assert "center" not in [f.method for f in answers(result, "choice")]


def test_none_is_recommended_when_leakage_stays():
    result = make_result(methods=("original", "lda"))
    found = answers(result, "choice")
    assert [f.status for f in found] == ["none recommended"]
    assert "none measurably lowers" in found[0].answer


def test_what_helps_transfer_alone_is_named_though_the_dataset_stays_readable():
    result = make_result()
    for name in ("nap", "wccn"):
        result = edited(result, "probes", {"method": name}, auc=0.96, low=0.94, high=0.98)
    (found,) = [f for f in answers(result, "choice") if f.status == "none recommended"]
    assert "saw target labels: none measurably lowers" in found.answer
    named = re.search(r"Where transfer is all that counts, (\w+) does most", found.answer)
    lines = judge(View.of(result)).set_index("method")
    assert lines.loc[named[1], "n_better"] == lines.loc[["nap", "wccn"], "n_better"].max() > 0
    harmed = edited(result, "comparisons", {"method": named[1]}, delta=-0.05, low=-0.06, high=-0.04)
    texts = [f.answer for f in answers(harmed, "choice")]
    assert not any(f"counts, {named[1]} does" in text for text in texts)


def test_overlapping_margins_are_not_a_lower_leakage():
    table = judge(View.of(make_result())).set_index("method")
    # 0.946 +- 0.03 against 0.902 +- 0.03: less than the root sum of squares 0.042 below.
    wide = edited(make_result(), "probes", {"method": "mlda"}, low=0.80, high=0.95)
    assert bool(table.loc["mlda", "lowers"])
    assert not judge(View.of(wide)).set_index("method").loc["mlda", "lowers"]


def test_reliably_wrong_probe_counts_as_leakage():
    result = edited(make_result(), "probes", {"method": "leace"}, auc=0.05, low=0.02, high=0.08)
    assert not judge(View.of(result)).set_index("method").loc["leace", "lowers"]


def test_no_correction_is_needed_where_nothing_is_readable():
    values = {"auc": 0.5, "low": 0.45, "high": 0.55, "p_value": 0.5}
    result = edited(make_result(), "probes", {"probe": "domain", "method": "original"}, **values)
    assert [f.status for f in answers(result, "choice")] == ["not needed"]


def test_rule_is_stated_with_the_choice():
    assert [f.answer for f in answers(make_result(), "rule")] == [RULE]
