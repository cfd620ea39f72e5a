"""The columns of every table of an audit, and the types in them."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from biasaudio._files import replacing_folder, scratch_folder
from biasaudio._text import csv_safe
from biasaudio.errors import BiasAudioError, DataError, ParameterError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = [
    "TABLES",
    "AuditResult",
    "check_folder",
    "check_meta",
    "make_folder",
    "make_table",
]

_PROBE_KEYS = {
    "embedding": str,
    "probe": str,
    "datasets": str,
    "design": str,
    "mix": str,
    "method": str,
    "kind": str,
}
TABLES: Mapping[str, Mapping[str, type]] = {
    "probes": _PROBE_KEYS
    | {
        "auc": float,
        "low": float,
        "high": float,
        "balanced_accuracy": float,
        "chance_accuracy": float,
        "p_value": float,
        "n": int,
        "n_groups": int,
        "n_classes": int,
    },
    "probe_values": _PROBE_KEYS | {"value": str, "n": int, "auc": float, "recall": float},
    "transfer": {
        "instrument": str,
        "train_set": str,
        "test_set": str,
        "precision": float,
        "recall": float,
        "f1-score": float,
        "support": float,
        "accuracy": float,
        "roc_auc": float,
        "ap": float,
        "embedding": str,
        "method": str,
        "mode": str,
        "prevalence": float,
        "n_train": int,
        "n_test": int,
        "C": float,
        "constant": bool,
    },
    "comparisons": {
        "embedding": str,
        "method": str,
        "mode": str,
        "train_set": str,
        "test_set": str,
        "n_labels": int,
        "before": float,
        "after": float,
        "delta": float,
        "low": float,
        "high": float,
        "p_value": float,
        "p_holm": float,
        "n_groups": int,
        "verdict": str,
    },
    "drops": {
        "embedding": str,
        "method": str,
        "mode": str,
        "train_set": str,
        "test_set": str,
        "within": float,
        "across": float,
        "drop": float,
        "low": float,
        "high": float,
        "p_value": float,
        "n_labels": int,
        "n_groups": int,
    },
    "distribution": {
        "dataset": str,
        "genre": str,
        "label": str,
        "n_annotated": int,
        "n_positive": int,
        "note": str,
    },
    "dropped": {"dataset": str, "reason": str, "n": int, "examples": str},
    "methods": {
        "method": str,
        "title": str,
        "family": str,
        "explanation": str,
        "reference": str,
        "needs": str,
        "sees_source_labels": bool,
        "sees_target_clips": bool,
        "sees_target_labels": bool,
        "domain_at_transform": bool,
    },
}

# What the report walks through; the other members are texts and numbers.
_META: Mapping[str, type] = {
    **dict.fromkeys(("config", "planted", "versions"), dict),
    **dict.fromkeys(("datasets", "embeddings", "labels", "notes", "warnings"), list),
    **dict.fromkeys(("excluded", "files"), list),
}


def check_meta(meta: Any) -> dict[str, Any]:
    """Return what an audit says of itself, or raise a ValueError if it is of another form."""
    if not isinstance(meta, dict):
        raise ValueError("meta is no object")
    for name, kind in _META.items():
        if meta.get(name) is not None and not isinstance(meta[name], kind):
            raise ValueError(f"meta has {name!r} as a {type(meta[name]).__name__}")
    for name in ("excluded", "files"):
        if not all(isinstance(entry, dict) for entry in meta.get(name) or ()):
            raise ValueError(f"meta has {name!r} with an entry that is no object")
    return meta


def make_table(name: str, rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """Return the rows as the table of this name, columns and types as in `TABLES`."""
    columns = TABLES[name]
    data = {key: [kind(row[key]) for row in rows] for key, kind in columns.items()}
    dtypes = {str: "object", float: "float64", int: "int64", bool: "bool"}
    return pd.DataFrame(
        {key: pd.Series(values, dtype=dtypes[columns[key]]) for key, values in data.items()},
        columns=list(columns),
    )


FORMAT, VERSION = "biasaudio-audit", 1
_CSV = ("transfer", "probes", "comparisons")
_FILES = {"report.html", "audit.json", *(f"{name}.csv" for name in _CSV)}
# What another JSON document leads to.
_OTHER = (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError)


@dataclass(frozen=True, eq=False)
class AuditResult:
    """Everything that an audit found, as tidy tables.

    Attributes
    ----------
    probes : pd.DataFrame
        One row per probe: ROC-AUC with interval, p-value and n.
    probe_values : pd.DataFrame
        One row per probe and domain (or genre).
    transfer : pd.DataFrame
        One row per (label, train set, test set, embedding, method, mode).
    comparisons : pd.DataFrame
        One row per (embedding, method, mode, train set, test set): before,
        after, the difference with interval and p-values.
    drops : pd.DataFrame
        One row per (embedding, method, mode, pair of different datasets): what
        training on the other dataset costs, with interval.
    distribution : pd.DataFrame
        One row per (dataset, genre, label), empty cells included.
    dropped : pd.DataFrame
        Clips left out: dataset, reason, number, examples.
    methods : pd.DataFrame
        Method cards.
    meta : dict
        Protocol, seed, versions, file hashes, warnings, ...

    Examples
    --------
    >>> import tempfile
    >>> import biasaudio
    >>> from biasaudio.datasets.synthetic import make_domains
    >>> table, _ = make_domains(n=300, d=8, n_labels=2, random_state=0)
    >>> result = biasaudio.audit(table, methods=["leace"], n_permutations=20, n_resamples=50)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     AuditResult.load(result.save(folder)) == result
    True
    """

    probes: pd.DataFrame
    probe_values: pd.DataFrame
    transfer: pd.DataFrame
    comparisons: pd.DataFrame
    drops: pd.DataFrame
    distribution: pd.DataFrame
    dropped: pd.DataFrame
    methods: pd.DataFrame
    meta: dict[str, Any] = field(default_factory=dict)

    @classmethod
    def from_rows(
        cls, rows: Mapping[str, Sequence[Mapping[str, Any]]], meta: dict[str, Any]
    ) -> AuditResult:
        """Return the result with these rows for each table of `TABLES`."""
        return cls(**{name: make_table(name, rows.get(name, ())) for name in TABLES}, meta=meta)

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write the report, the tables and the figures.

        Parameters
        ----------
        folder : path-like
            Created where it is missing.  Gets ``report.html``,
            ``audit.json``, ``transfer.csv``, ``probes.csv``,
            ``comparisons.csv`` and ``figures/*.svg``.

        Returns
        -------
        Path
            The folder.

        Raises
        ------
        ParameterError
            If ``folder`` is a file, or cannot be written to.
        """
        from biasaudio.report import save_figures, write_html
        from biasaudio.report.view import View

        texts = {"audit.json": self.to_json()}
        for name in _CSV:
            texts[f"{name}.csv"] = csv_safe(getattr(self, name)).to_csv(index=False)
        folder = check_folder(folder)
        # One view for the page and all figures: what is derived from it is derived once.
        view = View.of(self)
        with _placing(folder) as new:
            for name, text in texts.items():
                (new / name).write_text(text, encoding="utf-8")
            save_figures(view, new)
            write_html(view, new / "report.html")
        return folder

    @classmethod
    def load(cls, folder: str | os.PathLike[str]) -> AuditResult:
        """Read a saved audit back.

        Parameters
        ----------
        folder : path-like
            As given to `save`, or its ``audit.json``.

        Returns
        -------
        AuditResult
            Equal to the one that was saved.

        Raises
        ------
        DataError
            If there is no audit, or it is not one of ours.
        """
        path = Path(folder)
        if not path.exists():
            raise DataError(f"{path} does not exist; give the folder that an audit was written to")
        path = path / "audit.json" if path.is_dir() else path
        if not path.is_file():
            raise DataError(
                f"{folder} has no audit.json; give the folder that an audit was written to"
            )
        try:
            text = path.read_text(encoding="utf-8")
            raw = json.loads(text, parse_float=_finite, parse_constant=_finite)
            if not isinstance(raw, dict):
                raise DataError(f"{path} is no audit but another JSON file; run the audit again")
            seen = raw.get("format"), raw.get("version")
            if seen != (FORMAT, VERSION):
                raise DataError(
                    f"{path} says format, version = {seen}, and this version reads "
                    f"{(FORMAT, VERSION)}; run the audit again"
                )
            rows = {
                name: [dict(zip(table["columns"], row)) for row in table["rows"]]
                for name, table in raw["tables"].items()
            }
            for name, columns in TABLES.items():
                for row in rows[name]:
                    row |= {k: float("nan") for k in columns if row[k] is None}
            return cls.from_rows(rows, check_meta(raw["meta"]))
        except _OTHER as error:
            if isinstance(error, BiasAudioError):
                raise
            why = f"it lacks {error}" if isinstance(error, KeyError) else error
            raise DataError(
                f"{path} is damaged or not an audit ({why}); run the audit again"
            ) from error

    def to_json(self) -> str:
        """Return the result as strict JSON; NaN is null."""
        tables = {
            name: {
                "columns": list(columns),
                "rows": [
                    [None if value != value else value for value in row]
                    for row in getattr(self, name)[list(columns)].values.tolist()
                ],
            }
            for name, columns in TABLES.items()
        }
        document = {"format": FORMAT, "version": VERSION, "meta": self.meta, "tables": tables}
        return json.dumps(document, indent=1, allow_nan=False)

    def to_html(self, path: str | os.PathLike[str]) -> Path:
        """Write the report as one self-contained page; return its path."""
        from biasaudio.report import write_html

        path = Path(path)
        write_html(self, path)
        return path

    def to_frame(self) -> pd.DataFrame:
        """The paired changes of transfer, the table that most questions end at.

        Returns
        -------
        pd.DataFrame
            A copy of `comparisons`.
        """
        return self.comparisons.copy()

    @property
    def plot(self) -> Plots:
        """The figures of the report: ``result.plot.leakage()`` and so on."""
        return Plots(self)

    def summary(self) -> str:
        """Return the verdict in a few lines of text."""
        from biasaudio.report import summary

        return summary(self)

    def __eq__(self, other: object) -> bool:
        """Return whether all tables and the provenance are the same."""
        if not isinstance(other, AuditResult):
            return NotImplemented
        same = (getattr(self, name).equals(getattr(other, name)) for name in TABLES)
        return self.meta == other.meta and all(same)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        """Return the sizes of the tables."""
        sizes = (
            f"{f.name}: {len(getattr(self, f.name))}" for f in fields(self) if f.name in TABLES
        )
        return f"AuditResult({', '.join(sizes)} rows)"

    def _repr_html_(self) -> str:
        from biasaudio.report import notebook_html

        return notebook_html(self)


