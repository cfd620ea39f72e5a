"""The figures of a report: leakage, transfer, trade-off, classes and distribution."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from biasaudio._files import write_text
from biasaudio.report import _canvas as cv
from biasaudio.report import numbers as num
from biasaudio.report.view import CLASSWISE, ORIGINAL, AuditLike, View, arrow, variant

__all__ = ["FIGURES", "classes", "distribution", "leakage", "save_figures", "tradeoff", "transfer"]

Ends = tuple[float, float]


def leakage(result: AuditLike | View) -> Figure:
    """Draw how well the dataset is read after each method.

    Parameters
    ----------
    result : AuditResult

    Returns
    -------
    matplotlib.figure.Figure
        A panel an embedding and set of datasets; without axes where no
        dataset was probed.
    """
    view = View.of(result)
    table = num.leakage(view)
    panels = cv.panels_of(table, "embedding", "datasets")
    if not panels:
        return cv.blank()
    methods = sorted(dict.fromkeys(table["method"]), key=lambda m: cv.rank(view, m))
    columns = 3 if len(panels) % 3 == 0 else min(2, len(panels))
    figure, axes = cv.facets(len(panels), height=0.62 + 0.235 * len(methods), columns=columns)
    known = table[["low_raw", "low_equal"]].min().min()
    for ax, ((name, sets), rows) in zip(axes, panels, strict=True):
        cv.style(ax, f"{cv.plain(name)}\n{cv.fitted(sets.split(' + '), columns)}")
        cv.rows_of(ax, methods)
        for _, row in rows.iterrows():
            y, color = methods.index(row["method"]), cv.color_of(view, row["method"])
            kwargs = {"color": color, "marker": cv.marker_of(view, row["method"]), "ms": 5}
            ax.plot(row["auc_raw"], y, mfc=cv.PAPER, zorder=2, ls="none", **kwargs)
            if not math.isnan(row["auc_equal"]):
                ax.hlines(y, row["low_equal"], row["high_equal"], color=color, lw=1.4, zorder=2)
                ax.plot(row["auc_equal"], y, zorder=3, ls="none", **kwargs)
            best = row["auc_raw"] if math.isnan(row["auc_equal"]) else row["auc_equal"]
            cv.value(ax, y, num.auc(best), color)
        ax.set_xlim(min(0.45, known - 0.02 if known == known else 0.45), 1.005)
        cv.reference(ax, 0.5, "chance")
        ax.set_xlabel("dataset ROC-AUC, three-way split")
    mixes = [
        ("hollow: all clips", cv.MUTED, "o", False),
        ("filled: equal class mix", cv.MUTED, "o", True),
    ]
    cv.legend(figure, [*cv.keys(view, [(m, "") for m in methods]), *mixes])
    return figure


def transfer(result: AuditLike | View) -> Figure:
    """Draw the mean ROC-AUC of each pair before and after each correction.

    Parameters
    ----------
    result : AuditResult

    Returns
    -------
    matplotlib.figure.Figure
        A panel an embedding and train and test pair; without axes where there
        is no comparison.
    """
    view = View.of(result)
    table = num.changes(view).dropna(subset=["after"])
    panels = cv.panels_of(table, "embedding", "train_set", "test_set")
    if not panels:
        return cv.blank()
    labels = cv.variants(view, table)
    figure, axes = cv.facets(len(panels), height=0.66 + 0.235 * len(labels))
    lost = num.drops(view).set_index(["embedding", "train_set", "test_set"])["within"].to_dict()
    for ax, (key, rows) in zip(axes, panels, strict=True):
        name, train, test = key
        cv.style(ax, f"{cv.plain(name)}\n{cv.fitted((train, test), 2, arrow('', ''))}")
        cv.rows_of(ax, list(labels))
        before = float(rows["before"].iloc[0])
        within = lost.get(key, math.nan)
        # The two names grow away from one another, however close their lines are.
        cv.reference(ax, before, "before", side="left" if within >= before else "right")
        if not math.isnan(within):
            side = "right" if within >= before else "left"
            cv.reference(ax, within, "own dataset", "-", side=side)
        for _, row in rows.iterrows():
            y = list(labels).index(variant(row["method"], row["mode"], view.modes))
            color = cv.color_of(view, row["method"], row["mode"])
            ax.hlines(y, before, row["after"], color=color, lw=3.2, alpha=0.28, zorder=2)
            ax.hlines(y, before + row["low"], before + row["high"], color=color, lw=1.2, zorder=3)
            mark = cv.marker_of(view, row["method"], row["mode"])
            sure = row["reading"] in (num.BETTER, num.WORSE)
            face = color if sure else cv.PAPER
            ax.plot(row["after"], y, mark, color=color, mfc=face, ms=5, zorder=4)
            cv.value(ax, y, num.points(row["delta"]).replace("-", "\N{MINUS SIGN}"), color)
        ax.set_xlabel("mean ROC-AUC; right: change in points")
        ax.margins(x=0.06)
    note = [("hollow: no measurable change", cv.MUTED, "o", False)]
    cv.legend(figure, [*cv.keys(view, labels.values(), first=""), *note])
    return figure


def distribution(result: AuditLike | View) -> Figure:
    """Draw the number of positives by dataset, genre and class.

    Parameters
    ----------
    result : AuditResult

    Returns
    -------
    matplotlib.figure.Figure
        A panel a dataset; without axes where the table is empty.
    """
    view = View.of(result)
    counts = num.cells(view)
    panels = cv.panels_of(counts, "dataset")
    if not panels:
        return cv.blank()
    genres = list(dict.fromkeys(counts["genre"]))
    labels = list(dict.fromkeys(counts["label"]))
    figure, axes = cv.facets(len(panels), height=1.1 + 0.3 * len(genres), columns=1)
    top = counts["n_positive"].max()
    blues = sns.light_palette(cv.BLUE, as_cmap=True)
    for ax, ((name,), rows) in zip(axes, panels, strict=True):
        grid = rows.pivot_table("n_positive", "genre", "label", aggfunc="sum")
        grid = grid.reindex(index=genres, columns=labels).rename(index={"": "not known"})
        text = grid.map(lambda n: "" if math.isnan(n) else f"{n:.0f}" if n else "empty")
        logs = grid.where(grid > 0).map(math.log1p)
        _heat(ax, logs, text, blues, (0.0, math.log1p(max(top, 1))))
        ax.set_title(f"{cv.plain(name)}: positive clips", loc="left", fontsize=9.5, color=cv.INK)
    return figure


def _heat(
    ax: Axes, grid: pd.DataFrame, text: pd.DataFrame, colors: LinearSegmentedColormap, ends: Ends
) -> None:
    """Draw a heat map with a number in every cell and slanted names below."""
    low, high = ends
    values = np.ma.masked_invalid(grid.to_numpy(dtype=float))
    ax.pcolormesh(values, cmap=colors, vmin=low, vmax=high, edgecolors=cv.PAPER, linewidth=1)
    for (y, x), value in np.ndenumerate(grid.to_numpy(dtype=float)):
        # Cells keep their color on a dark page, and so must the number in them.
        color = cv.INK
        if not math.isnan(value):
            shade = colors((value - low) / (high - low))[:3]
            color = "#262626" if np.dot(shade, (0.2126, 0.7152, 0.0722)) > 0.45 else "#ffffff"
        words = str(text.iat[y, x])
        ax.text(x + 0.5, y + 0.5, words, color=color, ha="center", va="center", fontsize=7.5)
    ax.set_xticks(np.arange(grid.shape[1]) + 0.5, [cv.plain(str(n)) for n in grid.columns])
    ax.set_yticks(np.arange(grid.shape[0]) + 0.5, [cv.plain(str(n)) for n in grid.index])
    ax.set_ylim(grid.shape[0], 0)
    ax.set_facecolor("none")
    ax.spines[:].set_visible(False)
    ax.tick_params(length=0, labelsize=8.5, labelcolor=cv.INK)
    for label in ax.get_xticklabels():
        label.set(rotation=35, ha="right", rotation_mode="anchor")


def _whole(value: float) -> str:
    text = "" if math.isnan(value) else f"{round(value) + 0:.0f}"
    return text.replace("-", "\N{MINUS SIGN}")


def classes(result: AuditLike | View) -> Figure:
    """Draw what each class loses across datasets, before and after.

    Parameters
    ----------
    result : AuditResult

    Returns
    -------
    matplotlib.figure.Figure
        A panel an embedding and pair; a cell is the ROC-AUC within the test
        set (uncorrected) less the one across, in points.
    """
    view = View.of(result)
    table = num.class_drops(view).dropna(subset=["drop"])
    panels = cv.panels_of(table, "embedding", "train_set", "test_set")
    if not panels:
        return cv.blank()
    names = cv.variants(view, table)
    labels = list(dict.fromkeys(table["instrument"]))
    wide = 1 if len(names) > 9 else 2
    figure, axes = cv.facets(len(panels), height=1.35 + 0.24 * len(labels), columns=wide)
    limit = max(1.0, float(100 * table["drop"].abs().quantile(0.98)))
    for ax, ((name, train, test), rows) in zip(axes, panels, strict=True):
        who = [variant(m, o, view.modes) for m, o in zip(rows["method"], rows["mode"], strict=True)]
        grid = 100 * rows.assign(who=who).pivot_table("drop", "instrument", "who", "first")
        grid = grid.reindex(index=labels, columns=list(names))
        text = grid.map(_whole)
        _heat(ax, grid, text, sns.color_palette("vlag", as_cmap=True), (-limit, limit))
        title = f"{cv.plain(name)}\n{cv.fitted((train, test), wide, arrow('', ''))}"
        ax.set_title(title, loc="left", fontsize=9.5, color=cv.INK)
    return figure


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


FIGURES: dict[str, Callable[[AuditLike | View], Figure]] = {
    "leakage": leakage,
    "transfer": transfer,
    "tradeoff": tradeoff,
    "classes": classes,
    "distribution": distribution,
}


def save_figures(result: AuditLike | View, folder: str | os.PathLike[str]) -> list[Path]:
    """Write ``figures/<name>.svg`` for every figure that has something to show.

    Parameters
    ----------
    result : AuditResult
    folder : path
        Where the folder ``figures`` is made.

    Returns
    -------
    list of Path
        The files written.
    """
    view = View.of(result)
    target = Path(folder) / "figures"
    target.mkdir(parents=True, exist_ok=True)
    written = []
    for name, draw in FIGURES.items():
        figure = draw(view)
        if figure.axes:
            path = target / f"{name}.svg"
            write_text(path, cv.svg(figure, name))
            written.append(path)
    return written
