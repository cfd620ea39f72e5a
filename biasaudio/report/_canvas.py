"""Drawing without pyplot: colors, facets, labels that do not clip, SVG text."""

from __future__ import annotations

import io
import re
import warnings
from collections.abc import Iterable
from typing import Any

import numpy as np
import pandas as pd
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.backends.backend_svg import FigureCanvasSVG
from matplotlib.figure import Figure
from numpy.typing import NDArray

from biasaudio.report.view import ORIGINAL, Sight, View, variant

__all__ = [
    "BLUE",
    "GRAY",
    "INK",
    "MUTED",
    "ORANGE",
    "PAPER",
    "RULE",
    "Key",
    "Who",
    "blank",
    "color_of",
    "facets",
    "fitted",
    "keys",
    "legend",
    "marker_of",
    "panels_of",
    "plain",
    "rank",
    "reference",
    "rows_of",
    "spread",
    "style",
    "svg",
    "value",
    "variants",
]

# Blue and vermilion of Okabe and Ito, which stay apart for color-blind readers;
# the page swaps these exact values for its own variables in the dark.
INK, MUTED, RULE, PAPER = "#1d2126", "#5a626c", "#d5d9df", "#fffffe"
BLUE, ORANGE, GRAY = "#0072b2", "#c1500a", "#767d86"
_FACE = {Sight.FREE: BLUE, Sight.LABELS: ORANGE, Sight.UNDECLARED: GRAY}
_MARK = {Sight.FREE: "o", Sight.LABELS: "s", Sight.UNDECLARED: "^"}
_LONGEST = 26
Key = tuple[str, str, str, bool]
# A method and the mode it was fitted in.
Who = tuple[str, str]


def plain(text: str, longest: int = _LONGEST) -> str:
    """Return a name that is drawn as it is: no mathematics, not too long."""
    if len(text) > longest:
        half = (longest - 1) // 2
        text = f"{text[:half]}\N{HORIZONTAL ELLIPSIS}{text[-half:]}"
    return text.replace("$", r"\$")


