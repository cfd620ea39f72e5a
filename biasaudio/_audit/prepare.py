"""From a table of clips to what can be compared: labels, split, classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio._audit.labels import (
    check_labels,
    classes,
    keep,
    lacking_anywhere,
    lacking_in_parts,
    related,
    some_reasons,
)
from biasaudio._audit.split import choose_split
from biasaudio._validation import check_choice, name_some
from biasaudio.datasets import PUBLISHED, ClipTable, EmbeddingTable
from biasaudio.errors import DataError
from biasaudio.transfer import Task

__all__ = ["Prepared", "prepare"]


@dataclass
class Prepared:
    """Hold the clips of one audit, the same for all of its embeddings.

    Attributes
    ----------
    clips : ClipTable
        The clips that take part, with the labels that take part.
    is_train : np.ndarray of bool [shape=(n,)]
    classes : np.ndarray of str [shape=(n,)]
        The class of each clip for equal class mix, "" for none.
    excluded : list of dict
        ``what`` was left out and ``why``.
    notes : list of str
    """

    clips: ClipTable
    is_train: NDArray[np.bool_]
    classes: NDArray[Any]
    excluded: list[dict[str, str]] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)

    @property
    def has_transfer(self) -> bool:
        """Whether there are two datasets and labels to compare them by."""
        return len(self.clips.datasets) > 1 and bool(self.clips.label_names)

    @property
    def has_genres(self) -> bool:
        """Whether two genres at least are known."""
        return len(set(self.clips.genre) - {""}) > 1

    @property
    def has_classes(self) -> bool:
        """Whether clips have classes, so that class mix can be made equal."""
        return bool((self.classes != "").any())

    def vectors(self, table: EmbeddingTable) -> NDArray[np.float32]:
        """Return the vectors of these clips, by key and in their order.

        Raises
        ------
        DataError
            If the table lacks one of the clips, or all vectors are the same.
        """
        keys = zip(table.clips.dataset, table.clips.clip_id)
        place = {key: i for i, key in enumerate(keys)}
        wanted = list(zip(self.clips.dataset, self.clips.clip_id))
        lost = [clip for key in wanted if key not in place for clip in key[1:]]
        if lost:
            raise DataError(
                f"embedding {table.embedding!r} has no vector for {len(lost)} clips that another "
                f"embedding has: {name_some(lost)}; audit the embeddings one by one"
            )
        X = table.X[[place[key] for key in wanted]]
        if (X == X[0]).all():
            raise DataError(
                f"embedding {table.embedding!r} has the same vector for all {len(X)} clips, so "
                "there is nothing to measure; check how it was computed"
            )
        return X

    def task(self, X: NDArray[np.float32]) -> Task:
        """Return the transfer task for the vectors of these clips."""
        clips = self.clips
        return Task(
            X=X,
            domain=clips.dataset.astype(str),
            is_train=self.is_train,
            Y=clips.labels.to_numpy(dtype=bool),
            mask=clips.mask.to_numpy(dtype=bool),
            label_names=tuple(clips.label_names),
            groups=clips.group_id,
            genre=clips.genre.astype(str) if self.has_genres else None,
        )


def prepare(
    table: EmbeddingTable,
    *,
    labels: str | Sequence[str] | None,
    protocol: str,
    seed: int,
    split: str = "given",
    need_labels: bool = True,
) -> Prepared:
    """Choose clips, labels and split of an audit.

    Parameters
    ----------
    table : EmbeddingTable
    labels : sequence of str, optional
        None means those that all datasets can be compared by.
    protocol : {"default", "wang2023"}
    seed : int
        For the split, where it is drawn.
    split : {"given", "drawn"}
        The datasets' own where they bring one, or drawn for all.
    need_labels : bool
        Whether datasets that have labels, but none in common, are refused.

    Returns
    -------
    Prepared

    Raises
    ------
    ParameterError
        If a label is unknown.
    DataError
        If there is nothing to compare.
    """
    check_choice(split, "split", ("given", "drawn"))
    clips = _published(table.clips) if protocol == "wang2023" else table.clips
    clips = clips.with_columns(split="") if split == "drawn" else clips
    asked = check_labels(labels, clips)
    if asked is not None and len(clips.datasets) < 2:
        clips = clips.with_labels(asked)
    if len(clips.datasets) < 2:
        return _one_dataset(clips)
    excluded: list[dict[str, str]] = []
    lacking = lacking_anywhere(clips)
    shared = keep(lacking, asked, excluded)
    if lacking and not shared and need_labels:
        raise DataError(
            f"{name_some(clips.datasets)} cannot be compared by any label: "
            f"{some_reasons(lacking)}; rename labels that mean the same, or add clips"
        )
    clips = clips.with_labels(shared)
    is_train, note = choose_split(clips, seed)
    lacking = lacking_in_parts(clips, is_train)
    testable = keep(lacking, asked, excluded)
    if shared and not testable and need_labels:
        raise DataError(
            f"{name_some(clips.datasets)} have too few clips for any label: "
            f"{some_reasons(lacking)}; add clips, or choose other datasets"
        )
    clips = clips.with_labels(testable)
    if protocol == "default":
        rows = _related(clips, is_train, excluded)
        clips, is_train = clips.select(rows), is_train[rows]
    if asked is not None:
        clips = clips.with_labels(asked)
    if not testable:
        excluded.append({"what": "transfer", "why": "there is no label to compare the datasets by"})
    _note_genres(clips, excluded)
    return Prepared(clips, is_train, classes(clips), excluded, [note])


def _published(clips: ClipTable) -> ClipTable:
    """Return the clips of the published labels and genres, in the published order."""
    kept = PUBLISHED.apply(clips)
    if len(kept.datasets) < 2:
        raise DataError(
            f"protocol wang2023 needs clips of two datasets with one of the genres "
            f"{name_some(PUBLISHED.genres or (), 9)}, and {name_some(kept.datasets) or 'none'} has "
            f"such clips; the genres are {name_some(np.unique(clips.genre.astype(str)), 9)}: "
            "rename those that mean the same, or use protocol 'default'"
        )
    # The published samples depend on the order of the clips: it was that of the keys.
    return kept.select(np.lexsort((kept.clip_id.astype(str), kept.dataset.astype(str))))


def _one_dataset(clips: ClipTable) -> Prepared:
    """Return what is left to ask of one dataset: its genres."""
    known = clips.genre != ""
    if len(set(clips.genre[known])) < 2:
        raise DataError(
            f"there is one dataset only, {clips.datasets[0]!r}, and it has no two genres to tell "
            "apart; give clips of two datasets, or genres"
        )
    excluded = [
        {
            "what": "transfer, dataset probe and corrections",
            "why": "there is one dataset only",
        }
    ]
    _note_genres(clips, excluded)
    clips = clips.select(known)
    return Prepared(clips, np.ones(len(clips), dtype=bool), classes(clips), excluded)


def _note_genres(clips: ClipTable, excluded: list[dict[str, str]]) -> None:
    without = int((clips.genre == "").sum())
    if 0 < without < len(clips):
        excluded.append({"what": "genre", "why": f"{without} clips have no known genre"})


def _related(
    clips: ClipTable, is_train: NDArray[np.bool_], excluded: list[dict[str, str]]
) -> NDArray[np.bool_]:
    """Return the clips to compare, and note how many others there are."""
    rows = related(clips)
    if any(lacking_in_parts(clips.select(rows), is_train[rows]).values()):
        # Some label has nothing else to be told from.
        return np.ones(len(clips), dtype=bool)
    for name in clips.datasets:
        n = int((~rows & (clips.dataset == name)).sum())
        if n:
            why = "they are of no class that is compared, or not annotated"
            excluded.append({"what": f"{n} clips of {name}", "why": why})
    return rows
