"""Sentences about the evidence: how sure it is, and where the bias comes from."""

from __future__ import annotations

import itertools
from typing import Any

import pandas as pd

from biasaudio.report import _numbers as num
from biasaudio.report._findings import QUESTIONS, Finding, at_mix, listing, uncorrected
from biasaudio.report._view import View

__all__ = ["about_certainty", "about_origin"]

_FEW_PAIRS = 2


def about_certainty(view: View) -> list[Finding]:
    """Say on how much the numbers rest, and what weakens them."""
    found = []
    groups = {"a dataset probe": view.probes.loc[view.probes["probe"] == "domain", "n_groups"]}
    groups["a transfer comparison"] = view.comparisons["n_groups"]
    least = [f"{n.min():,.0f} in {what}" for what, n in groups.items() if n.notna().any()]
    if least:
        answer = (
            "Intervals are 95% bootstrap intervals over groups (songs or artists), of which "
            f"there are at least {listing(least)}; the p values of changes are Holm-adjusted "
            "over the corrections."
        )
        found.append((answer, "basis"))
    cells = num.cells(view)
    cells = cells[(cells["genre"] != "") | ~cells["has_genres"]]
    notes = [num.near_empty(n) for n in cells["n_positive"]]
    if any(notes):
        answer = (
            f"Of {num.count(len(cells), 'cell')} of dataset, genre and class, "
            f"{notes.count('empty')} hold no positive clip and {notes.count('near-empty')} fewer "
            f"than {num.NEAR_EMPTY}; what is said of these rests on little."
        )
        found.append((answer, "weak cells"))
    constant = int((view.transfer["constant"] > 0).sum())
    if constant:
        answer = (
            f"{constant} of {num.count(len(view.transfer), 'classifier score')} come from a "
            "classifier that gives every clip the same score; they are marked in the tables."
        )
        found.append((answer, "constant"))
    warned = len(view.meta.get("warnings") or [])
    if warned:
        answer = f"The audit gave {num.count(warned, 'warning')}, printed under provenance."
        found.append((answer, "warnings"))
    return [Finding(QUESTIONS["certainty"], text, status, "certainty") for text, status in found]


def _class_mix(view: View) -> list[Finding]:
    found = []
    for _, row in uncorrected(view, "domain").dropna(subset=["auc_raw", "auc_equal"]).iterrows():
        raw, equal = at_mix(row, "raw"), at_mix(row, "equal")
        apart = raw["low"] > equal["high"] or equal["low"] > raw["high"]
        if not apart:
            end = "the intervals overlap, so the class mix explains no measurable part of it"
        else:
            falls = raw["auc"] > equal["auc"]
            end = f"the class mix may {'explain part' if falls else 'have hidden some'} of it"
            if equal["n"] < raw["n"]:
                end += ", but the probe at equal class mix also saw fewer clips"
        answer = (
            f"In {row['embedding']}, {listing(row['datasets'].split(' + '))} are told apart "
            f"with ROC-AUC {num.auc(raw['auc'])} {num.interval(raw['low'], raw['high'])} on all "
            f"clips ({num.count(raw['n'], 'clip')}) and {num.auc(equal['auc'])} "
            f"{num.interval(equal['low'], equal['high'])} at equal class mix "
            f"({num.count(equal['n'], 'clip')}); {end}."
        )
        found.append(Finding(QUESTIONS["origin"], answer, "class mix", "mix", row["embedding"]))
    return found


def _unknown_genre(view: View) -> list[Finding]:
    table = view.distribution
    total = table.groupby("dataset", sort=False)["n_positive"].sum()
    unknown = table[table["genre"] == ""].groupby("dataset", sort=False)["n_positive"].sum()
    share = (unknown / total).dropna()
    share = share[share > 0]
    if share.empty or not (table["genre"] != "").any():
        return []
    each = listing(f"{num.share(value)} of {name}" for name, value in share.items())
    answer = f"Of the positive clips, {each} have no known genre; the genre mix leaves them out."
    return [Finding(QUESTIONS["origin"], answer, "genre not known", "genre mix")]


def _genre_mix(view: View) -> list[Finding]:
    known = view.distribution[view.distribution["genre"] != ""]
    counts = known.pivot_table(
        index="dataset", columns="genre", values="n_positive", aggfunc="sum", fill_value=0
    )
    counts = counts[counts.sum(axis=1) > 0]
    if min(counts.shape) < 2:
        return []
    share = counts.div(counts.sum(axis=1), axis=0)
    moved = {
        (a, b): float((share.loc[a] - share.loc[b]).abs().sum() / 2)
        for a, b in itertools.combinations(share.index, 2)
    }
    (a, b), most = max(moved.items(), key=lambda item: item[1])
    if most < 0.005:
        answer = "The genre mix of the positives is the same in every dataset."
        return [Finding(QUESTIONS["origin"], answer, "genre mix", "genre mix")]
    gap = (share.loc[a] - share.loc[b]).abs()
    genre = str(gap.idxmax())
    here, there = num.share(share.loc[a, genre]), num.share(share.loc[b, genre])
    answer = (
        f"The genre mix of the positives differs most between {a} and {b}: {num.share(most)} would "
        f"have to change genre to make it equal; the widest gap is {genre}, {here} of {a} and "
        f"{there} of {b}."
    )
    return [Finding(QUESTIONS["origin"], answer, "genre mix", "genre mix")]


def _one_loss(row: pd.Series[Any]) -> str:
    words = (
        f"from {row['train_set']} to {row['test_set']} the largest loss is that of "
        f"{row['worst']} ({num.points(row['worst_drop'], sign=False)} points)"
    )
    if not row["drop"] > 0:
        return f"{words}, while the mean over classes does not fall"
    rest = (row["drop"] * row["n_labels"] - row["worst_drop"]) / (row["n_labels"] - 1)
    return (
        f"{words}, without which the mean drop is {num.points(rest, sign=False)} instead of "
        f"{num.points(row['drop'], sign=False)} points"
    )


def _classes(view: View) -> list[Finding]:
    found = []
    for name, rows in num.drops(view).groupby("embedding", sort=False):
        rows = rows[(rows["n_labels"] > 1) & (rows["worst_drop"] > 0)]
        if len(rows) > _FEW_PAIRS:
            rows = rows.nlargest(1, "drop")
        if len(rows):
            each = "; ".join(_one_loss(row) for _, row in rows.iterrows())
            answer = f"With {name}, {each}."
            found.append(Finding(QUESTIONS["origin"], answer, "classes", "classes", str(name)))
    return found


def about_origin(view: View) -> list[Finding]:
    """Say what class mix, genre mix and single classes have to do with it."""
    mix = _class_mix(view)
    if len(mix) > 4:
        table = uncorrected(view, "domain")
        gap = (table["auc_equal"] - table["auc_raw"]).dropna()
        ends = dict.fromkeys([num.points(gap.min()), num.points(gap.max())])
        answer = (
            f"Making the class mix equal changes the dataset ROC-AUC by {' to '.join(ends)} "
            f"points over {len(gap)} probes, some of which also saw fewer clips."
        )
        mix = [Finding(QUESTIONS["origin"], answer, "class mix", "mix")]
    return mix + _genre_mix(view) + _unknown_genre(view) + _classes(view)
