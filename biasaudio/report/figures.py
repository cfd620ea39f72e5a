"""The figures of a report: drawn object by object, the same every time."""

from __future__ import annotations

import math
import os
from collections.abc import Callable
from pathlib import Path

from matplotlib.figure import Figure

from biasaudio.report import _canvas as cv
from biasaudio.report import _numbers as num
from biasaudio.report._heatmaps import classes, distribution
from biasaudio.report._tradeoff import tradeoff
from biasaudio.report._view import AuditLike, View, arrow, variant

__all__ = [
    "FIGURES",
    "classes",
    "distribution",
    "leakage",
    "save_figures",
    "tradeoff",
    "transfer",
]


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
            partial = path.with_name(path.name + ".partial")
            partial.write_text(cv.svg(figure, name), encoding="utf-8")
            os.replace(partial, path)
            written.append(path)
    return written
