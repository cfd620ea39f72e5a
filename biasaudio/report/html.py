"""One self-contained page: the verdict first, then what it rests on."""

from __future__ import annotations

import os
import re
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader
from markupsafe import Markup

from biasaudio._files import write_text
from biasaudio.report import _canvas as cv
from biasaudio.report import figures, tables, text
from biasaudio.report.tables import Table
from biasaudio.report.view import ORIGINAL, AuditLike, Sight, View, variant

__all__ = ["notebook_html", "render_html", "write_html"]

# A figure on the page takes its inks from the page, so that it follows the dark.
_INKS = {
    cv.INK: "ink",
    cv.MUTED: "muted",
    cv.RULE: "rule",
    cv.PAPER: "paper",
    cv.BLUE: "blue",
    cv.ORANGE: "orange",
    cv.GRAY: "gray",
}
_TONES = {
    "readable": "bad",
    "drop": "bad",
    "worse": "bad",
    "not readable": "good",
    "better": "good",
    "recommended": "good",
    "better and worse": "warn",
    "weak cells": "warn",
    "constant": "warn",
    "warnings": "warn",
}
_CAPTIONS = {
    "leakage": "How well the dataset can be read after each method, by a probe that saw neither "
    "the clips the correction was fitted on nor those it is scored on. Bars are 95% intervals.",
    "transfer": "Mean ROC-AUC over classes, before and after each correction. Thin bars are 95% "
    "intervals of the change; the solid line is the score of training on the test set's own "
    "dataset.",
    "tradeoff": "Leakage against transfer. Up and to the left is better: the dataset is harder "
    "to read and transfer has gained. Bars are 95% intervals.",
    "classes": "Points of ROC-AUC that each class loses when the training data come from the "
    "other dataset, uncorrected and after each correction; blue is a gain, red a loss.",
    "distribution": "Positive clips by genre and class; darker is more, on a logarithmic scale.",
}
_SEES = {
    "sees_source_labels": "labels of the source",
    "sees_target_clips": "clips of the target",
    "sees_target_labels": "labels of the target",
    "domain_at_transform": "the dataset of each clip, when applied",
}
_NUMBER = re.compile(r"^[-+<\d\N{MINUS SIGN}\N{EN DASH}]")


def _svg(name: str, drawn: str, alt: str) -> Markup:
    """Return a figure to stand inside the page, with its alternative text."""
    drawn = drawn[drawn.index("<svg") :]
    drawn = re.sub(r"<metadata>.*?</metadata>", "", drawn, flags=re.DOTALL)
    drawn = re.sub(r"<defs>\s*<style.*?</style>\s*</defs>", "", drawn, flags=re.DOTALL)
    for ink, variable in _INKS.items():
        drawn = drawn.replace(ink, f"var(--{variable})")
    head = Markup('<svg role="img" aria-label="{}" ').format(alt)
    drawn = re.sub(r'(<svg[^>]*?) height="[^"]*"', r"\1", drawn, count=1)
    drawn = re.sub(r'(<svg[^>]*?) width="[^"]*"', r"\1", drawn, count=1)
    # matplotlib has escaped every text in it.
    return head + Markup(drawn[len("<svg ") :])


def _figures(view: View, alts: dict[str, str]) -> dict[str, dict[str, Any]]:
    found = {}
    for name, draw in figures.FIGURES.items():
        figure = draw(view)
        if figure.axes:
            drawn = _svg(name, cv.svg(figure, name), alts.get(name) or _CAPTIONS[name])
            n = len(figure.axes)
            found[name] = {"svg": drawn, "caption": _CAPTIONS[name], "panels": n}
    return found


def _alts(findings: list[text.Finding]) -> dict[str, str]:
    """Return the alternative text of each figure: what the numbers in it say."""
    topics = {
        "leakage": ("Dataset ROC-AUC by method. ", {"domain", "summary"}),
        "transfer": ("Transfer before and after each method. ", {"drop", "summary"}),
        "tradeoff": ("Leakage against change of transfer. ", {"summary"}),
        "classes": ("Loss of each class across datasets. ", {"classes"}),
        "distribution": ("Positive clips by dataset, genre and class. ", {"certainty"}),
    }
    return {
        name: start + " ".join(f.answer for f in findings if f.topic in wanted)
        for name, (start, wanted) in topics.items()
    }


def _split(cell: str) -> tuple[str, str]:
    """Return a number and what follows it in brackets, or the text alone."""
    found = re.match(r"^(\S+) ([\[(].*)$", cell)
    if not found or not _NUMBER.match(cell):
        return cell, ""
    return found.group(1), re.sub(r"^\((.*)\)$", r"\1", found.group(2))


