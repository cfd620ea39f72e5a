"""Sentences about the corrections: what each one does, and which to use."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from biasaudio.report import _numbers as num
from biasaudio.report._findings import QUESTIONS, Finding, at_mix, best_mix, span
from biasaudio.report._view import ORIGINAL, Sight, View, variant

__all__ = ["RULE", "about_choice", "about_corrections", "judge"]

RULE = (
    "A correction qualifies if it brings the dataset ROC-AUC (three-way split, equal class mix) "
    "nearer to chance by more than the margins of both intervals, added in squares, for every "
    "set of datasets probed, and makes no train and test pair measurably worse. Of several, the "
    "one with the most pairs measurably better is taken, then the one nearest to chance. "
    "Corrections that saw target labels are judged apart from those that did not. The choice is "
    "made on the clips it is judged on, so expect somewhat less on new data."
)


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


def judge(view: View) -> pd.DataFrame:
    """Return what each correction did to leakage and transfer, a row each.

    Returns
    -------
    pd.DataFrame
        Columns embedding, method, mode, sight; before, after, low, high (the
        dataset ROC-AUC, mean over probed sets; the interval only where there
        is one set), n_sets, lowers, readable; n_pairs, n_better, n_worse,
        n_same, least, most (changes of transfer), recovered (mean over the
        measurable ones); qualifies.
    """
    leak, moved = _leak(view), num.changes(view)
    both = (leak[["embedding", "method"]], moved[["embedding", "method"]])
    names = [tuple(n) for table in both for n in table.itertuples(index=False)]
    order = {n: i for i, n in enumerate([*view.embeddings, *view.used_methods])}
    rows = []
    for name, method in sorted(dict.fromkeys(names), key=lambda n: (order[n[0]], order[n[1]])):
        a = leak[(leak["embedding"] == name) & (leak["method"] == method)]
        b = moved[(moved["embedding"] == name) & (moved["method"] == method)]
        for mode in dict.fromkeys(b["mode"]) or [""]:
            key = {"embedding": name, "method": method, "mode": mode, "sight": view.sight(method)}
            rows.append({**key, **_leak_part(a), **_transfer_part(b[b["mode"] == mode])})
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
    ]
    table = pd.DataFrame(rows, columns=columns)
    table["qualifies"] = table["lowers"] & (table["n_pairs"] > 0) & (table["n_worse"] == 0)
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


def _leak_words(row: pd.Series[Any]) -> str:
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


def status_of(row: pd.Series[Any]) -> str:
    """Return how transfer changed over all pairs, in a few words."""
    if not row["n_pairs"]:
        return num.UNKNOWN
    if row["n_better"] and row["n_worse"]:
        return "better and worse"
    if row["n_better"] or row["n_worse"]:
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
            f"{_transfer_words(row, rows)}."
        )
        found.append(
            Finding(
                QUESTIONS["corrections"],
                answer,
                status_of(row),
                "method",
                row["embedding"],
                row["method"],
            )
        )
    return _summaries(table, view) + found


def _summaries(table: pd.DataFrame, view: View) -> list[Finding]:
    found = []
    for (name, sight), rows in table.groupby(["embedding", "sight"], sort=False):
        better, worse = int((rows["n_better"] > 0).sum()), int((rows["n_worse"] > 0).sum())
        lower = rows[rows["lowers"]]
        best = ""
        if len(lower):
            low = num.largest(lower.assign(near=-(lower["after"] - 0.5).abs()), "near")
            label = variant(low["method"], low["mode"], view.modes)
            best = f" (most: {label}, from {num.auc(low['before'])} to {num.auc(low['after'])})"
        answer = (
            f"With {name}, {len(lower)} of {num.count(len(rows), 'correction')} that {sight} "
            f"measurably lowered the dataset ROC-AUC{best}; transfer became measurably better in "
            f"at least one pair with {better} of them and measurably worse with {worse}."
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
    if not rows["lowers"].any():
        return "none measurably lowers the dataset ROC-AUC"
    return "each one that measurably lowers the dataset ROC-AUC makes a pair measurably worse"


def _choice(view: View, name: str, sight: str, rows: pd.DataFrame) -> Finding:
    best = _pick(rows)
    among = f"among the {num.count(len(rows), 'correction')} that {sight}"
    if best is None:
        answer = f"For {name}, none is recommended {among}: {_why_none(rows)}."
        return Finding(QUESTIONS["choice"], answer, "none recommended", "choice", name)
    label = variant(best["method"], best["mode"], view.modes)
    gain = (
        f"{best['n_better']} of {best['n_pairs']} pairs measurably better and none worse"
        if best["n_better"]
        else f"no measurable change in {num.count(best['n_pairs'], 'pair')}, so expect less "
        "leakage and not better transfer"
    )
    need = ""
    if view.allowed(best["method"])["domain_at_transform"]:
        need = "; it needs the dataset of every clip when it is applied"
    answer = (
        f"For {name}, {label} is recommended {among}: dataset ROC-AUC {num.auc(best['before'])} "
        f"to {num.auc(best['after'])}, transfer with {gain}{need}."
    )
    return Finding(QUESTIONS["choice"], answer, "recommended", "choice", name, best["method"])


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
