"""Read an audit result once: checked, typed and in one order for the whole room."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

import pandas as pd

from biasaudio._text import printable
from biasaudio._validation import name_some
from biasaudio.errors import DataError

__all__ = [
    "CLASSWISE",
    "ORIGINAL",
    "AuditLike",
    "Sight",
    "View",
    "arrow",
    "clean",
    "once",
    "variant",
]

ORIGINAL = "original"
CLASSWISE = "classwise"
_PROBE_KEYS = "embedding probe datasets design mix method kind"
_TEXT: dict[str, str] = {
    "probes": _PROBE_KEYS,
    "probe_values": f"{_PROBE_KEYS} value",
    "transfer": "instrument train_set test_set embedding method mode",
    "comparisons": "embedding method mode train_set test_set",
    "drops": "embedding method mode train_set test_set",
    "distribution": "dataset genre label",
    "dropped": "dataset reason",
    "methods": "method title family explanation reference needs",
}
_NUMBERS: dict[str, str] = {
    "probes": "auc low high balanced_accuracy chance_accuracy p_value n n_groups n_classes",
    "probe_values": "n auc recall",
    "transfer": "roc_auc ap prevalence n_train n_test constant",
    "comparisons": "n_labels before after delta low high p_value p_holm n_groups",
    "drops": "within across drop low high p_value n_labels n_groups",
    "distribution": "n_annotated n_positive",
    "dropped": "n",
    "methods": "",
}
_SEES = ("sees_source_labels", "sees_target_clips", "sees_target_labels", "domain_at_transform")


class AuditLike(Protocol):
    """What the report reads of an audit result; nothing else is needed."""

    @property
    def probes(self) -> pd.DataFrame:
        """How well dataset and genre are read, a row a probe."""

    @property
    def probe_values(self) -> pd.DataFrame:
        """The same for each dataset or genre."""

    @property
    def transfer(self) -> pd.DataFrame:
        """Classifier scores, a row a label, train set, test set and method."""

    @property
    def comparisons(self) -> pd.DataFrame:
        """Paired changes of the mean ROC-AUC, a row a method and pair."""

    @property
    def drops(self) -> pd.DataFrame:
        """What training on another dataset costs, a row a method and pair."""

    @property
    def distribution(self) -> pd.DataFrame:
        """Positives by dataset, genre and label."""

    @property
    def dropped(self) -> pd.DataFrame:
        """Clips left out, with the reason."""

    @property
    def methods(self) -> pd.DataFrame:
        """What each method is and what it was allowed to see."""

    @property
    def meta(self) -> Mapping[str, Any]:
        """Where the numbers come from."""


_Rest = ParamSpec("_Rest")
_Derived = TypeVar("_Derived", pd.DataFrame, "list[Any]")


def once(
    derive: Callable[Concatenate[View, _Rest], _Derived],
) -> Callable[Concatenate[View, _Rest], _Derived]:
    """Derive a table, or findings, from a view once, and hand out copies.

    One page asks for the paired changes 34 times, and each time they are the same.
    """

    def kept(view: View, /, *args: _Rest.args, **options: _Rest.kwargs) -> _Derived:
        key = (derive.__module__, derive.__name__, args, tuple(options.items()))
        if key not in view.derived:
            view.derived[key] = derive(view, *args, **options)
        found: _Derived = view.derived[key].copy()
        return found

    return functools.update_wrapper(kept, derive)


class Sight:
    """What a method was allowed to see of the target, in the order printed."""

    FREE = "saw no target labels"
    LABELS = "saw target labels"
    UNDECLARED = "did not declare what it saw"
    ALL = (FREE, LABELS, UNDECLARED)


def clean(value: Any) -> Any:
    """Write out control characters in text, also inside lists and dicts.

    Names come from files of the user; control characters are not allowed in
    SVG and can drive a terminal.
    """
    if isinstance(value, str):
        return printable("".join(" " if c.isspace() else c for c in value))
    if isinstance(value, Mapping):
        return {clean(key): clean(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [clean(item) for item in value]
    return value


def variant(method: str, mode: str, modes: Iterable[str]) -> str:
    """Return the name of a method, with its mode where there are several.

    Mode 'classwise' is always named, as what was probed is the global one.
    """
    if method == ORIGINAL or not mode or (len(set(modes)) < 2 and mode != CLASSWISE):
        return method
    return f"{method} ({mode})"


def arrow(train: str, test: str) -> str:
    """Return ``train → test``."""
    return f"{train} \N{RIGHTWARDS ARROW} {test}"


def _typed(result: AuditLike, name: str) -> pd.DataFrame:
    """Return a copy of one table with str, float and object columns."""
    frame = getattr(result, name, None)
    if not isinstance(frame, pd.DataFrame):
        raise DataError(
            f"result.{name} is {type(frame).__name__}; a report needs a DataFrame there, "
            "so give an AuditResult"
        )
    text, numbers = _TEXT[name].split(), _NUMBERS[name].split()
    missing = [c for c in (*text, *numbers) if c not in frame.columns]
    if missing:
        raise DataError(
            f"result.{name} lacks the column(s) {name_some(missing)}; it has "
            f"{name_some(frame.columns, 20)}; write the audit again with this version"
        )
    frame = frame.reset_index(drop=True)
    columns: dict[str, pd.Series[Any]] = {}
    for column in frame.columns:
        values = frame[column]
        if column in text:
            values = pd.Series([clean(str(v)) if pd.notna(v) else "" for v in values], dtype=object)
        elif column in numbers:
            values = pd.to_numeric(values, errors="coerce").astype(float)
        columns[str(column)] = values
    return pd.DataFrame(columns, index=frame.index)


@dataclass(frozen=True, eq=False)
class View:
    """The tables of one audit result, with the orders that all pages share."""

    probes: pd.DataFrame
    probe_values: pd.DataFrame
    transfer: pd.DataFrame
    comparisons: pd.DataFrame
    drops: pd.DataFrame
    distribution: pd.DataFrame
    dropped: pd.DataFrame
    methods: pd.DataFrame
    meta: dict[str, Any]
    stronger: pd.DataFrame
    derived: dict[Any, Any] = field(default_factory=dict, init=False)

    @classmethod
    def of(cls, result: AuditLike | View) -> View:
        """Return the view of a result, or the view itself.

        Raises
        ------
        DataError
            If a table is absent or lacks a column.
        """
        if isinstance(result, View):
            return result
        tables = {name: _typed(result, name) for name in _TEXT}
        probes = tables["probes"]
        stronger = probes[probes["kind"] == "scaled"].reset_index(drop=True)
        # One kind of probe answers each question, or two numbers would be printed
        # for it; the stronger one has a column of its own.
        for name in ("probes", "probe_values"):
            table = tables[name]
            if (table["kind"] == "linear").any():
                tables[name] = table[table["kind"] == "linear"].reset_index(drop=True)
        return cls(meta=clean(dict(result.meta)), stronger=stronger, **tables)

    @functools.cached_property
    def embeddings(self) -> list[str]:
        """Names of the embeddings, in the order of the audit."""
        used = [*self.probes["embedding"], *self.transfer["embedding"]]
        named = [str(name) for name in self.meta.get("embeddings") or []]
        return [n for n in dict.fromkeys([*named, *used]) if n in used or not used]

    @functools.cached_property
    def datasets(self) -> list[str]:
        """Names of the datasets, in the order of the audit."""
        named = [str(name) for name in self.meta.get("datasets") or []]
        found = [*self.transfer["train_set"], *self.transfer["test_set"]]
        return list(dict.fromkeys([*named, *found, *self.distribution["dataset"]]))

    @functools.cached_property
    def modes(self) -> list[str]:
        """Modes of the corrections, in order of appearance."""
        corrected = self.transfer[self.transfer["method"] != ORIGINAL]
        return list(dict.fromkeys([*corrected["mode"], *self.comparisons["mode"]]))

    @functools.cached_property
    def used_methods(self) -> list[str]:
        """The methods with results, the uncorrected one first."""
        tables = (self.probes, self.transfer, self.comparisons)
        used = dict.fromkeys(name for table in tables for name in table["method"])
        order = [ORIGINAL, *self.methods["method"], *used]
        return [name for name in dict.fromkeys(order) if name in used]

    def modes_of(self, embedding: str, method: str) -> list[str]:
        """Return the modes a method has results in, '' for probes without transfer."""
        if method == ORIGINAL:
            return [""]
        moved, probed = (
            table[(table["embedding"] == embedding) & (table["method"] == method)]
            for table in (self.comparisons, self.probes)
        )
        modes = list(dict.fromkeys(moved["mode"]))
        # Probes are run for the global correction, so they are no line of classwise.
        alone = len(probed) > 0 and all(mode == CLASSWISE for mode in modes)
        return ["", *modes] if alone or not modes else modes

    def sight(self, method: str, mode: str = "") -> str:
        """Return what a method was allowed to see in a mode, one of `Sight.ALL`."""
        if method == ORIGINAL:
            return Sight.FREE
        seen = self.allowed(method, mode)["sees_target_labels"]
        if seen is None:
            return Sight.UNDECLARED
        return Sight.LABELS if seen else Sight.FREE

    def allowed(self, method: str, mode: str = "") -> dict[str, bool | None]:
        """Return what the method may see; None where it is not declared.

        In mode 'classwise' it is fitted on the clips that have the label, and
        so on those that the target's training labels choose.
        """
        rows = self.methods[self.methods["method"] == method]
        row = dict(rows.iloc[0]) if len(rows) else {}
        known = {name: row.get(name) for name in _SEES}
        found = {name: None if pd.isna(value) else bool(value) for name, value in known.items()}
        return {**found, "sees_target_labels": True} if mode == CLASSWISE else found

    def probe_sets(self) -> list[str]:
        """Return the sets of datasets whose identity was probed."""
        return list(dict.fromkeys(self.probes.loc[self.probes["probe"] == "domain", "datasets"]))

    def pairs(self) -> list[tuple[str, str]]:
        """Return the (train set, test set) pairs of different datasets."""
        tables = (self.transfer, self.comparisons)
        rows = [p for t in tables for p in zip(t["train_set"], t["test_set"], strict=True)]
        return [pair for pair in dict.fromkeys(rows) if pair[0] != pair[1]]

    def blocks(self) -> list[tuple[str, list[tuple[str, str]]]]:
        """Return (set of datasets, its train -> test pairs), each pair once.

        A pair belongs to the smallest probed set that holds both datasets, so
        that leakage and transfer of the same two datasets stand side by side.
        """
        sets = self.probe_sets()
        left = self.pairs()
        found: dict[str, list[tuple[str, str]]] = {name: [] for name in sets}
        for name in sorted(sets, key=lambda text: len(text.split(" + "))):
            members = set(name.split(" + "))
            found[name] = [pair for pair in left if members.issuperset(pair)]
            left = [pair for pair in left if pair not in found[name]]
        if left:
            found[" + ".join(dict.fromkeys(name for pair in left for name in pair))] = left
        return list(found.items())
