"""The numbers that the report derives, and how a number is written."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pandas as pd

from biasaudio.report.view import ORIGINAL, View, once

__all__ = [
    "BETTER",
    "LEVEL",
    "NEAR_EMPTY",
    "SAME",
    "UNKNOWN",
    "WORSE",
    "auc",
    "cells",
    "changes",
    "class_drops",
    "count",
    "drops",
    "interval",
    "largest",
    "leakage",
    "near_empty",
    "p_value",
    "points",
    "readable",
    "share",
]

LEVEL = 0.05
NEAR_EMPTY = 10
# Shares of a drop smaller than one point are ratios of two noises.
_SMALLEST_DROP = 0.01
BETTER, WORSE, SAME, UNKNOWN = "better", "worse", "no measurable change", "not known"


def auc(value: float) -> str:
    """Return a ROC-AUC with three decimals."""
    return "not known" if math.isnan(value) else f"{value:.3f}"


def interval(low: float, high: float) -> str:
    """Return ``[low, high]`` of a ROC-AUC, empty where it is not known."""
    return "" if math.isnan(low + high) else f"[{low:.3f}, {high:.3f}]"


def points(value: float, *, sign: bool = True) -> str:
    """Return a difference of ROC-AUC in points (hundredths)."""
    if math.isnan(value):
        return "not known"
    scaled = 100 * value
    # One decimal, but two where one would print a change as no change at all.
    digits = 2 if 0.005 <= abs(scaled) < 0.05 else 1
    scaled = round(scaled, digits) + 0.0
    return f"{scaled:{'+' if sign and scaled else ''}.{digits}f}"


def p_value(value: float) -> str:
    """Return ``p = 0.004``, or ``p < 0.001``, or ``p not known``."""
    if math.isnan(value):
        return "p not known"
    return "p < 0.001" if value < 0.001 else f"p = {value:.{2 if value >= 0.1 else 3}f}"


def share(value: float) -> str:
    """Return a share in whole percent."""
    return "not known" if math.isnan(value) else f"{value:.0%}"


def largest(rows: pd.DataFrame, column: str) -> pd.Series[Any]:
    """Return the row with the largest known number in a column."""
    return rows.iloc[int(np.nanargmax(rows[column].to_numpy(dtype=float)))]


def count(value: float, one: str, many: str | None = None) -> str:
    """Return ``1,200 clips``, with the singular for one."""
    if math.isnan(value):
        return f"an unknown number of {many or one + 's'}"
    return f"{int(value):,} {one if int(value) == 1 else many or one + 's'}"


def readable(row: pd.Series[Any]) -> bool | None:
    """Return whether a probe beats chance; None where that is not settled.

    Interval and permutation test must agree.  Where one of them is not known
    the other decides, and where none is known nothing is claimed.
    """
    votes = []
    if not math.isnan(row["low"] + row["high"]):
        if row["high"] < 0.5:
            return None
        votes.append(bool(row["low"] > 0.5))
    if not math.isnan(row["p_value"]):
        votes.append(bool(row["p_value"] < LEVEL))
    return votes[0] if len(set(votes)) == 1 else None


def near_empty(n_positive: float) -> str:
    """Return '', 'near-empty' or 'empty' for a number of positives."""
    if not n_positive > 0:
        return "empty"
    return "near-empty" if n_positive < NEAR_EMPTY else ""


@once
def leakage(view: View, probe: str = "domain", *, design: str = "three-way") -> pd.DataFrame:
    """Return a row an embedding, set of datasets and method, raw and equal mix.

    Parameters
    ----------
    view : View
    probe : {'domain', 'genre'}
    design : {'three-way', 'cross-fit'}
        The design taken where it exists; else the other one, for all methods
        of an embedding and set alike, so that only like is compared with like.

    Returns
    -------
    pd.DataFrame
        Columns embedding, datasets, method, design and, with suffix ``_raw``
        and ``_equal``, auc, low, high, p_value, n, n_groups.
    """
    keys = ["embedding", "datasets", "method"]
    values = ["auc", "low", "high", "p_value", "n", "n_groups"]
    rows = view.probes[view.probes["probe"] == probe]
    parts = []
    for _, part in rows.groupby(keys[:2], sort=False):
        found = set(part["design"])
        chosen = design if design in found else next(iter(part["design"]))
        parts.append(part[part["design"] == chosen].drop_duplicates([*keys, "mix"]))
    table = pd.concat(parts) if parts else rows
    base = table[[*keys, "design"]].drop_duplicates(keys)
    for mix in ("raw", "equal"):
        side = table.loc[table["mix"] == mix, [*keys, *values]]
        base = base.merge(side.rename(columns={v: f"{v}_{mix}" for v in values}), how="left")
    order = {name: i for i, name in enumerate(view.used_methods)}
    rank = base["method"].map(order).astype(float)
    return base.loc[rank.sort_values(kind="stable").index].reset_index(drop=True)


@once
def class_drops(view: View) -> pd.DataFrame:
    """Return for each label what is lost by training on another dataset.

    Returns
    -------
    pd.DataFrame
        Columns embedding, train_set, test_set, instrument, method, mode,
        within, cross, drop, n_train_within, n_train_cross.  `within` is
        the uncorrected classifier trained on the dataset that it is tested on;
        `drop` = within - cross.
    """
    on = ["embedding", "test_set", "instrument"]
    rows = view.transfer.drop_duplicates([*on, "train_set", "method", "mode"])
    rows = rows[(rows["method"] != ORIGINAL) | ~rows.duplicated([*on, "train_set", "method"])]
    same = rows["train_set"] == rows["test_set"]
    values = ["roc_auc", "n_train"]
    within = rows.loc[same & (rows["method"] == ORIGINAL), [*on, *values]]
    cross = rows.loc[~same, [*on, "train_set", "method", "mode", *values]]
    table = cross.rename(columns={"roc_auc": "cross", "n_train": "n_train_cross"}).merge(
        within.rename(columns={"roc_auc": "within", "n_train": "n_train_within"}),
        on=on,
        how="left",
    )
    table["drop"] = table["within"] - table["cross"]
    return table


@once
def drops(view: View) -> pd.DataFrame:
    """Return the uncorrected transfer drop of each pair, mean over labels.

    Returns
    -------
    pd.DataFrame
        Columns embedding, train_set, test_set, within, cross, drop, low, high
        (of the drop), p_value, n_labels, n_groups, n_down (labels that lose),
        worst (label), worst_drop, n_train_within and n_train_cross (training
        clips of the two classifiers, mean over labels).
    """
    keys, sizes = ["embedding", "train_set", "test_set"], ["n_train_within", "n_train_cross"]
    rows = view.drops[view.drops["method"] == ORIGINAL].drop_duplicates(keys)
    rows = rows.rename(columns={"across": "cross"})
    table = class_drops(view)
    table = table[(table["method"] == ORIGINAL) & table["drop"].notna()]
    found: list[dict[str, Any]] = []
    for key, part in table.groupby(keys, sort=False):
        worst = largest(part, "drop")
        found.append(
            {
                **{name: str(value) for name, value in zip(keys, key, strict=True)},
                "n_down": int((part["drop"] > 0).sum()),
                "worst": worst["instrument"],
                "worst_drop": worst["drop"],
                **{size: float(part[size].mean()) for size in sizes},
            }
        )
    labels = pd.DataFrame(found, columns=[*keys, "n_down", "worst", "worst_drop", *sizes])
    return rows.merge(labels, on=keys, how="inner").reset_index(drop=True)


@once
def cells(view: View) -> pd.DataFrame:
    """Return the positives of each dataset, genre and label; genre '' is not known.

    A dataset has no cells of genres where it knows none of its clips' genres,
    and none of an unknown genre where it knows them all.

    Returns
    -------
    pd.DataFrame
        Columns dataset, genre, label, n_positive, has_genres (of the dataset).
    """
    keys = ["dataset", "genre", "label"]
    sums = view.distribution.groupby(keys, sort=False, as_index=False)
    table = sums[["n_annotated", "n_positive"]].sum()
    some = table[table[["n_annotated", "n_positive"]].gt(0).any(axis=1)]
    known = table["dataset"].isin(some.loc[some["genre"] != "", "dataset"])
    unknown = table["dataset"].isin(some.loc[some["genre"] == "", "dataset"])
    lines = table.assign(has_genres=known)
    keep = (known & (table["genre"] != "")) | ((unknown | ~known) & (table["genre"] == ""))
    return lines.loc[keep, [*keys, "n_positive", "has_genres"]].reset_index(drop=True)


@once
def changes(view: View, *, within: bool = False) -> pd.DataFrame:
    """Return the paired changes between different datasets, read strictly.

    A change is 'better' or 'worse' only if its interval leaves out zero and
    its Holm-adjusted p is below 0.05.  With `within`, the changes of training
    and testing on the same dataset instead.

    Returns
    -------
    pd.DataFrame
        The columns of `comparisons` plus reading and recovered, the share of
        the uncorrected drop that the method takes back (NaN where the drop is
        below one point or not known).
    """
    rows = view.comparisons
    same = rows["train_set"] == rows["test_set"]
    rows = rows[(same == within) & (rows["method"] != ORIGINAL)].copy()
    order = {pair: i for i, pair in enumerate(view.pairs())}
    place = [order.get(pair, 0) for pair in zip(rows["train_set"], rows["test_set"], strict=True)]
    rows = rows.iloc[np.argsort(place, kind="stable")]
    covers = (rows["low"] <= 0) & (rows["high"] >= 0)
    unsure = rows["p_holm"] >= LEVEL
    unknown = rows[["delta", "low", "high"]].isna().any(axis=1)
    side = np.where(rows["delta"] > 0, BETTER, WORSE)
    reading = np.where(unknown, UNKNOWN, np.where(covers | unsure, SAME, side))
    rows["reading"] = pd.Series(reading, index=rows.index, dtype=object)
    keys = ["embedding", "train_set", "test_set"]
    rows = rows.merge(drops(view)[[*keys, "drop"]], on=keys, how="left")
    drop = pd.to_numeric(rows["drop"], errors="coerce")
    rows["recovered"] = rows["delta"] / drop.where(drop >= _SMALLEST_DROP)
    return rows
