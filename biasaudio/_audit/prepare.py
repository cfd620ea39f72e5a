"""From a table of clips to what can be compared: labels, split, classes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio._validation import check_groups_do_not_straddle, did_you_mean, name_some
from biasaudio.datasets import PUBLISHED, ClipTable, EmbeddingTable
from biasaudio.errors import DataError, ParameterError
from biasaudio.probes._splits import assign_parts
from biasaudio.transfer import Task
from biasaudio.transforms.methods import Method

__all__ = ["Prepared", "prepare"]

# With fewer positive groups than this on a side, an ROC-AUC says next to nothing.
FEWEST_GROUPS = 3
_TEST_SHARE = 3


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
        """Whether every clip has a genre, and there are two at least."""
        genres = set(self.clips.genre)
        return len(genres) > 1 and "" not in genres

    @property
    def has_classes(self) -> bool:
        """Whether clips have classes, so that class mix can be made equal."""
        return bool((self.classes != "").any())

    def vectors(self, table: EmbeddingTable) -> NDArray[np.float32]:
        """Return the vectors of these clips, by key and in their order.

        Raises
        ------
        DataError
            If the table lacks one of the clips.
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
        return table.X[[place[key] for key in wanted]]

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

    def usable(self, methods: Sequence[Method], *, asked: bool) -> list[Method]:
        """Return the methods whose needs the clips meet.

        Parameters
        ----------
        methods : sequence of Method
        asked : bool
            Whether the user named them; then a need that is not met raises.

        Returns
        -------
        list of Method
        """
        kept = []
        for method in methods:
            why = self._why_not(method)
            if why and asked:
                raise DataError(f"method {method.name!r} cannot be used: {why}; leave it out")
            if why:
                self.excluded.append({"what": f"method {method.name}", "why": why})
            else:
                kept.append(method)
        return kept

    def _why_not(self, method: Method) -> str:
        if "genre" not in method.needs:
            return ""
        if not self.has_genres:
            return "it needs a genre for every clip and two genres at least"
        genre, dataset = self.clips.genre, self.clips.dataset
        for name in self.clips.datasets:
            found = sorted(set(genre[dataset == name]))
            if len(found) < 2:
                return f"dataset {name!r} has a single genre, {found[0]!r}, and it needs two"
        return ""


