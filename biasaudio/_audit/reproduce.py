"""Repeat the published study, piece by piece; finished pieces are kept on disk."""

from __future__ import annotations

import functools
import hashlib
import json
import os
import zlib
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from biasaudio._audit.clips import prepare
from biasaudio._files import write_text
from biasaudio._parallel import check_n_jobs, run_all
from biasaudio._text import csv_safe
from biasaudio._validation import as_list, check_choice, name_some
from biasaudio.datasets import PUBLISHED, ClipTable, load_irmas, load_openmic
from biasaudio.errors import DataError, ParameterError, warn
from biasaudio.results import check_folder, make_folder
from biasaudio.store import EmbeddingStore
from biasaudio.transfer import MODES
from biasaudio.transfer.evaluate import Plan
from biasaudio.transfer.published import load_published_table
from biasaudio.transfer.task import Outcome, Piece, Task
from biasaudio.transfer.wang2023 import Wang2023Protocol
from biasaudio.transforms.methods import ORIGINAL, check_methods

__all__ = ["Journal", "Reproduction", "digests", "reproduce"]

_Key = dict[str, Any]
_START = b'{"crc32": "'


class Journal:
    """Keep the results of finished pieces of work in a file, a line a piece.

    Parameters
    ----------
    path : Path or None
        Made, with its folder, when the first piece is added.  None keeps
        nothing.

    Raises
    ------
    DataError
        If there is a file that cannot be read, or is none of these.

    Notes
    -----
    A piece is found again by its key, which names everything that its result
    depends on, so pieces of other data or options do no harm.  Numbers are
    written with all their digits: what is read back is what was written.  A
    line that was cut off by an interruption, or whose checksum does not fit, does
    not count: its piece is done again.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path
        self._found: dict[str, Any] = {}
        if path is None or not path.exists():
            return
        try:
            whole, newline, cut_off = path.read_bytes().rpartition(b"\n")
            lines = whole.split(b"\n") if whole else []
            entries = [_entry(line) for line in lines]
            if lines and not any(entries) and not lines[0].startswith(_START):
                raise ValueError("its first line is of something else")
            if cut_off and not lines and not cut_off.startswith(_START[: len(cut_off)]):
                raise ValueError("it is of something else")
        except (OSError, ValueError) as error:
            raise DataError(
                f"{path} is not a record of finished work ({error}); remove it, or write to "
                "another folder"
            ) from error
        self._found = {_text(entry["key"]): entry["result"] for entry in entries if entry}
        if bad := entries.count(None):
            warn(
                f"{path}: {bad} of {len(lines)} lines are not what was written; these pieces are "
                "done again"
            )
        if cut_off:
            # It would make one line with what is added next.
            os.truncate(path, len(whole + newline))

    def get(self, key: _Key) -> Any:
        """Return the result of a finished piece, or None."""
        return self._found.get(_text(key))

    def add(self, key: _Key, result: Any) -> None:
        """Write down the result of a piece; it is on disk when this returns."""
        self._found[_text(key)] = result
        if self._path is None:
            return
        make_folder(self._path.parent)
        line = _line({"key": key, "result": result})
        # One write to the end: a second study in the same folder loses nothing.
        with self._path.open("ab", buffering=0) as stream:
            stream.write(line)
            os.fsync(stream.fileno())


def _line(entry: dict[str, Any]) -> bytes:
    """A line of the file: the CRC-32 of what follows, and the entry as JSON."""
    text = json.dumps(entry).encode()
    return b'{"crc32": "%08x", "entry": %s}\n' % (zlib.crc32(text), text)


def _entry(line: bytes) -> dict[str, Any] | None:
    """What a line says, None if it is not what was written."""
    try:
        entry = json.loads(line)["entry"]
        if _line(entry) == line + b"\n" and {"key", "result"} <= set(entry):
            return dict(entry)
    except (ValueError, KeyError, TypeError, RecursionError):
        pass
    return None


def digests(task: Task) -> list[str]:
    """Return a short text for each label, which changes with any number that it depends on."""
    shared = hashlib.sha256()
    genre = [] if task.genre is None else [task.genre.astype(str)]
    for part in (task.X, task.is_train, task.domain.astype(str), *genre):
        shared.update(f"{part.dtype} {part.shape}".encode())
        shared.update(np.ascontiguousarray(part).data)
    found = []
    for j in range(len(task.label_names)):
        one = shared.copy()
        one.update(np.packbits(task.Y[:, j]).tobytes() + np.packbits(task.mask[:, j]).tobytes())
        found.append(one.hexdigest()[:16])
    return found


def _text(key: _Key) -> str:
    return json.dumps(key, sort_keys=True)


PUBLISHED_COLUMNS = (
    "instrument",
    "train_set",
    "test_set",
    "precision",
    "recall",
    "f1-score",
    "support",
    "accuracy",
    "roc_auc",
    "ap",
    "embedding",
)
_PUBLISHED_METHODS = ("lda", "mlda", "k", "klda", "mklda")
# To be raised when the same data and options give other rows.
_RESULTS = 1
_OPENMIC_FOLDERS = ("openmic-2018", "openmic2018", "openmic")
_IRMAS_FOLDERS = ("irmas", "IRMAS")


@dataclass(frozen=True)
class Reproduction:
    """Hold the repeated study.

    Attributes
    ----------
    rows : dict of str to pd.DataFrame
        For each mode the rows with the published columns and row labels.
    tables : dict of str to pd.DataFrame
        For each mode the means over instruments beside the published ones:
        ``embedding, method, train_set, test_set, roc_auc, published,
        difference, n_instruments``, as shares of one.
    """

    rows: dict[str, pd.DataFrame]
    tables: dict[str, pd.DataFrame]

    def save(self, folder: str | os.PathLike[str]) -> Path:
        """Write ``result_all_<mode>.csv`` and ``table_<mode>.csv``; return the folder."""
        folder = make_folder(folder)
        for mode, rows in self.rows.items():
            for name, frame in (("result_all", rows), ("table", self.tables[mode])):
                write_text(folder / f"{name}_{mode}.csv", csv_safe(frame).to_csv(index=False))
        return folder


def reproduce(
    folder: str | os.PathLike[str],
    *,
    embeddings: str | Sequence[str] | None = None,
    methods: str | Sequence[str] | None = None,
    modes: str | Sequence[str] = MODES,
    labels: str | Sequence[str] | None = None,
    solver: str = "newton",
    missing: str = "raise",
    unknown: str = "raise",
    out: str | os.PathLike[str] | None = None,
    cache: bool = True,
    n_jobs: int = 1,
    progress: bool = False,
) -> Reproduction:
    """Repeat the study of Wang, Richard and McFee (2023).

    Parameters
    ----------
    folder : path-like
        Holds ``embeddings.h5``, a folder ``openmic-2018`` and a folder
        ``irmas`` with ``split_train.csv`` and ``split_test.csv``.
    embeddings : sequence of str, optional
        Default all that both datasets have.
    methods : sequence of str, optional
        Default the published ones: ``lda``, ``mlda``, ``k``, ``klda`` and
        ``mklda``; others of `biasaudio.transforms.METHODS` are run under the
        same protocol.
    modes : sequence of {"global", "classwise"}
    labels : sequence of str, optional
        Instruments; default the published ten.
    solver : {"newton", "liblinear"}
        Of the classifiers: exact, or the published one, which takes 5 to 25
        times as long for the same, see `biasaudio.transfer.logistic`.
    missing, unknown : {"raise", "drop"}
        What to do about clips without vectors, and vectors without clips.
    out : path-like, optional
        A folder that keeps the finished pieces, in ``finished.jsonl``: the
        same call goes on where an interrupted one stopped, and returns the
        same numbers.
    cache : bool
        Keep pooled vectors beside ``embeddings.h5``, and use them again.
    n_jobs : int
        Processes; the numbers do not depend on it.
    progress : bool

    Returns
    -------
    Reproduction

    Raises
    ------
    ParameterError
        If an embedding, method, mode or label is unknown.
    DataError, StoreError
        If a part of the folder is missing or does not fit the others.

    Warns
    -----
    BiasAudioWarning
        If an instrument is left out for want of clips.

    References
    ----------
    Wang, Richard, McFee: Transfer Learning and Bias Correction with
    Pre-trained Audio Embeddings. ISMIR 2023, arXiv:2307.10834.
    """
    folder = Path(folder)
    wanted = check_methods(_PUBLISHED_METHODS if methods is None else as_list(methods))
    chosen = [method.name for method in wanted]
    modes = [check_choice(mode, "modes", MODES) for mode in dict.fromkeys(as_list(modes))]
    if not modes:
        raise ParameterError(f"modes is empty; give one or both of {', '.join(MODES)}")
    check_n_jobs(n_jobs)
    clips = _published_clips(folder)
    store = EmbeddingStore(folder / "embeddings.h5", cache=cache)
    datasets = ["irmas", "openmic"]
    shared = [n for n in store.embeddings(datasets[0]) if n in store.embeddings(datasets[1])]
    embeddings = shared if embeddings is None else list(dict.fromkeys(as_list(embeddings)))
    for name in embeddings:
        check_choice(name, "embeddings", shared)
    journal = Journal(None if out is None else check_folder(out) / "finished.jsonl")
    found: list[pd.DataFrame] = []
    for name in embeddings:
        table = store.table(name, clips, datasets, missing=missing, unknown=unknown)
        prepared = prepare(table, labels=labels, protocol="wang2023", seed=0)
        _warn_of(f"{entry['what']} is left out: {entry['why']}" for entry in prepared.excluded)
        task = prepared.task(prepared.vectors(table))
        plan = Plan.of(task, chosen, "wang2023", modes, solver=solver)
        rows = pd.DataFrame(_run(plan, name, journal, n_jobs, progress))
        found.append(_in_order(rows.assign(embedding=name), chosen))
    rows = pd.concat(found, ignore_index=True)
    by_mode = {mode: rows[rows["mode"] == mode].reset_index(drop=True) for mode in modes}
    return Reproduction(
        {mode: _published_rows(part) for mode, part in by_mode.items()},
        {mode: _table(part, mode) for mode, part in by_mode.items()},
    )


def _published_clips(folder: Path) -> ClipTable:
    """Return the clips of both datasets, in the published vocabulary."""
    if not folder.is_dir():
        raise DataError(
            f"{folder} is not a folder; give one with embeddings.h5, openmic-2018/ and irmas/"
        )
    openmic = load_openmic(_subfolder(folder, _OPENMIC_FOLDERS))
    irmas = load_irmas(_subfolder(folder, _IRMAS_FOLDERS))
    if not {"train", "test"} <= set(irmas.split) <= {"train", "test"}:
        raise DataError(
            f"{folder / 'irmas'} has no train/test split for every clip; put the published "
            "split_train.csv and split_test.csv (one key a line) into it"
        )
    return PUBLISHED.apply(ClipTable.concat([irmas, openmic]))


def _run(
    plan: Plan, embedding: str, journal: Journal, n_jobs: int, progress: bool
) -> list[dict[str, Any]]:
    """Return the rows of one embedding; what is in the journal is not worked on again."""
    data = digests(plan.task)
    keys = [
        {"embedding": embedding, "data": data[piece.labels[0]], **_key(plan, piece)}
        for piece in plan.pieces
    ]
    found = [journal.get(key) for key in keys]
    _warn_of(dict.fromkeys(text for one in found if one for text in one["warnings"]))
    todo = [i for i, one in enumerate(found) if one is None]

    def keep(k: int, rows: list[dict[str, Any]], texts: list[str]) -> None:
        found[todo[k]] = {"rows": rows, "warnings": texts}
        journal.add(keys[todo[k]], found[todo[k]])

    run_all(
        functools.partial(_rows_of, plan.run),
        [plan.pieces[i] for i in todo],
        n_jobs=n_jobs,
        progress=embedding if progress else None,
        on_result=keep,
    )
    return [row for one in found for row in one["rows"]]


def _key(plan: Plan, piece: Piece) -> dict[str, Any]:
    """Return what the rows of a piece depend on, beside the data."""
    return {
        "version": [version("biasaudio"), _RESULTS],
        "label": plan.task.label_names[piece.labels[0]],
        "methods": [method.name if method else ORIGINAL for method in piece.methods],
        "modes": list(piece.modes),
        "solver": plan.protocol.solver if isinstance(plan.protocol, Wang2023Protocol) else "",
    }


def _rows_of(run: Callable[[Piece], list[Outcome]], piece: Piece) -> list[dict[str, Any]]:
    return [outcome.row() for outcome in run(piece)]


def _warn_of(texts: Iterable[str]) -> None:
    for text in texts:
        warn(text)


def _subfolder(folder: Path, names: Sequence[str]) -> Path:
    for name in names:
        if (folder / name).is_dir():
            return folder / name
    there = sorted(path.name for path in folder.iterdir())
    raise DataError(
        f"{folder} has no folder {names[0]!r}, only {name_some(there, 5) or 'nothing'}; "
        "lay the data out as the README says"
    )


def _in_order(rows: pd.DataFrame, methods: Sequence[str]) -> pd.DataFrame:
    """The rows of one embedding in the published order."""
    order = {method: i for i, method in enumerate((ORIGINAL, *methods))}
    rows = rows.assign(
        rank=rows["method"].map(order),
        # A training set's own test set comes first, as published.
        is_other=rows["train_set"] != rows["test_set"],
    )
    return rows.sort_values(["rank", "train_set", "is_other", "instrument"], ignore_index=True)


def _published_rows(rows: pd.DataFrame) -> pd.DataFrame:
    """The published columns; a method stands in the label of the embedding, as ``vggish-lda``."""
    labels = [
        name if method == ORIGINAL else f"{name}-{method}"
        for name, method in zip(rows["embedding"], rows["method"])
    ]
    return rows.assign(embedding=labels)[list(PUBLISHED_COLUMNS)]


def _table(rows: pd.DataFrame, mode: str) -> pd.DataFrame:
    """The means over instruments beside the published ones."""
    keys = ["embedding", "method", "train_set", "test_set"]
    grouped = rows.groupby(keys, sort=False)["roc_auc"]
    ours = grouped.agg(roc_auc="mean", n_instruments="size").reset_index()
    theirs = load_published_table(mode).rename(columns={"roc_auc": "published"})
    table = ours.merge(theirs[[*keys, "published"]], on=keys, how="left")
    table["difference"] = table["roc_auc"] - table["published"]
    return table[[*keys, "roc_auc", "published", "difference", "n_instruments"]]
