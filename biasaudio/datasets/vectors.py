"""Vectors and what is known about their clips, joined by key."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import ArrayLike, NDArray

from biasaudio._validation import check_choice, check_features, name_some
from biasaudio.datasets.table import ClipTable, check_names, row_numbers, text_column
from biasaudio.errors import DataError, ParameterError, warn

__all__ = ["EmbeddingTable", "JoinReport"]


@dataclass(frozen=True)
class JoinReport:
    """Keys that a join did and did not match.

    Attributes
    ----------
    n_matched : int
        Clips that have a vector.
    missing : tuple of str
        Clips without a vector.
    unknown : tuple of str
        Keys of vectors that are no clip, and were not left out on purpose.
    duplicates : tuple of str
        Keys that came more than once among the vectors that were left out.
    dropped : int
        Vectors of clips that a reader or a vocabulary left out on purpose.
    """

    n_matched: int
    missing: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    duplicates: tuple[str, ...] = ()
    dropped: int = 0


@dataclass(frozen=True, eq=False)
class EmbeddingTable:
    """One vector per clip.

    Attributes
    ----------
    X : np.ndarray [shape=(n, d), dtype=float32]
        Row i belongs to clip i; write-protected.
    clips : ClipTable
        What the n clips are.
    embedding : str
        The name of the embedding.
    report : JoinReport, optional
        What `join` found.

    Raises
    ------
    DataError
        If X is not 2-d, empty, not finite in float32, or not one row per clip.

    Examples
    --------
    >>> clips = ClipTable.from_columns(["a", "b"], "demo")
    >>> table = EmbeddingTable.join([[3.0], [1.0]], [b"b", b"a"], clips)
    >>> table.X.ravel().tolist()
    [1.0, 3.0]
    """

    X: NDArray[np.float32]
    clips: ClipTable
    embedding: str = ""
    report: JoinReport | None = None

    def __post_init__(self) -> None:
        """Check X and protect it from writing."""
        X = _as_float32(self.X, self.clips.clip_id)
        if len(X) != len(self.clips):
            raise DataError(
                f"X has {len(X)} rows, but there are {len(self.clips)} clips; give one vector "
                "per clip, or use EmbeddingTable.join to match them by key"
            )
        view = X.view()
        view.flags.writeable = False
        object.__setattr__(self, "X", view)

    def __len__(self) -> int:
        """Count the clips."""
        return len(self.X)

    def __repr__(self) -> str:
        """One line: embedding, shape and clips."""
        n, d = self.X.shape
        return f"EmbeddingTable({self.embedding or 'unnamed'}, {n} x {d}, {self.clips!r})"

    @classmethod
    def join(
        cls,
        X: ArrayLike,
        keys: ArrayLike,
        clips: ClipTable,
        *,
        embedding: str = "",
        dataset: str | None = None,
        missing: str = "raise",
        unknown: str = "raise",
    ) -> EmbeddingTable:
        """Match the vectors of one dataset with its clips, by key.

        Parameters
        ----------
        X : array_like [shape=(m, d)]
            One row per key, in any order.
        keys : array_like of str or bytes [shape=(m,)]
            The clip id of each row.
        clips : ClipTable
            The clips; the result has their order.
        embedding : str
            The name of the embedding.
        dataset : str, optional
            Which dataset the keys belong to; needed if ``clips`` holds several.
        missing : {'raise', 'drop'}
            What to do about clips without a vector.
        unknown : {'raise', 'drop'}
            What to do about vectors whose key is no clip.

        Returns
        -------
        EmbeddingTable
            With a `JoinReport`.

        Raises
        ------
        DataError
            If keys are repeated, missing, unknown, or match nothing, or a
            matched vector has NaN or Inf.
        ParameterError
            If ``dataset`` is not in ``clips``, or is needed and not given.

        Warns
        -----
        BiasAudioWarning
            If clips or vectors were left out because of ``"drop"``.
        """
        check_choice(missing, "missing", ("raise", "drop"))
        check_choice(unknown, "unknown", ("raise", "drop"))
        X = np.asarray(X)
        names = text_column(np.asarray(keys), "keys", len(np.atleast_1d(keys)), required=True)
        if X.ndim != 2 or len(X) != len(names):
            raise DataError(
                f"X has shape {X.shape}, but there are {len(names)} keys; give one row of X per key"
            )
        clips, left_out = _one_dataset(clips, dataset)
        rows, report = _match(names, clips, left_out)
        _refuse_or_warn(report, missing, unknown)
        matched = clips.select(rows >= 0) if report.missing else clips
        return cls(X[rows[rows >= 0]], matched, embedding, report)

    def select(self, rows: ArrayLike) -> EmbeddingTable:
        """Select some clips.

        Parameters
        ----------
        rows : array_like
            A bool mask [shape=(n,)] or row numbers.
        """
        at = row_numbers(rows, len(self))
        return EmbeddingTable(self.X[at], self.clips.select(at), self.embedding, self.report)

    @staticmethod
    def concat(tables: Sequence[EmbeddingTable]) -> EmbeddingTable:
        """Join the clips of all tables of one embedding, one after the other.

        Parameters
        ----------
        tables : sequence of EmbeddingTable
            At least one.

        Returns
        -------
        EmbeddingTable
            Its report is the sum of the reports that there are.

        Raises
        ------
        ParameterError
            If there is no table, or they are of several embeddings.
        DataError
            If the widths differ.
        """
        if not tables:
            raise ParameterError("tables is empty; give at least one EmbeddingTable")
        names = list(dict.fromkeys(table.embedding for table in tables))
        if len(names) > 1:
            raise ParameterError(
                f"the tables are of several embeddings, {name_some(names)}; give tables of one"
            )
        widths = list(dict.fromkeys(table.X.shape[1] for table in tables))
        if len(widths) > 1:
            raise DataError(
                f"the tables have {' and '.join(map(str, widths))} features; "
                "give vectors of one embedding"
            )
        clips = ClipTable.concat([table.clips for table in tables])
        reports = [table.report for table in tables if table.report is not None]
        X = np.concatenate([table.X for table in tables])
        return EmbeddingTable(X, clips, names[0], _sum_reports(reports) if reports else None)


def _as_float32(X: Any, names: NDArray[np.object_]) -> NDArray[np.float32]:
    array = np.asarray(X)
    if array.dtype.kind in "fiub":
        # A float64 beyond the range of float32 becomes Inf, which is named below.
        with np.errstate(over="ignore"):
            array = array.astype(np.float32, copy=False)
    named = names.tolist() if len(names) == len(np.atleast_1d(array)) else None
    return check_features(array, names=named)


def _one_dataset(clips: ClipTable, dataset: str | None) -> tuple[ClipTable, pd.Index[Any]]:
    there = clips.datasets
    if dataset is None:
        if len(there) != 1:
            raise ParameterError(
                f"dataset is not given, but the clips are of {len(there)} datasets "
                f"({name_some(there) or 'none'}); say dataset=... for the keys"
            )
        dataset = there[0]
    check_names(dataset, "dataset", there)
    if clips.datasets != [dataset]:
        clips = clips.select(clips.dataset == dataset)
    left_out = clips.dropped["clip_id"][clips.dropped["dataset"] == dataset]
    return clips, pd.Index(left_out.to_numpy(dtype=object), dtype=object)


def _match(
    names: NDArray[np.object_], clips: ClipTable, left_out: pd.Index[Any]
) -> tuple[NDArray[np.intp], JoinReport]:
    keys = pd.Index(names, dtype=object)
    wanted = pd.Index(clips.clip_id, dtype=object)
    # get_indexer needs unique keys; repeated ones matter only where they match.
    is_clip = keys.isin(wanted)
    is_repeated = keys.duplicated()
    if (is_clip & is_repeated).any():
        repeated = keys[is_clip & is_repeated].unique()
        raise DataError(
            f"{len(repeated)} key(s) have more than one vector: {name_some(repeated)}; pool "
            "the frames to one vector per clip (EmbeddingStore.table does) or remove the copies"
        )
    if not is_clip.any():
        raise DataError(
            f"no key is a clip id: the keys are {name_some(names) or 'none'}, the clip ids are "
            f"{name_some(clips.clip_id) or 'none'}; give the keys of this dataset"
        )
    at = np.flatnonzero(is_clip)
    found = keys[at].get_indexer(wanted)
    rows = np.where(found >= 0, at[found], -1)
    is_dropped = ~is_clip & keys.isin(left_out)
    report = JoinReport(
        n_matched=len(at),
        missing=tuple(wanted[rows < 0]),
        unknown=tuple(keys[~is_clip & ~is_dropped].unique()),
        duplicates=tuple(keys[is_repeated].unique()),
        dropped=int(keys[is_dropped].nunique()),
    )
    return rows, report


def _refuse_or_warn(report: JoinReport, missing: str, unknown: str) -> None:
    for names, what, argument, choice in (
        (report.missing, "clip(s) have no vector", "missing", missing),
        (report.unknown, "vector(s) belong to no known clip", "unknown", unknown),
    ):
        if not names:
            continue
        found = f"{len(names)} {what}: {name_some(names)}"
        if choice == "raise":
            raise DataError(f'{found}; compute or list them, or say {argument}="drop"')
        warn(f"{found}; they are left out")


def _sum_reports(reports: Sequence[JoinReport]) -> JoinReport:
    return JoinReport(
        n_matched=sum(report.n_matched for report in reports),
        missing=tuple(name for report in reports for name in report.missing),
        unknown=tuple(name for report in reports for name in report.unknown),
        duplicates=tuple(name for report in reports for name in report.duplicates),
        dropped=sum(report.dropped for report in reports),
    )
