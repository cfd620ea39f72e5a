"""The tables of a report: from the tidy frames of an audit to cells of text."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

import pandas as pd

from biasaudio.report import numbers as num
from biasaudio.report.view import CLASSWISE, ORIGINAL, AuditLike, Sight, View, arrow, variant

__all__ = [
    "DASH",
    "Cell",
    "Table",
    "auc_cell",
    "build",
    "costs",
    "count",
    "distribution",
    "dropped",
    "minus",
    "overview",
    "p_text",
    "per_class",
    "points",
    "probes",
    "values",
]

DASH = "\N{EN DASH}"
# The text of a cell and its tone.
Cell = tuple[str, str]


@dataclass(frozen=True, eq=False)
class Table:
    """A table as it is printed: text in every cell.

    Attributes
    ----------
    caption : str
        What the table shows, and how to read its cells.
    frame : pd.DataFrame
        Cells of text.  The index is (group of rows, row), the columns are
        (group of columns, column).  What follows the number in brackets is
        its interval or a remark.
    tones : pd.DataFrame
        The same shape: '', 'good', 'bad', 'warn' or 'quiet'; never the only
        place where a cell says something.
    stub : str
        What the row names are.
    """

    caption: str
    frame: pd.DataFrame
    tones: pd.DataFrame
    stub: str

    def __len__(self) -> int:
        """Return the number of rows."""
        return len(self.frame)


def build(
    caption: str, stub: str, rows: dict[tuple[str, str], dict[tuple[str, str], Cell]]
) -> Table:
    """Build a table from rows of (text, tone) cells; absent cells get a dash."""
    titles = list(dict.fromkeys(group for group, _ in rows))
    rows = {key: rows[key] for title in titles for key in rows if key[0] == title}
    found = list(dict.fromkeys(column for row in rows.values() for column in row))
    tops = list(dict.fromkeys(top for top, _ in found))
    columns = [column for top in tops for column in found if column[0] == top]
    index = pd.MultiIndex.from_tuples(list(rows), names=["group", "row"]) if rows else None
    head = pd.MultiIndex.from_tuples(columns) if columns else None
    parts = [
        [[row.get(column, (DASH, "quiet"))[side] for column in columns] for row in rows.values()]
        for side in (0, 1)
    ]
    text, tones = (pd.DataFrame(part, index=index, columns=head, dtype=object) for part in parts)
    return Table(caption, text, tones, stub)


def minus(text: str) -> str:
    """Write minus signs as such."""
    return text.replace("-", "\N{MINUS SIGN}")


def auc_cell(value: float, low: float = math.nan, high: float = math.nan, tone: str = "") -> Cell:
    """Return the cell of a ROC-AUC with its interval."""
    if math.isnan(value):
        return DASH, "quiet"
    return f"{num.auc(value)} {num.interval(low, high)}".strip(), tone


def points(value: float) -> str:
    """Return a change in points."""
    return DASH if math.isnan(value) else minus(num.points(value))


def p_text(value: float) -> str:
    """Return a p value without its name."""
    if math.isnan(value):
        return DASH
    return num.p_value(value).removeprefix("p ").removeprefix("= ").replace("< ", "<")


def count(value: float) -> str:
    """Return a whole number."""
    return DASH if math.isnan(value) else f"{int(value):,}"


_SHORT = {num.BETTER: "better", num.WORSE: "worse", num.SAME: "not measurable"}
_SHORT[num.UNKNOWN] = "not known"
_TONES = {num.BETTER: "good", num.WORSE: "bad", num.SAME: "quiet", num.UNKNOWN: "quiet"}


def _title(name: str, sight: str, view: View) -> str:
    """Return the title of a group of rows: whose, and what was seen."""
    said = sight[0].upper() + sight[1:]
    if sight != Sight.FREE:
        said += ": not to be compared with the rows above"
    return said if len(view.embeddings) < 2 else f"{name}: {said[0].lower()}{said[1:]}"


def _lines(view: View, name: str) -> Iterable[tuple[str, str, str]]:
    """Yield (sight, method, mode) of one embedding, in the order printed."""
    for sight in Sight.ALL:
        for method in view.used_methods:
            for mode in view.modes_of(name, method):
                if view.sight(method, mode) == sight:
                    yield sight, method, mode


def _probe_cells(
    leak: pd.DataFrame, stronger: pd.DataFrame, genre: pd.DataFrame, members: str
) -> tuple[dict[tuple[str, str], Cell], dict[tuple[str, str], Cell]]:
    """Return the cells of the dataset and of the genre probes of one line."""
    cells = _leak_cells(_where(leak, datasets=members), "Dataset ROC-AUC")
    if scaled := _stronger_cells(_where(stronger, datasets=members)):
        # The page has room for two; the table of all probes has the raw mix.
        cells.pop(("Dataset ROC-AUC", "all clips"), None)
        cells |= scaled
    return cells, _genre_cells(genre, set(members.split(" + ")))


def _leak_cells(rows: pd.DataFrame, top: str) -> dict[tuple[str, str], Cell]:
    cells = {}
    for mix, name in (("raw", "all clips"), ("equal", "equal class mix")):
        for _, row in rows.iterrows():
            value = row[f"auc_{mix}"]
            if not math.isnan(value):
                cells[(top, name)] = auc_cell(value, row[f"low_{mix}"], row[f"high_{mix}"])
    return cells


def _stronger_cells(rows: pd.DataFrame) -> dict[tuple[str, str], Cell]:
    rows = rows[(rows["probe"] == "domain") & (rows["design"] == "three-way")]
    top = ("Dataset ROC-AUC", "features scaled")
    cells = [auc_cell(row["auc"], row["low"], row["high"]) for _, row in rows.iterrows()]
    return {top: cells[0]} if cells else {}


def _genre_cells(rows: pd.DataFrame, members: set[str]) -> dict[tuple[str, str], Cell]:
    probed = list(dict.fromkeys(rows["datasets"]))
    same = [name for name in probed if set(name.split(" + ")) == members]
    near = same or [name for name in probed if members & set(name.split(" + "))]
    cells: dict[tuple[str, str], Cell] = {}
    for name in near or probed:
        where = f", {name.replace(' + ', ', ')}" if len(near) > 1 else ""
        cells |= _leak_cells(_where(rows, datasets=name), f"Genre ROC-AUC{where}")
    return cells


def _transfer_cells(rows: pd.DataFrame, pair: tuple[str, str]) -> dict[tuple[str, str], Cell]:
    top, cells = arrow(*pair), {}
    for _, row in rows.iterrows():
        tone = _TONES[row["reading"]]
        sure = row["reading"] in (num.BETTER, num.WORSE)
        ends = f"[{points(row['low'])}, {points(row['high'])}]"
        share = row["recovered"] if sure else math.nan
        cells[(top, "ROC-AUC")] = auc_cell(row["after"])
        cells[(top, "change, points")] = (f"{points(row['delta'])} {ends}", tone)
        cells[(top, "Holm p")] = (f"{p_text(row['p_holm'])} ({_SHORT[row['reading']]})", tone)
        cells[(top, "drop recovered")] = (
            (DASH, "quiet") if math.isnan(share) else (minus(num.share(share)), tone)
        )
    return cells


def _original_cells(view: View, name: str, pair: tuple[str, str]) -> dict[tuple[str, str], Cell]:
    first = _where(view.comparisons, embedding=name, train_set=pair[0], test_set=pair[1])
    second = _where(num.drops(view), embedding=name, train_set=pair[0], test_set=pair[1])
    known = [*first["before"], *second["cross"]]
    top = arrow(*pair)
    cells = {(top, "ROC-AUC"): auc_cell(known[0] if known else math.nan)}
    return {**cells, **{(top, n): ("", "") for n in ("change, points", "Holm p", "drop recovered")}}


def _where(frame: pd.DataFrame, **values: str) -> pd.DataFrame:
    for column, value in values.items():
        frame = frame[frame[column] == value]
    return frame


def overview(result: AuditLike | View) -> list[Table]:
    """Return leakage and transfer side by side, a table a set of datasets.

    Parameters
    ----------
    result : AuditResult

    Returns
    -------
    list of Table
        A row a method: dataset ROC-AUC on all clips and at equal class mix
        (three-way split), each pair's ROC-AUC before and after, the change
        with its interval and Holm-adjusted p, the share of the drop
        recovered, and the genre ROC-AUC.
    """
    view = View.of(result)
    leak, genre, moved = num.leakage(view), num.leakage(view, "genre"), num.changes(view)
    tables = []
    for name, pairs in view.blocks() or [("", [])]:
        rows = {}
        for embedding in view.embeddings:
            for sight, method, mode in _lines(view, embedding):
                who = {"embedding": embedding, "method": method}
                # The probes are of the global correction, so classwise gets dashes.
                probed = [_where(t, **who) for t in (leak, view.stronger, genre)]
                if mode == CLASSWISE:
                    probed = [t.iloc[:0] for t in probed]
                cells, genres = _probe_cells(probed[0], probed[1], probed[2], name)
                for pair in pairs:
                    if method == ORIGINAL:
                        cells |= _original_cells(view, embedding, pair)
                    else:
                        ends = {"train_set": pair[0], "test_set": pair[1], "mode": mode}
                        cells |= _transfer_cells(_where(moved, **who, **ends), pair)
                cells |= genres
                label = variant(method, mode, view.modes)
                if cells:
                    rows[(_title(embedding, sight, view), label)] = cells
        caption = "ROC-AUC of the probes (three-way split), with 95% intervals"
        if pairs:
            caption = (
                "Leakage (three-way split) and transfer (mean ROC-AUC over classes), with 95% "
                "intervals; the row of the original is the score before correction"
            )
        title = f"{name.replace(' + ', ' and ')}. {caption}" if name else caption
        if rows:
            tables.append(build(f"{title}.", "method", rows))
    return tables


def costs(result: AuditLike | View) -> Table:
    """Return what training on another dataset costs, uncorrected."""
    rows = {}
    for _, row in num.drops(View.of(result)).iterrows():
        p, lower = p_text(row["p_value"]), f"{row['n_down']:.0f} of {row['n_labels']:.0f}"
        ends = f"[{points(row['low']).removeprefix('+')}, {points(row['high']).removeprefix('+')}]"
        key = (row["embedding"], arrow(row["train_set"], row["test_set"]))
        rows[key] = {
            ("Mean ROC-AUC", "trained on the test set's own dataset"): auc_cell(row["within"]),
            ("Mean ROC-AUC", "trained on the other"): auc_cell(row["cross"]),
            ("Training clips", "own dataset"): (count(row["n_train_within"]), ""),
            ("Training clips", "the other"): (count(row["n_train_cross"]), ""),
            ("Drop", "points"): (f"{points(row['drop']).removeprefix('+')} {ends}", ""),
            ("Drop", "p"): (p, "" if row["p_value"] < num.LEVEL else "quiet"),
            ("Drop", "classes that lose"): (lower, ""),
            ("Largest loss", "class"): (row["worst"], ""),
            ("Largest loss", "points"): (points(row["worst_drop"]).removeprefix("+"), ""),
        }
    caption = (
        "The transfer drop before any correction, on the same test clips, with paired 95% "
        "intervals over test groups; training clips are the mean over classes."
    )
    return build(caption, "train \N{RIGHTWARDS ARROW} test", rows)


def per_class(result: AuditLike | View) -> list[Table]:
    """Return ROC-AUC by pair, class and method, a table an embedding and mode."""
    view = View.of(result)
    tables = []
    for name in view.embeddings:
        for mode in view.modes or [""]:
            columns = {method: view.sight(method, mode) for method in view.used_methods}
            part = view.transfer[view.transfer["embedding"] == name]
            part = part[(part["mode"] == mode) | (part["method"] == ORIGINAL)]
            part = part.drop_duplicates(["instrument", "train_set", "test_set", "method"])
            rows: dict[tuple[str, str], dict[tuple[str, str], Cell]] = {}
            order = [m for s in Sight.ALL for m in columns if columns[m] == s]
            rank = part["method"].map({m: i for i, m in enumerate(order)}).astype(float)
            part = part.loc[rank.sort_values(kind="stable").index]
            for row in part.to_dict("records"):
                key = (arrow(row["train_set"], row["test_set"]), str(row["instrument"]))
                cells = rows.setdefault(key, _class_size(row))
                cells[(columns[row["method"]], row["method"])] = _class_cell(row)
            kind = (
                f", corrections fitted {mode}" if len(view.modes) > 1 or mode == CLASSWISE else ""
            )
            caption = f"{name}{kind}: ROC-AUC of each class, train \N{RIGHTWARDS ARROW} test."
            if rows:
                tables.append(build(caption, "class", rows))
    return tables


def _class_size(row: dict[Any, Any]) -> dict[tuple[str, str], Cell]:
    positive = row["prevalence"]
    share = DASH if math.isnan(positive) else num.share(positive)
    return {
        ("test clips", "n"): (count(row["n_test"]), "quiet"),
        ("test clips", "positive"): (share, "quiet"),
    }


def _class_cell(row: dict[Any, Any]) -> Cell:
    text, tone = auc_cell(row["roc_auc"])
    return (f"{text} (constant)", "warn") if row["constant"] > 0 else (text, tone)


def distribution(result: AuditLike | View) -> Table:
    """Return positives by dataset, genre and class; empty cells are marked."""
    view = View.of(result)
    rows: dict[tuple[str, str], dict[tuple[str, str], Cell]] = {}
    counts = num.cells(view).drop(columns="has_genres")
    for dataset, genre, label, n in counts.itertuples(index=False):
        note = num.near_empty(n)
        text = f"{int(n):,}" + {"empty": " (empty)", "near-empty": " (few)", "": ""}[note]
        tone = {"empty": "bad", "near-empty": "warn", "": ""}[note]
        rows.setdefault((dataset, genre or "not known"), {})[("class", label)] = (text, tone)
    caption = (
        "Positive clips by dataset, genre and class. Empty: none. "
        f"Few: fewer than {num.NEAR_EMPTY}; what is said of such a cell rests on little."
    )
    return build(caption, "genre", rows)


def dropped(result: AuditLike | View) -> Table:
    """Return the clips left out on purpose, with the reason."""
    rows = {}
    for row in View.of(result).dropped.to_dict("records"):
        rows[(row["dataset"], row["reason"])] = {
            ("", "clips"): (count(row["n"]), ""),
            ("", "for example"): (str(row.get("examples") or ""), "quiet"),
        }
    return build("Clips left out on purpose.", "reason", rows)


def _probe_name(row: dict[Any, Any]) -> str:
    mix = {"raw": "all clips", "equal": "equal class mix"}.get(row["mix"], row["mix"])
    return f"{row['method']}, {row['design']}, {mix}"


def probes(result: AuditLike | View) -> Table:
    """Return every probe with its evidence."""
    rows = {}
    for row in View.of(result).probes.to_dict("records"):
        group = f"{row['embedding']}, {row['probe']} of {row['datasets'].replace(' + ', ', ')}"
        auc = auc_cell(row["auc"], row["low"], row["high"])
        rows[(group, _probe_name(row))] = {
            ("", "ROC-AUC"): auc,
            ("", "permutation p"): (p_text(row["p_value"]), ""),
            ("", "balanced accuracy"): auc_cell(row["balanced_accuracy"]),
            ("", "chance accuracy"): auc_cell(row["chance_accuracy"], tone="quiet"),
            ("", "clips"): (count(row["n"]), ""),
            ("", "groups"): (count(row["n_groups"]), ""),
        }
    return build("Every probe. Chance is a ROC-AUC of 0.5.", "method, design, mix", rows)


def values(result: AuditLike | View) -> Table:
    """Return how well each dataset and each genre is recognized, uncorrected."""
    table = View.of(result).probe_values
    rows: dict[tuple[str, str], dict[tuple[str, str], Cell]] = {}
    for row in table[table["method"] == ORIGINAL].to_dict("records"):
        group = f"{row['embedding']}, {row['probe']} of {row['datasets'].replace(' + ', ', ')}"
        mix = {"raw": "all clips", "equal": "equal class mix"}.get(row["mix"], row["mix"])
        top = f"{row['design']}, {mix}"
        cells = rows.setdefault((group, row["value"]), {})
        cells[(top, "ROC-AUC")] = auc_cell(row["auc"])
        cells[(top, "recall")] = auc_cell(row["recall"])
        cells[(top, "clips")] = (count(row["n"]), "quiet")
    return build("Each dataset and genre against the rest, uncorrected.", "value", rows)