class Plots:
    """The figures of the report, one method each.

    Parameters
    ----------
    result : AuditResult
    """

    def __init__(self, result: AuditResult) -> None:
        self._result = result

    def leakage(self) -> Figure:
        """How well the dataset is read after each method."""
        return self._draw("leakage")

    def transfer(self) -> Figure:
        """What each method did to transfer, with intervals."""
        return self._draw("transfer")

    def tradeoff(self) -> Figure:
        """Leakage against the change of transfer, a point per correction."""
        return self._draw("tradeoff")

    def classes(self) -> Figure:
        """Which classes lose how much."""
        return self._draw("classes")

    def distribution(self) -> Figure:
        """Positive clips by dataset, genre and class."""
        return self._draw("distribution")

    def _draw(self, name: str) -> Figure:
        from biasaudio.report import FIGURES

        return FIGURES[name](self._result)


def check_folder(folder: str | os.PathLike[str]) -> Path:
    """Return the path of a folder that is there and writable, or can be made.

    Raises
    ------
    ParameterError
        If it is a file, lies below one, or may not be written to.
    """
    folder = Path(folder)
    there = folder
    while not there.exists() and there != there.parent:
        there = there.parent
    if not there.is_dir():
        where = "is a file" if there == folder else f"lies below {there}, which is a file"
        raise ParameterError(f"{folder} {where}; give a folder to write to")
    if not os.access(there, os.W_OK):
        raise ParameterError(f"{there} may not be written to; give another folder")
    return folder


