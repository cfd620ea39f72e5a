"""Findings: one sentence per question, with the numbers that it rests on.

In the order of the report: is there a bias, what does it cost, how certain is that,
where does it come from, what does each correction do, and which one to use.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from biasaudio.report import numbers as num
from biasaudio.report.view import CLASSWISE, ORIGINAL, Sight, View, once, variant

__all__ = [
    "QUESTIONS",
    "RULE",
    "Finding",
    "about_bias",
    "about_certainty",
    "about_choice",
    "about_corrections",
    "about_cost",
    "about_origin",
    "at_mix",
    "best_mix",
    "cost",
    "judge",
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


@once
def _leak(view: View) -> pd.DataFrame:
    """Return before, after, low, high and lowers for each probed set and method."""
    rows = []
    for _, part in num.leakage(view).groupby(["embedding", "datasets"], sort=False):
        first = part[part["method"] == ORIGINAL]
        if first.empty:
            continue
        mix = best_mix(first.iloc[0])
        base = at_mix(first.iloc[0], mix)
        for _, row in part[part["method"] != ORIGINAL].iterrows():
            side = at_mix(row, mix)
            # Both probes score the same clips, so adding their margins as if they
            # were independent errs on the side of claiming nothing.  Distance from
            # chance, as a probe that is reliably wrong reads the dataset as well.
            margin = math.hypot(base["high"] - base["low"], side["high"] - side["low"]) / 2
            nearer = abs(side["auc"] - 0.5) + margin < abs(base["auc"] - 0.5)
            key = {"embedding": row["embedding"], "method": row["method"]}
            ends = {"low": side["low"], "high": side["high"], "mix": mix}
            both = {"before": base["auc"], "after": side["auc"]}
            rows.append({**key, **both, **ends, "readable": num.readable(base), "lowers": nearer})
    names = ["embedding", "method", "before", "after", "low", "high", "mix", "readable", "lowers"]
    return pd.DataFrame(rows, columns=names)


@once
def judge(view: View) -> pd.DataFrame:
    """Return what each correction did to leakage and transfer, a row each.

    Returns
    -------
    pd.DataFrame
        Columns embedding, method, mode, sight; before, after, low, high (the
        dataset ROC-AUC, mean over probed sets; the interval only where there
        is one set), n_sets, lowers, readable; n_pairs, n_better, n_worse,
        n_same, least, most (changes of transfer), recovered (mean over the
        measurable ones); own_worse (datasets whose classifier, trained and
        tested on them, got worse); qualifies.
    """
    leak, moved, own = _leak(view), num.changes(view), num.changes(view, within=True)
    both = (leak[["embedding", "method"]], moved[["embedding", "method"]])
    names = [tuple(n) for table in both for n in table.itertuples(index=False)]
    order = {n: i for i, n in enumerate([*view.embeddings, *view.used_methods])}
    rows = []
    for name, method in sorted(dict.fromkeys(names), key=lambda n: (order[n[0]], order[n[1]])):
        a, b, c = (
            table[(table["embedding"] == name) & (table["method"] == method)]
            for table in (leak, moved, own)
        )
        for mode in view.modes_of(name, method):
            sight = view.sight(method, mode)
            key = {"embedding": name, "method": method, "mode": mode, "sight": sight}
            # What was probed is the global correction, which is another one.
            leaks = _leak_part(a.iloc[:0] if mode == CLASSWISE else a)
            worse = c[(c["mode"] == mode) & (c["reading"] == num.WORSE)]
            parts = {**_transfer_part(b[b["mode"] == mode]), "own_worse": [*worse["test_set"]]}
            rows.append({**key, **leaks, **parts})
    columns = [
        "embedding",
        "method",
        "mode",
        "sight",
        "before",
        "after",
        "low",
        "high",
        "mix",
        "n_sets",
        "lowers",
        "readable",
        "n_pairs",
        "n_better",
        "n_worse",
        "n_same",
        "least",
        "most",
        "recovered",
        "own_worse",
    ]
    table = pd.DataFrame(rows, columns=columns)
    table["qualifies"] = table["lowers"] & (table["n_pairs"] > 0) & (table["n_worse"] == 0)
    table["qualifies"] &= ~table["own_worse"].astype(bool)
    return table


def _leak_part(rows: pd.DataFrame) -> dict[str, Any]:
    one = rows.iloc[0] if len(rows) == 1 else None
    return {
        "before": rows["before"].mean(),
        "after": rows["after"].mean(),
        "low": math.nan if one is None else one["low"],
        "high": math.nan if one is None else one["high"],
        "mix": rows["mix"].iloc[0] if len(rows) else "",
        "n_sets": len(rows),
        "lowers": bool(len(rows)) and bool(rows["lowers"].all()),
        "readable": bool((rows["readable"] == True).any()),  # noqa: E712 - None is "not settled"
    }


def _transfer_part(rows: pd.DataFrame) -> dict[str, Any]:
    known = rows[rows["reading"] != num.UNKNOWN]
    sure = known[known["reading"].isin([num.BETTER, num.WORSE])]
    return {
        "n_pairs": len(known),
        "n_better": int((known["reading"] == num.BETTER).sum()),
        "n_worse": int((known["reading"] == num.WORSE).sum()),
        "n_same": int((known["reading"] == num.SAME).sum()),
        "least": known["delta"].min(),
        "most": known["delta"].max(),
        "recovered": sure["recovered"].mean(),
    }


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
