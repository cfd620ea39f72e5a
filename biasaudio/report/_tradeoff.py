"""Leakage against transfer: one point a correction."""

from __future__ import annotations

from typing import Any

import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from biasaudio.report import _canvas as cv
from biasaudio.report import _numbers as num
from biasaudio.report._view import CLASSWISE, ORIGINAL, AuditLike, View, arrow, variant

__all__ = ["tradeoff"]


def tradeoff(result: AuditLike | View) -> Figure:
    """Draw leakage against the change of transfer, a point a correction.

    Parameters
    ----------
    result : AuditResult

    Returns
    -------
    matplotlib.figure.Figure
        A panel an embedding and pair; right and down is bad, left and up is
        good.  Without axes where leakage and transfer do not meet.
    """
    view = View.of(result)
    both = _joined(view)
    panels = cv.panels_of(both, "embedding", "train_set", "test_set")
    if not panels:
        return cv.blank()
    figure, axes = cv.facets(len(panels), height=max(2.5, 0.7 + 0.2 * _most(panels)))
    for ax, ((name, train, test), rows) in zip(axes, panels, strict=True):
        cv.style(ax, f"{cv.plain(name)}\n{cv.fitted((train, test), 2, arrow('', ''))}")
        ax.axhline(0, color=cv.MUTED, lw=0.9)
        for _, row in rows.iterrows():
            color, y = cv.color_of(view, row["method"], row["mode"]), 100 * row["delta"]
            ends = [100 * row["low"], 100 * row["high"]]
            ax.vlines(row["auc"], *ends, color=color, lw=0.9, alpha=0.55)
            ax.hlines(y, row["auc_low"], row["auc_high"], color=color, lw=0.9, alpha=0.55)
            ax.plot(
                row["auc"], y, cv.marker_of(view, row["method"], row["mode"]), color=color, ms=5
            )
        ax.set_xlim(min(0.46, rows["auc_low"].min() - 0.02), 1.01)
        cv.reference(ax, 0.5, "chance")
        _names(ax, view, rows)
        ax.axvline(rows["auc_before"].iloc[0], color=cv.INK, lw=0.9, ls=(0, (1, 2)))
        ax.set_xlabel("dataset ROC-AUC (dotted: uncorrected)")
        if ax.get_subplotspec().is_first_col():
            ax.set_ylabel("change of transfer, points")
    cv.legend(figure, cv.keys(view, cv.variants(view, both).values(), first=""))
    return figure


def _most(panels: list[Any]) -> int:
    return max(len(rows) for _, rows in panels)


def _joined(view: View) -> pd.DataFrame:
    """Return each change of transfer with the leakage of the same datasets."""
    leak = num.leakage(view)
    for end in ("auc", "low", "high"):
        leak[end] = leak[f"{end}_equal"].fillna(leak[f"{end}_raw"])
    leak = leak[["embedding", "datasets", "method", "auc", "low", "high"]]
    leak = leak.rename(columns={"low": "auc_low", "high": "auc_high"})
    first = leak[leak["method"] == ORIGINAL].rename(columns={"auc": "auc_before"})
    leak = leak.merge(first[["embedding", "datasets", "auc_before"]])
    pairs = [
        {"datasets": name, "train_set": train, "test_set": test}
        for name, of_set in view.blocks()
        for train, test in of_set
    ]
    place = pd.DataFrame(pairs, columns=["datasets", "train_set", "test_set"])
    moved = num.changes(view)
    # The probes are of the global correction, so classwise has no leakage to draw.
    moved = moved[moved["mode"] != CLASSWISE]
    both = moved.merge(place).merge(leak, on=["embedding", "datasets", "method"])
    return both.dropna(subset=["auc", "delta"])


def _names(ax: Axes, view: View, rows: pd.DataFrame) -> None:
    """Name each point in the right margin, with a thin line from point to name."""
    low, high = ax.get_ylim()
    rows = rows.sort_values("delta", kind="stable")
    heights = (100 * rows["delta"].to_numpy() - low) / (high - low)
    for (_, row), y in zip(rows.iterrows(), cv.spread(heights, 0.085), strict=True):
        color = cv.color_of(view, row["method"], row["mode"])
        label = cv.plain(variant(row["method"], row["mode"], view.modes))
        ax.annotate(
            label,
            xy=(row["auc"], 100 * row["delta"]),
            xytext=(1.04, y),
            textcoords="axes fraction",
            fontsize=8,
            color=color,
            va="center",
            arrowprops={"arrowstyle": "-", "color": color, "lw": 0.5, "alpha": 0.5, "shrinkB": 3},
        )
