"""Sentences about the bias: is it there, and what does it cost."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from biasaudio.report import _numbers as num
from biasaudio.report._view import ORIGINAL, View

__all__ = [
    "QUESTIONS",
    "Finding",
    "about_bias",
    "about_cost",
    "at_mix",
    "best_mix",
    "cost",
    "listing",
    "span",
    "uncorrected",
]

QUESTIONS = {
    "bias": "Is the embedding biased?",
    "cost": "How much does it cost?",
    "certainty": "How certain is that?",
    "origin": "Where does it come from?",
    "corrections": "What does each correction do?",
    "choice": "What should I use?",
}
# Training sets that differ by more than this factor in size can differ in what they teach.
_UNEQUAL = 1.5
_MIX = {"equal": "at equal class mix", "raw": "on all clips"}


@dataclass(frozen=True)
class Finding:
    """One question, and what the numbers say to it.

    Attributes
    ----------
    question : str
        One of the values of `QUESTIONS`.
    answer : str
        One plain sentence with numbers and intervals, ASCII but for names.
    status : str
        The reading in one to four words, such as 'readable' or 'better'.
    topic : str
        What the sentence is about, for example 'domain', 'genre', 'drop'.
    embedding, method, mode : str
        Whom it is about; empty where it is about the whole audit.
    """

    question: str
    answer: str
    status: str
    topic: str
    embedding: str = ""
    method: str = ""
    mode: str = ""


def listing(names: Iterable[str]) -> str:
    """Return ``a, b and c``."""
    *first, last = list(names)
    return f"{', '.join(first)} and {last}" if first else last


def span(low: float, high: float) -> str:
    """Return ``3.1 to 9.2 points``, or one number if both print alike."""
    ends = list(dict.fromkeys([num.points(low, sign=False), num.points(high, sign=False)]))
    return f"{' to '.join(ends)} points"


def cost(drops: pd.Series[Any]) -> str:
    """Return what training on another dataset does to the score, in words."""
    drops = drops.astype(float)
    if drops.min() >= 0:
        return f"costs {span(drops.min(), drops.max())} of mean ROC-AUC"
    if drops.max() <= 0:
        return f"does not lower mean ROC-AUC (higher by {span(-drops.max(), -drops.min())})"
    ends = f"{num.points(-drops.max())} to {num.points(-drops.min())}"
    return f"changes mean ROC-AUC by {ends} points"


def best_mix(row: pd.Series[Any]) -> str:
    """Return 'equal', or 'raw' where the equal class mix was not probed."""
    return "raw" if math.isnan(row["auc_equal"]) else "equal"


def at_mix(row: pd.Series[Any], mix: str) -> pd.Series[Any]:
    """Return auc, low, high, p_value, n and n_groups of one mix."""
    end = f"_{mix}"
    return pd.Series({str(k)[: -len(end)]: v for k, v in row.items() if str(k).endswith(end)})


def _evidence(side: pd.Series[Any]) -> str:
    return (
        f"ROC-AUC {num.auc(side['auc'])} {num.interval(side['low'], side['high'])}".strip()
        + f", chance 0.5, {num.p_value(side['p_value'])}, {num.count(side['n'], 'clip')} "
        f"in {num.count(side['n_groups'], 'group')}"
    )


def _reading(side: pd.Series[Any]) -> str:
    found = num.readable(side)
    return {True: "readable", False: "not readable", None: "not settled"}[found]


def _probe_sentence(name: str, what: str, side: pd.Series[Any], mix: str) -> str:
    words = {
        "readable": f"can be read from {name}",
        "not readable": f"cannot be told from chance in {name}",
        "not settled": f"may or may not be readable from {name}, as interval and "
        "permutation test do not agree or are not known",
    }[_reading(side)]
    return f"{what} {words}{mix}: {_evidence(side)}."


def _many_sets(name: str, rows: pd.DataFrame) -> Finding:
    sides = [at_mix(row, best_mix(row)) for _, row in rows.iterrows()]
    n_readable = sum(_reading(side) == "readable" for side in sides)
    top = max(range(len(sides)), key=lambda i: sides[i]["auc"])
    where = listing(rows["datasets"].iloc[top].split(" + "))
    status = "readable" if n_readable else "not readable"
    if not n_readable and any(_reading(side) != status for side in sides):
        status = "not settled"
    lowest = num.auc(min(side["auc"] for side in sides))
    answer = (
        f"The dataset can be read from {name} in {n_readable} of {len(sides)} sets of datasets "
        f"(ROC-AUC from {lowest}); the most from {where}: {_evidence(sides[top])}."
    )
    return Finding(QUESTIONS["bias"], answer, status, "domain", name)


def uncorrected(view: View, probe: str) -> pd.DataFrame:
    """Return the cross-fitted probes before correction, a row a set of datasets.

    Genre is also probed within single datasets; where it was probed on all of
    them together, that row stands for the embedding.
    """
    table = num.leakage(view, probe, design="cross-fit")
    table = table[table["method"] == ORIGINAL]
    if probe == "domain" or table.empty:
        return table
    size = table["datasets"].str.count(r" \+ ")
    return table[size == size.groupby(table["embedding"]).transform("max")]


def _genre(view: View) -> list[Finding]:
    found = []
    for _, row in uncorrected(view, "genre").iterrows():
        side, name = at_mix(row, best_mix(row)), row["embedding"]
        where = f" ({listing(row['datasets'].split(' + '))})"
        answer = _probe_sentence(name, "Genre", side, where)
        found.append(Finding(QUESTIONS["bias"], answer, _reading(side), "genre", name))
    return found


def about_bias(view: View) -> list[Finding]:
    """Say whether dataset and genre can be read from each embedding."""
    found = []
    for name, rows in uncorrected(view, "domain").groupby("embedding", sort=False):
        if len(rows) > 2:
            found.append(_many_sets(str(name), rows))
            continue
        for _, row in rows.iterrows():
            mix = best_mix(row)
            side, members = at_mix(row, mix), listing(row["datasets"].split(" + "))
            what = f"The dataset ({members})"
            answer = _probe_sentence(str(name), what, side, f" {_MIX[mix]}")
            found.append(Finding(QUESTIONS["bias"], answer, _reading(side), "domain", str(name)))
    if not found:
        alone = len(view.datasets) == 1
        why = "a single dataset has none to be told from" if alone else "no probe was run"
        answer = f"Whether the dataset can be read was not measured: {why}."
        found.append(Finding(QUESTIONS["bias"], answer, num.UNKNOWN, "domain"))
    return found + _genre(view)


def _drop_status(row: pd.Series[Any]) -> str:
    if row["low"] <= 0 <= row["high"] or row["p_value"] >= num.LEVEL:
        return "not settled"
    return "drop" if row["drop"] > 0 else "gain"


def train_sizes(row: pd.Series[Any]) -> str:
    """Return how many clips trained the other and the own classifier, '' if not known."""
    other, own = row["n_train_cross"], row["n_train_within"]
    if math.isnan(other + own):
        return ""
    return f"{other:,.0f} against {own:,.0f} training clips"


def size_remark(row: pd.Series[Any]) -> str:
    """Return what a difference in training sizes may do to a drop, '' if there is little."""
    other, own = row["n_train_cross"], row["n_train_within"]
    if not max(other, own) > _UNEQUAL * min(other, own):
        return ""
    if (other < own) == (row["drop"] > 0):
        return ", so part of it may be the number of clips"
    return ", though the number of clips works against it and may hide part of it"


def _one_drop(row: pd.Series[Any]) -> str:
    gains = row["drop"] < 0
    low, high = (-row["high"], -row["low"]) if gains else (row["low"], row["high"])
    sizes = f" ({train_sizes(row)})" if train_sizes(row) else ""
    return (
        f"With {row['embedding']}, training on {row['train_set']} instead of {row['test_set']}"
        f"{sizes} {'gains' if gains else 'costs'} {span(abs(row['drop']), abs(row['drop']))} "
        f"[{num.points(low, sign=False)}, {num.points(high, sign=False)}] of mean ROC-AUC on the "
        f"test clips of {row['test_set']} ({num.auc(row['within'])} to {num.auc(row['cross'])}; "
        f"{num.p_value(row['p_value'])}; lower in {row['n_down']} of "
        f"{num.count(row['n_labels'], 'class', 'classes')}){size_remark(row)}."
    )


def about_cost(view: View) -> list[Finding]:
    """Say what training on another dataset costs, uncorrected."""
    found = []
    for name, rows in num.drops(view).groupby("embedding", sort=False):
        statuses = [_drop_status(row) for _, row in rows.iterrows()]
        if len(rows) <= 2:
            sentences = [_one_drop(row) for _, row in rows.iterrows()]
        else:
            top = num.largest(rows, "drop")
            sentences = [
                f"With {name}, training on another dataset {cost(rows['drop'])} over "
                f"{len(rows)} train and test pairs; the largest drop is from {top['train_set']} to "
                f"{top['test_set']} ({num.auc(top['within'])} to {num.auc(top['cross'])}"
                f"{'; ' if train_sizes(top) else ''}{train_sizes(top)}){size_remark(top)}; the "
                f"interval of the drop leaves out zero in {statuses.count('drop')} of them."
            ]
            statuses = ["drop" if "drop" in statuses else "not settled"]
        found += [
            Finding(QUESTIONS["cost"], text, status, "drop", str(name))
            for text, status in zip(sentences, statuses, strict=True)
        ]
    if not found:
        answer = "What training on another dataset costs was not measured in this audit."
        found.append(Finding(QUESTIONS["cost"], answer, num.UNKNOWN, "drop"))
    return found
