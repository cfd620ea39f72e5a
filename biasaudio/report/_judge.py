"""What each correction did to leakage and transfer, a row each."""

from __future__ import annotations

import math
from typing import Any

import pandas as pd

from biasaudio.report import _numbers as num
from biasaudio.report._findings import at_mix, best_mix
from biasaudio.report._view import CLASSWISE, ORIGINAL, View

__all__ = ["judge"]


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
