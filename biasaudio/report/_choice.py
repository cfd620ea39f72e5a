"""Sentences about the corrections: what each one does, and which to use."""

from __future__ import annotations

from typing import Any

import pandas as pd

from biasaudio.report import _numbers as num
from biasaudio.report._findings import QUESTIONS, Finding, listing, span
from biasaudio.report._judge import judge
from biasaudio.report._view import CLASSWISE, ORIGINAL, Sight, View, variant

__all__ = ["RULE", "about_choice", "about_corrections"]

RULE = (
    "A correction qualifies if it brings the dataset ROC-AUC (three-way split, equal class mix) "
    "nearer to chance by more than the margins of both intervals, added in squares, for every "
    "set of datasets probed, and makes no train and test pair, also not one within a dataset, "
    "measurably worse. Of several, the one with the most pairs measurably better is taken, then "
    "the one nearest to chance. Corrections fitted classwise are not probed and so cannot "
    "qualify. Corrections that saw target labels are judged apart from those that did not. The "
    "choice is made on the clips it is judged on, so expect somewhat less on new data."
)


def _leak_words(row: pd.Series[Any]) -> str:
    if row["mode"] == CLASSWISE:
        return "was not probed for the dataset (only the global correction is)"
    if not row["n_sets"]:
        return "was not probed for the dataset"
    mean = "" if row["n_sets"] == 1 else f", mean of {row['n_sets']} sets"
    ends = num.interval(row["low"], row["high"])
    number = f"{num.auc(row['after'])} {ends}".strip()
    where = "at equal class mix" if row["mix"] == "equal" else "on all clips"
    if row["lowers"]:
        return (
            f"lowers the dataset ROC-AUC from {num.auc(row['before'])} to {number} ({where}{mean})"
        )
    return (
        f"does not measurably lower the dataset ROC-AUC: {number} after, "
        f"{num.auc(row['before'])} before ({where}{mean})"
    )


def _one_change(row: pd.Series[Any]) -> str:
    ends = f"[{num.points(row['low'])}, {num.points(row['high'])}]"
    size = f"{num.points(row['delta'])} points {ends}"
    where = f"{row['train_set']} to {row['test_set']}"
    share = ""
    if row["recovered"] > 0 and row["reading"] == num.BETTER:
        share = f", {num.share(row['recovered'])} of the drop recovered"
    return f"{where} {row['reading']} ({size}{share})"


def _transfer_words(row: pd.Series[Any], rows: pd.DataFrame) -> str:
    if not row["n_pairs"]:
        return "transfer with it was not measured"
    if len(rows) <= 2:
        return "transfer: " + "; ".join(_one_change(r) for _, r in rows.iterrows())
    share = ""
    if row["recovered"] > 0:
        share = f", where measurable {num.share(row['recovered'])} of the drop recovered on average"
    return (
        f"transfer: {row['n_better']} of {row['n_pairs']} pairs better, {row['n_worse']} worse, "
        f"{row['n_same']} with no measurable change ({span(row['least'], row['most'])}{share})"
    )


def _own_words(row: pd.Series[Any]) -> str:
    if not row["own_worse"]:
        return ""
    return f"; trained and tested within {listing(row['own_worse'])}, it is measurably worse"


def status_of(row: pd.Series[Any]) -> str:
    """Return how transfer changed over all pairs, in a few words."""
    if not row["n_pairs"]:
        return num.UNKNOWN
    worse = row["n_worse"] or row["own_worse"]
    if row["n_better"] and worse:
        return "better and worse"
    if row["n_better"] or worse:
        return num.BETTER if row["n_better"] else num.WORSE
    return num.SAME


def about_corrections(view: View) -> list[Finding]:
    """Say, for each embedding and correction, what leakage and transfer did."""
    table, moved = judge(view), num.changes(view)
    found = []
    for _, row in table.iterrows():
        same = (moved["embedding"] == row["embedding"]) & (moved["method"] == row["method"])
        rows = moved[same & (moved["mode"] == row["mode"])]
        label = variant(row["method"], row["mode"], view.modes)
        saw = "" if row["sight"] == Sight.FREE else f" ({row['sight']})"
        answer = (
            f"With {row['embedding']}, {label}{saw} {_leak_words(row)}; "
            f"{_transfer_words(row, rows)}{_own_words(row)}."
        )
        found.append(
            Finding(
                QUESTIONS["corrections"],
                answer,
                status_of(row),
                "method",
                row["embedding"],
                row["method"],
                row["mode"],
            )
        )
    return _summaries(table, view) + found


