"""What an audit works on: vectors, labels, split, and the methods that these allow."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from biasaudio._validation import (
    check_choice,
    check_groups_do_not_straddle,
    did_you_mean,
    name_some,
)
from biasaudio.datasets import PUBLISHED, ClipTable, EmbeddingTable
from biasaudio.errors import DataError, ParameterError, warn
from biasaudio.probes.splits import assign_parts
from biasaudio.store import EmbeddingStore
from biasaudio.transfer import Task
from biasaudio.transforms._base import SMALLEST_CELL
from biasaudio.transforms.methods import Method

__all__ = [
    "FEWEST_GROUPS",
    "Prepared",
    "Source",
    "check_labels",
    "choose_split",
    "classes",
    "fingerprint",
    "fit_columns",
    "keep",
    "lacking_anywhere",
    "lacking_in_parts",
    "load_tables",
    "prepare",
    "related",
    "some_reasons",
    "usable_methods",
]

Source = str | os.PathLike[str] | EmbeddingStore | EmbeddingTable


def load_tables(
    source: Source,
    clips: ClipTable | None,
    *,
    embeddings: Sequence[str] | None,
    datasets: Sequence[str] | None,
    pool: str,
    missing: str,
    unknown: str,
    progress: bool,
) -> dict[str, EmbeddingTable]:
    """Return the table of each embedding.

    Raises
    ------
    ParameterError
        If source or clips are of another type, clips or embeddings are given
        with a table, or a dataset is not in it.
    DataError
        If the datasets have no embedding in common.
    """
    _check_types(source, clips)
    if isinstance(source, EmbeddingTable):
        if clips is not None or embeddings is not None:
            raise ParameterError(
                "clips and embeddings were given with an EmbeddingTable, which has both; leave "
                "them out, or give a store"
            )
        return {source.embedding or "embedding": _of_datasets(source, datasets)}
    store = source if isinstance(source, EmbeddingStore) else EmbeddingStore(source)
    if datasets is None and clips is not None:
        datasets = _datasets_of(clips, store)
    wanted = store.datasets() if datasets is None else datasets
    if not wanted:
        raise ParameterError(f"datasets is empty; choose from {name_some(store.datasets(), 20)}")
    held = [set(store.embeddings(name)) for name in wanted]
    shared = sorted(set.intersection(*held))
    if not shared:
        raise DataError(
            f"{name_some(wanted)} have no embedding in common; choose datasets that do, or "
            "import the missing vectors"
        )
    if embeddings is None:
        embeddings = shared
    if not embeddings:
        raise ParameterError(f"embeddings is empty; choose from {name_some(shared, 20)}")
    return {
        name: store.table(
            name, clips, wanted, pool, missing=missing, unknown=unknown, progress=progress
        )
        for name in dict.fromkeys(embeddings)
    }


def _check_types(source: object, clips: object) -> None:
    if not isinstance(source, (str, os.PathLike, EmbeddingStore, EmbeddingTable)):
        raise ParameterError(
            f"source is a {type(source).__name__}; give the path of a store, an EmbeddingStore or "
            "an EmbeddingTable (store.import_arrays makes a store from arrays)"
        )
    if clips is not None and not isinstance(clips, ClipTable):
        raise ParameterError(
            f"clips is a {type(clips).__name__}; give a ClipTable, such as "
            "datasets.load_manifest(clips) makes from a DataFrame or a file"
        )


def _of_datasets(table: EmbeddingTable, datasets: Sequence[str] | None) -> EmbeddingTable:
    if datasets is None:
        return table
    there = table.clips.datasets
    for name in datasets:
        if name not in there:
            raise ParameterError(
                f"dataset {name!r} is not in the table; choose from {name_some(there, 20)}"
                f"{did_you_mean(name, there)}"
            )
    return table.select([name in datasets for name in table.clips.dataset])


def _datasets_of(clips: ClipTable, store: EmbeddingStore) -> list[str]:
    """Return the datasets that the clips and the store share."""
    there = store.datasets()
    shared = [name for name in clips.datasets if name in there]
    lost = [name for name in clips.datasets if name not in there]
    if not shared:
        raise DataError(
            f"the clips are of {name_some(clips.datasets)}, and {store.path} has "
            f"{name_some(there)}; give clips of the datasets in the store"
        )
    if lost:
        warn(f"{store.path} has no vectors of {name_some(lost)}; the clips are left out")
    return shared


def fingerprint(source: Source) -> list[dict[str, Any]]:
    """Return path, size and sha256 of the files of a store."""
    if isinstance(source, EmbeddingTable):
        return []
    store = source if isinstance(source, EmbeddingStore) else EmbeddingStore(source)
    return store.fingerprint()


# With fewer groups than this on a side, an ROC-AUC says next to nothing.
FEWEST_GROUPS = 3


def check_labels(labels: str | Sequence[str] | None, clips: ClipTable) -> list[str] | None:
    """Return the labels as a list, each of them known; None stays None."""
    if labels is None:
        return None
    names = [labels] if isinstance(labels, str) else list(labels)
    for name in names:
        if name not in clips.label_names:
            known = name_some(clips.label_names, 30)
            there = f"choose among {known}" if known else "the clips have no labels"
            raise ParameterError(
                f"label {name!r} is not known; {there}{did_you_mean(name, clips.label_names)}"
            )
    return names


def lacking_anywhere(clips: ClipTable) -> dict[str, str]:
    """Return for each label what it lacks in a dataset, "" if nothing."""
    found = {}
    for name in clips.label_names:
        truth, mask = clips.labels[name].to_numpy(), clips.mask[name].to_numpy()
        lacking = []
        for dataset in clips.datasets:
            inside = clips.dataset == dataset
            sides = {"positives": truth & inside, "negatives": mask & ~truth & inside}
            absent = [what for what, rows in sides.items() if not rows.any()]
            if len(absent) == 2:
                absent = ["annotated clips"]
            lacking += [f"no {what} in {dataset!r}" for what in absent]
        found[name] = "; ".join(lacking)
    return found


def lacking_in_parts(clips: ClipTable, is_train: NDArray[np.bool_]) -> dict[str, str]:
    """Return for each label which part of which dataset has too few groups, "" if none."""
    found = {}
    for name in clips.label_names:
        truth, mask = clips.labels[name].to_numpy(), clips.mask[name].to_numpy()
        lacking = []
        for dataset in clips.datasets:
            for part, inside in (("training", is_train), ("test", ~is_train)):
                rows = inside & (clips.dataset == dataset) & mask
                for what, there in (("positive", rows & truth), ("negative", rows & ~truth)):
                    n = len(np.unique(clips.group_id[there]))
                    if n < FEWEST_GROUPS:
                        where = f"among the {part} clips of {dataset!r}"
                        lacking.append(f"{n} {what} group(s) {where}, fewer than {FEWEST_GROUPS}")
        found[name] = lacking[0] if lacking else ""
    return found


def keep(
    lacking: Mapping[str, str], asked: Sequence[str] | None, excluded: list[dict[str, str]]
) -> list[str]:
    """Return the labels that lack nothing.

    Parameters
    ----------
    lacking : mapping of str to str
        What each label lacks.
    asked : sequence of str, optional
        The labels that the user named.
    excluded : list of dict
        Gets the labels that are left out, unless the user named others.

    Returns
    -------
    list of str

    Raises
    ------
    DataError
        If a label that the user named lacks something.
    """
    for name, why in lacking.items():
        if why and asked is None:
            excluded.append({"what": f"label {name}", "why": why})
        elif why and name in (asked or ()):
            raise DataError(f"label {name!r} has {why}; leave it out of labels, or add such clips")
    return [name for name, why in lacking.items() if not why]


def some_reasons(lacking: Mapping[str, str], limit: int = 3) -> str:
    """Return in words what the first few labels lack, and how many more there are."""
    found = [f"{name!r} has {why}" for name, why in lacking.items() if why]
    more = [f"and {len(found) - limit} more labels"] if len(found) > limit else []
    return ", ".join([*found[:limit], *more])


def related(clips: ClipTable) -> NDArray[np.bool_]:
    """Return which clips say something about the labels.

    A clip that is known for sure to have none of them, such as a banjo note
    where the datasets share no banjo, would make the datasets look different
    for what they hold and not for how they sound.
    """
    if not clips.label_names:
        return np.ones(len(clips), dtype=bool)
    truth, mask = clips.labels.to_numpy(dtype=bool), clips.mask.to_numpy(dtype=bool)
    has_none = mask.all(axis=1) & ~truth.any(axis=1)
    return np.asarray(mask.any(axis=1) & ~has_none, dtype=bool)


def classes(clips: ClipTable) -> NDArray[Any]:
    """Return one class a clip: its only positive label, or the rarest of several."""
    truth = clips.labels.to_numpy(dtype=bool)
    if not truth.shape[1]:
        return np.full(len(clips), "")
    rarity = np.argsort(np.argsort(truth.sum(axis=0), kind="stable"), kind="stable")
    rank = np.where(truth, rarity, len(rarity))
    names = np.array([*clips.label_names, ""])
    return np.where(truth.any(axis=1), names[rank.argmin(axis=1)], "")


# One group in this many is a test group.
TEST_SHARE = 3


def choose_split(clips: ClipTable, seed: int) -> tuple[NDArray[np.bool_], str]:
    """Return the training clips: by the given split, else drawn by group."""
    split, dataset = np.char.lower(clips.split.astype(str)), clips.dataset
    is_train = split == "train"
    drawn = []
    for name in clips.datasets:
        rows = np.flatnonzero(dataset == name)
        if _is_given(split[rows], name):
            check_groups_do_not_straddle(clips.group[rows], split[rows], what=f"split of {name!r}")
            continue
        drawn.append(name)
        n_groups = len(np.unique(clips.group_id[rows]))
        if n_groups < TEST_SHARE:
            raise DataError(
                f"dataset {name!r} has {n_groups} group(s) of clips, fewer than the {TEST_SHARE} "
                "that a training and a test part need; add clips, or give them a split"
            )
        strata = np.unique(classes(clips)[rows], return_inverse=True)[1]
        part = assign_parts(
            clips.group_id[rows],
            np.zeros(len(rows), dtype=np.intp),
            strata,
            TEST_SHARE,
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


def _is_given(split: NDArray[Any], dataset: str) -> bool:
    """Say whether a dataset brings its own split; half of one is an error."""
    values, counts = np.unique(split.astype(str), return_counts=True)
    if not {"train", "test"} <= set(values):
        return False
    found = zip(values.tolist(), counts.tolist())
    other = [f"{v or 'blank'!r}: {n}" for v, n in found if v not in ("train", "test")]
    if other:
        raise DataError(
            f"dataset {dataset!r} has train and test clips and others ({', '.join(other)} clips); "
            "mark every clip 'train' or 'test', or none, or have it drawn with split='drawn'"
        )
    return True


def usable_methods(
    prepared: Prepared,
    methods: Sequence[Method],
    *,
    asked: bool,
    modes: Sequence[str] = ("global",),
    protocol: str = "default",
) -> list[Method]:
    """Return the methods whose needs the clips meet.

    Parameters
    ----------
    prepared : Prepared
        Gets a note about each method that is left out.
    methods : sequence of Method
    asked : bool
        Whether the user named them; then a need that is not met raises.
    modes : sequence of {"global", "classwise"}
    protocol : {"default", "wang2023"}

    Returns
    -------
    list of Method

    Raises
    ------
    DataError
        If a method that was asked for cannot be used.
    """
    if len(prepared.clips.datasets) < 2 and not asked:
        return []
    kept = []
    for method in methods:
        why = _why_not(prepared, method, modes, protocol)
        if why and asked:
            raise DataError(f"method {method.name!r} cannot be used: {why}; leave it out")
        if why:
            prepared.excluded.append({"what": f"method {method.name}", "why": why})
        else:
            kept.append(method)
    return kept


def fit_columns(
    prepared: Prepared, method: Method, rows: NDArray[np.intp]
) -> dict[str, NDArray[Any]]:
    """Return the keywords of ``fit`` beside ``domain`` that a method uses, of these clips."""
    clips = prepared.clips
    known = {
        "genre": clips.genre.astype(str),
        "label": prepared.classes,
        "groups": clips.group_id,
    }
    wanted = (*method.needs, *method.takes)
    return {name: column[rows] for name, column in known.items() if name in wanted}


def _why_not(prepared: Prepared, method: Method, modes: Sequence[str], protocol: str) -> str:
    if len(prepared.clips.datasets) < 2:
        return f"there is one dataset only, {prepared.clips.datasets[0]!r}, and it needs two"
    if "label" in method.needs and not prepared.has_classes:
        return "it needs the class of each clip, and there are no labels that the datasets share"
    if not set(modes) & set(method.modes):
        return "it compares classes, and mode classwise fits on one alone: use mode global"
    if method.is_per_target and protocol == "wang2023":
        return "it is fitted for one target at a time: use protocol default"
    # The published code goes on with what there is, and compat mode does the same.
    if "genre" not in method.needs or (protocol == "wang2023" and prepared.has_genres):
        return ""
    few = _few_genres(prepared, prepared.is_train)
    if few or "classwise" not in modes:
        return few
    for name in prepared.clips.label_names:
        has_label = prepared.clips.labels[name].to_numpy(dtype=bool)
        few = _few_genres(prepared, prepared.is_train & has_label)
        if few:
            return f"in mode classwise, for label {name!r}, {few}"
    return ""


def _few_genres(prepared: Prepared, rows: NDArray[np.bool_]) -> str:
    """Say why genres cannot be compared on these clips, or nothing."""
    genre, dataset = prepared.clips.genre[rows], prepared.clips.dataset[rows]
    for name in prepared.clips.datasets:
        found = sorted(set(genre[dataset == name]) - {""})
        if len(found) < 2:
            what = f"a single genre, {found[0]!r}" if found else "no known genre"
            return f"dataset {name!r} has {what}, and it needs two"
    shared = [
        name
        for name in sorted(set(genre) - {""})
        if min(((genre == name) & (dataset == d)).sum() for d in prepared.clips.datasets)
        >= SMALLEST_CELL
    ]
    if len(shared) < 2:
        return (
            f"it needs two genres with {SMALLEST_CELL} training clips in every dataset, and "
            f"there {'is one' if shared else 'is none'}"
        )
    return ""


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