def _finite(text: str) -> float:
    """Number of a JSON file; 1e999 would be read as infinite, which JSON cannot hold."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"it has the number {text[:20]}")
    return value


@contextmanager
def _placing(folder: Path) -> Iterator[Path]:
    """Folder to be filled with a report, which takes the place of an older one as a whole.

    Where other files lie in it, or it cannot be renamed, ours are moved in one by one
    once all of them are written.
    """
    if _may_be_swapped(folder):
        with replacing_folder(folder, error=ParameterError) as new:
            yield new
        return
    try:
        with scratch_folder(folder, ".report-") as new:
            yield new
            written = {each.relative_to(new) for each in new.rglob("*") if each.is_file()}
            (folder / "figures").mkdir(exist_ok=True)
            for each in sorted(written):
                os.replace(new / each, folder / each)
    except OSError as error:
        raise ParameterError(
            f"{folder} cannot be written to ({error.strerror or error}); check its permissions "
            "and the disk, or give another folder"
        ) from error
    for each in (folder / "figures").glob("*.svg"):
        # A figure of an older audit that this one has nothing to draw for.
        if _is_ours(each.relative_to(folder)) and each.relative_to(folder) not in written:
            each.unlink(missing_ok=True)


def _is_ours(file: Path) -> bool:
    return str(file) in _FILES or (file.parent == Path("figures") and file.stem in Plots.__dict__)


def _may_be_swapped(folder: Path) -> bool:
    """Whether nothing but a report is in it, and nobody holds on to the folder itself."""
    if not folder.exists():
        return True
    if folder.is_symlink() or folder.is_mount() or not os.access(folder.absolute().parent, os.W_OK):
        return False
    # A shell that stands in it would be left in a folder without a name.
    here, place = Path.cwd(), folder.resolve()
    if here == place or place in here.parents:
        return False
    files = (each.relative_to(folder) for each in folder.rglob("*") if not each.is_dir())
    return all(_is_ours(file) for file in files)


def make_folder(folder: str | os.PathLike[str]) -> Path:
    """Make the folder where it is missing, and return its path.

    Raises
    ------
    ParameterError
        As `check_folder`.
    """
    path = check_folder(folder)
    path.mkdir(parents=True, exist_ok=True)
    return path
