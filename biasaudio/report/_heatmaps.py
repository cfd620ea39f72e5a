"""Heat maps: where the clips are, and which classes lose."""

from __future__ import annotations

import math

import numpy as np
import pandas as pd
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure

from biasaudio.report import _canvas as cv
from biasaudio.report import _numbers as num
from biasaudio.report._view import AuditLike, View, arrow, variant

__all__ = ["classes", "distribution"]

Ends = tuple[float, float]


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