def fitted(names: Iterable[str], columns: int, joint: str = ", ") -> str:
    """Return names on one line that fits over a panel, as wide as columns allow."""
    names = list(names)
    room = {1: 84, 2: 42}.get(columns, 27) - len(joint) * (len(names) - 1)
    return joint.join(plain(name, max(8, room // len(names))) for name in names)


def color_of(view: View, method: str, mode: str = "") -> str:
    """Return the color that says what a method was allowed to see."""
    return INK if method == ORIGINAL else _FACE[view.sight(method, mode)]


def marker_of(view: View, method: str, mode: str = "") -> str:
    """Return the marker that says the same without color."""
    return "D" if method == ORIGINAL else _MARK[view.sight(method, mode)]


def facets(
    n: int, *, height: float, columns: int = 2, width: float = 8.6
) -> tuple[Figure, NDArray[Any]]:
    """Return a figure and its n axes in a grid with shared axes.

    Parameters
    ----------
    n : int
        How many panels.
    height : float
        Inches a panel.
    columns : int
        The most panels side by side.
    width : float
        Inches of the figure.
    """
    columns = min(columns, n)
    lines = -(-n // columns)
    figure = Figure(figsize=(width, 0.5 + lines * height), facecolor=PAPER)
    FigureCanvasSVG(figure)
    figure.set_layout_engine("constrained", h_pad=0.08, w_pad=0.06, hspace=0.04, wspace=0.03)
    grid = figure.subplots(lines, columns, squeeze=False, sharey=True)
    for ax in grid.flat[n:]:
        ax.remove()
    return figure, grid.flat[:n]


def style(ax: Axes, title: str) -> None:
    """Give a panel its title, thin rules and no box."""
    ax.set_title(title, loc="left", fontsize=9.5, color=INK, pad=17)
    ax.set_facecolor("none")
    for side in ("top", "right", "left"):
        ax.spines[side].set_visible(False)
    ax.spines["bottom"].set_color(RULE)
    ax.tick_params(axis="both", length=0, labelsize=8.5, colors=MUTED, labelcolor=INK)
    ax.tick_params(axis="x", labelcolor=MUTED)
    ax.xaxis.label.set(color=MUTED, fontsize=8.5)
    ax.yaxis.label.set(color=MUTED, fontsize=8.5)


def legend(figure: Figure, entries: list[Key]) -> None:
    """Write (text, color, marker, is filled) keys on one line above the panels."""
    handles = [
        Axes.plot(
            figure.axes[0],
            [],
            [],
            linestyle="none",
            marker=mark,
            color=color,
            markerfacecolor=color if filled else PAPER,
            markersize=5.5,
            label=text,
        )[0]
        for text, color, mark, filled in entries
    ]
    figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=len(handles) if len(handles) < 6 else 3,
        frameon=False,
        fontsize=8.5,
        labelcolor=INK,
        handletextpad=0.2,
        columnspacing=1.6,
        borderaxespad=0.2,
    )


def blank() -> Figure:
    """Return a figure without axes: there is nothing to draw."""
    return Figure(figsize=(1, 1), facecolor=PAPER)


def rank(view: View, method: str, mode: str = "") -> tuple[int, int]:
    """Return the place of a method: by what it saw, then in order."""
    sights = (ORIGINAL, *Sight.ALL)
    sight = ORIGINAL if method == ORIGINAL else view.sight(method, mode)
    return sights.index(sight), view.used_methods.index(method)


def rows_of(ax: Axes, labels: list[str]) -> None:
    """Write the names of the rows, the first on top, with thin guides."""
    ax.set_yticks(range(len(labels)), [plain(label) for label in labels])
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.hlines(range(len(labels)), 0, 1, transform=ax.get_yaxis_transform(), color=RULE, lw=0.5)


def value(ax: Axes, y: float, text: str, color: str = INK) -> None:
    """Write a number right of the panel, where it covers nothing."""
    where = ax.get_yaxis_transform()
    ax.text(1.01, y, text, transform=where, va="center", ha="left", fontsize=8, color=color)


def keys(view: View, methods: Iterable[Who], *, first: str = "uncorrected") -> list[Key]:
    """Return the legend keys of what the methods were allowed to see."""
    seen = [view.sight(*who) for who in methods if who[0] != ORIGINAL]
    found = [(first, INK, "D", True)] if first else []
    return found + [(s, _FACE[s], _MARK[s], True) for s in Sight.ALL if s in seen]


def reference(
    ax: Axes, x: float, text: str, linestyle: Any = (0, (2, 2)), *, side: str = "right"
) -> None:
    """Draw a line that carries its own name, on the given side of it."""
    ax.axvline(x, color=MUTED, lw=0.9, ls=linestyle, zorder=1)
    ax.annotate(
        text,
        (x, 1.0),
        xycoords=ax.get_xaxis_transform(),
        xytext=(2 if side == "right" else -2, 1),
        textcoords="offset points",
        fontsize=7.5,
        color=MUTED,
        va="bottom",
        ha="left" if side == "right" else "right",
    )


def variants(view: View, table: pd.DataFrame) -> dict[str, Who]:
    """Return the names of the corrections, with method and mode, in the order drawn."""
    keys = dict.fromkeys(zip(table["method"], table["mode"], strict=True))
    order = sorted(keys, key=lambda key: rank(view, *key))
    return {variant(method, mode, view.modes): (method, mode) for method, mode in order}


def panels_of(frame: pd.DataFrame, *by: str) -> list[tuple[tuple[str, ...], pd.DataFrame]]:
    """Return the parts of a table that share the columns `by`, in order."""
    parts = frame.groupby(list(by), sort=False)
    return [(tuple(str(k) for k in key), rows) for key, rows in parts]


def spread(values: NDArray[np.float64], gap: float) -> NDArray[np.float64]:
    """Push sorted values in [0, 1] at least a gap apart, staying inside."""
    moved = np.array(values, dtype=float)
    gap = min(gap, 1 / max(len(moved) - 1, 1))
    for i in range(1, len(moved)):
        moved[i] = max(moved[i], moved[i - 1] + gap)
    moved -= max(0.0, moved[-1] - 1)
    for i in range(len(moved) - 2, -1, -1):
        moved[i] = min(moved[i], moved[i + 1] - gap)
    return moved


def svg(figure: Figure, name: str) -> str:
    """Return a figure as SVG, the same text for the same figure.

    Text stays text, so that it can be searched and edited; every id begins
    with `name`, so that several figures fit into one page.
    """
    settings: dict[Any, Any] = {"svg.hashsalt": f"biasaudio-{name}", "svg.fonttype": "none"}
    buffer = io.StringIO()
    with rc_context(settings), warnings.catch_warnings():
        # The text is set by the browser's fonts; that the font used to measure
        # it lacks a glyph of a user's name does no harm.
        warnings.filterwarnings("ignore", message="Glyph .* missing from font")
        figure.savefig(buffer, format="svg", metadata={"Date": None, "Creator": None})
    text = buffer.getvalue()
    text = re.sub(r'\bid="', f'id="{name}-', text)
    return re.sub(r'(url\(#|href="#)', rf"\g<1>{name}-", text)
