"""The verdict of an audit in plain sentences, for the page and the terminal."""

from __future__ import annotations

import textwrap

from biasaudio.report import numbers as num
from biasaudio.report.findings import (
    QUESTIONS,
    RULE,
    Finding,
    about_bias,
    about_certainty,
    about_choice,
    about_corrections,
    about_cost,
    about_origin,
    at_mix,
    best_mix,
    cost,
    judge,
    listing,
    uncorrected,
)
from biasaudio.report.view import AuditLike, Sight, View, once, variant

__all__ = ["QUESTIONS", "RULE", "Finding", "headline", "planted", "summary", "verdict"]

_WIDTH = 79


def verdict(result: AuditLike | View) -> list[Finding]:
    """Answer the six questions of an audit, each in plain sentences.

    Every number comes from the tables of the result.  A change whose interval
    covers zero, or whose Holm-adjusted p is 0.05 or more, is called "no
    measurable change".

    Parameters
    ----------
    result : AuditResult
        Anything with its tables and `meta`.

    Returns
    -------
    list of Finding
        In the order of `QUESTIONS`; at least one for each question but
        'certainty' and 'origin', which may have nothing to say.

    Raises
    ------
    DataError
        If a table is absent or lacks a column.

    Examples
    --------
    >>> import biasaudio
    >>> from biasaudio.datasets.synthetic import make_domains
    >>> table, _ = make_domains(n=300, d=8, n_labels=2, random_state=0)
    >>> result = biasaudio.audit(table, methods=["leace"], n_permutations=20, n_resamples=50)
    >>> verdict(result)[0].status
    'readable'
    """
    return _verdict(View.of(result))


@once
def _verdict(view: View) -> list[Finding]:
    parts = (
        about_bias,
        about_cost,
        about_certainty,
        about_origin,
        about_corrections,
        about_choice,
    )
    return [finding for part in parts for finding in part(view)]


def headline(result: AuditLike | View) -> list[str]:
    """Say in a few short sentences: is it biased, what it costs, what to use.

    Parameters
    ----------
    result : AuditResult

    Returns
    -------
    list of str
        Without what was not measured.
    """
    view = View.of(result)
    findings = verdict(view)
    found = []
    for topic, what in (("domain", "Dataset identity"), ("genre", "Genre")):
        table = uncorrected(view, topic)
        if len(table):
            sides = [at_mix(row, best_mix(row)) for _, row in table.iterrows()]
            sizes = sorted(float(side["auc"]) for side in sides)
            size = " to ".join(dict.fromkeys([num.auc(sizes[0]), num.auc(sizes[-1])]))
            if len(sides) == 1:
                size = f"{size} {num.interval(sides[0]['low'], sides[0]['high'])}".strip()
            where = _where(findings, topic, "readable")
            found.append(f"{what} {where} (ROC-AUC {size}, chance 0.5).")
    drops = num.drops(view)["drop"]
    if len(drops):
        found.append(f"Training on another dataset {cost(drops)}.")
    return found + _picks(view, findings)


def _where(findings: list[Finding], topic: str, yes: str) -> str:
    rows = [f for f in findings if f.topic == topic]
    names = list(dict.fromkeys(f.embedding for f in rows if f.status == yes))
    others = [n for n in dict.fromkeys(f.embedding for f in rows) if n not in names]
    if not names:
        return f"cannot be shown to be readable from {listing(others)}"
    not_from = f", but not shown to be from {listing(others)}" if others else ""
    return f"is readable from {listing(names)}{not_from}"


def _picks(view: View, findings: list[Finding]) -> list[str]:
    choices = [f for f in findings if f.topic == "choice"]
    found = []
    for sight in Sight.ALL:
        names: dict[str, list[str]] = {}
        for row in choices:
            if row.status == "recommended" and view.sight(row.method, row.mode) == sight:
                names.setdefault(row.method, []).append(row.embedding)
        if names:
            each = listing(names)
            if len(view.embeddings) > 1:
                each = listing(f"{method} (for {listing(who)})" for method, who in names.items())
            found.append(f"Recommended among corrections that {sight}: {each}.")
    if not found and any(row.embedding for row in choices):
        found.append("No correction is recommended.")
    return found