def _sheet(table: Table) -> dict[str, Any]:
    """Return a table as the template walks through it."""
    frame, tones = table.frame, table.tones
    is_text = [
        any(cell and not _NUMBER.match(cell) for cell in frame.iloc[:, i])
        for i in range(frame.shape[1])
    ]
    columns = [(str(column[0]), str(column[1])) for column in frame.columns]
    tops: list[list[Any]] = []
    for top, _ in columns:
        if tops and tops[-1][0] == top:
            tops[-1][1] += 1
        else:
            tops.append([top, 1])
    groups: list[tuple[str, list[Any]]] = []
    names: list[tuple[str, str]] = list(frame.index)
    for (title, name), cells, inks in zip(names, frame.to_numpy(), tones.to_numpy(), strict=True):
        if not groups or groups[-1][0] != title:
            groups.append((title, []))
        row = [
            (*_split(c), t, is_text[i]) for i, (c, t) in enumerate(zip(cells, inks, strict=True))
        ]
        groups[-1][1].append((name, row))
    return {
        "caption": table.caption,
        "stub": table.stub,
        "tops": tops if any(top for top, _ in tops) else [],
        "head": [(name, is_text[i]) for i, (_, name) in enumerate(columns)],
        "groups": groups,
        "starts": [i for i in range(1, len(columns)) if columns[i][0] != columns[i - 1][0]],
        "width": frame.shape[1] + 1,
    }


def _some(table: Table) -> dict[str, Any] | None:
    return _sheet(table) if len(table) else None


def _cards(view: View, findings: list[text.Finding]) -> list[dict[str, Any]]:
    cards, did = [], [f for f in findings if f.topic == "method"]
    for sight in Sight.ALL:
        for method in view.used_methods:
            tried = [mode for name in view.embeddings for mode in view.modes_of(name, method)]
            modes = [m for m in dict.fromkeys(tried) if view.sight(method, m) == sight]
            if method == ORIGINAL or not modes:
                continue
            rows = view.methods[view.methods["method"] == method].to_dict("records")
            allowed = view.allowed(method, modes[0])
            cards.append(
                {
                    "name": " / ".join(variant(method, mode, view.modes) for mode in modes),
                    "about": rows[0] if rows else {},
                    "sight": sight,
                    "sees": [(what, allowed[key]) for key, what in _SEES.items()],
                    "did": [f for f in did if f.method == method and f.mode in modes],
                }
            )
    return cards


def _environment() -> Environment:
    found = Environment(
        loader=PackageLoader("biasaudio.report"),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters["minus"] = lambda answer: re.sub(r"(?<!\w)-(?=\d)", "\N{MINUS SIGN}", answer)
    found.filters["setting"] = _setting
    found.filters["tone"] = lambda status: _TONES.get(status, "quiet")
    return found


def _setting(value: object) -> str:
    """Return a value of the settings in words: lists and mappings without their brackets."""
    if isinstance(value, dict):
        return ", ".join(f"{key}: {_setting(item)}" for key, item in value.items())
    if isinstance(value, (list, tuple)):
        return ", ".join(_setting(item) for item in value)
    return str(value)


def render_html(result: AuditLike | View) -> str:
    """Return the report as one page that opens offline and needs no script.

    Parameters
    ----------
    result : AuditResult

    Returns
    -------
    str
        The same text for the same result.

    Raises
    ------
    DataError
        If a table of the result is absent or lacks a column.
    """
    view = View.of(result)
    findings = text.verdict(view)
    style = resources.files("biasaudio.report").joinpath("templates/report.css")
    by_question = {
        question: [f for f in findings if f.question == question and f.topic != "method"]
        for question in text.QUESTIONS.values()
    }
    printed = {
        "overview": [_sheet(table) for table in tables.overview(view)],
        "per_class": [_sheet(table) for table in tables.per_class(view)],
        "costs": _some(tables.costs(view)),
        "distribution": _some(tables.distribution(view)),
        "dropped": _some(tables.dropped(view)),
        "probes": _some(tables.probes(view)),
        "each_value": _some(tables.values(view)),
    }
    page = _environment().get_template("report.html.j2")
    return page.render(
        # The style sheet is part of the package.
        css=Markup(style.read_text(encoding="utf-8")),
        meta=view.meta,
        title=_title(view),
        headline=text.headline(view),
        questions=by_question,
        planted=text.planted(view),
        tables=printed,
        figures=_figures(view, _alts(findings)),
        cards=_cards(view, findings),
        has_transfer=bool(view.pairs()),
        embeddings=view.embeddings,
        datasets=view.datasets,
    )


def notebook_html(result: AuditLike | View) -> str:
    """Return the verdict in short and the overview, to stand in a notebook.

    Parameters
    ----------
    result : AuditResult

    Returns
    -------
    str
        A fragment of HTML with its own style, without figures.
    """
    view = View.of(result)
    return (
        _environment()
        .get_template("notebook.html.j2")
        .render(
            title=_title(view),
            synthetic=bool(view.meta.get("synthetic")),
            headline=text.headline(view),
            overview=[_sheet(table) for table in tables.overview(view)],
        )
    )


def _title(view: View) -> str:
    return str(view.meta.get("title") or "Audit of audio embeddings")


def write_html(result: AuditLike | View, path: str | os.PathLike[str]) -> Path:
    """Write the report page; a failed write leaves an older page untouched.

    Parameters
    ----------
    result : AuditResult
    path : path
        Where the page goes; missing folders are made.

    Returns
    -------
    Path
    """
    page = render_html(result)
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    write_text(target, page)
    return target