def prepare(
    table: EmbeddingTable, *, labels: Sequence[str] | None, protocol: str, seed: int
) -> Prepared:
    """Choose clips, labels and split of an audit.

    Parameters
    ----------
    table : EmbeddingTable
    labels : sequence of str, optional
        None means those that all datasets can be compared by.
    protocol : {"default", "wang2023"}
    seed : int
        For the split, where the datasets do not bring one.

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
    clips = table.clips
    if protocol == "wang2023":
        clips = PUBLISHED.apply(clips)
        # The published samples depend on the order of the clips: it was that of the keys.
        clips = clips.select(np.lexsort((clips.clip_id.astype(str), clips.dataset.astype(str))))
    asked = labels is not None
    if labels is not None:
        unknown = [name for name in labels if name not in clips.label_names]
        if unknown:
            raise ParameterError(
                f"label {unknown[0]!r} is not known; choose among "
                f"{name_some(clips.label_names, 30)}{did_you_mean(unknown[0], clips.label_names)}"
            )
        clips = clips.with_labels(list(labels))
    if len(clips.datasets) == 1:
        return _one_dataset(clips)
    excluded: list[dict[str, str]] = []
    clips = _comparable(clips, _shared(clips, excluded, asked=asked))
    if "" in set(clips.genre) and len(set(clips.genre)) > 1:
        without = int((clips.genre == "").sum())
        excluded.append({"what": "genre", "why": f"{without} clips have no known genre"})
    is_train, note = _split(clips, seed)
    result = Prepared(clips, is_train, _classes(clips), excluded, [note])
    testable = _testable(result, asked=asked)
    if testable != clips.label_names:
        result.clips = _comparable(clips, testable)
        kept = np.isin(_names(clips), _names(result.clips))
        result.is_train, result.classes = is_train[kept], _classes(result.clips)
    return result


def _names(clips: ClipTable) -> NDArray[Any]:
    return np.array([f"{d}\0{c}" for d, c in zip(clips.dataset, clips.clip_id)])


def _one_dataset(clips: ClipTable) -> Prepared:
    """Return what is left to ask of one dataset: its genres."""
    known = clips.genre != ""
    if len(set(clips.genre[known])) < 2:
        raise DataError(
            f"there is one dataset only, {clips.datasets[0]!r}, and it has no two genres to tell "
            "apart; give clips of two datasets, or genres"
        )
    clips = clips.select(known)
    return Prepared(
        clips,
        np.ones(len(clips), dtype=bool),
        _classes(clips),
        [{"what": "transfer and dataset probe", "why": "there is one dataset only"}],
        [],
    )


def _shared(clips: ClipTable, excluded: list[dict[str, str]], *, asked: bool) -> list[str]:
    """Return the labels with positives and negatives in every dataset."""
    kept = []
    for name in clips.label_names:
        truth, mask = clips.labels[name].to_numpy(), clips.mask[name].to_numpy()
        lacking = [
            f"no {what} in {dataset!r}"
            for dataset in clips.datasets
            for what, there in (("positives", truth), ("negatives", mask & ~truth))
            if not (there & (clips.dataset == dataset)).any()
        ]
        if not lacking:
            kept.append(name)
        elif asked:
            raise DataError(f"label {name!r} has {lacking[0]}; leave it out of labels")
        else:
            excluded.append({"what": f"label {name}", "why": "; ".join(lacking)})
    if clips.label_names and not kept:
        raise DataError(
            f"{name_some(clips.datasets)} have no label in common; the labels are "
            f"{name_some(clips.label_names, 20)}: rename those that mean the same"
        )
    return kept


def _comparable(clips: ClipTable, labels: list[str]) -> ClipTable:
    """Return the clips that say something about these labels.

    A clip that is known for sure to have none of them, such as a banjo note
    where the datasets share no banjo, would make the datasets look different
    for what they hold and not for how they sound.
    """
    if not clips.label_names:
        return clips
    complete = clips.mask.to_numpy(dtype=bool).all(axis=1)
    kept = clips.with_labels(labels)
    positive = kept.labels.to_numpy(dtype=bool).any(axis=1)
    annotated = kept.mask.to_numpy(dtype=bool).any(axis=1)
    return kept.select(positive | (annotated & ~complete))


def _split(clips: ClipTable, seed: int) -> tuple[NDArray[np.bool_], str]:
    """Return the training clips: by the given split, else drawn by group."""
    split, dataset = clips.split, clips.dataset
    is_train = split == "train"
    drawn = []
    for name in clips.datasets:
        rows = np.flatnonzero(dataset == name)
        if {"train", "test"} <= set(split[rows]) <= {"train", "test"}:
            check_groups_do_not_straddle(clips.group[rows], split[rows], what=f"split of {name!r}")
            continue
        drawn.append(name)
        classes = np.unique(_classes(clips)[rows], return_inverse=True)[1]
        part = assign_parts(
            clips.group_id[rows],
            np.zeros(len(rows), dtype=np.intp),
            classes,
            _TEST_SHARE,
            np.random.default_rng(seed),
            np.array([name]),
        )
        is_train[rows] = part > 0
    if not drawn:
        return is_train, "The split into training and test clips is the datasets' own."
    return is_train, (
        f"{' and '.join(drawn)} came without a complete train/test split: a third of the groups "
        f"was drawn as test set, stratified by class (seed {seed})."
    )


def _classes(clips: ClipTable) -> NDArray[Any]:
    """Return one class a clip: its only positive label, or the rarest of several."""
    truth = clips.labels.to_numpy(dtype=bool)
    if not truth.shape[1]:
        return np.full(len(clips), "")
    rarity = np.argsort(np.argsort(truth.sum(axis=0), kind="stable"), kind="stable")
    rank = np.where(truth, rarity, len(rarity))
    names = np.array([*clips.label_names, ""])
    return np.where(truth.any(axis=1), names[rank.argmin(axis=1)], "")


def _testable(prepared: Prepared, *, asked: bool) -> list[str]:
    """Return the labels with enough groups on both sides of the split."""
    clips, kept = prepared.clips, []
    for name in clips.label_names:
        truth, mask = clips.labels[name].to_numpy(), clips.mask[name].to_numpy()
        lacking = ""
        for dataset in clips.datasets:
            for part, inside in (("training", prepared.is_train), ("test", ~prepared.is_train)):
                rows = inside & (clips.dataset == dataset) & mask
                for what, there in (("positive", rows & truth), ("negative", rows & ~truth)):
                    n = len(np.unique(clips.group_id[there]))
                    if n < FEWEST_GROUPS and not lacking:
                        lacking = f"{n} {what} groups among the {part} clips of {dataset!r}"
        if not lacking:
            kept.append(name)
            continue
        if asked:
            raise DataError(
                f"label {name!r} has {lacking}, fewer than {FEWEST_GROUPS}; leave it out of labels"
            )
        prepared.excluded.append({"what": f"label {name}", "why": lacking})
    if clips.label_names and not kept:
        raise DataError(
            f"no label has {FEWEST_GROUPS} positive and negative groups in the training and the "
            f"test part of every dataset; the last one has {lacking}: add clips"
        )
    return kept