def _summaries(table: pd.DataFrame, view: View) -> list[Finding]:
    found = []
    for (name, sight), rows in table.groupby(["embedding", "sight"], sort=False):
        better, worse = int((rows["n_better"] > 0).sum()), int((rows["n_worse"] > 0).sum())
        own = sum(map(bool, rows["own_worse"]))
        lower, probed = rows[rows["lowers"]], rows[rows["n_sets"] > 0]
        best = ""
        if len(lower):
            low = num.largest(lower.assign(near=-(lower["after"] - 0.5).abs()), "near")
            label = variant(low["method"], low["mode"], view.modes)
            best = f" (most: {label}, from {num.auc(low['before'])} to {num.auc(low['after'])})"
        only = f" ({len(probed)} probed)" if len(probed) < len(rows) else ""
        within = f" (and within a dataset with {own})" if own else ""
        answer = (
            f"With {name}, {len(lower)} of {num.count(len(rows), 'correction')} that {sight}{only} "
            f"measurably lowered the dataset ROC-AUC{best}; transfer became measurably better in "
            f"at least one pair with {better} of them and measurably worse with {worse}{within}."
        )
        found.append(Finding(QUESTIONS["corrections"], answer, str(sight), "summary", str(name)))
    if not found:
        answer = "No correction was tried in this audit."
        found.append(Finding(QUESTIONS["corrections"], answer, num.UNKNOWN, "summary"))
    return found


def _pick(rows: pd.DataFrame) -> pd.Series[Any] | None:
    good = rows[rows["qualifies"]]
    if good.empty:
        return None
    distance = (good["after"] - 0.5).abs()
    order = good.assign(distance=distance).sort_values(
        ["n_better", "distance"], ascending=[False, True], kind="stable"
    )
    return order.iloc[0]


def _why_none(rows: pd.DataFrame) -> str:
    if not (rows["n_pairs"] > 0).any():
        return "transfer was not measured"
    if not (rows["n_sets"] > 0).any():
        return "the dataset was not probed with them"
    if not rows["lowers"].any():
        return "none measurably lowers the dataset ROC-AUC"
    return (
        "each one that measurably lowers the dataset ROC-AUC makes a pair, which may be one within "
        "a dataset, measurably worse or was not measured on any"
    )


def _for_transfer(rows: pd.DataFrame, view: View) -> str:
    """Name what helps transfer most without harm, though the dataset stays readable."""
    good = rows[
        (rows["n_better"] > 0) & (rows["n_worse"] == 0) & (rows["own_worse"].str.len() == 0)
    ]
    if good.empty:
        return ""
    best = good.sort_values(["n_better", "recovered"], ascending=False, kind="stable").iloc[0]
    share = (
        f", {num.share(best['recovered'])} of the drop recovered" if best["recovered"] > 0 else ""
    )
    is_probed = best["n_sets"] > 0
    left = (
        "the dataset is not measurably less readable" if is_probed else "the dataset was not probed"
    )
    return (
        f" Where transfer is all that counts, {variant(best['method'], best['mode'], view.modes)} "
        f"does most: {best['n_better']} of {num.count(best['n_pairs'], 'pair')} measurably better "
        f"and none worse{share}; {left}."
    )


def _choice(view: View, name: str, sight: str, rows: pd.DataFrame) -> Finding:
    best = _pick(rows)
    among = f"among the {num.count(len(rows), 'correction')} that {sight}"
    if best is None:
        why = f"{_why_none(rows)}.{_for_transfer(rows, view)}"
        answer = f"For {name}, none is recommended {among}: {why}"
        return Finding(QUESTIONS["choice"], answer, "none recommended", "choice", name)
    label = variant(best["method"], best["mode"], view.modes)
    gain = (
        f"{best['n_better']} of {best['n_pairs']} pairs measurably better and none worse"
        if best["n_better"]
        else f"no measurable change in {num.count(best['n_pairs'], 'pair')}, so expect less "
        "leakage and not better transfer"
    )
    need = ""
    if view.allowed(best["method"], best["mode"])["domain_at_transform"]:
        need = "; it needs the dataset of every clip when it is applied"
    answer = (
        f"For {name}, {label} is recommended {among}: dataset ROC-AUC {num.auc(best['before'])} "
        f"to {num.auc(best['after'])}, transfer with {gain}{need}."
    )
    return Finding(
        QUESTIONS["choice"], answer, "recommended", "choice", name, best["method"], best["mode"]
    )


def about_choice(view: View) -> list[Finding]:
    """Recommend a correction by `RULE`, or say that none is recommended."""
    found = []
    for name, part in judge(view).groupby("embedding", sort=False):
        if not part["readable"].any():
            answer = (
                f"For {name}, no correction is needed for the dataset: uncorrected, it cannot "
                "be shown to be readable in the three-way split."
            )
            found.append(
                Finding(QUESTIONS["choice"], answer, "not needed", "choice", str(name), ORIGINAL)
            )
            continue
        for sight in Sight.ALL:
            rows = part[part["sight"] == sight]
            if len(rows):
                found.append(_choice(view, str(name), sight, rows))
    if not found:
        alone = "one dataset alone does not show what a correction does to transfer"
        why = alone if len(view.datasets) == 1 else "no correction was tried"
        answer = f"None is recommended: {why}."
        return [Finding(QUESTIONS["choice"], answer, "none recommended", "choice")]
    return [*found, Finding(QUESTIONS["choice"], RULE, "rule", "rule")]