def planted(result: AuditLike | View) -> list[tuple[dict[str, str], str]]:
    """Return the planted facts of a demo, each with what was found of it.

    The name of a fact says which finding answers it: one with 'transfer' or
    'drop' in it the cost, with 'mix' the class and genre mix, with 'genre' the
    genre mix and probe, with 'instrument' or 'class' the class that loses
    most, with 'dataset', 'domain', 'chain' or 'recording' the dataset probe.

    Parameters
    ----------
    result : AuditResult
        `meta["planted"]` maps the name of a fact to its text.

    Returns
    -------
    list of (dict, str)
        Facts by name, those that one finding answers together, and the finding.
    """
    view = View.of(result)
    findings = verdict(view)
    found: dict[str, dict[str, str]] = {}
    for name, text in dict(view.meta.get("planted") or {}).items():
        topics = next((t for words, t in _PLANTED if any(w in str(name) for w in words)), ())
        answers = [f.answer for topic in topics for f in findings if f.topic == topic]
        said = " ".join(answers) or "Not measured by this audit."
        found.setdefault(said, {})[str(name)] = str(text)
    return [(facts, said) for said, facts in found.items()]


_PLANTED = (
    (("transfer", "drop"), ("drop",)),
    (("mix",), ("mix", "genre mix")),
    (("genre",), ("genre mix", "genre")),
    (("instrument", "class"), ("classes",)),
    (("dataset", "domain", "chain", "recording"), ("domain",)),
)


def _planted_lines(view: View) -> list[str]:
    lines = []
    for facts, said in planted(view):
        lines += [
            _wrapped(f"{name}: {text}", "  planted  ", " " * 11) for name, text in facts.items()
        ]
        lines.append(_wrapped(said, "  found    ", " " * 11))
    return ["What was planted, and what was found?", *lines, ""] if lines else []


def _wrapped(text: str, first: str, rest: str) -> str:
    return textwrap.fill(text, _WIDTH, initial_indent=first, subsequent_indent=rest)


def _method_lines(view: View) -> list[str]:
    table = judge(view)
    lines = []
    for name, part in table.groupby("embedding", sort=False):
        lines.append(_wrapped(f"{name}:", "  ", "  "))
        for _, row in part.iterrows():
            label = variant(row["method"], row["mode"], view.modes)
            saw = {Sight.FREE: "", Sight.LABELS: "*", Sight.UNDECLARED: "?"}[row["sight"]]
            leak = "-----" if row["after"] != row["after"] else num.auc(row["after"])
            text = f"{label + saw:<20} {leak}"
            if row["n_pairs"]:
                text += f"  {row['n_better']} better, {row['n_worse']} worse, {row['n_same']} same"
            if row["own_worse"]:
                text += f"; {len(row['own_worse'])} worse within"
            lines.append(_wrapped(text, "    ", "      "))
    if lines:
        head = "Dataset ROC-AUC after each correction, and pairs by change of transfer"
        lines.insert(0, head)
        lines.append("  * saw target labels; ? did not declare what it saw")
    return lines


def summary(result: AuditLike | View) -> str:
    """Return the verdict for a terminal, at most 79 columns wide.

    Parameters
    ----------
    result : AuditResult

    Returns
    -------
    str
        ASCII but for the user's own names, without a final newline.
    """
    view = View.of(result)
    findings = verdict(view)
    lines = [_wrapped(str(view.meta.get("title") or "Audit"), "", ""), ""]
    if view.meta.get("synthetic"):
        text = "The data of this audit are synthetic: they show the method, not the world."
        lines += [_wrapped(text, "", ""), ""]
    for question in QUESTIONS.values():
        rows = [f for f in findings if f.question == question and f.topic != "method"]
        if rows:
            lines.append(question)
            lines += [_wrapped(f"[{f.status}] {f.answer}", "  ", "    ") for f in rows]
            lines.append("")
    lines += _planted_lines(view) + _method_lines(view)
    return "\n".join(lines).rstrip()
